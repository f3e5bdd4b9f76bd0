//! A tree as the command and a machine without drivers see it.

use std::fs;
use std::path::Path;
use std::process::Command;

use bindery::device::Nodes;
use bindery::firmware::fdt::Description;
use bindery::machine::{Policy, ProbeStats};
use bindery_sim::salvator::Salvator;

use crate::tool::{output, target};

/// `bindery tree` draws it and shows every device and every other node.
pub(super) fn drawn(path: &Path, description: &Description, _: &Nodes) -> Result<(), String> {
    let mut command = Command::new(target().join("debug/bindery"));
    let printed = output(command.args(["tree", "--json", "--dtb"]).arg(path)).map_err(|e| format!("{e:?}"))?;
    let report: serde_json::Value = serde_json::from_str(&printed).map_err(|e| format!("bindery tree: {e}"))?;
    for (what, expected) in [("devices", description.devices.len()), ("others", description.others.len())] {
        let shown = report[what].as_array().map(Vec::len);
        if shown != Some(expected) {
            return Err(format!("bindery tree shows {shown:?} {what} of {expected}"));
        }
    }
    Ok(())
}

/// A machine without drivers takes every device in, probes none, and uses nothing for them.
pub(super) fn driverless(path: &Path, description: &Description, _: &Nodes) -> Result<(), String> {
    let blob = fs::read(path).map_err(|e| e.to_string())?;
    let board = Salvator::new().build();
    let machine = board.machine(Policy::default());
    let before = machine.resource_usage();
    machine.add_device_tree(&blob).map_err(|e| e.to_string())?;
    let settled = machine.settle();
    let held = machine.devices().len();
    if held != description.devices.len() {
        return Err(format!("a machine has {held} of {} devices", description.devices.len()));
    }
    if settled != ProbeStats::default() || machine.resource_usage() != before || machine.promises().broken_count() != 0
    {
        return Err(format!("a machine without drivers did something: {settled:?}, {:?}", machine.resource_usage()));
    }
    for device in machine.devices() {
        machine.remove_device(device.name());
    }
    if machine.devices().is_empty() { Ok(()) } else { Err("devices stay after they were removed".into()) }
}
