//! Errors of functions, links that go down, and the interrupts of ports that tell of both, on the board `virt`. Nobody looks at a port
//! unless a test says so.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod no_threads;
mod together;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bindery::env::Width;
use bindery::event::{Cause, EventKind};
use bindery::machine::{Machine, Policy};
use bindery_drivers::edu::{Edu, EduError};
use bindery_drivers::pci_host::PciHost;
use bindery_drivers::vfio::{Vfio, VfioError, VfioPci};
use bindery_sim::interpose::Interpose;
use bindery_sim::virt::{self, Severity, Virt};
use common::Rig;
use no_threads::{NoThreads, Once};

const HOST: &str = "3f000000.pcie";
const PORT: &str = "0000:00:01.0";
const BRIDGE: &str = "0000:01:00.0";
const EDU: &str = "0000:02:01.0";
const SIBLING: &str = "0000:02:02.0";
const NEIGHBOUR: &str = "0000:00:02.0";

/// Its devices' drivers are bound, and nothing has been said yet.
fn rig(virt: Virt) -> Rig {
    rig_and_env(virt).0
}

fn rig_and_env(virt: Virt) -> (Rig, Arc<NoThreads>) {
    let board = virt.build();
    board.keep_events(1 << 16);
    let env = NoThreads::on(Arc::clone(&board) as _);
    let machine = Machine::with_instrument(env.env(), Policy::default(), Arc::clone(&board) as _);
    machine.register(PciHost::default());
    machine.register(Edu::default());
    machine.add_device_tree(virt::DEVICE_TREE).unwrap();
    machine.settle();
    let rig = Rig { board, machine };
    assert_eq!(rig.driver(EDU), Some("edu"));
    rig.board.take_events();
    (rig, env)
}

/// Lets time pass, as it does while somebody waits: interrupts are delivered, work runs, and what it asks for is done.
fn pass(rig: &Rig, time: Duration) {
    let clock = rig.machine.system_clock();
    let end = clock.now() + time;
    while clock.now() < end {
        let step = end.since(clock.now()).min(Duration::from_millis(10));
        clock.wait_until(step, step, || false);
        rig.machine.run_queued();
    }
}

/// Long enough for an error to be dealt with: the link's time, and that of the device.
fn wait(rig: &Rig) {
    pass(rig, Duration::from_secs(3));
}

/// Causes for which bindings have ended, with their devices.
fn ends(events: &[(Option<String>, EventKind)]) -> Vec<(String, Cause)> {
    let end = |(device, kind): &(Option<String>, EventKind)| match kind {
        EventKind::Unbound { cause, .. } => Some((device.clone()?, *cause)),
        _ => None,
    };
    events.iter().filter_map(end).collect()
}

/// What was said of errors and links.
fn said(events: &[(Option<String>, EventKind)]) -> Vec<String> {
    let tells = |(device, kind): &&(Option<String>, EventKind)| match kind {
        EventKind::Log { .. } => device.as_deref() == Some(HOST),
        kind => matches!(kind, EventKind::BusError { .. } | EventKind::LinkDown { .. } | EventKind::LinkUp),
    };
    let line = |(device, kind): &(Option<String>, EventKind)| format!("{}: {kind}", device.as_deref().unwrap_or("-"));
    events.iter().filter(tells).map(line).collect()
}

fn named(ends: &[(&str, Cause)]) -> Vec<(String, Cause)> {
    ends.iter().map(|(name, cause)| ((*name).to_owned(), *cause)).collect()
}

#[track_caller]
fn assert_recovered(rig: &Rig, devices: &[&str]) {
    for device in devices {
        assert_eq!(rig.driver(device), Some("edu"), "{device}");
        common::virt::transfers(rig, device);
    }
    assert_eq!(rig.machine.quarantine(), vec![]);
    rig.assert_well();
}

