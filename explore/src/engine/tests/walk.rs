use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::{Chooser, Engine, Kind, Mode, Violation};
use super::{collect, irregular};

#[test]
fn every_sequence_of_choices_is_executed_once() {
    let (seen, report) = collect(&Engine::new("product").threads(1), |ch| {
        [2, 3, 1, 2].iter().map(|&n| ch.choose(Kind::Value, "digit", n)).collect()
    });
    assert_eq!(seen.len(), 12);
    assert!(seen.values().all(|&times| times == 1));
    assert_eq!((report.paths, report.longest_path), (12, 3));
    assert!(report.complete() && report.passed(), "{report}");
}

#[test]
fn a_choice_without_alternatives_is_no_choice_point() {
    let (seen, report) =
        collect(&Engine::new("none"), |ch| vec![ch.choose(Kind::Order, "none", 0), ch.choose(Kind::Order, "one", 1)]);
    assert_eq!((seen.len(), report.paths, report.choice_points), (1, 1, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_number_of_threads_explores_the_same_paths(seed: u64) {
        let (one, _) = collect(&Engine::new("tree").threads(1), |ch| irregular(ch, seed));
        let (many, report) = collect(&Engine::new("tree").threads(4), |ch| irregular(ch, seed));
        prop_assert!(one.values().all(|&times| times == 1));
        prop_assert_eq!(&one, &many);
        prop_assert_eq!(report.paths, one.len() as u64);
    }
}

#[test]
fn the_mass_of_all_paths_is_the_whole() {
    let calls = Arc::new(AtomicU64::new(0));
    let last = Arc::clone(&calls);
    let mut engine = Engine::new("slow").threads(2).progress(move |p| {
        assert!((0.0..=1.0).contains(&p.done), "{p}");
        last.fetch_max(u64::from(p.done > 0.5), Ordering::Relaxed);
    });
    engine.every = Duration::from_millis(1);
    let begun = AtomicU64::new(0);
    let report = engine.run(|ch: &Chooser| {
        for _ in 0..8 {
            ch.choose(Kind::Value, "bit", 2);
        }
        // One of the last waits for the thread that reports, which a busy host may not run until all is over.
        if begun.fetch_add(1, Ordering::Relaxed) == 220 {
            let until = Instant::now() + Duration::from_mins(1);
            while calls.load(Ordering::Relaxed) == 0 && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    });
    assert_eq!(report.paths, 256);
    assert_eq!(calls.load(Ordering::Relaxed), 1, "half of it was never done");
}

#[test]
fn a_cancelled_run_still_reports() {
    let cancel = Arc::new(AtomicBool::new(false));
    let report = Engine::new("cancelled").threads(2).cancelled_by(Arc::clone(&cancel)).run(|ch: &Chooser| {
        let paths: usize = (0..30).map(|_| ch.choose(Kind::Value, "bit", 2)).sum();
        if paths == 3 {
            cancel.store(true, Ordering::Relaxed);
        }
        Ok(())
    });
    assert!(report.paths > 0 && report.paths < 1 << 20, "{report}");
    assert_eq!(report.mode, Mode::Partial { why: "cancelled".into() });
    assert!(!report.complete());
}

#[test]
fn a_nondeterministic_scenario_is_detected() {
    let calls = AtomicU64::new(0);
    let report = Engine::new("moody").threads(1).run(|ch: &Chooser| -> Result<(), Violation> {
        let n = if calls.fetch_add(1, Ordering::Relaxed) == 0 { 3 } else { 2 };
        ch.choose(Kind::Value, "mood", n);
        ch.choose(Kind::Value, "then", 2);
        Ok(())
    });
    let diverged = report.diverged.as_deref().unwrap();
    assert!(diverged.contains("choice point 1 (value `mood`)"), "{diverged}");
    assert!(!report.passed() && !report.complete());
}

#[test]
fn a_chooser_that_outlives_its_run_takes_the_default_choice() {
    let kept = std::sync::Mutex::new(None::<Chooser>);
    let report = Engine::new("leaked").threads(1).run(|ch: &Chooser| {
        if let Some(old) = kept.lock().unwrap().replace(ch.clone()) {
            assert_eq!(old.choose(Kind::Fault, "late", 2), 0);
            old.cover("late");
        }
        ch.choose(Kind::Value, "bit", 2);
        Ok(())
    });
    assert_eq!(report.paths, 2);
    assert!(report.passed(), "{report}");
    assert!(!report.coverage.contains_key("late") && !report.coverage.contains_key("fault late"));
}
