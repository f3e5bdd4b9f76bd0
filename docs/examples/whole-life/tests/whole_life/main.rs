//! The driver's whole life.

mod page;

use std::sync::Arc;

use bindery::machine::Machine;
use bindery_explore::{Bounded, boards, device};
use whole_life::mended::Ring;

/// Puts the device in the place of the disk controller, with its clock, power domain, reset line, interrupt and IOMMU.
fn add_to(machine: &Arc<Machine>) {
    let Some(disk) = machine.device("ee300000.sata") else { return };
    let mut desc = disk.desc().clone();
    desc.name = "ee300000.ring".into();
    desc.node = None;
    desc.compatible = vec!["acme,ring".into()];
    machine.remove_device(disk.name());
    // The same machine may come here again, and then has it.
    let _ = machine.add_device(desc);
}

#[test]
fn every_promise_holds_on_every_path() {
    let board = boards::salvator_xs().with(|machine| {
        add_to(machine);
        machine.register(Ring);
    });
    device("ee300000.ring").on(board).faults(1).preemptions(1).check();
}
