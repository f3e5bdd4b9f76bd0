//! Failures of the disk or the board are errors with details, and the port is usable afterwards.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bindery::driver::ProbeError;
use bindery::env::{Env, IoError};
use bindery::machine::BindError;
use bindery_drivers::ata::{AtaError, Command, ErrorBits};
use bindery_sim::disk::Access;
use bindery_sim::models::sata::{SataFaults, Stop};

use super::io::temporary_file;
use super::*;

fn read(rig: &Rig, lba: u64, sectors: usize) -> Result<Vec<u8>, AtaError> {
    let mut back = vec![0; sectors * 512];
    port(rig).call(|p| p.read(lba, &mut back)).unwrap().map(|()| back)
}

#[test]
fn bad_sectors_and_unaligned_lengths_are_refused_without_a_command() {
    let rig = rig(false);
    let before = rig.board.fingerprint();
    assert_eq!(read(&rig, 4095, 2), Err(AtaError::OutOfRange { lba: 4095, sectors: 2, capacity: 4096 }));
    assert_eq!(read(&rig, u64::MAX, 1), Err(AtaError::OutOfRange { lba: u64::MAX, sectors: 1, capacity: 4096 }));
    let ragged = port(&rig).call(|p| p.write(0, &[0; 513])).unwrap();
    assert_eq!(ragged, Err(AtaError::Unaligned { len: 513, sector: 512 }));
    assert_eq!(rig.board.fingerprint(), before);
    works(&rig);
    rig.assert_well();
}

#[test]
fn a_bad_sector_is_reported_by_number_and_the_port_stays_usable() {
    let rig = rig(false);
    rig.board.sata_faults(|k| k.media_error = Some(0x102));
    rig.events();
    let error = read(&rig, 0x100, 4).unwrap_err();
    assert!(matches!(error, AtaError::Failed { command: Command::ReadDmaExt, error: ErrorBits::UNC, lba: 0x102, .. }));
    assert_eq!(error.to_string(), "READ DMA EXT failed at sector 258: UNC (status ERR | DRDY | 0x10)");
    assert_eq!(log(&rig.event_kinds(SATA)), [""; 0], "a failed command needs no reset");
    works(&rig);
    rig.assert_well();
}

#[test]
fn a_bad_sector_beyond_28_bits_is_reported_by_its_full_number() {
    const BAD: u64 = 0x0001_0203_0405;
    let rig = with_disk(Disk::temporary(BAD + 1).unwrap(), false);
    rig.board.sata_faults(|k| k.media_error = Some(BAD));
    assert!(matches!(read(&rig, BAD, 1), Err(AtaError::Failed { lba: BAD, .. })));
    rig.assert_well();
}

#[test]
fn a_disk_that_claims_too_many_sectors_reports_idnf() {
    let rig = rig(false);
    unbind(&rig);
    rig.board.sata_faults(|k| k.reported_sectors = Some(8192));
    bind(&rig);
    let error = read(&rig, 5000, 1).unwrap_err();
    assert!(matches!(error, AtaError::Failed { error: ErrorBits::IDNF, lba: 5000, .. }), "{error}");
    works(&rig);
    rig.assert_well();
}

#[test]
fn a_write_protected_disk_aborts_the_write() {
    let path = temporary_file("protected", &[0; 4096]);
    let rig = with_disk(Disk::open(&path, Access::ReadOnly).unwrap(), false);
    let error = port(&rig).call(|p| p.write(0, &[1; 512])).unwrap().unwrap_err();
    assert!(matches!(error, AtaError::Failed { command: Command::WriteDmaExt, error: ErrorBits::ABRT, .. }), "{error}");
    assert_eq!(read(&rig, 0, 1), Ok(vec![0; 512]));
    std::fs::remove_file(path).unwrap();
    rig.assert_well();
}

