//! `bindctl plan`, and how plans are printed.

use serde_json::json;

use super::Exit;
use super::args::{How, PlanArgs};
use super::output::{SCHEMA, print, print_json};
use super::run::{Failure, Host};
use crate::check::{Memlock, Target};
use crate::obstacle::{Class, Findings};
use crate::path;
use crate::plan::{Plan, Request, build};

pub(super) fn run(host: &Host, args: &PlanArgs, json: bool) -> Result<Exit, Failure> {
    let to = match args.to.as_str() {
        "vfio" => Target::Vfio,
        "host" => Target::Host,
        "none" => Target::Nothing,
        name if path::is_name(name) => Target::Driver(name.into()),
        name => return Err(Failure::Usage(format!("--to {}: not a driver's name", path::printable(name)))),
    };
    let request = request(host, &args.devices, to, &args.how, None)?;
    let mut plan = build(host.scene(), &request);
    compare_memory(host, args.how.guest_memory, None, &mut plan);
    if json {
        print_json(&as_json(&plan))?;
    } else {
        print(&as_text(&plan))?;
    }
    Ok(Exit::of(&plan.findings.obstacles))
}

/// Makes the request that the command line stands for.
pub(super) fn request<'a>(
    host: &'a Host,
    words: &[String],
    to: Target,
    how: &How,
    owner: Option<(u32, u32)>,
) -> Result<Request<'a>, Failure> {
    let mut devices = Vec::new();
    for word in words {
        let device = host.select(word)?;
        if devices.iter().any(|d: &&crate::inventory::Device| d.path == device.path) {
            return Err(Failure::Usage(format!("{word}: {} is named twice", device.label())));
        }
        devices.push(device);
    }
    let mut force_in_use = Vec::new();
    for word in &how.force_in_use {
        force_in_use.push(host.select(word)?.label());
    }
    Ok(Request { devices, to, hold_siblings: how.hold_siblings, force_in_use, noiommu: how.noiommu, owner })
}

/// Compares what a guest needs with what the owner of the nodes may lock, if a guest's size is given.
pub(super) fn compare_memory(host: &Host, guest: Option<u64>, owner: Option<(u32, &str)>, plan: &mut Plan) {
    if let Some(guest) = guest {
        let limit = Memlock::of(host.face(), owner.map(|(user, _)| user));
        limit.judge(guest, owner.map(|(_, name)| name), &mut plan.findings);
    }
}

/// A word for how the plan stands.
pub(super) fn outcome(plan: &Plan) -> &'static str {
    if plan.is_refused() {
        "refused"
    } else if plan.steps.is_empty() {
        "nothing to do"
    } else {
        "plan"
    }
}

/// The plan as JSON.
pub(super) fn as_json(plan: &Plan) -> serde_json::Value {
    let refused = plan.is_refused();
    let steps = plan.steps.iter().filter(|_| !refused).enumerate().map(|(index, step)| {
        let write = step.action.write(&step.device);
        json!({
            "n": index + 1,
            "device": step.device.to_string(),
            "do": step.action.word(),
            "what": step.action.to_string(),
            "path": write.as_ref().map(|(path, _)| path),
            "value": write.as_ref().map(|(_, value)| value),
            "before": step.action.before().to_string(),
            "after": step.action.after().to_string(),
            "inverse": step.inverse.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    });
    let undo = plan.undo().into_iter().filter(|_| !refused).map(
        |(device, action)| json!({ "device": device.to_string(), "do": action.word(), "what": action.to_string() }),
    );
    json!({
        "schema": SCHEMA,
        "outcome": outcome(plan),
        "exit": Exit::of(&plan.findings.obstacles) as u8,
        "to": plan.to.to_string(),
        "devices": plan.subjects,
        "obstacles": plan.findings.obstacles,
        "warnings": plan.findings.warnings,
        "remarks": plan.findings.remarks,
        "preconditions": plan.preconditions,
        "steps": steps.collect::<Vec<_>>(),
        "undo": undo.collect::<Vec<_>>(),
        "remembered": plan.remembered,
    })
}

/// The plan in lines.
pub(super) fn as_text(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    for subject in &plan.subjects {
        let group = match (&subject.group, subject.group_size) {
            (Some(group), 1) => format!("group {group}, which has one device"),
            (Some(group), size) => format!("group {group}, which has {size} devices"),
            (None, _) => "no group".into(),
        };
        let from = subject.driver.as_deref().unwrap_or("no driver");
        let to = subject.target.as_deref().unwrap_or("no driver");
        lines.push(format!("{}: {}, from {from} to {to} ({group})", outcome(plan), subject.device));
    }
    lines.extend(findings(&plan.findings));
    for condition in &plan.preconditions {
        let state = if condition.met { "holds" } else { "FAILED" };
        lines.push(format!(
            "  precondition {state}: {} ({} must be {}, is {})",
            condition.what,
            condition.path,
            condition.wanted,
            if condition.actual.is_empty() { "missing" } else { &condition.actual }
        ));
    }
    if plan.is_refused() || plan.steps.is_empty() {
        return lines;
    }
    lines.push("steps".into());
    for (index, step) in plan.steps.iter().enumerate() {
        lines.push(format!("  {:>2}  {}  {}", index + 1, step.device, step.action));
        if let Some((path, value)) = step.action.write(&step.device) {
            let value = value.trim_end();
            let value = if value.is_empty() { "(newline)" } else { value };
            lines.push(format!("        {value} > {path}"));
        }
    }
    lines.push("undo, when a step fails".into());
    for (device, action) in plan.undo() {
        lines.push(format!("      {device}  {action}"));
    }
    for memory in &plan.remembered {
        let mut words = vec![format!("driver {}", memory.driver.as_deref().unwrap_or("none"))];
        words.push(format!("override {}", memory.driver_override.as_deref().unwrap_or("empty")));
        words.extend(memory.names.iter().cloned());
        words.extend(memory.serials.iter().map(|s| format!("serial {s}")));
        words.extend(memory.macs.iter().map(|m| format!("mac {m}")));
        words.extend(memory.links.iter().cloned());
        words.extend(memory.functions.map(|n| format!("sriov_numvfs {n}")));
        lines.push(format!("remembered of {}: {}", memory.device, words.join(", ")));
    }
    lines
}

/// Obstacles, warnings and remarks in lines.
pub(super) fn findings(findings: &Findings) -> Vec<String> {
    let mut lines = Vec::new();
    for obstacle in &findings.obstacles {
        let class = match obstacle.class {
            Class::Policy => "refused",
            Class::NotViable => "not viable",
            Class::InUse => "in use",
            Class::CannotTell => "cannot tell",
        };
        let overridden = if obstacle.overridden { " (overridden)" } else { "" };
        let about =
            if obstacle.what.starts_with(&obstacle.device) { String::new() } else { format!("{}: ", obstacle.device) };
        lines.push(format!("  {class}{overridden}: {about}{}", obstacle.what));
        lines.push(format!("      remedy: {}", obstacle.remedy));
    }
    lines.extend(findings.warnings.iter().map(|text| format!("  warning: {text}")));
    lines.extend(findings.remarks.iter().map(|text| format!("  note: {text}")));
    lines
}
