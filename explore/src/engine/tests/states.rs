use std::collections::BTreeSet;
use std::sync::Mutex;

use super::super::visited::{Budget, Visited};
use super::super::{Bounded, Chooser, Engine, Kind, Violation, Visit, fingerprint, unordered};
use bindery::promise::Promise;

/// Two processes, each adding one to a counter four times in two steps; the order of steps is open.
fn counters(ch: &Chooser, states: &Mutex<BTreeSet<([u8; 2], u8)>>) -> Result<(), Violation> {
    let (mut place, mut shared) = ([0u8; 2], 0u8);
    let mut read = [0u8; 2];
    loop {
        let line: Vec<u64> = (0..2).filter(|&p| place[p as usize] < 8).collect();
        if line.is_empty() {
            return ch.check(Promise::OrderIndependent, shared == 8, "lost", || format!("{shared} instead of 8"));
        }
        let p = line[ch.order("who", &line)] as usize;
        if place[p].is_multiple_of(2) {
            read[p] = shared;
        } else {
            shared = read[p] + 1;
        }
        place[p] += 1;
        states.lock().unwrap().insert((place, shared));
        if ch.scheduling_point(fingerprint(&(place, read, shared))) == Visit::Seen {
            return Ok(());
        }
    }
}

#[test]
fn explored_states_are_not_explored_again_and_nothing_is_lost() {
    let (all, few) = (Mutex::default(), Mutex::default());
    let whole = Engine::new("counters").without_hashing().threads(1).run(|ch: &Chooser| counters(ch, &all));
    for threads in [1, 4] {
        let hashed = Engine::new("counters").threads(threads).run(|ch: &Chooser| counters(ch, &few));
        assert_eq!(whole.paths, 12_870);
        assert!(hashed.paths < 1000 && hashed.pruned > 0 && hashed.complete(), "{hashed}");
        assert_eq!(hashed.findings[0].path, whole.findings[0].path);
        assert!(hashed.findings[0].shortest);
    }
    assert_eq!(all.into_inner().unwrap(), few.into_inner().unwrap());
}

#[test]
fn a_state_met_with_less_to_spend_does_not_hide_it_met_with_more() {
    // The first path to the state spends the only fault; the second has it left, and needs it.
    for threads in [1, 3] {
        let report = Engine::new("budget").faults(1).threads(threads).run(|ch: &Chooser| {
            if ch.choose(Kind::Value, "way", 2) == 0 {
                ch.fault("early");
            }
            if ch.scheduling_point(7) == Visit::Seen {
                return Ok(());
            }
            let failed = ch.fault("late");
            ch.check(Promise::NothingLeft, !failed, "late", || "late".into())
        });
        assert_eq!(report.findings.len(), 1, "{report}");
    }
}

#[test]
fn a_purse_covers_another_only_when_it_does_in_every_lane() {
    let visited = Visited::new(100);
    assert!(visited.enter(1, Budget::new([1, 0, 5, 5])));
    assert!(!visited.enter(1, Budget::new([1, 0, 5, 4])));
    assert!(visited.enter(1, Budget::new([0, 1, 5, 5])));
    assert!(!visited.enter(1, Budget::new([0, 1, 0, 0])));
    assert!(visited.enter(1, Budget::new([2, 2, u32::MAX, u32::MAX])));
    assert!(!visited.enter(1, Budget::new([1, 1, 70_000, 9])));
    assert_eq!(visited.states(), 1);
}

#[test]
fn the_table_of_states_stays_within_its_bound() {
    let visited = Visited::new(10);
    assert!((0..1000u64).all(|state| visited.enter(fingerprint(&state), Budget::new([1; 4]))));
    assert_eq!((visited.states(), visited.full()), (10, true));
}

#[test]
fn twins_count_once() {
    assert_eq!(unordered([1, 2, 3]), unordered([3, 1, 2]));
    assert_ne!(unordered([1, 1, 2]), unordered([1, 2, 2]));
}

#[test]
fn a_scenario_that_goes_in_circles_ends() {
    let report = Engine::new("circle").run(|ch: &Chooser| {
        let mut at = 0;
        loop {
            at = (at + 1 + ch.choose(Kind::Order, "step", 2)) % 5;
            if ch.scheduling_point(at as u64) == Visit::Seen {
                return Ok(());
            }
        }
    });
    assert!(report.complete(), "{report}");
    assert_eq!(report.states, 5);
}
