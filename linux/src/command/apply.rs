//! `bindctl apply`, and what `bindctl status` compares with the desired state.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::Exit;
use super::args::{ApplyArgs, Cli};
use super::give::{from_record, moved, record_of, user};
use super::journalled::{self, Ready};
use super::output::{SCHEMA, print, print_json};
use super::plan::{as_json, as_text};
use super::run::{Failure, Host, store};
use crate::check::Target;
use crate::desired::{Resolved, Source};
use crate::plan::{Action, Place, Plan, Request, Role, Step, build};
use crate::state::Given;

/// Path of the desired state.
const FILE: &str = "/etc/bindctl.toml";

/// The file that is meant: the one named, or the usual one, below the root that the command looks at.
pub(super) fn file(cli: &Cli, named: Option<&PathBuf>) -> PathBuf {
    match (named, &cli.root) {
        (Some(path), _) => path.clone(),
        (None, Some(root)) => root.join(FILE.trim_start_matches('/')),
        (None, None) => FILE.into(),
    }
}

/// The text of a desired-state file.
pub(super) fn read(path: &Path) -> Result<String, Failure> {
    let fail = |what: String| Failure::Usage(format!("{}{what}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| fail(format!(": cannot read it: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].split(|byte| *byte == b'\n').count();
        fail(format!(":{line}: not UTF-8: save it as a text of that encoding"))
    })
}

/// Entries with the plan that applies them.
pub(super) struct Part {
    pub(super) plan: Plan,
    pub(super) purpose: &'static str,
    pub(super) takes: Option<String>,
}

pub(super) fn apply(cli: &Cli, host: &Host, args: &ApplyArgs) -> Result<Exit, Failure> {
    let path = file(cli, args.file.as_ref());
    let text = read(&path)?;
    let name = path.display().to_string();
    let source = Source { file: &name, text: &text };
    let desired = source.parse()?;
    let given = store(cli).given()?;
    let entries = source.resolve(host.face(), host.scene().inventory, &desired)?;
    let plans = source.plans(&entries)?;
    let parts = plans.iter().map(|plan| part(host, &chosen(&entries, plan), &given)).collect::<Result<Vec<_>, _>>()?;
    // All or nothing: what cannot be applied keeps the rest from being begun.
    let unmet = parts.iter().any(|p| p.plan.preconditions.iter().any(|c| !c.met));
    let refused = Exit::of(parts.iter().flat_map(|p| &p.plan.findings.obstacles));
    let dry = args.run.dry_run || !host.face().has_kernel();
    if dry || refused != Exit::Done || unmet || parts.iter().all(|p| p.plan.steps.is_empty()) {
        show(cli, &parts)?;
        return Ok(if refused == Exit::Done && unmet && !dry { Exit::Policy } else { refused });
    }
    for index in (0..parts.len()).filter(|index| !parts[*index].plan.steps.is_empty()) {
        // Each plan is made anew: the one before it may have loaded the module, or taken a device out of a record.
        let host = &Host::open(cli)?;
        let make = |host: &Host| -> Result<Part, Failure> {
            let entries = source.resolve(host.face(), host.scene().inventory, &desired)?;
            part(host, &chosen(&entries, &plans[index]), &store(cli).given()?)
        };
        let now = make(host)?;
        let refused = Exit::of(&now.plan.findings.obstacles);
        if refused != Exit::Done {
            show(cli, &[now])?;
            return Ok(refused);
        }
        if now.plan.steps.is_empty() {
            continue;
        }
        let ready = Ready {
            purpose: now.purpose.into(),
            devices: moved(&now.plan),
            steps: now.plan.steps.clone(),
            remembered: now.plan.remembered.clone(),
            takes: now.takes.clone(),
        };
        let exit = journalled::run(cli, host, &ready, args.run.timeout, |host| Ok(make(host)?.plan.steps))?;
        if exit != Exit::Done {
            return Ok(exit);
        }
    }
    Ok(Exit::Done)
}

