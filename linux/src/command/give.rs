//! `bindctl give` and `bindctl take`.

use super::Exit;
use super::args::{Cli, GiveArgs, How, TakeArgs};
use super::journalled::{self, Ready};
use super::output::{print, print_json};
use super::plan::{as_json, as_text, compare_memory, request};
use super::run::{Failure, Host, store};
use crate::check::{self, Target};
use crate::obstacle::Obstacle;
use crate::plan::{Action, Place, Plan, Step, build};
use crate::state::{self, Given};
use crate::usage;

pub(super) fn give(cli: &Cli, host: &Host, args: &GiveArgs) -> Result<Exit, Failure> {
    let owner = args.owner.as_deref().map(|name| user(host, name)).transpose()?;
    let make = |host: &Host| -> Result<Plan, Failure> {
        let request = request(host, &args.devices, Target::Vfio, &args.how, owner)?;
        let mut plan = build(host.scene(), &request);
        let named = owner.map(|(user, _)| user).zip(args.owner.as_deref());
        compare_memory(host, args.how.guest_memory, named, &mut plan);
        Ok(plan)
    };
    let plan = make(host)?;
    if let Some(exit) = only_shown(cli, host, &plan, args.run.dry_run)? {
        return Ok(exit);
    }
    let ready = Ready {
        purpose: "give".into(),
        devices: moved(&plan),
        steps: plan.steps.clone(),
        remembered: plan.remembered.clone(),
        takes: None,
    };
    journalled::run(cli, host, &ready, args.run.timeout, |host| Ok(make(host)?.steps))
}

/// The devices that a plan has steps for.
pub(super) fn moved(plan: &Plan) -> Vec<String> {
    let moves = |device: &&String| plan.steps.iter().any(|step| step.for_device == **device);
    plan.subjects.iter().map(|subject| &subject.device).filter(moves).cloned().collect()
}

pub(super) fn take(cli: &Cli, host: &Host, args: &TakeArgs) -> Result<Exit, Failure> {
    let how = How { force_in_use: args.force_in_use.clone(), ..How::default() };
    let given = store(cli).given()?;
    let make = |host: &Host| -> Result<(Plan, Option<String>), Failure> {
        let request = request(host, &args.devices, Target::Host, &how, None)?;
        let mut plan = build(host.scene(), &request);
        let record = record_of(host, &plan, &given)?;
        if let Some(record) = record {
            from_record(host, &mut plan, record);
            for subject in plan.subjects.iter().filter(|s| s.target.is_none()) {
                let what =
                    format!("{} had no driver when it was given: taking it once more has one matched", subject.device);
                plan.findings.remark(what);
            }
        } else if !plan.steps.is_empty() {
            plan.findings.remark("it was not given by bindctl: the kernel matches a driver");
        }
        Ok((plan, record.map(|r| r.id.clone())))
    };
    let (plan, takes) = make(host)?;
    if let Some(exit) = only_shown(cli, host, &plan, args.run.dry_run)? {
        return Ok(exit);
    }
    let ready = Ready {
        purpose: "take".into(),
        devices: plan.subjects.iter().map(|s| s.device.clone()).collect(),
        steps: plan.steps.clone(),
        remembered: plan.remembered.clone(),
        takes,
    };
    journalled::run(cli, host, &ready, args.run.timeout, |host| Ok(make(host)?.0.steps))
}

/// The record that has all devices of the plan.
pub(super) fn record_of<'a>(host: &Host, plan: &Plan, given: &'a [Given]) -> Result<Option<&'a Given>, Failure> {
    let boot = state::boot(host.face());
    let of = |device: &str| given.iter().rev().find(|g| g.boot == boot && g.devices.iter().any(|d| d == device));
    let records: Vec<Option<&Given>> = plan.subjects.iter().map(|s| of(&s.device)).collect();
    let Some(first) = records.first().copied().flatten() else {
        if let Some(other) = records.iter().flatten().next() {
            return Err(mixed(&other.devices));
        }
        return Ok(None);
    };
    if records.iter().any(|r| r.is_none_or(|r| r.id != first.id)) {
        return Err(mixed(&first.devices));
    }
    Ok(Some(first))
}

