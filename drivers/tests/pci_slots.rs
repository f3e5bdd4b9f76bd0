//! Slots: devices that come and go while the machine runs, on the board `virt`.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bindery::driver::ProbeError;
use bindery::env::Width;
use bindery::event::{Cause, EventKind};
use bindery_drivers::edu::Edu;
use bindery_drivers::pci_host::PciHost;
use bindery_drivers::vfio::{Vfio, VfioError, VfioPci};
use bindery_sim::virt::{self, Virt};
use common::Rig;

const HOST: &str = "3f000000.pcie";
const BRIDGE: &str = "0000:01:00.0";
const EDU: &str = "0000:02:01.0";

fn rig() -> Rig {
    on(Virt::new().second_edu())
}

fn on(virt: Virt) -> Rig {
    let rig = unchecked(virt);
    assert_eq!((check(&rig), rig.driver(EDU)), (0, Some("edu")));
    rig
}

fn unchecked(virt: Virt) -> Rig {
    let rig = common::virt::rig(virt);
    rig.machine.register(Edu::default());
    rig.machine.settle();
    rig
}

/// Looks at the slots, and probes what has come.
fn check(rig: &Rig) -> usize {
    let changes = PciHost::check_slots(&rig.machine, HOST).unwrap();
    rig.machine.settle();
    changes
}

#[track_caller]
fn assert_works(rig: &Rig) {
    assert_eq!(rig.driver(EDU), Some("edu"));
    common::virt::transfers(rig, EDU);
}

fn is_there(rig: &Rig) -> (bool, bool) {
    (rig.machine.device(BRIDGE).is_some(), rig.machine.device(EDU).is_some())
}

fn causes(rig: &Rig) -> Vec<Cause> {
    let kinds = rig.event_kinds(EDU).into_iter();
    kinds.filter_map(|kind| if let EventKind::Unbound { cause, .. } = kind { Some(cause) } else { None }).collect()
}

#[test]
fn what_is_pulled_out_goes_with_all_behind_it_and_what_is_put_in_comes() {
    let rig = rig();
    assert_works(&rig);
    rig.board.take_events();
    rig.board.unplug(virt::BRIDGE).unwrap();
    assert_eq!((check(&rig), is_there(&rig)), (1, (false, false)));
    assert_eq!(causes(&rig), [Cause::SurpriseRemoved]);
    assert_eq!((check(&rig), rig.machine.quarantine()), (0, vec![]));
    rig.board.plug(virt::BRIDGE).unwrap();
    assert_eq!((check(&rig), is_there(&rig)), (1, (true, true)));
    assert_works(&rig);
    assert_eq!(check(&rig), 0);
    assert_eq!(rig.driver("0000:00:02.0"), Some("edu"), "a neighbour goes on");
    rig.assert_well();
}

#[test]
fn one_that_was_exchanged_between_two_looks_is_another_device() {
    let rig = rig();
    let old = rig.machine.device(EDU).unwrap();
    rig.board.unplug(virt::BRIDGE).unwrap();
    rig.board.plug(virt::BRIDGE).unwrap();
    rig.board.run_pending();
    assert_eq!(check(&rig), 1);
    assert!(old.is_removed() && !Arc::ptr_eq(&old, &rig.machine.device(EDU).unwrap()));
    assert_works(&rig);
    rig.assert_well();
}

#[test]
fn the_attention_button_has_a_device_leave_in_an_orderly_way_and_come_back() {
    let rig = rig();
    for _ in 0..3 {
        assert_works(&rig);
        rig.board.take_events();
        rig.board.press_attention(virt::ROOT_PORT).unwrap();
        assert_eq!((check(&rig), is_there(&rig)), (1, (false, false)));
        assert_eq!(causes(&rig), [Cause::DeviceRemoved]);
        assert_eq!(check(&rig), 0, "the slot is off");
        rig.board.press_attention(virt::ROOT_PORT).unwrap();
        assert_eq!((check(&rig), is_there(&rig)), (1, (true, true)));
    }
    assert_works(&rig);
    // A press for an empty slot does nothing.
    rig.board.unplug(virt::BRIDGE).unwrap();
    assert_eq!(check(&rig), 1);
    rig.board.press_attention(virt::ROOT_PORT).unwrap();
    assert_eq!((check(&rig), is_there(&rig)), (0, (false, false)));
    assert!(rig.board.press_attention(virt::BRIDGE).is_err(), "a bridge without a slot");
    rig.assert_well();
}

