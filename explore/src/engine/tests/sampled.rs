use std::sync::Mutex;

use super::super::{Bounded, Bounds, Chooser, Engine, Kind, Mode, Report, Violation};
use bindery::promise::Promise;

/// Forty calls of which one, late, does not clean up; too many orders to walk them all.
fn wide(ch: &Chooser) -> Result<(), Violation> {
    for _ in 0..20 {
        ch.order("who", &[1, 2, 3]);
    }
    let broken = (0..40).filter(|_| ch.fault("call")).count() > 0 && ch.order("last", &[1, 2, 3]) == 2;
    ch.check(Promise::NothingLeft, !broken, "leak", || "left".into())
}

fn run(threads: usize, seed: u64) -> Report {
    let bounds = Bounds { paths: 100, samples: 500, seed, ..Bounds::default() };
    Engine::new("wide").bounds(bounds).threads(threads).run(wide)
}

#[test]
fn above_the_bound_an_exploration_continues_at_random_and_says_so() {
    let report = run(2, 3);
    let why = "the bound of 100 paths was met".to_owned();
    assert_eq!(report.mode, Mode::Sampled { why, explored: 100, samples: 500, seed: 3 });
    assert_eq!(report.paths, 600);
    assert!(!report.complete());
    assert!(report.to_string().contains("SAMPLED"), "{report}");
    assert_eq!(report.findings.len(), 1, "{report}");
    assert_eq!(report.findings[0].path.non_default(), 2, "{report}");
}

#[test]
fn a_seed_draws_the_same_paths_on_any_number_of_threads() {
    let drawn = |threads, seed| {
        let seen = Mutex::new(Vec::new());
        let bounds = Bounds { paths: 1, samples: 50, seed, faults: 3, ..Bounds::default() };
        Engine::new("drawn").bounds(bounds).threads(threads).run(|ch: &Chooser| {
            let mut choices: Vec<usize> = (0..20).map(|i| ch.order("who", &[i, i + 1, i + 2])).collect();
            choices.extend((0..20).map(|_| usize::from(ch.fault("call"))));
            assert!(choices[20..].iter().sum::<usize>() <= 3);
            seen.lock().unwrap().push(choices);
            Ok(())
        });
        let mut seen = seen.into_inner().unwrap();
        seen.sort();
        seen
    };
    assert_eq!(drawn(1, 7), drawn(3, 7));
    assert_ne!(drawn(1, 7), drawn(1, 8));
}

#[test]
fn faults_are_drawn_late_as_often_as_early() {
    let injected = Mutex::new([0u32; 4]);
    let bounds = Bounds { paths: 1, samples: 4000, ..Bounds::default() };
    Engine::new("even").bounds(bounds).threads(1).run(|ch: &Chooser| {
        for place in 0..40 {
            if ch.fault("call") {
                injected.lock().unwrap()[place / 10] += 1;
            }
        }
        Ok(())
    });
    let injected = injected.into_inner().unwrap();
    assert!(injected.iter().all(|&n| n > 200), "{injected:?}");
}

#[test]
fn an_order_is_drawn_by_priority_and_not_step_by_step() {
    // With few changes of priority, most paths let one run long before another: a fair coin would almost never.
    let long = Mutex::new(0);
    let bounds = Bounds { paths: 1, samples: 200, ..Bounds::default() };
    Engine::new("pct").bounds(bounds).threads(1).run(|ch: &Chooser| {
        let choices: Vec<usize> = (0..40).map(|_| ch.order("who", &[1, 2])).collect();
        let turns = choices.windows(2).filter(|w| w[0] != w[1]).count();
        *long.lock().unwrap() += usize::from(turns <= 4);
        Ok(())
    });
    assert!(long.into_inner().unwrap() > 190);
}

#[test]
fn the_time_bound_ends_an_exploration() {
    let bounds = Bounds { time: Some(std::time::Duration::from_millis(20)), ..Bounds::default() };
    let report = Engine::new("time").bounds(bounds).run(|ch: &Chooser| {
        for _ in 0..40 {
            ch.choose(Kind::Value, "bit", 2);
        }
        Ok(())
    });
    assert_eq!(report.mode, Mode::Partial { why: "the time of 0.02 s was over".into() });
}