#[test]
fn a_fatal_error_is_contained_and_ends_all_bindings_below_the_port_and_no_other() {
    let rig = rig(Virt::new().containment().second_edu().sibling());
    let old = rig.machine.device(EDU).unwrap();
    rig.board.pci_error(virt::BRIDGE, Severity::Fatal, None).unwrap();
    wait(&rig);
    let events = rig.events();
    let expected = [(SIBLING, Cause::UncorrectableError), (EDU, Cause::UncorrectableError)];
    assert_eq!(ends(&events), named(&expected));
    let down = format!("{PORT}: link down: contained, for a fatal error of {BRIDGE}");
    assert_eq!(said(&events), [down, format!("{PORT}: link up")]);
    let proof = EventKind::Quiesced { how: "link down".into() };
    assert_eq!(events.iter().filter(|(_, kind)| *kind == proof).count(), 2, "{events:?}");
    assert!(old.is_removed() && !Arc::ptr_eq(&old, &rig.machine.device(EDU).unwrap()));
    assert_recovered(&rig, &[EDU, SIBLING, NEIGHBOUR]);
}

#[test]
fn without_containment_the_link_is_taken_down_before_bindings_end() {
    let rig = rig(Virt::new().error_reporting());
    rig.board.pci_error(virt::BRIDGE, Severity::Fatal, None).unwrap();
    wait(&rig);
    let events = rig.events();
    assert_eq!(ends(&events), named(&[(EDU, Cause::UncorrectableError)]));
    let expected = [
        format!("{BRIDGE}: fatal error, told to {PORT}: malformed request"),
        format!("{PORT}: link down: a fatal error of {BRIDGE}"),
        format!("{PORT}: link up"),
    ];
    assert_eq!(said(&events), expected);
    assert_recovered(&rig, &[EDU]);
}

/// A fatal error of the bridge, when `once` happens.
fn fails_at(rig: &Rig, once: &Once) {
    let board = Arc::clone(&rig.board);
    *once.lock().unwrap() = Some(Box::new(move || board.pci_error(virt::BRIDGE, Severity::Fatal, None).unwrap()));
}

#[test]
fn a_transfer_that_is_under_way_ends_with_its_link() {
    for virt in [Virt::new().containment(), Virt::new().error_reporting()] {
        let (rig, env) = rig_and_env(virt);
        let client = rig.machine.client::<Edu>(EDU).unwrap();
        fails_at(&rig, &env.at_wait);
        let written = client.call(|port| port.write(0, &[7; 64]));
        assert!(matches!(written, Ok(Err(EduError::Gone | EduError::TimedOut))), "{written:?}");
        wait(&rig);
        assert_eq!(ends(&rig.events()), named(&[(EDU, Cause::UncorrectableError)]));
        assert!(client.call(|_| ()).is_err());
        assert_recovered(&rig, &[EDU]);
    }
}

#[test]
fn an_error_while_a_probe_runs_ends_what_the_probe_has_begun() {
    for virt in [Virt::new().containment(), Virt::new().error_reporting()] {
        let (rig, env) = rig_and_env(virt);
        rig.machine.unbind(EDU, "edu").unwrap();
        rig.board.take_events();
        fails_at(&rig, &env.at_map);
        // What the probe comes to depends on whether it sees that nothing answers.
        let _ = rig.machine.bind(EDU, "edu");
        wait(&rig);
        let events = rig.events();
        let removed = |name: &str| events.iter().any(|e| *e == (Some(name.into()), EventKind::DeviceRemoved));
        assert!(removed(EDU) && removed(BRIDGE), "{events:?}");
        assert_recovered(&rig, &[EDU]);
    }
}

