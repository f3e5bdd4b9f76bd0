//! Fixture of whole-machine tests: a Salvator-XS board with a machine on it.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

pub mod fixture;
pub mod master;
pub mod virt;

use std::sync::Arc;

use bindery::event::EventKind;
use bindery::machine::{Handle, Machine, Policy, ProbeStats, ResourceUsage};
use bindery_sim::board::Board;
use bindery_sim::disk::Disk;
use bindery_sim::salvator::{self, Salvator};

pub const SATA: &str = "ee300000.sata";
pub const IPMMU_HC: &str = "e6570000.mmu";
pub const IPMMU_MM: &str = "e67b0000.mmu";
pub const CPG: &str = "e6150000.clock-controller";
pub const SYSC: &str = "e6180000.system-controller";

/// Sector n of [`numbered_disk`] holds n in every 16-bit word.
pub fn numbered_disk(sectors: u16) -> Disk {
    Disk::memory((0..sectors).flat_map(|n| n.to_le_bytes().repeat(256)).collect())
}

/// A board and a machine on it. Dropping it checks nothing: end a test with [`assert_well`](Self::assert_well).
pub struct Rig {
    pub board: Arc<Board>,
    pub machine: Handle,
}

/// A board with a disk of 4096 sectors and an empty machine with the default policy, recording events.
pub fn bare() -> Rig {
    on(Salvator::new().disk(numbered_disk(4096)), Policy::default())
}

/// A machine on the board that `salvator` describes.
pub fn on(salvator: Salvator, policy: Policy) -> Rig {
    let board = salvator.build();
    board.keep_events(1 << 16);
    let machine = board.machine(policy);
    Rig { board, machine }
}

/// Registers the drivers of suppliers: clocks, power, IOMMUs.
pub fn register_suppliers(machine: &Arc<Machine>) {
    machine.register(bindery_drivers::fixed_clock::FixedClock);
    machine.register(bindery_drivers::cpg_mssr::CpgMssr);
    machine.register(bindery_drivers::sysc::Sysc);
    machine.register(bindery_drivers::ipmmu_vmsa::IpmmuVmsa);
}

/// A board with its device tree and all drivers; nothing is probed yet.
pub fn full() -> Rig {
    let rig = bare();
    rig.add_board();
    bindery_drivers::register_all(&rig.machine);
    rig
}

impl Rig {
    /// Adds the devices of the board's device tree.
    pub fn add_board(&self) {
        self.machine.add_device_tree(salvator::DEVICE_TREE).unwrap();
    }

    pub fn settle(&self) -> ProbeStats {
        self.machine.settle()
    }

    /// Driver of the device `name`.
    pub fn driver(&self, name: &str) -> Option<&'static str> {
        let device = self.machine.device(name).unwrap();
        self.machine.device_info(&device).driver
    }

    pub fn resource_usage(&self) -> ResourceUsage {
        self.machine.resource_usage()
    }

    /// Events of the device `name` since the last call of this or [`events`](Self::events).
    pub fn event_kinds(&self, name: &str) -> Vec<EventKind> {
        self.events().into_iter().filter(|(device, _)| device.as_deref() == Some(name)).map(|(_, kind)| kind).collect()
    }

    /// Events since the last call, with their devices.
    pub fn events(&self) -> Vec<(Option<String>, EventKind)> {
        self.board.take_events().into_iter().map(|e| (e.device.map(|d| d.to_string()), e.kind)).collect()
    }

    /// Checks that no promise was broken and no model was misused.
    #[track_caller]
    pub fn assert_well(&self) {
        assert_eq!(self.machine.promises().broken(), []);
        self.board.assert_clean();
    }
}
