//! Making a plan.

use serde::Serialize;

use super::action::{Action, POWER, Place, Role, Step};
use super::functions;
use super::memory::{Memory, remember};
use crate::check::{self, Precondition, Target};
use crate::inventory::{Device, Override};
use crate::obstacle::{Class, Findings, Obstacle};
use crate::usage::{self, Scene};

/// A request to move devices.
#[derive(Debug, Clone, Default)]
pub struct Request<'a> {
    /// The devices, each once.
    pub devices: Vec<&'a Device>,
    /// Their target.
    pub to: Target,
    /// Siblings on a driver of the host's are unbound for as long.
    pub hold_siblings: bool,
    /// Devices whose users are overridden, by label.
    pub force_in_use: Vec<String>,
    /// The devices are given without an IOMMU.
    pub noiommu: bool,
    /// The user and group that get the nodes.
    pub owner: Option<(u32, u32)>,
}

/// A device of a plan, as it is before the plan.
#[derive(Debug, Clone, Serialize)]
pub struct Subject {
    /// Bus and name.
    pub device: String,
    /// Vendor and device id.
    pub ids: Option<String>,
    /// The driver that is bound.
    pub driver: Option<String>,
    /// The driver that it is to get, `None` for none, `host` when the kernel chooses.
    pub target: Option<String>,
    /// True when the device is where it is to go.
    pub there: bool,
    /// The IOMMU group now.
    pub group: Option<String>,
    /// The number of devices in the group.
    pub group_size: usize,
}

/// The steps of a hand-over, or what stands in its way.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The target.
    pub to: Target,
    /// The devices.
    pub subjects: Vec<Subject>,
    /// The steps, in order. Empty when everything is as it should be.
    pub steps: Vec<Step>,
    /// Obstacles, warnings and remarks.
    pub findings: Findings,
    /// Conditions that are looked at again when the plan is run.
    pub preconditions: Vec<Precondition>,
    /// State of the devices that vanishes with their drivers.
    pub remembered: Vec<Memory>,
}

impl Plan {
    /// True when an obstacle that is not overridden is in the way.
    pub fn is_refused(&self) -> bool {
        self.findings.obstacles.iter().any(|o| !o.overridden)
    }

    /// Actions that undo the whole plan, in order.
    pub fn undo(&self) -> Vec<(Place, Action)> {
        let mut undo: Vec<(Place, Action)> = Vec::new();
        for step in self.steps.iter().rev() {
            for action in &step.inverse {
                let again = matches!(action, Action::Override { to, .. } if undo.iter().rev().any(|(place, done)| {
                    place == &step.device && matches!(done, Action::Override { to: earlier, .. } if earlier == to)
                }));
                if !again {
                    undo.push((step.device.clone(), action.clone()));
                }
            }
        }
        undo
    }
}

/// Makes the plan for a request. Nothing is written.
pub fn build(scene: Scene<'_>, request: &Request<'_>) -> Plan {
    let mut plan = Plan {
        to: request.to.clone(),
        subjects: Vec::new(),
        steps: Vec::new(),
        findings: Findings::default(),
        preconditions: Vec::new(),
        remembered: Vec::new(),
    };
    conflicts(request, &mut plan.findings);
    let moved: Vec<&str> = request.devices.iter().map(|d| d.path.as_str()).collect();
    // Virtual functions before the physical one, when both are named.
    let mut devices = request.devices.clone();
    devices.sort_by_key(|d| (d.physical_function.is_none(), d.bus.clone(), d.name.clone()));
    for device in devices {
        move_one(scene, request, device, &moved, &mut plan);
    }
    by_group(scene, &mut plan.steps);
    for obstacle in &mut plan.findings.obstacles {
        obstacle.overridden = obstacle.is_use() && request.force_in_use.contains(&obstacle.device);
    }
    plan.findings.obstacles.sort_by_key(|o| o.overridden);
    plan
}

/// Has all members of a group leave their drivers before the first one gets another: a group has one kind of owner at a time.
/// Groups follow each other as before.
fn by_group(scene: Scene<'_>, steps: &mut [Step]) {
    let group = |step: &Step| {
        let asked = scene.inventory.devices.iter().find(|d| d.label() == step.for_device);
        asked.and_then(|d| d.group.clone()).unwrap_or_else(|| step.for_device.clone())
    };
    let mut order: Vec<String> = Vec::new();
    for step in steps.iter() {
        let group = group(step);
        if !order.contains(&group) {
            order.push(group);
        }
    }
    let arrives = |action: &Action| {
        matches!(
            action,
            Action::Bind { .. }
                | Action::Probe
                | Action::VerifyDriver { .. }
                | Action::VerifyNodes
                | Action::Own { .. }
        )
    };
    steps.sort_by_cached_key(|step| {
        let group = group(step);
        (order.iter().position(|known| *known == group), arrives(&step.action))
    });
}

