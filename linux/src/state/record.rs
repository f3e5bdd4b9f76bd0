//! Devices that are given, with everything that brings them back.

use serde::{Deserialize, Serialize};

use super::Header;
use crate::plan::{Action, Memory, Place, Role, Step};

/// A plan that gave devices away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Version of the format.
    pub format: u32,
    /// The plan.
    pub id: String,
    /// The boot in which it was done.
    pub boot: String,
    /// The devices that are still given, by label.
    pub devices: Vec<String>,
    /// The steps that were done and not taken back.
    pub steps: Vec<Step>,
    /// Names and numbers that vanished with the drivers.
    pub remembered: Vec<Memory>,
}

impl From<&Header> for Given {
    fn from(header: &Header) -> Self {
        Self {
            format: header.format,
            id: header.id.clone(),
            boot: header.boot.clone(),
            devices: header.devices.clone(),
            steps: header.steps.clone(),
            remembered: header.remembered.clone(),
        }
    }
}

impl Given {
    /// The steps that bring `devices` back. Siblings that are held come back with the last device.
    pub fn steps_for(&self, devices: &[String]) -> Vec<Step> {
        let last = self.devices.iter().all(|d| devices.contains(d));
        let chosen: Vec<Step> = self.steps.iter().filter(|step| goes(step, devices, last)).cloned().collect();
        let mut steps = take_steps(&chosen);
        steps.extend(self.power_for(&steps));
        steps
    }

    /// The steps that let devices sleep as they did, once their drivers, which may decide otherwise, are back.
    fn power_for(&self, steps: &[Step]) -> Vec<Step> {
        let bound = |device: &str| {
            steps.iter().find(|s| matches!(s.action, Action::Bind { .. }) && s.device.to_string() == device)
        };
        let mut restored = Vec::new();
        for memory in &self.remembered {
            let Some(bound) = bound(&memory.device) else { continue };
            let power = memory.power.clone().map(|to| Action::Power { to });
            let cold = memory.d3cold.map(|allowed| Action::D3cold { allowed });
            for action in [power, cold].into_iter().flatten() {
                restored.push(Step::new(&bound.device, action, Vec::new(), (&bound.for_device, bound.role)));
            }
        }
        restored
    }

    /// The rest of the record after `devices` were taken back; `None` when nothing is left.
    pub fn without(mut self, devices: &[String]) -> Option<Self> {
        let last = self.devices.iter().all(|d| devices.contains(d));
        self.steps.retain(|step| !goes(step, devices, last));
        self.devices.retain(|d| !devices.contains(d));
        (!self.devices.is_empty()).then_some(self)
    }

    /// The driver that a device was given to.
    pub fn driver(&self, device: &str) -> Option<&str> {
        self.steps.iter().rev().find_map(|step| match &step.action {
            Action::Bind { driver } if step.device.to_string() == device => Some(driver.as_str()),
            _ => None,
        })
    }

    /// Place of a device.
    pub fn place(&self, device: &str) -> Option<&Place> {
        self.steps.iter().map(|step| &step.device).find(|place| place.to_string() == device)
    }
}

fn goes(step: &Step, devices: &[String], last: bool) -> bool {
    match step.role {
        Role::Own => devices.contains(&step.for_device),
        Role::Sibling => last,
    }
}

/// Steps that undo `given`, newest first, each with its own inverse: taking back is a plan like any other.
pub fn take_steps(given: &[Step]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for step in given.iter().rev() {
        for action in &step.inverse {
            let undone = steps.iter().rev().find_map(|s| match &s.action {
                Action::Override { to, .. } if s.device == step.device => Some(to.clone()),
                _ => None,
            });
            if matches!((action, undone), (Action::Override { to, .. }, Some(now)) if *to == now) {
                continue;
            }
            let mut back = Step::new(&step.device, action.clone(), Vec::new(), (&step.for_device, step.role));
            back.inverse = inverse(action);
            steps.push(back);
        }
    }
    override_first(&mut steps);
    steps
}

/// Actions that undo an action of a take.
fn inverse(action: &Action) -> Vec<Action> {
    match action {
        Action::Override { from, to } => vec![Action::Override { from: to.clone(), to: from.clone() }],
        Action::Unbind { driver } => vec![Action::Bind { driver: driver.clone() }],
        Action::Bind { driver } => vec![Action::Unbind { driver: driver.clone() }],
        Action::Functions { from, to } => vec![Action::Functions { from: *to, to: *from }],
        Action::Autoprobe { from, to } => vec![Action::Autoprobe { from: *to, to: *from }],
        _ => Vec::new(),
    }
}

/// Moves the change of an override before the unbind of the same device that precedes it: while it still names the old
/// driver, another process that has drivers matched could bring that one back. The inverse of the unbind then needs it
/// again.
fn override_first(steps: &mut Vec<Step>) {
    for at in 1..steps.len() {
        if !matches!(steps[at].action, Action::Override { .. }) {
            continue;
        }
        let before = steps[..at].iter().rposition(|step| step.device == steps[at].device);
        if let Some(before) = before.filter(|&before| matches!(steps[before].action, Action::Unbind { .. })) {
            let change = steps.remove(at);
            steps[before].inverse.splice(0..0, change.inverse.clone());
            steps.insert(before, change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_changes_the_override_first() {
        let place = Place { bus: "pci".into(), name: "d".into(), path: "/sys/devices/d".into() };
        let vfio = || Some("vfio-pci".to_owned());
        let restore = Action::Override { from: vfio(), to: None };
        let step = |action, inverse| Step::new(&place, action, inverse, ("d", Role::Own));
        let bind = |driver: &str| Action::Bind { driver: driver.into() };
        let unbind = |driver: &str| Action::Unbind { driver: driver.into() };
        let given = [
            step(Action::Override { from: None, to: vfio() }, vec![restore.clone()]),
            step(unbind("nvme"), vec![restore.clone(), bind("nvme")]),
            step(bind("vfio-pci"), vec![unbind("vfio-pci")]),
        ];
        let back = take_steps(&given);
        let actions: Vec<Action> = back.iter().map(|s| s.action.clone()).collect();
        assert_eq!(actions, [restore, unbind("vfio-pci"), bind("nvme")]);
        assert_eq!(back[1].inverse, [Action::Override { from: None, to: vfio() }, bind("vfio-pci")]);
    }

    #[test]
    fn a_group_leaves_as_a_whole_before_the_first_member_comes_back() {
        let place = |name: &str| Place { bus: "pci".into(), name: name.into(), path: format!("/sys/devices/{name}") };
        let vfio = || Some("vfio-pci".to_owned());
        let restore = || Action::Override { from: vfio(), to: None };
        let step = |name: &str, action, inverse| Step::new(&place(name), action, inverse, (name, Role::Own));
        let bind = |driver: &str| Action::Bind { driver: driver.into() };
        let unbind = |driver: &str| Action::Unbind { driver: driver.into() };
        let leave = |name| {
            [
                step(name, Action::Override { from: None, to: vfio() }, vec![restore()]),
                step(name, unbind("nvme"), vec![restore(), bind("nvme")]),
            ]
        };
        let arrive = |name| [step(name, bind("vfio-pci"), vec![unbind("vfio-pci")])];
        let given = [leave("a").to_vec(), leave("b").to_vec(), arrive("a").to_vec(), arrive("b").to_vec()].concat();
        let back = take_steps(&given);
        let told: Vec<String> = back.iter().map(|s| format!("{} {}", s.device.name, s.action.word())).collect();
        assert_eq!(told, ["b driver_override", "b unbind", "a driver_override", "a unbind", "b bind", "a bind"]);
    }
}