#[test]
fn a_non_fatal_error_ends_the_binding_of_its_device_which_is_bound_again() {
    let rig = rig(Virt::new().containment().second_port());
    let express = "0000:03:00.0";
    let express = if rig.machine.device(express).is_some() { express } else { "0000:04:00.0" };
    assert_eq!(rig.driver(express), Some("edu"));
    rig.board.pci_error(virt::EXPRESS_EDU, Severity::NonFatal, None).unwrap();
    wait(&rig);
    let events = rig.events();
    assert_eq!(ends(&events), named(&[(express, Cause::UncorrectableError)]));
    assert_eq!(said(&events), [format!("{express}: non-fatal error, told to 0000:00:03.0: completion timeout")]);
    let stopped = EventKind::Quiesced { how: "stopped".into() };
    assert!(events.iter().any(|(_, kind)| *kind == stopped), "its driver has stopped it: {events:?}");
    assert_recovered(&rig, &[express, EDU]);
}

#[test]
fn a_non_fatal_error_of_a_bridge_ends_all_below_it() {
    let rig = rig(Virt::new().containment().sibling());
    rig.board.pci_error(virt::BRIDGE, Severity::NonFatal, None).unwrap();
    wait(&rig);
    let ended = ends(&rig.events());
    assert_eq!(ended, named(&[(SIBLING, Cause::UncorrectableError), (EDU, Cause::UncorrectableError)]));
    assert_recovered(&rig, &[EDU, SIBLING]);
}

#[test]
fn a_link_that_goes_down_by_itself_is_seen_and_what_comes_up_is_found() {
    let rig = rig(Virt::new().containment());
    rig.board.set_link_failed(virt::ROOT_PORT, true).unwrap();
    wait(&rig);
    assert_eq!(ends(&rig.events()), named(&[(EDU, Cause::LinkDown)]));
    assert!(rig.machine.device(BRIDGE).is_none());
    rig.board.set_link_failed(virt::ROOT_PORT, false).unwrap();
    wait(&rig);
    assert_recovered(&rig, &[EDU]);
    // Down and up again before anybody has looked.
    rig.board.set_link_failed(virt::ROOT_PORT, true).unwrap();
    rig.board.set_link_failed(virt::ROOT_PORT, false).unwrap();
    rig.board.take_events();
    wait(&rig);
    assert_eq!(ends(&rig.events()), named(&[(EDU, Cause::LinkDown)]));
    assert_recovered(&rig, &[EDU]);
}

#[test]
fn slots_are_followed_without_anybody_who_looks() {
    let rig = rig(Virt::new().containment());
    rig.board.unplug(virt::BRIDGE).unwrap();
    wait(&rig);
    assert_eq!(ends(&rig.events()), named(&[(EDU, Cause::SurpriseRemoved)]));
    rig.board.plug(virt::BRIDGE).unwrap();
    wait(&rig);
    assert_recovered(&rig, &[EDU]);
    rig.board.take_events();
    rig.board.press_attention(virt::ROOT_PORT).unwrap();
    wait(&rig);
    assert_eq!(ends(&rig.events()), named(&[(EDU, Cause::DeviceRemoved)]));
    rig.board.press_attention(virt::ROOT_PORT).unwrap();
    wait(&rig);
    assert_recovered(&rig, &[EDU]);
    assert_eq!(PciHost::check_slots(&rig.machine, HOST).unwrap(), 0);
}

#[test]
fn what_happens_while_a_port_is_armed_is_seen_although_its_signal_is_lost() {
    let (rig, env) = rig_and_env(Virt::new().error_reporting());
    let (board, signals) = (Arc::clone(&rig.board), Arc::clone(&env.signals));
    let pulled_out = move || {
        board.unplug(virt::BRIDGE).unwrap();
        signals.loses.store(true, Ordering::Relaxed);
    };
    *env.signals.at_arm.lock().unwrap() = Some(Box::new(pulled_out));
    // It ends nothing; the port is armed again after it.
    rig.board.pci_error(virt::BRIDGE, Severity::Correctable, None).unwrap();
    wait(&rig);
    assert!(env.signals.at_arm.lock().unwrap().is_none());
    assert_eq!(ends(&rig.events()), named(&[(EDU, Cause::SurpriseRemoved)]));
    assert!(rig.machine.device(BRIDGE).is_none());
    rig.assert_well();
}

