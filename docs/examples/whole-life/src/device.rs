//! The device: a bus master in the place of the board's disk controller.

use std::sync::Arc;

use bindery::machine::Machine;

/// Its name on the bus.
pub const NAME: &str = "acme-ring";

/// Puts the device in the place of the disk controller: the same clock, power domain, reset line, interrupt and IOMMU.
/// Called again, it changes nothing.
pub fn add_to(machine: &Arc<Machine>) {
    let Some(disk) = machine.device("ee300000.sata") else { return };
    let mut desc = disk.desc().clone();
    desc.name = NAME.into();
    desc.node = None;
    desc.compatible = vec!["acme,ring".into()];
    machine.remove_device(disk.name());
    // Refused only when it is there already.
    let _ = machine.add_device(desc);
}
