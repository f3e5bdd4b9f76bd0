use super::super::{Bounded, Bounds, Chooser, Engine, Kind, Path, Violation};
use bindery::promise::Promise;

#[test]
fn a_failing_path_is_shrunk_to_the_shortest() {
    // Broken by any fault after a preemption; the first path found has needless orders, too.
    let report = Engine::new("shrink").faults(2).preemptions(2).run(|ch: &Chooser| {
        let mut interrupted = false;
        for _ in 0..4 {
            ch.choose(Kind::Order, "who", 2);
            interrupted |= ch.choose(Kind::Preemption, "unbind", 3) > 0;
            let failed = ch.fault("call");
            ch.log(|| format!("call {}", if failed { "failed" } else { "went well" }));
            ch.check(Promise::SingleUnwindPath, !(interrupted && failed), "both", || "fault after unbind".into())?;
        }
        Ok(())
    });
    let finding = &report.findings[0];
    assert_eq!((finding.path.to_string().as_str(), finding.shortest), ("0.1.1", true), "{report}");
    assert_eq!(finding.detail, "fault after unbind");
    assert_eq!(
        finding.trace,
        [
            "[preemption] unbind: choice 1 of 0 to 2",
            "[fault] call: choice 1 of 0 to 1",
            "call failed",
            "BROKEN P3 (single unwind path): fault after unbind"
        ]
    );
}

#[test]
fn first_only_gives_one_finding_with_its_fewest_non_default_choices() {
    let report = Engine::new("first").faults(2).threads(1).first_only().run(|ch: &Chooser| {
        let failed = [ch.fault("a"), ch.fault("b"), ch.fault("c")];
        ch.check(Promise::NothingLeft, !(failed[1] && failed[2]), "both", || "b and c".into())?;
        ch.check(Promise::MatchingBackend, !failed[0], "a", || "a went diverged_at".into())
    });
    let found: Vec<_> = report.findings.iter().map(|f| (&*f.kind, f.path.to_string(), f.shortest)).collect();
    assert_eq!(found, [("both", "0.1.1".to_owned(), true)], "{report}");
    assert!(!report.complete() && report.paths < 7, "{report}");
}

#[test]
fn kinds_of_breach_are_told_apart_and_counted() {
    let report = Engine::new("kinds").faults(2).run(|ch: &Chooser| {
        let failed = [ch.fault("a"), ch.fault("b")];
        if failed[0] {
            ch.report(Violation::new(Promise::NothingLeft, "a", "a is left"));
        }
        ch.check(Promise::MatchingBackend, !failed[1], "b", || "b went diverged_at".into())
    });
    let seen: Vec<_> = report.findings.iter().map(|f| (f.promise.as_str(), f.kind.as_str(), f.times)).collect();
    assert_eq!(seen, [("P1", "b", 2), ("P4", "a", 2)]);
    assert_eq!(report.checks["P1"], 4);
}

#[test]
fn a_panic_is_a_finding() {
    let report = Engine::new("panic").run(|ch: &Chooser| {
        assert!(!ch.fault("call"), "the scenario fell over");
        Ok(())
    });
    assert_eq!(report.findings.len(), 1);
    assert_eq!((report.findings[0].promise.as_str(), report.findings[0].path.to_string().as_str()), ("panic", "1"));
    assert!(report.findings[0].kind.contains("the scenario fell over"));
}

#[test]
fn a_path_is_replayed_whatever_the_budget() {
    let scenario = |ch: &Chooser| {
        let count = (0..3).filter(|_| ch.fault("call")).count();
        ch.check(Promise::NothingLeft, count < 3, "all", || "all failed".into())
    };
    let engine = Engine::new("replay").faults(1);
    assert!(engine.run(scenario).passed());
    let replay = engine.replay(&"1.1.1".parse().unwrap(), scenario);
    assert_eq!(replay.violations.len(), 1);
    assert_eq!(replay.steps.len(), 3);
    assert_eq!(replay.diverged_at, None);
    assert_eq!(engine.replay(&Path::new(vec![0, 5]), scenario).diverged_at, Some(1));
}

