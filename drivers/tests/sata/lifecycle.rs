//! Tests that bind and unbind leave nothing behind.

use std::thread;
use std::time::Duration;

use bindery::binding::Phase;
use bindery::env::Env;
use bindery::event::Outcome;
use bindery::instrument::FaultPoint;
use bindery::machine::ResourceUsage;
use bindery_drivers::ata::AtaError;
use bindery_drivers::sata_rcar::Port;
use bindery_sim::models::sata::Stop;
use bindery_sim::salvator::{CONTIGUOUS_BASE, CONTIGUOUS_LEN};

use super::*;
use common::{CPG, IPMMU_HC, SYSC};

/// The controller's bit among the module clocks.
const MODULE: u32 = 815;

/// Released resources, in order: kind, back-end.
pub(crate) fn released(events: &[EventKind]) -> Vec<(&str, &str)> {
    let entry = |e| match e {
        &EventKind::Released { resource, ref backend, ref outcome, .. } => {
            assert_eq!(*outcome, Outcome::Returned);
            Some((resource, &**backend))
        }
        _ => None,
    };
    events.iter().filter_map(entry).collect()
}

#[test]
fn the_untranslated_table_is_allocated_from_cma_and_freed_to_cma() {
    // As on hardware: 2,048 bytes in the contiguous area, allocated by cma_alloc() and freed by cma_release().
    let rig = rig(false);
    let events = rig.event_kinds(SATA);
    let (size, phys, backend) = coherent(&events)[0];
    assert_eq!((size, backend), (2048, "direct, cma"));
    assert!(phys >= CONTIGUOUS_BASE && phys.0 < CONTIGUOUS_BASE.0 + CONTIGUOUS_LEN, "{phys}");
    assert!(events.contains(&EventKind::Policy { policy: "untranslated DMA".into() }), "P10");
    works(&rig);
    assert!(rig.resource_usage().contiguous > 0);
    unbind(&rig);
    let after = rig.resource_usage();
    assert_eq!((after.contiguous, &*after.quarantine), (0, "0 runs, 0 bytes"));
    rig.assert_well();
}

#[test]
fn unbind_releases_interrupt_then_memory_then_registers_each_by_its_own_back_end() {
    let rig = rig(false);
    works(&rig);
    rig.events();
    unbind(&rig);
    let events = rig.event_kinds(SATA);
    assert!(events.contains(&EventKind::Quiesced { how: "stopped".into() }), "P11");
    let order = released(&events);
    let kinds: Vec<_> = order.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds[..7], ["data", "service", "irq", "dma arena", "dma coherent", "mmio", "control"]);
    assert_eq!(order[4], ("dma coherent", "direct, cma"), "P1");
    assert_eq!(kinds.last(), Some(&"links"), "P6");
    rig.assert_well();
}

#[test]
fn with_untranslated_dma_the_iommu_is_no_supplier_even_of_a_later_device() {
    let rig = rig(false);
    let desc = rig.machine.device(SATA).unwrap().desc().clone();
    assert!(rig.machine.remove_device(SATA));
    assert_eq!(rig.driver(IPMMU_HC), Some("ipmmu-vmsa"));
    rig.machine.add_device(desc).unwrap();
    rig.settle();
    assert_eq!(rig.driver(SATA), Some(DRIVER));
    rig.machine.unbind(IPMMU_HC, "ipmmu-vmsa").unwrap();
    assert_eq!(rig.driver(SATA), Some(DRIVER), "the IOMMU can be unbound: the device does not use it");
    works(&rig);
    rig.assert_well();
}

const CYCLES: u32 = 10_000;

pub(crate) fn many_bindings_leave_nothing(translated: bool) {
    let rig = rig(translated);
    works(&rig);
    unbind(&rig);
    rig.board.keep_events(0);
    let before = rig.resource_usage();
    for n in 0..CYCLES {
        bind(&rig);
        if n % 50 == 0 {
            works(&rig);
        }
        unbind(&rig);
    }
    assert_eq!(rig.resource_usage(), before, "P4 after {CYCLES} bindings");
    bind(&rig);
    works(&rig);
    rig.assert_well();
}

#[test]
fn many_untranslated_bindings_leave_nothing() {
    many_bindings_leave_nothing(false);
}

/// Reads on another thread, and unbinds while that read waits for an unresponsive disk. Returns the result of the read.
pub(crate) fn unbind_inside_a_command(rig: &Rig, hook: &Hook) -> Result<(), AtaError> {
    unbind_inside(rig, hook, |p| p.read(0, &mut [0; 512]))
}

