//! A probe that fails at any step leaves the machine as it was.

use bindery::env::Site;
use bindery::event::EventKind;
use bindery::machine::BindError;
use bindery_drivers::ata::AtaError;

use super::*;

/// Fails each fallible call of a bind in turn. Returns the sites that were hit.
pub(crate) fn each_step_fails_in_turn(translated: bool) -> Vec<Site> {
    let rig = rig(translated);
    unbind(&rig);
    let before = rig.footprint();
    rig.board.faults().never();
    rig.board.faults().start_recording();
    bind(&rig);
    let steps = rig.board.faults().take_record();
    unbind(&rig);
    assert!(steps.len() > 15, "{steps:?}");
    for (n, site) in (1..).zip(&steps) {
        rig.board.faults().fail_nth(n);
        let result = rig.machine.bind(SATA, DRIVER);
        assert_eq!(rig.board.faults().injected(), 1, "step {n}");
        rig.board.faults().never();
        match result {
            // Page frames do as well.
            Ok(()) => {
                assert_eq!(*site, Site::CmaAlloc);
                unbind(&rig);
            }
            Err(e) => assert!(matches!(e, BindError::Probe { .. }), "step {n}, {}: {e}", site.name()),
        }
        assert_eq!(rig.footprint(), before, "P4: step {n}, {}", site.name());
        bind(&rig);
        works(&rig);
        unbind(&rig);
        assert_eq!(rig.footprint(), before, "P4: after step {n}, {}", site.name());
    }
    rig.assert_well();
    steps
}

#[test]
fn each_step_of_an_untranslated_probe_may_fail() {
    let steps = each_step_fails_in_turn(false);
    for site in [Site::MapIo, Site::IrqRequest, Site::CmaAlloc, Site::LedgerEntry, Site::ClockEnable, Site::PowerOn] {
        assert!(steps.contains(&site), "{}", site.name());
    }
}

#[test]
fn each_step_of_the_way_back_may_fail() {
    let rig = rig(false);
    unbind(&rig);
    let before = rig.footprint();
    bind(&rig);
    works(&rig);
    rig.board.faults().start_recording();
    unbind(&rig);
    let steps = rig.board.faults().take_record();
    assert!(steps.contains(&Site::Quiesce));
    for (n, site) in (1..).zip(&steps) {
        bind(&rig);
        works(&rig);
        rig.board.faults().fail_nth(n);
        unbind(&rig);
        rig.board.faults().never();
        assert_eq!(rig.footprint(), before, "P4: step {n}, {}", site.name());
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
    assert!(!translated || steps.contains(&Site::IovaAlloc), "{steps:?}");
    for (n, site) in (1..).zip(&steps) {
        rig.board.faults().fail_nth(n);
        let result = port.call(|p| p.read(0, &mut back)).unwrap();
        rig.board.faults().never();
        assert!(matches!(result, Err(AtaError::Dma(_))), "step {n}, {}: {result:?}", site.name());
        // An invalidation that is not confirmed costs a buffer, and that costs the port until the next bind.
        if *site == Site::Invalidate {
            assert!(matches!(port.call(|p| p.read(0, &mut back)).unwrap(), Err(AtaError::Dead(_))));
            let told = |(_, kind): &(_, EventKind)| matches!(kind, EventKind::Quarantined { .. });
            assert!(rig.events().iter().any(told), "P2");
            // The next flush that is confirmed, at the unbind at the latest, speaks for this one, too.
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