#[test]
fn an_event_for_which_the_trace_has_no_room_is_not_kept() {
    use bindery::{env::Instant, event::Event, event::EventKind};
    let event = |seq| Event { seq, at: Instant(seq), device: None, kind: EventKind::DeviceAdded };
    let replay = Engine::new("endless").replay(&Path::default(), |ch: &Chooser| {
        ch.record("host", &event(0));
        (1..100_000).for_each(|n| {
            ch.log(|| n.to_string());
            ch.record("host", &event(n));
        });
        Ok(())
    });
    assert_eq!(replay.events.len(), replay.trace.len());
    assert!(replay.events.iter().all(|h| replay.trace[h.line] == h.event.seq.to_string()));
}

#[test]
fn a_place_that_is_never_reached_fails_the_run() {
    let report = Engine::new("vacuous").require(["here", "there"]).run(|ch: &Chooser| {
        ch.cover("here");
        Ok(())
    });
    assert_eq!(report.missing, ["there"]);
    assert!(!report.passed());
    assert!(report.to_string().contains("NEVER REACHED: there"), "{report}");
}

#[test]
fn an_exploration_that_a_bound_ended_has_not_reached_its_points_yet() {
    let explore = |engine: Engine| {
        engine.threads(1).require(["there"]).run(|ch: &Chooser| {
            if ch.choose(Kind::Order, "which", 5) == 4 {
                ch.cover("there");
            }
            Ok(())
        })
    };
    let bounds = Bounds { paths: 2, ..Bounds::default() };
    let report = explore(Engine::new("early").bounds(bounds.clone()));
    assert_eq!(report.missing, ["there"]);
    assert!(report.passed() && !report.complete(), "{report}");
    assert!(report.to_string().contains("not reached yet: there"), "{report}");
    let sampled = explore(Engine::new("early").bounds(Bounds { samples: 1, seed: 3, ..bounds }));
    assert!(sampled.passed(), "{sampled}");
    assert!(explore(Engine::new("whole")).missing.is_empty());
}

#[test]
fn coverage_points_behind_a_broken_promise_are_not_reported_as_never_reached() {
    let report = Engine::new("cut short").require(["behind"]).run(|ch: &Chooser| {
        ch.check(Promise::NothingLeft, false, "left", || "something".into())?;
        ch.cover("behind");
        Ok(())
    });
    assert_eq!(report.missing, ["behind"]);
    assert!(report.to_string().contains("BROKEN P4"), "{report}");
    assert!(!report.to_string().contains("NEVER REACHED"), "{report}");
}

#[test]
fn a_fault_that_is_asked_for_but_never_strikes_fails_the_run() {
    // The budget is always spent before the second choice point.
    let report = Engine::new("hidden").run(|ch: &Chooser| {
        if ch.fault("first") {
            ch.fault("second");
        }
        Ok(())
    });
    assert_eq!(report.missing, ["fault second"]);
    assert!(
        Engine::new("hidden")
            .faults(2)
            .run(|ch: &Chooser| {
                let _ = ch.fault("first") && ch.fault("second");
                Ok(())
            })
            .passed()
    );
}

#[test]
fn kinds_without_end_do_not_fill_the_memory() {
    let report = Engine::new("kinds").run(|ch: &Chooser| {
        let n = ch.choose(Kind::Value, "which", 1000);
        Err(Violation::new(Promise::NothingLeft, format!("kind {n}"), ""))
    });
    assert_eq!((report.findings.len(), report.further), (256, 744));
}

#[test]
fn a_violation_that_is_not_reproduced_is_reported_with_its_first_description() {
    // The first run is not like the others.
    let first = std::sync::atomic::AtomicBool::new(true);
    let report = Engine::new("not alike").threads(1).run(|ch: &Chooser| {
        let broken = first.swap(false, std::sync::atomic::Ordering::Relaxed);
        ch.check(Promise::NothingLeft, !broken, "leak", || "one page".into())
    });
    let finding = &report.findings[0];
    assert_eq!(finding.detail, "one page");
    assert!(finding.trace.iter().any(|line| line.contains("not reproduced")), "{report}");
}
