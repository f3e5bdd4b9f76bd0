//! Reset of a bus for a function that cannot be reset by itself: who else has a device there.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bindery::env::{Env, Width};
use bindery::iommu::OwnerId;
use bindery::pci::{ConfigSpace, Ecam, FunctionId};
use bindery::vectors::VectorKind;
use bindery_drivers::edu::Edu;
use bindery_drivers::pci_host::PciHost;
use bindery_drivers::vfio::{Session, Vfio, VfioError, VfioPci};
use bindery_sim::board::Stuck;
use bindery_sim::mmu::Mmu;
use bindery_sim::virt::{self, Virt};
use common::Rig;
use common::virt::transfers;

const EDU: &str = "0000:02:01.0";
const SIBLING: &str = "0000:02:02.0";

fn rig() -> (Rig, Arc<Mmu>) {
    common::virt::translated(Virt::new().sibling(), |machine| {
        machine.register(Edu::default());
        machine.register(VfioPci(Vfio { release_timeout: Duration::from_millis(10) }));
    })
}

/// Has `name` without a driver, and only `vfio-pci` may bind it.
fn free(rig: &Rig, name: &str) {
    if let Some(driver) = rig.driver(name) {
        rig.machine.unbind(name, driver).unwrap();
    }
    rig.machine.device(name).unwrap().set_driver_override(Some("vfio-pci"));
}

fn give(rig: &Rig, name: &str) -> Result<(), String> {
    rig.machine.bind(name, "vfio-pci").map_err(|error| error.to_string())
}

fn take(rig: &Rig, name: &str) -> Result<(), String> {
    if let Some(driver) = rig.driver(name) {
        rig.machine.unbind(name, driver).unwrap();
    }
    rig.machine.device(name).unwrap().set_driver_override(None);
    rig.machine.bind(name, "edu").map_err(|error| error.to_string())
}

fn open(rig: &Rig, name: &str, owner: &OwnerId) -> Session {
    VfioPci::open_as(&rig.machine.client::<VfioPci>(name).unwrap(), owner).unwrap()
}

/// The register that inverts what was written; 0 after a reset.
fn state(session: &Session) -> Result<u64, VfioError> {
    session.read(0, 4, Width::W32)
}

#[test]
fn siblings_of_one_hand_over_are_reset_together_and_nobody_elses() {
    let (rig, _) = rig();
    for name in [EDU, SIBLING] {
        free(&rig, name);
    }
    for name in [EDU, SIBLING] {
        give(&rig, name).unwrap();
    }
    let (guest, other) = (OwnerId::new("guest"), OwnerId::new("other guest"));
    let sibling = open(&rig, SIBLING, &guest);
    sibling.write(0, 4, Width::W32, 7).unwrap();
    assert_eq!(state(&sibling), Ok(u64::from(!7_u32)));
    // The same guest's.
    let session = open(&rig, EDU, &guest);
    session.write(0, 4, Width::W32, 7).unwrap();
    session.reset().unwrap();
    assert_eq!((state(&session), state(&sibling)), (Ok(0), Ok(0)), "the bus is reset as a whole");
    let refused = VfioPci::open_as(&rig.machine.client::<VfioPci>(EDU).unwrap(), &other);
    assert!(refused.is_err(), "P7");
    drop(session);
    // Bound, and nobody has it open: one whose state is nobody's.
    drop(sibling);
    let session = open(&rig, EDU, &other);
    session.reset().unwrap();
    drop(session);
    for name in [EDU, SIBLING] {
        rig.machine.unbind(name, "vfio-pci").unwrap();
    }
    for name in [EDU, SIBLING] {
        take(&rig, name).unwrap();
        transfers(&rig, name);
    }
    rig.assert_well();
}