/// As [`unbind_inside_a_command`], inside `command`.
pub(crate) fn unbind_inside(
    rig: &Rig,
    hook: &Hook,
    command: impl FnOnce(&Port<'_>) -> Result<(), AtaError> + Send,
) -> Result<(), AtaError> {
    rig.board.sata_faults(|k| k.no_completion = true);
    let port = port(rig);
    let device = rig.machine.device(SATA).unwrap();
    let (inside, entered) = std::sync::mpsc::channel();
    let mut waits = 0;
    hook.each_wait(move || {
        waits += 1;
        if waits == 1 {
            inside.send(()).unwrap();
        }
        // Host time: the command must not complete before the unbind on the other thread has begun.
        while device.phase() == Phase::Bound {
            thread::sleep(Duration::from_micros(100));
        }
        // The unbind tells the command of it right after that, on a thread that a busy host may not run for a while.
        if waits < 100 {
            thread::sleep(Duration::from_millis(if waits == 1 { 300 } else { 1 }));
        }
    });
    thread::scope(|s| {
        let reader = s.spawn(move || port.call(command).unwrap());
        entered.recv().unwrap();
        unbind(rig);
        let result = reader.join().unwrap();
        hook.each_wait(|| {});
        rig.board.sata_faults(|k| k.no_completion = false);
        result
    })
}

#[test]
fn an_unbind_waits_for_the_end_of_a_scope_and_the_caller_has_the_pages() {
    for translated in [false, true] {
        let (rig, hook) = hooked(translated);
        let mut buffer = rig.machine.dma_buffer(4096).unwrap();
        let borrowed = &mut buffer;
        let read = |p: &Port<'_>| p.read_buffer(0, borrowed, 0..512);
        assert_eq!(unbind_inside(&rig, &hook, read), Err(AtaError::Stopping));
        buffer.as_mut_slice().fill(1);
        assert_eq!(rig.machine.quarantine(), [], "P2");
        let frames = rig.machine.resource_usage().frames;
        drop(buffer);
        assert_eq!(rig.machine.resource_usage().frames, frames - 1, "it had its own page");
        bind(&rig);
        works(&rig);
        rig.assert_well();
    }
}

#[test]
fn an_unbind_aborts_a_command_that_does_not_complete() {
    let (rig, hook) = hooked(false);
    unbind(&rig);
    let before = rig.resource_usage();
    bind(&rig);
    let start = rig.board.now();
    assert_eq!(unbind_inside_a_command(&rig, &hook), Err(AtaError::Stopping));
    assert!(rig.board.now().since(start) < Duration::from_secs(1), "{:?}", rig.board.now().since(start));
    assert_eq!(rig.resource_usage(), before, "P4");
    bind(&rig);
    works(&rig);
    rig.assert_well();
}

#[test]
fn a_controller_without_users_is_held_in_reset() {
    let (rig, hook) = hooked(false);
    rig.board.faults().fail_points(&[FaultPoint::Quiesce]);
    assert!(unbind_inside_a_command(&rig, &hook).is_err());
    rig.board.faults().never();
    // No register was read while the controller was in reset: that is an external abort.
    rig.assert_well();
}

#[test]
fn a_controller_that_does_not_stop_is_held_in_reset() {
    let (rig, hook) = hooked(false);
    unbind(&rig);
    let before = rig.resource_usage();
    bind(&rig);
    rig.board.sata_faults(|k| k.stop = Stop::Ignored);
    rig.events();
    assert_eq!(unbind_inside_a_command(&rig, &hook), Err(AtaError::Stopping));
    let events = rig.event_kinds(SATA);
    assert!(events.contains(&EventKind::QuiesceFailed { error: "STOP was written, and ACT stays set".into() }));
    assert!(events.contains(&EventKind::Quiesced { how: "held in reset".into() }), "P11");
    assert_eq!(rig.resource_usage(), before, "P4");
    bind(&rig);
    works(&rig);
    rig.assert_well();
}

#[test]
fn memory_of_a_controller_that_cannot_be_stopped_is_quarantined_until_the_next_reset() {
    let (rig, hook) = unbound_hooked(false, false);
    rig.settle();
    unbind(&rig);
    let before = rig.resource_usage();
    bind(&rig);
    rig.board.sata_faults(|k| k.stop = Stop::Ignored);
    rig.events();
    let _ = unbind_inside_a_command(&rig, &hook);
    let held: u64 = rig.machine.quarantine().iter().map(|q| q.len).sum();
    assert_eq!(held, 4096 + 32768, "P11: the table and the mapped buffer: {:?}", rig.machine.quarantine());
    assert!(rig.machine.quarantine().iter().all(|q| &*q.device == SATA && q.reason.contains("quiesced")));
    let events = rig.event_kinds(SATA);
    assert_eq!(events.iter().filter(|e| matches!(e, EventKind::Quarantined { .. })).count(), 2);
    bind(&rig);
    assert_eq!(rig.machine.quarantine(), [], "the reset at the start of the probe shows that it is quiesced");
    works(&rig);
    rig.board.sata_faults(|k| k.stop = Stop::Prompt);
    unbind(&rig);
    assert_eq!(rig.resource_usage(), before, "P4");
    rig.assert_well();
}

/// The board with a controller that has ignored the stop, has no reset line, and was unbound while its DMA ran; and the
/// resource usage before.
fn left_running(translated: bool) -> (Rig, ResourceUsage) {
    let (rig, hook) = unbound_hooked(translated, false);
    rig.settle();
    unbind(&rig);
    let before = rig.resource_usage();
    bind(&rig);
    rig.board.sata_faults(|k| k.stop = Stop::Ignored);
    rig.events();
    let _ = unbind_inside_a_command(&rig, &hook);
    (rig, before)
}

/// Pinned supplies: device, kind, specifier.
fn pinned(rig: &Rig) -> Vec<(String, &'static str, Vec<u32>)> {
    let mut pinned: Vec<_> =
        rig.machine.pinned_supplies().into_iter().map(|k| (k.device, k.kind.name(), k.args)).collect();
    pinned.sort();
    pinned
}

#[test]
fn clock_and_power_of_a_controller_that_cannot_be_stopped_are_pinned_until_it_is_quiesced() {
    for translated in [false, true] {
        let (rig, before) = left_running(translated);
        let lines: [(String, _, _); 2] = [(SATA.into(), "clock", vec![1, MODULE]), (SATA.into(), "power", vec![32])];
        assert_eq!(pinned(&rig), lines, "P11");
        assert!(rig.board.module_runs(MODULE), "its bus cycles continue");
        assert_eq!(rig.resource_usage().pinned_supplies.len(), 2);
        let events = rig.event_kinds(SATA);
        let of = |kind| {
            let outcome = |e: &EventKind| match e {
                EventKind::Released { resource, outcome, .. } if *resource == kind => Some(outcome.clone()),
                _ => None,
            };
            events.iter().filter_map(outcome).collect::<Vec<_>>()
        };
        assert_eq!((of("clock"), of("power")), (vec![Outcome::Quarantined], vec![Outcome::Quarantined]));
        // A second time: nothing accumulates.
        bind(&rig);
        assert_eq!(pinned(&rig), [], "the new binding uses them");
        rig.board.sata_faults(|k| k.stop = Stop::Prompt);
        works(&rig);
        unbind(&rig);
        assert!(!rig.board.module_runs(MODULE));
        assert_eq!(rig.resource_usage(), before, "P4");
        rig.assert_well();
    }
}

#[test]
fn a_probe_that_fails_before_the_reset_leaves_the_clock_of_a_running_controller_on() {
    let (rig, before) = left_running(true);
    for point in [FaultPoint::GroupClaim, FaultPoint::MapIo] {
        rig.board.faults().fail_points(&[point]);
        assert!(rig.machine.bind(SATA, DRIVER).is_err());
        rig.board.faults().never();
        assert!(rig.board.module_runs(MODULE), "{point:?}");
        assert_eq!(pinned(&rig).len(), 2, "{point:?}: the supplies are pinned as before, none twice");
    }
    bind(&rig);
    rig.board.sata_faults(|k| k.stop = Stop::Prompt);
    works(&rig);
    unbind(&rig);
    assert_eq!(rig.resource_usage(), before, "P4");
    rig.assert_well();
}

#[test]
fn suppliers_of_a_running_controller_can_be_unbound_and_leave_their_lines_on() {
    let (rig, before) = left_running(false);
    let providers = [(CPG, "renesas-cpg-mssr"), (SYSC, "rcar-sysc")];
    for (provider, driver) in providers {
        rig.machine.unbind(provider, driver).unwrap();
        assert!(rig.board.module_runs(MODULE), "{provider} is unbound, and its line stays on");
    }
    assert_eq!(pinned(&rig).iter().filter(|(device, ..)| device == SATA).count(), 2);
    for (provider, driver) in providers.into_iter().rev() {
        rig.machine.bind(provider, driver).unwrap();
    }
    rig.settle();
    assert_eq!(rig.driver(SATA), Some(DRIVER));
    assert_eq!(pinned(&rig), []);
    rig.board.sata_faults(|k| k.stop = Stop::Prompt);
    works(&rig);
    unbind(&rig);
    assert_eq!(rig.resource_usage(), before, "P4");
    rig.assert_well();
}

#[test]
fn supplies_of_a_running_controller_that_vanishes_are_released() {
    let (rig, _) = left_running(false);
    rig.board.unplug(SATA).unwrap();
    assert!(rig.machine.device_vanished(SATA));
    assert_eq!((pinned(&rig), rig.machine.quarantine()), (vec![], vec![]));
    assert!(!rig.board.module_runs(MODULE));
    rig.assert_well();
}