#[test]
fn a_sender_that_nobody_knows_and_one_of_several_are_looked_for() {
    let rig = rig(Virt::new().error_reporting().sibling());
    // Its message names a function that there is not; another one's message is the second.
    rig.board.pci_error(virt::BRIDGE, Severity::Fatal, Some(0x7ff)).unwrap();
    rig.board.pci_error(virt::ROOT_PORT, Severity::NonFatal, None).unwrap();
    wait(&rig);
    let events = rig.events();
    assert_eq!(ends(&events).len(), 2, "{events:?}");
    let said = said(&events);
    assert!(said.contains(&format!("{BRIDGE}: fatal error, told to {PORT}: malformed request")), "{said:?}");
    assert!(said.contains(&format!("{PORT}: non-fatal error, told to {PORT}: completion timeout")), "{said:?}");
    assert_recovered(&rig, &[EDU, SIBLING]);
}

#[test]
fn an_empty_slot_has_errors_too() {
    let rig = rig(Virt::new().error_reporting());
    rig.board.unplug(virt::BRIDGE).unwrap();
    wait(&rig);
    rig.board.take_events();
    rig.board.pci_error(virt::ROOT_PORT, Severity::Fatal, None).unwrap();
    wait(&rig);
    assert_eq!(ends(&rig.events()), []);
    rig.board.plug(virt::BRIDGE).unwrap();
    wait(&rig);
    assert_recovered(&rig, &[EDU]);
}

#[test]
fn an_error_that_comes_again_and_again_is_not_recovered_for_ever() {
    let rig = rig(Virt::new().containment());
    for _ in 0..3 {
        rig.board.pci_error(virt::BRIDGE, Severity::Fatal, None).unwrap();
        wait(&rig);
        assert_eq!(rig.driver(EDU), Some("edu"));
    }
    rig.board.take_events();
    rig.board.pci_error(virt::BRIDGE, Severity::Fatal, None).unwrap();
    wait(&rig);
    let events = rig.events();
    assert_eq!(ends(&events), named(&[(EDU, Cause::UncorrectableError)]));
    let log = format!("{HOST}: the port {PORT}: too many errors, its link stays down");
    assert!(said(&events).contains(&log), "{:?}", said(&events));
    assert!(rig.machine.device(EDU).is_none());
    pass(&rig, Duration::from_secs(100));
    assert!(rig.machine.device(EDU).is_none(), "nobody has asked");
    // Somebody asks, or another device is there.
    PciHost::check_slots(&rig.machine, HOST).unwrap();
    rig.machine.settle();
    assert_recovered(&rig, &[EDU]);
    for _ in 0..3 {
        rig.board.pci_error(virt::BRIDGE, Severity::Fatal, None).unwrap();
        wait(&rig);
    }
    assert!(rig.machine.device(EDU).is_none());
    rig.board.unplug(virt::BRIDGE).unwrap();
    rig.board.plug(virt::BRIDGE).unwrap();
    wait(&rig);
    assert_recovered(&rig, &[EDU]);
}

#[test]
fn a_storm_of_correctable_errors_ends_no_binding_and_is_bounded() {
    let rig = rig(Virt::new().containment());
    for _ in 0..2000 {
        rig.board.pci_error(virt::BRIDGE, Severity::Correctable, None).unwrap();
        pass(&rig, Duration::from_millis(1));
    }
    let events = rig.events();
    let told = events.iter().filter(|(_, kind)| matches!(kind, EventKind::BusError { .. })).count();
    assert!((16..=64).contains(&told), "{told} of 2000 in 2 s");
    assert_eq!((ends(&events), said(&events).len()), (vec![], told));
    wait(&rig);
    // It is over: the next one is told.
    rig.board.take_events();
    rig.board.pci_error(virt::BRIDGE, Severity::Correctable, None).unwrap();
    wait(&rig);
    assert_eq!(said(&rig.events()), [format!("{BRIDGE}: correctable error, told to {PORT}: receiver error")]);
    assert_recovered(&rig, &[EDU]);
}