#[test]
fn a_device_in_a_guests_hands_is_pulled_out_of_its_slot() {
    let (rig, _) = common::virt::translated(Virt::new(), |machine| {
        machine.register(Edu::default());
        machine.register(VfioPci(Vfio { release_timeout: Duration::from_millis(10) }));
    });
    let host = rig.machine.devices().into_iter().find(|d| d.driver() == Some("pci-host-generic")).unwrap();
    let check = || PciHost::check_slots(&rig.machine, host.name()).unwrap();
    for planned in [false, true] {
        rig.machine.unbind(EDU, "edu").unwrap();
        rig.machine.device(EDU).unwrap().set_driver_override(Some("vfio-pci"));
        rig.machine.bind(EDU, "vfio-pci").unwrap();
        let session = VfioPci::open(&rig.machine.client::<VfioPci>(EDU).unwrap()).unwrap();
        let back = || {
            if planned { rig.board.press_attention(virt::ROOT_PORT) } else { rig.board.plug(virt::BRIDGE) }.unwrap();
        };
        if planned {
            rig.board.press_attention(virt::ROOT_PORT).unwrap();
        } else {
            rig.board.unplug(virt::BRIDGE).unwrap();
        }
        assert_eq!((check(), rig.machine.device(EDU).is_none()), (1, true));
        assert_eq!(session.read(0, 4, Width::W32), Err(VfioError::Revoked));
        back();
        assert_eq!(check(), 1);
        rig.machine.settle();
        assert_works(&rig);
        drop(session);
    }
    rig.assert_well();
}

#[test]
fn ports_that_go_and_hosts_that_are_not_bound_are_no_slots() {
    let rig = rig();
    rig.board.unplug(virt::BRIDGE).unwrap();
    assert_eq!(check(&rig), 1);
    rig.board.unplug(virt::ROOT_PORT).unwrap();
    assert_eq!(check(&rig), 0, "the port itself is on no slot");
    rig.board.plug(virt::ROOT_PORT).unwrap();
    assert!(PciHost::check_slots(&rig.machine, EDU).is_err_and(|error| matches!(error, ProbeError::NoDevice)));
    rig.machine.unbind(HOST, "pci-host-generic").unwrap();
    assert!(PciHost::check_slots(&rig.machine, HOST).is_err());
    rig.machine.bind(HOST, "pci-host-generic").unwrap();
    rig.board.plug(virt::BRIDGE).unwrap();
    // An empty slot has addresses and a bus number for a bridge.
    assert_eq!((check(&rig), is_there(&rig)), (1, (true, true)));
    assert_works(&rig);
    rig.assert_well();
}

#[test]
fn five_hundred_exchanges_leave_what_the_first_one_left() {
    let rig = rig();
    let cycle = || {
        rig.board.unplug(virt::BRIDGE).unwrap();
        assert_eq!(check(&rig), 1);
        rig.board.plug(virt::BRIDGE).unwrap();
        assert_eq!(check(&rig), 1);
        rig.resource_usage()
    };
    let strip = |usage: bindery::machine::ResourceUsage| (usage.claims, usage.frames, usage.irqs, usage.bindings.len());
    let first = strip(cycle());
    for _ in 1..500 {
        assert_eq!(strip(cycle()), first);
    }
    assert_works(&rig);
    rig.assert_well();
}

#[test]
fn interrupts_of_ports_that_went_with_their_switch_are_given_back() {
    const INNER: &str = "0000:02:00.0";
    let rig = unchecked(Virt::new().inner_port());
    let interrupts = || {
        let held = rig.machine.resources(&rig.machine.device(HOST).unwrap());
        held.into_iter().filter(|resource| resource.1 == "irq").count()
    };
    assert_eq!(interrupts(), 1);
    for round in 0..5 {
        rig.board.unplug(virt::BRIDGE).unwrap();
        assert_eq!((check(&rig), rig.machine.device(BRIDGE).is_none(), interrupts()), (1, true, 0), "round {round}");
        rig.board.plug(virt::BRIDGE).unwrap();
        assert_eq!((check(&rig), rig.driver(INNER), interrupts()), (1, Some("edu"), 1), "round {round}");
        common::virt::transfers(&rig, INNER);
    }
    rig.assert_well();
}

#[test]
fn a_soldered_device_whose_link_went_down_is_back_with_it_however_late() {
    let rig = on(Virt::new().soldered());
    for looks in 0..4 {
        rig.board.unplug(virt::BRIDGE).unwrap();
        assert_eq!((check(&rig), is_there(&rig)), (1, (false, false)));
        for _ in 0..looks {
            assert_eq!((check(&rig), is_there(&rig)), (0, (false, false)));
        }
        rig.board.plug(virt::BRIDGE).unwrap();
        assert_eq!((check(&rig), is_there(&rig)), (1, (true, true)), "after {looks} looks");
        assert_works(&rig);
    }
    rig.assert_well();
}
