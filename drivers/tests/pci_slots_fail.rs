//! Slots whose device cannot be read, or not yet, on the board `virt`: what has happened at others is followed all the same.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bindery::addr::PhysAddr;
use bindery::env::{Env, EnvError, Io, IoError, Width};
use bindery::machine::{Machine, Policy};
use bindery_drivers::edu::Edu;
use bindery_drivers::pci_host::PciHost;
use bindery_sim::board::Board;
use bindery_sim::interpose::Interpose;
use bindery_sim::virt::{self, Virt};
use common::Rig;

const HOST: &str = "3f000000.pcie";
const EDU: &str = "0000:02:01.0";

/// Configuration space of one bus of which a register cannot be read: nowhere when 0.
#[derive(Clone, Default)]
struct Broken(Arc<AtomicU64>);

/// The header's type, which is read of each function that is found.
const HEADER_TYPE: u64 = 0x0e;

struct Breaking(Arc<Board>, Broken);

struct BreakingIo(Arc<dyn Io>, Broken);

impl Interpose for Breaking {
    fn inner(&self) -> &dyn Env {
        &*self.0
    }

    fn map_io(&self, base: PhysAddr, len: u64) -> Result<Arc<dyn Io>, EnvError> {
        let io = self.0.map_io(base, len)?;
        Ok(if base == virt::ECAM.0 { Arc::new(BreakingIo(io, self.1.clone())) } else { io })
    }
}

impl Io for BreakingIo {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read(&self, offset: u64, width: Width) -> Result<u64, IoError> {
        let broken = self.1.0.load(Ordering::Relaxed);
        if broken != 0 && offset == broken {
            return Err(IoError::Gone);
        }
        self.0.read(offset, width)
    }

    fn write(&self, offset: u64, width: Width, value: u64) -> Result<(), IoError> {
        self.0.write(offset, width, value)
    }
}

fn rig(virt: Virt) -> (Rig, Broken) {
    let board = virt.build();
    board.keep_events(1 << 16);
    let broken = Broken::default();
    let env = Arc::new(Breaking(Arc::clone(&board), broken.clone())).env();
    let machine = Machine::with_instrument(env, Policy::default(), Arc::clone(&board) as _);
    machine.register(PciHost::default());
    machine.register(Edu::default());
    machine.add_device_tree(virt::DEVICE_TREE).unwrap();
    machine.settle();
    (Rig { board, machine }, broken)
}

/// Has the header of the function called `name` not be read.
fn breaks(broken: &Broken, name: &str) {
    let part = |range: std::ops::Range<usize>| u64::from_str_radix(&name[range], 16).unwrap();
    let offset = part(5..7) << 20 | part(8..10) << 15 | part(11..12) << 12;
    broken.0.store(offset + HEADER_TYPE, Ordering::Relaxed);
}

/// Exchanges the devices in both slots, one of which cannot be read at first.
#[test]
fn a_device_that_cannot_be_read_hides_no_change_of_another_slot() {
    for fails in [virt::BRIDGE, virt::EXPRESS_EDU] {
        let (rig, broken) = rig(Virt::new().second_port());
        let express = |machine: &Arc<Machine>| {
            let devices = machine.devices();
            let found = devices.iter().find(|d| d.driver() == Some("edu") && d.name() != EDU && !d.is_removed());
            found.map(|d| d.name().to_string())
        };
        let name = express(&rig.machine).unwrap();
        let first_of = |slot| if slot == virt::BRIDGE { "0000:01:00.0" } else { &name };
        let old = [EDU, &*name].map(|name| rig.machine.device(name).unwrap());
        for slot in [virt::BRIDGE, virt::EXPRESS_EDU] {
            rig.board.unplug(slot).unwrap();
            rig.board.plug(slot).unwrap();
        }
        rig.board.run_pending();
        breaks(&broken, first_of(fails));
        assert!(PciHost::check_slots(&rig.machine, HOST).is_err(), "{fails}: it is reported");
        rig.machine.settle();
        assert!(old.iter().all(|device| device.is_removed()), "{fails}");
        let (works, waits) = if fails == virt::BRIDGE { (&*name, EDU) } else { (EDU, &*name) };
        assert_eq!((rig.driver(works), rig.machine.device(waits).is_none()), (Some("edu"), true), "{fails}");
        common::virt::transfers(&rig, works);
        // Once it can be read, the next look finds it.
        broken.0.store(0, Ordering::Relaxed);
        assert_eq!(PciHost::check_slots(&rig.machine, HOST).unwrap(), 1, "{fails}");
        rig.machine.settle();
        for name in [works, waits] {
            assert_eq!(rig.driver(name), Some("edu"), "{fails}");
            common::virt::transfers(&rig, name);
        }
        assert_eq!(PciHost::check_slots(&rig.machine, HOST).unwrap(), 0, "{fails}");
        rig.assert_well();
    }
}

/// As above, below a port without a slot, where only the link tells that a device came.
#[test]
fn a_soldered_device_that_cannot_be_read_is_found_by_the_next_look() {
    let (rig, broken) = rig(Virt::new().soldered());
    rig.board.unplug(virt::BRIDGE).unwrap();
    assert_eq!(PciHost::check_slots(&rig.machine, HOST).unwrap(), 1);
    rig.board.plug(virt::BRIDGE).unwrap();
    breaks(&broken, "0000:01:00.0");
    for _ in 0..3 {
        assert!(PciHost::check_slots(&rig.machine, HOST).is_err());
    }
    broken.0.store(0, Ordering::Relaxed);
    assert_eq!(PciHost::check_slots(&rig.machine, HOST).unwrap(), 1);
    rig.machine.settle();
    common::virt::transfers(&rig, EDU);
    assert_eq!(PciHost::check_slots(&rig.machine, HOST).unwrap(), 0);
    rig.assert_well();
}