/// A reset by one of an owner's devices clears all, and sets again what the host had set in each.
#[test]
fn messages_of_a_sibling_that_is_reset_with_the_bus_go_on() {
    const RAISE: u64 = 0x60;
    const MSI: u16 = 0x40;
    let (rig, _) = rig();
    for name in [EDU, SIBLING] {
        free(&rig, name);
    }
    for name in [EDU, SIBLING] {
        give(&rig, name).unwrap();
    }
    let guest = OwnerId::new("guest");
    let (session, sibling) = (open(&rig, EDU, &guest), open(&rig, SIBLING, &guest));
    let config = Ecam::new(rig.board.map_io(virt::ECAM.0, virt::ECAM.1).unwrap(), 0);
    let read = |device, offset, width| {
        config.read(FunctionId { segment: 0, bus: 2, device, function: 0 }, offset, width).unwrap()
    };
    let are_on = |device| read(device, MSI + 2, Width::W16) & 1 != 0;
    sibling.signal_by(VectorKind::Msi, 1).unwrap();
    let counted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&counted);
    let taken = move || {
        count.fetch_add(1, Ordering::SeqCst);
    };
    sibling.on_interrupt(0, taken).unwrap();
    sibling.set_masked(0, false).unwrap();
    let before = (read(2, MSI + 4, Width::W32), read(2, MSI + 12, Width::W16));
    for round in 1..=3 {
        session.reset().unwrap();
        assert_eq!((are_on(1), are_on(2)), (false, true));
        assert_eq!((read(2, MSI + 4, Width::W32), read(2, MSI + 12, Width::W16)), before);
        sibling.write(0, RAISE, Width::W32, 1).unwrap();
        rig.board.run_pending();
        let begun = std::time::Instant::now();
        while counted.load(Ordering::SeqCst) < round {
            assert!(begun.elapsed() < Duration::from_mins(1), "no interrupt {round}");
            std::thread::yield_now();
        }
    }
    // What its owner gave back does not come again.
    sibling.signal_by(VectorKind::Line, 1).unwrap();
    session.reset().unwrap();
    assert!(!are_on(2));
    drop((session, sibling));
    for name in [EDU, SIBLING] {
        rig.machine.unbind(name, "vfio-pci").unwrap();
    }
    for name in [EDU, SIBLING] {
        take(&rig, name).unwrap();
        transfers(&rig, name);
    }
    rig.assert_well();
}

#[test]
fn a_device_is_not_given_away_while_a_guest_has_its_sibling() {
    let (rig, _) = rig();
    for name in [EDU, SIBLING] {
        free(&rig, name);
    }
    give(&rig, SIBLING).unwrap();
    let sibling = open(&rig, SIBLING, &OwnerId::new("guest"));
    sibling.write(0, 4, Width::W32, 7).unwrap();
    let refused = give(&rig, EDU).unwrap_err();
    assert!(refused.contains("0000:01:00.0") && refused.contains("0000:02:02.0 (guest)"), "{refused}");
    assert_eq!((rig.driver(EDU), state(&sibling)), (None, Ok(u64::from(!7_u32))), "nothing was reset");
    drop(sibling);
    give(&rig, EDU).unwrap();
    rig.assert_well();
}

/// The guest's last reset has failed, so the device needs one before anybody has it, and now a driver has its sibling.
#[test]
fn a_device_that_its_user_left_is_not_bound_while_a_driver_has_its_sibling() {
    let (rig, _) = rig();
    for name in [EDU, SIBLING] {
        free(&rig, name);
    }
    give(&rig, EDU).unwrap();
    let session = open(&rig, EDU, &OwnerId::new("guest"));
    session.write(0, 4, Width::W32, 7).unwrap();
    rig.board.set_stuck(Stuck::SecondaryBus(virt::BRIDGE), true);
    assert!(session.reset().is_err());
    drop(session);
    let again = VfioPci::open(&rig.machine.client::<VfioPci>(EDU).unwrap()).map(drop);
    assert!(again.unwrap_err().to_string().contains("does not respond"));
    rig.machine.unbind(EDU, "vfio-pci").unwrap();
    let refused = take(&rig, EDU).unwrap_err();
    assert!(refused.contains("cannot be reset"), "{refused}");
    assert!(give(&rig, EDU).is_err(), "nor given away");
    rig.board.set_stuck(Stuck::SecondaryBus(virt::BRIDGE), false);
    take(&rig, SIBLING).unwrap();
    transfers(&rig, SIBLING);
    let refused = take(&rig, EDU).unwrap_err();
    assert!(refused.contains("0000:02:02.0 (edu)"), "{refused}");
    rig.machine.unbind(SIBLING, "edu").unwrap();
    take(&rig, EDU).unwrap();
    take(&rig, SIBLING).unwrap();
    for name in [EDU, SIBLING] {
        transfers(&rig, name);
    }
    rig.assert_well();
}

