//! The virtual functions of a physical function: they go first, and come back last.

use super::action::{Action, Place, Role, Step};
use super::memory;
use crate::inventory::{Device, Override};
use crate::obstacle::Findings;
use crate::usage::{self, Scene};

/// Adds the steps that take the virtual functions of `device` away, and what stands in their way.
pub(super) fn take_away(
    scene: Scene<'_>,
    device: &Device,
    for_device: (&str, Role),
    steps: &mut Vec<Step>,
    findings: &mut Findings,
) {
    let face = scene.face;
    let count = memory::functions(face, device).unwrap_or(0);
    let functions = scene.inventory.virtual_functions(device);
    if count == 0 && functions.is_empty() {
        return;
    }
    let named = functions.iter().map(|f| format!("{} ({})", f.name, f.driver.as_deref().unwrap_or("no driver")));
    let named: Vec<String> = named.collect();
    findings.warn(format!(
        "the virtual functions of {} vanish with its driver: {}",
        device.label(),
        if named.is_empty() { format!("{count} of them") } else { named.join(", ") }
    ));
    let place = Place::from(device);
    // New functions must not be probed before their overrides are back: this is undone last.
    let autoprobe = face.try_text(&device.attribute("sriov_drivers_autoprobe"));
    if autoprobe.is_some_and(|text| text.trim() == "1") {
        let inverse = vec![Action::Autoprobe { from: false, to: true }];
        steps.push(Step::new(&place, Action::Autoprobe { from: true, to: false }, inverse, for_device));
    }
    for function in functions {
        findings.add(usage::find(scene, function));
        unbind(scene, function, for_device, steps);
    }
    if count > 0 {
        let inverse = vec![Action::Functions { from: 0, to: count }];
        steps.push(Step::new(&place, Action::Functions { from: count, to: 0 }, inverse, for_device));
    }
}

/// Unbinds one function. Its override dies with it, so the inverse writes it again.
fn unbind(scene: Scene<'_>, function: &Device, for_device: (&str, Role), steps: &mut Vec<Step>) {
    let place = Place::from(function);
    let own = match function.driver_override(scene.face) {
        Override::Driver(name) => Some(name),
        _ => None,
    };
    let mut inverse = Vec::new();
    if own.is_some() {
        inverse.push(Action::Override { from: None, to: own.clone() });
    }
    if let Some(driver) = &function.driver {
        inverse.push(Action::Bind { driver: driver.clone() });
        steps.push(Step::new(&place, Action::Unbind { driver: driver.clone() }, inverse, for_device));
    } else if own.is_some() {
        let clear = Action::Override { from: own, to: None };
        steps.push(Step::new(&place, clear, inverse, for_device));
    }
}
