//! Drivers for the Bindery core. None names a target: the same source runs on a simulated board, on bare metal and over
//! VFIO.
#![no_std]
#![cfg_attr(test, allow(clippy::unwrap_used))]

extern crate alloc;

pub mod ata;
pub mod block;
pub mod cpg_mssr;
pub mod edu;
pub mod fixed_clock;
pub mod fixed_regulator;
pub mod ipmmu_vmsa;
pub mod pci_host;
mod poll;
pub mod sata_rcar;
pub mod sysc;
pub mod vfio;

use alloc::sync::Arc;

use bindery::machine::Machine;

/// Registers every driver but that of `edu`, which has to be told how many bits of an address the device drives. One that is
/// registered already stays as it is.
pub fn register_all(machine: &Arc<Machine>) {
    machine.register(fixed_clock::FixedClock);
    machine.register(fixed_regulator::FixedRegulator);
    machine.register(cpg_mssr::CpgMssr);
    machine.register(sysc::Sysc);
    machine.register(pci_host::PciHost::default());
    machine.register(sata_rcar::SataRcar);
    machine.register(vfio::Vfio::default());
    machine.register(vfio::VfioPci::default());
    machine.register(ipmmu_vmsa::IpmmuVmsa);
}