/// What the guest has left in a device goes with it when it is pulled out.
#[test]
fn another_device_in_the_place_of_one_that_its_user_left_needs_no_reset() {
    let (rig, _) = rig();
    for name in [EDU, SIBLING] {
        free(&rig, name);
    }
    give(&rig, EDU).unwrap();
    let session = open(&rig, EDU, &OwnerId::new("guest"));
    rig.board.set_stuck(Stuck::SecondaryBus(virt::BRIDGE), true);
    assert!(session.reset().is_err());
    drop(session);
    rig.machine.set_autoprobe(false);
    rig.machine.unbind(EDU, "vfio-pci").unwrap();
    let host = rig.machine.devices().into_iter().find(|d| d.driver() == Some("pci-host-generic")).unwrap();
    let look = || PciHost::check_slots(&rig.machine, host.name()).unwrap();
    rig.board.unplug(virt::BRIDGE).unwrap();
    assert_eq!((look(), rig.machine.device(EDU).is_none()), (1, true));
    rig.board.set_stuck(Stuck::SecondaryBus(virt::BRIDGE), false);
    rig.board.plug(virt::BRIDGE).unwrap();
    assert_eq!((look(), rig.machine.device(EDU).is_some()), (1, true));
    // While its sibling is in use it cannot be reset.
    take(&rig, SIBLING).unwrap();
    take(&rig, EDU).unwrap();
    for name in [EDU, SIBLING] {
        transfers(&rig, name);
    }
    rig.assert_well();
}

#[test]
fn a_bus_that_does_not_come_back_gives_its_device_to_nobody() {
    let (rig, _) = rig();
    for name in [EDU, SIBLING] {
        free(&rig, name);
    }
    rig.board.set_stuck(Stuck::SecondaryBus(virt::BRIDGE), true);
    let refused = give(&rig, EDU).unwrap_err();
    assert!(refused.contains("its bus could not reset it"), "{refused}");
    let refused = take(&rig, SIBLING);
    assert!(refused.is_err(), "its sibling has not come back, either");
    rig.board.set_stuck(Stuck::SecondaryBus(virt::BRIDGE), false);
    // It was not reset for this driver, and has its addresses again.
    take(&rig, SIBLING).unwrap();
    transfers(&rig, SIBLING);
    rig.machine.unbind(SIBLING, "edu").unwrap();
    give(&rig, EDU).unwrap();
    rig.assert_well();
}

#[test]
fn a_function_that_has_gone_is_not_reset_and_does_not_hinder_its_sibling() {
    let (rig, _) = rig();
    for name in [EDU, SIBLING] {
        free(&rig, name);
    }
    rig.board.unplug(virt::EDU).unwrap();
    assert!(give(&rig, EDU).is_err());
    give(&rig, SIBLING).unwrap();
    let session = open(&rig, SIBLING, &OwnerId::new("guest"));
    session.reset().unwrap();
    assert!(rig.machine.device_vanished(EDU));
    session.reset().unwrap();
    drop(session);
    // And a bridge that goes takes both.
    rig.board.unplug(virt::BRIDGE).unwrap();
    assert!(VfioPci::open(&rig.machine.client::<VfioPci>(SIBLING).unwrap()).is_ok_and(|s| s.reset().is_err()));
    assert!(rig.machine.device_vanished(SIBLING));
    rig.assert_well();
}

#[test]
fn five_hundred_resets_leave_what_the_first_one_left() {
    let (rig, _) = rig();
    for name in [EDU, SIBLING] {
        free(&rig, name);
    }
    give(&rig, EDU).unwrap();
    let guest = OwnerId::new("guest");
    let before = rig.resource_usage();
    for _ in 0..500 {
        let session = open(&rig, EDU, &guest);
        session.reset().unwrap();
    }
    assert_eq!(rig.resource_usage().claims, before.claims);
    rig.assert_well();
}