/// How a device hangs on another one.
fn parentage(device: &Device, parent: &Device) -> String {
    let function = device.physical_function.as_ref() == Some(&parent.path);
    let how = if function { "is a virtual function of" } else { "hangs below" };
    format!("{} {how} {}", device.label(), parent.label())
}

fn conflicts(request: &Request<'_>, findings: &mut Findings) {
    for function in &request.devices {
        if let Some(parent) = request.devices.iter().find(|other| function.vanishes_with(other)) {
            findings.obstacle(Obstacle::new(
                &function.label(),
                Class::Policy,
                "conflict",
                format!("{}, which is named, too: it vanishes first", parentage(function, parent)),
                "name only one of them",
            ));
        }
    }
}

/// The driver that a device is to get by name, when that is known before.
fn wanted(scene: Scene<'_>, device: &Device, to: &Target) -> Option<String> {
    match to {
        Target::Vfio if device.bus == "pci" => {
            let module = check::variant(scene.face, device);
            let driver = module.map(|module| {
                let dashed = module.replace('_', "-");
                if scene.face.exists(&device.driver_path(&module)) || !scene.face.exists(&device.driver_path(&dashed)) {
                    module
                } else {
                    dashed
                }
            });
            driver.or_else(|| check::vfio_driver("pci").map(Into::into))
        }
        Target::Vfio => check::vfio_driver(&device.bus).map(Into::into),
        Target::Driver(name) => Some(name.clone()),
        Target::Host | Target::Nothing => None,
    }
}

fn move_one(scene: Scene<'_>, request: &Request<'_>, device: &Device, moved: &[&str], plan: &mut Plan) {
    let target = wanted(scene, device, &request.to);
    let members = scene.inventory.group_of(device).map_or(0, |group| group.size(scene.face));
    let there = is_there(scene, device, &request.to, target.as_deref());
    plan.subjects.push(Subject {
        device: device.label(),
        ids: device.ids(),
        driver: device.driver.clone(),
        target: if request.to == Target::Host { Some("host".into()) } else { target.clone() },
        there,
        group: device.group.clone(),
        group_size: members,
    });
    if there {
        already(scene, request, device, plan);
        return;
    }
    check::find(scene, device, &request.to, request.noiommu, &mut plan.findings, &mut plan.preconditions);
    plan.findings.add(usage::find(scene, device));
    let mut steps = Vec::new();
    siblings(scene, request, device, moved, &mut steps, plan);
    if device.driver.is_some() {
        functions::take_away(scene, device, (&device.label(), Role::Own), &mut steps, &mut plan.findings);
    }
    plan.remembered.push(remember(scene.face, device));
    own_steps(scene, request, device, target.as_deref(), &mut steps, &mut plan.findings);
    plan.steps.extend(steps.into_iter().filter(|step| !plan.steps.contains(step)).collect::<Vec<_>>());
}

/// True when the device is where it is to go.
fn is_there(scene: Scene<'_>, device: &Device, to: &Target, target: Option<&str>) -> bool {
    match to {
        Target::Vfio => device.is_on_vfio(),
        Target::Driver(_) => device.driver.as_deref() == target,
        Target::Host => {
            device.driver.is_some() && !device.is_on_vfio() && device.driver_override(scene.face) == Override::None
        }
        Target::Nothing => device.driver.is_none(),
    }
}

fn already(scene: Scene<'_>, request: &Request<'_>, device: &Device, plan: &mut Plan) {
    let driver = device.driver.as_deref().unwrap_or("no driver");
    plan.findings.remark(format!("{} is already on {driver}", device.label()));
    if request.to != Target::Vfio {
        return;
    }
    for mismatch in usage::node_mismatches(scene, device) {
        plan.findings.obstacle(Obstacle::new(
            &device.label(),
            Class::Policy,
            "stale-node",
            format!("{} is on {driver}, but {mismatch}", device.label()),
            "remove the stale node or its mount, and let devtmpfs or udev create it again; its owner is not changed",
        ));
    }
    let place = Place::from(device);
    if let Some((user, group)) = request.owner {
        let label = device.label();
        let me = (label.as_str(), Role::Own);
        plan.steps.push(Step::new(&place, Action::VerifyNodes, Vec::new(), me));
        // The nodes exist already, with an owner: `take` restores it.
        let nodes = usage::vfio_nodes(scene, device);
        let before = nodes.iter().find_map(|node| scene.face.owner(&node.path).ok());
        let inverse = before.filter(|before| *before != (user, group));
        let inverse = inverse.map(|(user, group)| Action::Own { user, group }).into_iter().collect();
        plan.steps.push(Step::new(&place, Action::Own { user, group }, inverse, me));
    }
}