fn chosen<'a, 'b>(entries: &'b [Resolved<'a>], plan: &[usize]) -> Vec<&'b Resolved<'a>> {
    plan.iter().map(|index| &entries[*index]).collect()
}

/// The plan for entries with one target and one owner.
pub(super) fn part(host: &Host, entries: &[&Resolved<'_>], given: &[Given]) -> Result<Part, Failure> {
    let entry = entries[0];
    let owner = entry.entry.owner.as_ref().map(|name| user(host, name.get_ref())).transpose()?;
    let request = Request {
        devices: entries.iter().map(|entry| entry.device).collect(),
        to: entry.to.clone(),
        hold_siblings: entries.iter().any(|entry| entry.entry.hold_siblings),
        force_in_use: Vec::new(),
        noiommu: false,
        owner,
    };
    let mut plan = build(host.scene(), &request);
    entries.iter().flat_map(|entry| &entry.warnings).for_each(|warning| plan.findings.warn(warning.clone()));
    // A device that is where it is to be is left alone, its owner included: applying twice does nothing twice.
    let there = plan.subjects.iter().all(|subject| subject.there) && !plan.is_refused();
    if there && (owner.is_none() || entries.iter().all(|entry| owns(host, entry, owner))) {
        plan.steps.clear();
    }
    let mut takes = None;
    if entry.to == Target::Host
        && !plan.steps.is_empty()
        && let Some(record) = record_of(host, &plan, given)?
    {
        from_record(host, &mut plan, record);
        // Given before its driver was there, as by an initramfs: it had no driver, and the entry asks for one.
        if let Some(subject) = plan.subjects.iter_mut().find(|s| s.target.is_none()) {
            let label = entry.device.label();
            subject.target = Some("host".into());
            plan.steps.push(Step::new(&Place::from(entry.device), Action::Probe, Vec::new(), (&label, Role::Own)));
        }
        takes = Some(record.id.clone());
    }
    let purpose = if entry.to == Target::Host { "take" } else { "give" };
    Ok(Part { plan, purpose, takes })
}

/// True when the nodes of a device have their owner.
fn owns(host: &Host, entry: &Resolved<'_>, owner: Option<(u32, u32)>) -> bool {
    let nodes = crate::usage::vfio_nodes(host.scene(), entry.device);
    !nodes.is_empty() && nodes.iter().all(|node| host.face().owner(&node.path).ok() == owner)
}

pub(super) fn show(cli: &Cli, parts: &[Part]) -> Result<(), Failure> {
    if cli.json {
        let plans: Vec<_> = parts.iter().map(|p| as_json(&p.plan)).collect();
        print_json(&json!({ "schema": SCHEMA, "plans": plans }))?;
    } else {
        let mut lines: Vec<String> = parts.iter().flat_map(|p| as_text(&p.plan)).collect();
        if lines.is_empty() {
            lines.push("the desired state is empty".into());
        }
        print(&lines)?;
    }
    Ok(())
}

/// Entries that are not applied: device, wanted and actual driver.
pub(super) fn drift(
    cli: &Cli,
    host: &Host,
    named: Option<&PathBuf>,
) -> Result<Vec<(String, String, Option<String>)>, Failure> {
    let path = file(cli, named);
    if named.is_none() && !path.exists() {
        return Ok(Vec::new());
    }
    let text = read(&path)?;
    let name = path.display().to_string();
    let source = Source { file: &name, text: &text };
    let entries = source.resolve(host.face(), host.scene().inventory, &source.parse()?)?;
    let mut found = Vec::new();
    for entry in entries {
        let applied = match &entry.to {
            Target::Vfio => entry.device.is_on_vfio(),
            Target::Host => entry.device.driver.is_some() && !entry.device.is_on_vfio(),
            Target::Nothing => entry.device.driver.is_none(),
            Target::Driver(name) => entry.device.driver.as_ref() == Some(name),
        };
        if !applied {
            found.push((entry.device.label(), entry.to.to_string(), entry.device.driver.clone()));
        }
    }
    Ok(found)
}