#[test]
fn an_error_while_the_last_one_is_dealt_with_is_dealt_with_next() {
    let rig = rig(Virt::new().error_reporting());
    rig.board.pci_error(virt::BRIDGE, Severity::Fatal, None).unwrap();
    // The link is down, or its devices are being found.
    pass(&rig, Duration::from_millis(150));
    rig.board.pci_error(virt::BRIDGE, Severity::Fatal, None).unwrap_or(());
    rig.board.pci_error(virt::ROOT_PORT, Severity::NonFatal, None).unwrap();
    wait(&rig);
    wait(&rig);
    assert_recovered(&rig, &[EDU]);
}

#[test]
fn a_device_in_a_guests_hands_is_taken_from_it() {
    let (rig, _) = common::virt::translated_on(
        Virt::new().containment(),
        |board| NoThreads::on(board).env(),
        |machine| {
            machine.register(Edu::default());
            machine.register(VfioPci(Vfio { release_timeout: Duration::from_millis(10) }));
        },
    );
    rig.machine.unbind(EDU, "edu").unwrap();
    rig.machine.device(EDU).unwrap().set_driver_override(Some("vfio-pci"));
    rig.machine.bind(EDU, "vfio-pci").unwrap();
    let session = VfioPci::open(&rig.machine.client::<VfioPci>(EDU).unwrap()).unwrap();
    rig.board.take_events();
    rig.board.pci_error(virt::BRIDGE, Severity::Fatal, None).unwrap();
    wait(&rig);
    assert_eq!(session.read(0, 4, Width::W32), Err(VfioError::Revoked));
    assert_eq!(ends(&rig.events()), named(&[(EDU, Cause::UncorrectableError)]));
    drop(session);
    assert_recovered(&rig, &[EDU]);
}

#[test]
fn ports_without_interrupts_and_hosts_that_are_unbound_are_quiet() {
    let rig = rig(Virt::new());
    assert!(rig.board.pci_error(virt::BRIDGE, Severity::Fatal, None).is_err(), "it reports no errors");
    let lines = rig.board.enabled_lines();
    let with = self::rig(Virt::new().containment());
    assert_eq!(with.board.enabled_lines(), lines + 1, "the port's");
    for _ in 0..3 {
        with.machine.unbind(HOST, "pci-host-generic").unwrap();
        assert_eq!(with.board.enabled_lines(), 0);
        with.board.pci_error(virt::BRIDGE, Severity::NonFatal, None).unwrap();
        wait(&with);
        with.machine.bind(HOST, "pci-host-generic").unwrap();
        with.machine.settle();
        assert_recovered(&with, &[EDU]);
    }
}

#[test]
fn a_hundred_errors_leave_what_the_first_one_left() {
    let rig = rig(Virt::new().containment());
    let cycle = |at: u32| {
        rig.board.pci_error(virt::BRIDGE, Severity::Fatal, None).unwrap();
        wait(&rig);
        // Errors so far apart are each recovered.
        let clock = rig.machine.system_clock();
        clock.wait_until(Duration::from_secs(30), Duration::from_secs(30), || false);
        assert_eq!(rig.driver(EDU), Some("edu"), "{at}");
        rig.resource_usage()
    };
    let strip = |usage: bindery::machine::ResourceUsage| (usage.claims, usage.frames, usage.irqs, usage.bindings.len());
    let first = strip(cycle(0));
    for at in 1..100 {
        assert_eq!(strip(cycle(at)), first);
    }
    assert_recovered(&rig, &[EDU]);
}
