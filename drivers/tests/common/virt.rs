//! The board `virt`, with the host bridge's driver and the device tree.

use bindery::machine::Policy;
use bindery_drivers::pci_host::PciHost;
use bindery_sim::virt::{self, Virt};

use super::Rig;

pub fn rig(virt: Virt) -> Rig {
    let board = virt.build();
    board.keep_events(1 << 16);
    let machine = board.machine(Policy::default());
    machine.register(PciHost::default());
    machine.add_device_tree(virt::DEVICE_TREE).unwrap();
    machine.settle();
    Rig { board, machine }
}