/// Makes the disk unresponsive until the driver has detected it.
fn unresponsive_until_detected(rig: &Rig) {
    rig.board.sata_faults(|k| k.no_completion = true);
    let board = Arc::downgrade(&rig.board);
    rig.board.on_event(Box::new(move |e| {
        if matches!(&e.kind, EventKind::Log { text } if text.contains("no answer"))
            && let Some(board) = board.upgrade()
        {
            board.sata_faults(|k| k.no_completion = false);
        }
    }));
}

#[test]
fn after_a_time_out_the_port_is_reset_and_works_again() {
    let rig = rig(false);
    unresponsive_until_detected(&rig);
    rig.events();
    let timed_out = AtaError::TimedOut { command: Command::ReadDmaExt, after: Duration::from_secs(10) };
    assert_eq!(read(&rig, 7, 1), Err(timed_out));
    let events = rig.event_kinds(SATA);
    assert_eq!(log(&events), ["READ DMA EXT: no answer within 10s; resetting the port", "the port works again"]);
    works(&rig);
    rig.board.sata_faults(|k| k.no_completion = true);
    let timed_out = AtaError::TimedOut { command: Command::FlushCacheExt, after: Duration::from_secs(30) };
    assert_eq!(port(&rig).call(|p| p.flush()).unwrap(), Err(timed_out));
    works(&rig);
    rig.assert_well();
}

#[test]
fn an_engine_that_ignores_the_stop_is_stopped_by_a_controller_reset() {
    let rig = rig(false);
    unresponsive_until_detected(&rig);
    rig.board.sata_faults(|k| k.stop = Stop::Ignored);
    assert!(matches!(read(&rig, 7, 1), Err(AtaError::TimedOut { .. })));
    works(&rig);
    rig.assert_well();
}

#[test]
fn a_disk_that_stays_unresponsive_gets_no_commands_until_the_next_bind() {
    let rig = rig(false);
    rig.board.sata_faults(|k| k.no_completion = true);
    assert!(matches!(read(&rig, 7, 1), Err(AtaError::TimedOut { command: Command::ReadDmaExt, .. })));
    let before = rig.board.fingerprint();
    assert_eq!(read(&rig, 7, 1), Err(AtaError::Dead("the device does not answer")));
    assert_eq!(rig.board.fingerprint(), before, "no further command");
    rig.board.sata_faults(|k| k.no_completion = false);
    unbind(&rig);
    bind(&rig);
    works(&rig);
    rig.assert_well();
}

#[test]
fn a_probe_without_a_usable_disk_reports_the_reason_and_leaves_nothing() {
    type Break = fn(&mut SataFaults);
    let cases: [(Break, &str, &str); 3] = [
        (|k| k.link_down = true, "the link is down", "the link is down (SStatus 0x0)"),
        (
            |k| k.identify_error = true,
            "the device refused IDENTIFY DEVICE",
            "IDENTIFY DEVICE failed at sector 0: ABRT (status ERR | DRDY | 0x10)",
        ),
        (|k| k.no_completion = true, "the device does not answer", "IDENTIFY DEVICE: no answer within 5s"),
    ];
    let rig = rig(false);
    unbind(&rig);
    let before = rig.resource_usage();
    for (knob, error, line) in cases {
        rig.board.sata_faults(knob);
        rig.events();
        let failed = rig.machine.bind(SATA, DRIVER);
        let expected = BindError::Probe { device: SATA.into(), error: ProbeError::Device(error) };
        assert_eq!(failed, Err(expected));
        assert_eq!(log(&rig.event_kinds(SATA)), [line]);
        assert_eq!(rig.resource_usage(), before, "P4: {error}");
        rig.board.sata_faults(|k| *k = SataFaults::default());
        bind(&rig);
        works(&rig);
        unbind(&rig);
        assert_eq!(rig.resource_usage(), before, "P4");
    }
    rig.assert_well();
}