fn mixed(devices: &[String]) -> Failure {
    Failure::Usage(format!(
        "{} were given by one command, and not together with the others: take them apart",
        devices.join(", ")
    ))
}

/// Replaces the steps of a plan to the host's drivers by those that bring back what was.
pub(super) fn from_record(host: &Host, plan: &mut Plan, record: &Given) {
    let devices: Vec<String> = plan.subjects.iter().map(|s| s.device.clone()).collect();
    let mut steps: Vec<Step> = record.steps_for(&devices);
    load_drivers(host, &mut steps);
    for subject in &mut plan.subjects {
        let memory = record.remembered.iter().find(|m| m.device == subject.device);
        subject.target = memory.and_then(|m| m.driver.clone());
        let disk = memory.is_some_and(|m| m.names.iter().any(|n| n.starts_with("nvme") || n.starts_with("sd")));
        if disk {
            plan.findings.warn(format!("the host will scan what is on {} once it is back", subject.device));
        }
    }
    // Whoever holds a device is in the way of its unbind, wherever the device is to go.
    for step in &steps {
        let scene = host.scene();
        if let Some(device) = scene.inventory.at(&step.device.path)
            && matches!(step.action, Action::Unbind { .. })
            && plan.subjects.iter().all(|s| s.device != device.label())
        {
            for obstacle in usage::find(scene, device).obstacles.into_iter().filter(Obstacle::is_use) {
                plan.findings.obstacle(obstacle);
            }
        }
    }
    plan.steps = steps;
}

/// Puts the modules of drivers that have been unloaded meanwhile before the steps that bind them.
fn load_drivers(host: &Host, steps: &mut Vec<Step>) {
    let mut loads: Vec<Step> = Vec::new();
    for step in steps.iter() {
        let Action::Bind { driver } = &step.action else { continue };
        let Place { bus, .. } = &step.device;
        if host.face().exists(&format!("/sys/bus/{bus}/drivers/{driver}")) {
            continue;
        }
        let Some(module) = check::module_for(host.face(), driver) else { continue };
        let load = Action::LoadModule { module, bus: bus.clone(), driver: driver.clone() };
        if loads.iter().all(|known| known.action != load) {
            loads.push(Step { action: load, inverse: Vec::new(), ..step.clone() });
        }
    }
    steps.splice(0..0, loads);
}

/// Prints plans that are not run: refused, dry, empty, or on a directory without a kernel.
fn only_shown(cli: &Cli, host: &Host, plan: &Plan, dry: bool) -> Result<Option<Exit>, Failure> {
    let unmet = !dry && host.face().has_kernel() && plan.preconditions.iter().any(|p| !p.met);
    let no_kernel = !host.face().has_kernel();
    if !(plan.is_refused() || plan.steps.is_empty() || dry || unmet || no_kernel) {
        if !cli.json {
            print(&super::plan::findings(&plan.findings))?;
        }
        return Ok(None);
    }
    if cli.json {
        print_json(&as_json(plan))?;
    } else {
        print(&as_text(plan))?;
        if no_kernel && !plan.is_refused() && !plan.steps.is_empty() && !dry {
            print(&["nothing was done: the directory has no kernel behind it".into()])?;
        }
    }
    Ok(Some(if unmet { Exit::Policy } else { Exit::of(&plan.findings.obstacles) }))
}

/// User and group by name or number.
pub(super) fn user(host: &Host, name: &str) -> Result<(u32, u32), Failure> {
    let passwd = host.face().try_text("/etc/passwd").unwrap_or_default();
    let number: Option<u32> = name.parse().ok();
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [login, _, user, group, ..] = fields[..] else { continue };
        if let (Ok(user), Ok(group)) = (user.parse(), group.parse())
            && (login == name || number == Some(user))
        {
            return Ok((user, group));
        }
    }
    match number {
        Some(number) => Ok((number, number)),
        None => Err(Failure::Usage(format!("--owner {}: no such user", crate::path::printable(name)))),
    }
}
