//! A probe that fails at any step leaves the machine as it was.

use bindery::event::EventKind;
use bindery::instrument::FaultPoint;
use bindery::machine::BindError;
use bindery_drivers::ata::AtaError;

use super::*;

/// Fails each fallible call of a bind in turn. Returns the fault points that were hit.
pub(crate) fn each_step_fails_in_turn(translated: bool) -> Vec<FaultPoint> {
    let rig = rig(translated);
    unbind(&rig);
    let before = rig.resource_usage();
    rig.board.faults().never();
    rig.board.faults().start_recording();
    bind(&rig);
    let steps = rig.board.faults().take_record();
    unbind(&rig);
    assert!(steps.len() > 15, "{steps:?}");
    for (n, point) in (1..).zip(&steps) {
        rig.board.faults().fail_nth(n);
        let result = rig.machine.bind(SATA, DRIVER);
        assert_eq!(rig.board.faults().injected(), 1, "step {n}");
        rig.board.faults().never();
        match result {
            // Page frames are used instead.
            Ok(()) => {
                assert_eq!(*point, FaultPoint::CmaAlloc);
                unbind(&rig);
            }
            Err(e) => assert!(matches!(e, BindError::Probe { .. }), "step {n}, {}: {e}", point.name()),
        }
        assert_eq!(rig.resource_usage(), before, "P4: step {n}, {}", point.name());
        bind(&rig);
        works(&rig);
        unbind(&rig);
        assert_eq!(rig.resource_usage(), before, "P4: after step {n}, {}", point.name());
    }
    rig.assert_well();
    steps
}

#[test]
fn each_step_of_an_untranslated_probe_may_fail() {
    let steps = each_step_fails_in_turn(false);
    for point in [
        FaultPoint::MapIo,
        FaultPoint::IrqRequest,
        FaultPoint::CmaAlloc,
        FaultPoint::LedgerEntry,
        FaultPoint::ClockEnable,
        FaultPoint::PowerOn,
    ] {
        assert!(steps.contains(&point), "{}", point.name());
    }
}

#[test]
fn each_step_of_the_tear_down_may_fail() {
    let rig = rig(false);
    unbind(&rig);
    let before = rig.resource_usage();
    bind(&rig);
    works(&rig);
    rig.board.faults().start_recording();
    unbind(&rig);
    let steps = rig.board.faults().take_record();
    assert!(steps.contains(&FaultPoint::Quiesce));
    for (n, point) in (1..).zip(&steps) {
        bind(&rig);
        works(&rig);
        rig.board.faults().fail_nth(n);
        unbind(&rig);
        rig.board.faults().never();
        assert_eq!(rig.resource_usage(), before, "P4: step {n}, {}", point.name());
    }
    rig.assert_well();
}

/// Fails each fallible call of a read of two buffers in turn.
fn each_step_of_a_read_fails_in_turn(translated: bool) {
    let rig = rig(translated);
    let port = port(&rig);
    let mut back = vec![0; 128 * 512];
    rig.board.faults().never();
    rig.board.faults().start_recording();
    port.call(|p| p.read(0, &mut back)).unwrap().unwrap();
    let steps = rig.board.faults().take_record();
    assert!(!translated || steps.contains(&FaultPoint::IovaAlloc), "{steps:?}");
    for (n, point) in (1..).zip(&steps) {
        rig.board.faults().fail_nth(n);
        let result = port.call(|p| p.read(0, &mut back)).unwrap();
        rig.board.faults().never();
        assert!(matches!(result, Err(AtaError::Dma(_))), "step {n}, {}: {result:?}", point.name());
        // An unconfirmed flush quarantines a buffer, and the port is unusable until the next bind.
        if *point == FaultPoint::Invalidate {
            assert!(matches!(port.call(|p| p.read(0, &mut back)).unwrap(), Err(AtaError::Dead(_))));
            let reported = |(_, kind): &(_, EventKind)| matches!(kind, EventKind::Quarantined { .. });
            assert!(rig.events().iter().any(reported), "P2");
            // The next confirmed flush, at the unbind at the latest, covers this one, too.
            unbind(&rig);
            assert_eq!(rig.machine.quarantine(), []);
            bind(&rig);
            assert_eq!(rig.machine.quarantine(), []);
            return rig.assert_well();
        }
        works(&rig);
    }
    rig.assert_well();
}

#[test]
fn each_step_of_a_read_may_fail() {
    each_step_of_a_read_fails_in_turn(false);
    each_step_of_a_read_fails_in_turn(true);
}