#[test]
fn a_port_without_a_disk_does_not_bind() {
    let rig = common::on(Salvator::new(), policy(false));
    rig.add_board();
    bindery_drivers::register_all(&rig.machine);
    assert_eq!(rig.settle().failed, 1);
    assert_eq!(rig.driver(SATA), None);
    rig.assert_well();
}

/// Lets time pass on the board.
fn pass(rig: &Rig, time: Duration) {
    let until = rig.board.now() + time;
    while rig.board.now() < until {
        rig.board.advance(until);
    }
}

#[test]
fn a_disk_that_is_plugged_in_again_is_used_at_once() {
    let rig = rig(false);
    for round in 0..2 {
        rig.board.sata_faults(|k| k.link_down = true);
        assert_eq!(read(&rig, 7, 1), Err(AtaError::Dead("the link is down")), "round {round}");
        let begun = rig.board.now();
        assert_eq!(read(&rig, 7, 1), Err(AtaError::Dead("the link is down")), "round {round}");
        assert!(rig.board.now().since(begun) < Duration::from_millis(1), "P5: without a wait");
        rig.board.sata_faults(|k| k.link_down = false);
        pass(&rig, Duration::from_millis(50));
        works(&rig);
        assert!(rig.board.now().since(begun) < Duration::from_secs(5), "not only at the next look");
    }
    rig.assert_well();
}

#[test]
fn a_disk_that_does_not_become_ready_is_looked_for_again_after_a_while_and_not_before() {
    let rig = rig(false);
    rig.board.sata_faults(|k| (k.no_completion, k.not_ready) = (true, true));
    assert!(matches!(read(&rig, 7, 1), Err(AtaError::TimedOut { .. })));
    rig.board.sata_faults(|k| *k = SataFaults::default());
    let fingerprint = rig.board.fingerprint();
    assert_eq!(read(&rig, 7, 1), Err(AtaError::Dead("the device does not become ready")));
    assert_eq!(rig.board.fingerprint(), fingerprint, "no look, although it might work now");
    pass(&rig, Duration::from_secs(10));
    works(&rig);
    rig.assert_well();
}

/// Removes the controller before the `n`-th wait of a long read. False when the read has fewer waits.
fn remove_at(n: u64, translated: bool) -> bool {
    let (rig, hook) = hooked(translated);
    unbind(&rig);
    let before = rig.resource_usage();
    bind(&rig);
    let port = port(&rig);
    let pulled = Arc::new(AtomicBool::new(false));
    let (board, seen) = (Arc::downgrade(&rig.board), Arc::clone(&pulled));
    hook.at_wait(n, move || {
        board.upgrade().unwrap().unplug(SATA).unwrap();
        seen.store(true, Ordering::Relaxed);
    });
    let result = port.call(|p| p.read(0, &mut vec![0; 512 * 400])).unwrap();
    if !pulled.load(Ordering::Relaxed) {
        assert_eq!(result, Ok(()));
        return false;
    }
    assert_eq!(result, Err(AtaError::Io(IoError::Gone)), "removed at wait {n}");
    assert!(rig.machine.device_vanished(SATA));
    assert!(port.call(|p| p.capacity()).is_err(), "P5");
    let after = rig.resource_usage();
    assert_eq!((after.frames, after.contiguous, after.irqs), (before.frames, before.contiguous, before.irqs), "P4");
    assert_eq!((after.supplies, &after.quarantine), (before.supplies, &before.quarantine), "P4");
    rig.board.plug(SATA).unwrap();
    rig.add_board();
    rig.settle();
    works(&rig);
    rig.assert_well();
    true
}

pub(crate) fn pulled_out_at_any_time(translated: bool) {
    let mut n = 1;
    while remove_at(n, translated) {
        n += 1;
    }
    assert!(n > 20, "a read of four commands has more than {n} waits");
}

#[test]
fn removal_at_any_time_of_a_transfer_is_an_error_and_a_full_unbind() {
    pulled_out_at_any_time(false);
}