/// The other members of the device's group.
fn siblings(
    scene: Scene<'_>,
    request: &Request<'_>,
    device: &Device,
    moved: &[&str],
    steps: &mut Vec<Step>,
    plan: &mut Plan,
) {
    let label = device.label();
    let group = device.group.clone().unwrap_or_default();
    match request.to {
        Target::Vfio => {
            for sibling in check::group(scene.inventory, device, moved) {
                let driver = sibling.driver.clone().unwrap_or_default();
                if device.vanishes_with(sibling) {
                    let how = parentage(device, sibling);
                    plan.findings.obstacle(Obstacle::new(
                        &label,
                        Class::NotViable,
                        "sibling",
                        format!(
                            "{} is in the same group ({group}) and on the host's driver {driver}, and cannot be held: {how}, \
                             and vanishes with that driver",
                            sibling.label()
                        ),
                        format!("give {} as a whole, or move it behind a port that isolates (ACS)", sibling.label()),
                    ));
                    continue;
                }
                if !request.hold_siblings {
                    plan.findings.obstacle(Obstacle::new(
                        &label,
                        Class::NotViable,
                        "sibling",
                        format!("{} is in the same group ({group}) and on the host's driver {driver}", sibling.label()),
                        format!(
                            "--hold-siblings unbinds it for as long; or hand it over, too: bindctl give {label} {}",
                            sibling.label()
                        ),
                    ));
                    continue;
                }
                plan.findings.add(usage::find(scene, sibling));
                functions::take_away(scene, sibling, (&label, Role::Sibling), steps, &mut plan.findings);
                plan.findings.warn(format!(
                    "{} is unbound from {driver} for as long as {label} is given: it is in the same group",
                    sibling.label()
                ));
                if plan.remembered.iter().all(|m| m.device != sibling.label()) {
                    plan.remembered.push(remember(scene.face, sibling));
                }
                let inverse = vec![Action::Bind { driver: driver.clone() }];
                let unbind = Action::Unbind { driver };
                steps.push(Step::new(&Place::from(sibling), unbind, inverse, (&label, Role::Sibling)));
            }
        }
        Target::Host | Target::Driver(_) => {
            for sibling in scene.inventory.siblings(device).filter(|s| !moved.contains(&s.path.as_str())) {
                for holder in usage::holders(scene, sibling) {
                    let who = scene.system.who(holder.pid);
                    plan.findings.obstacle(Obstacle::new(
                        &label,
                        Class::NotViable,
                        "group-held",
                        format!(
                            "{} of the same group ({group}) is held by {who}: no driver of the host's can bind",
                            sibling.label()
                        ),
                        format!("end {who} first"),
                    ));
                }
            }
        }
        Target::Nothing => {}
    }
}

/// The steps for the device itself: the override first, so that nothing else can bind in between.
fn own_steps(
    scene: Scene<'_>,
    request: &Request<'_>,
    device: &Device,
    target: Option<&str>,
    steps: &mut Vec<Step>,
    findings: &mut Findings,
) {
    let place = Place::from(device);
    let label = device.label();
    let step = |action, inverse| Step::new(&place, action, inverse, (&label, Role::Own));
    let from = match device.driver_override(scene.face) {
        Override::None => None,
        Override::Driver(name) => Some(name),
        Override::Unread(error) => {
            let remedy = "wait until the unbind or probe of the device ends; `bindctl recover` then";
            findings.obstacle(Obstacle::new(&device.label(), Class::Policy, "busy", error.to_string(), remedy));
            return;
        }
    };
    let to = if request.to == Target::Nothing { from.clone() } else { target.map(ToOwned::to_owned) };
    if let Some(driver) = target
        && !scene.face.exists(&device.driver_path(driver))
        && let Some(module) = check::module_for(scene.face, driver)
    {
        let load = Action::LoadModule { module, bus: device.bus.clone(), driver: driver.into() };
        steps.push(step(load, Vec::new()));
    }
    let restore = Action::Override { from: to.clone(), to: from.clone() };
    if from != to {
        steps.push(step(Action::Override { from: from.clone(), to: to.clone() }, vec![restore.clone()]));
    }
    if let Some(driver) = &device.driver {
        // The old driver does not match while the override names another one: the override is restored first.
        let mut inverse = Vec::new();
        if from != to {
            inverse.push(restore);
        }
        // vfio-pci leaves `on` behind.
        if scene.face.try_text(&place.file(POWER)).as_deref() == Some("auto") {
            inverse.push(Action::Power { to: "auto".into() });
        }
        inverse.push(Action::Bind { driver: driver.clone() });
        steps.push(step(Action::Unbind { driver: driver.clone() }, inverse));
    }
    match (&request.to, target) {
        (Target::Nothing, _) | (Target::Vfio | Target::Driver(_), None) => {}
        (Target::Host, _) => steps.push(step(Action::Probe, Vec::new())),
        (_, Some(driver)) => {
            let driver = driver.to_owned();
            let inverse = vec![Action::Unbind { driver: driver.clone() }];
            steps.push(step(Action::Bind { driver: driver.clone() }, inverse));
            steps.push(step(Action::VerifyDriver { driver }, Vec::new()));
        }
    }
    if request.to == Target::Vfio && target.is_some() {
        steps.push(step(Action::VerifyNodes, Vec::new()));
        if let Some((user, group)) = request.owner {
            steps.push(step(Action::Own { user, group }, Vec::new()));
        }
    }
}
