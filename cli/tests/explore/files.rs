//! Files beside the report: diagrams, and traces for Perfetto.

use super::common::trace::{Trace, read};
use super::common::{Dir, text};
use super::{RC5, broken, explore, json};

#[test]
fn the_diagram_shows_how_often_each_transition_was_taken() {
    let dir = Dir::new();
    let mut report = json(&explore(&["--model", "bindery", "--shard", "1/1", "--json"]).good());
    report["coverage"]["transition probing -> bound"] = 17.into();
    let report = dir.file("1.json", report.to_string());
    let drawn = |target: &str| explore(&["-q", "--diagram", target, "--merge", text(&report)]).good();
    let list = drawn("-");
    let row = list.lines().find(|line| line.contains("probing   -> bound")).unwrap();
    assert!(row.ends_with("17 times") && list.lines().filter(|line| line.ends_with("never")).count() == 5, "{list}");
    let (picture, listed) = (dir.path("states.svg"), dir.path("states.txt"));
    assert_eq!((drawn(text(&picture)), drawn(text(&listed))), (String::new(), String::new()));
    assert!(std::fs::read_to_string(picture).unwrap().contains(">17 times</text>"));
    assert_eq!(std::fs::read_to_string(listed).unwrap().lines().count(), 6);

    let refused = |args: &[&str], words: &[&str]| explore(&[args, &["--merge", text(&report)]].concat()).refused(words);
    refused(&["--diagram", "a.png"], &["FILE.svg"]);
    refused(&["--diagram", "-", "--json"], &["both want standard output"]);
    refused(&["--diagram", "/no/such/dir/a.svg"], &["cannot write /no/such/dir/a.svg"]);
}

/// The disk controller of `machine` was probed, and could reach memory.
#[track_caller]
fn shows_a_probe(trace: &Trace, machine: &str) {
    let of_disk = |name: &str| (format!("{machine} ee300000.sata"), name.to_owned());
    assert!(trace.slices.contains(&of_disk("probe sata_rcar")), "{:?}", trace.slices);
    assert!(trace.spans.contains(&of_disk("coherent")), "{:?}", trace.spans);
}

/// An instant of the whole machine, or a line of the trace without an event.
#[track_caller]
fn shows_an_instant(trace: &Trace, name: &str) {
    let instant = ("host machine".to_owned(), name.to_owned());
    assert!(trace.instants.contains(&instant), "{name:?} is not in {:?}", trace.instants);
}

#[test]
fn a_path_of_a_lifecycle_is_written_for_perfetto() {
    let dir = Dir::new();
    let trace = dir.path("trace.json");
    let traced = |path: &str| {
        explore(&["--replay", path, "--trace", text(&trace)]).good();
        read(&trace)
    };
    let plain = traced("-");
    shows_a_probe(&plain, "host");
    assert!(plain.slices.contains(&("host ee300000.sata".into(), "unbind sata_rcar".into())), "{:?}", plain.slices);
    shows_an_instant(&plain, "-- bind");
    assert!(plain.times.iter().all(|at| *at > 0.0), "nothing happened before the lifecycle began");
    shows_an_instant(&traced("0x15.1"), "preempted by concurrent: unbind");
    let failed = traced("0x2.1").instants;
    assert!(failed.contains(&("host ee300000.sata".into(), "injected".into())), "{failed:?}");
    let handed_over = traced("5");
    shows_an_instant(&handed_over, "== lifecycle: passed to a guest that releases it");
    shows_a_probe(&handed_over, "guest");
    assert_eq!(dir.names(), ["trace.json"]);
}

#[test]
fn the_first_finding_is_written_for_perfetto() {
    let dir = Dir::new();
    let trace = dir.path("trace.json");
    let out = broken(&["--model", RC5, "--trace", text(&trace)]);
    let named = format!(
        "   again: bindery explore --model {RC5} --faults 1 --preemptions 1 --replay -\n   trace: {}\n",
        text(&trace)
    );
    assert!(out.contains(&named) && out.matches("trace: ").count() == 1, "{out}");
    let instants = read(&trace).instants;
    assert!(instants.iter().any(|(_, name)| name.starts_with("BROKEN P1 (matching back-end on free)")), "{instants:?}");
    let none = dir.path("none.json");
    let out = explore(&["--model", "bindery", "--trace", text(&none)]).good();
    assert!(out.contains("trace        none was written: there is no path that breaks a promise"), "{out}");
    explore(&["--merge", "a.json", "--trace", text(&none)]).refused(&["cannot be used with"]);
    assert_eq!(dir.names(), ["trace.json"]);
}

#[test]
fn a_replay_prints_the_trace_and_writes_it_for_perfetto() {
    let dir = Dir::new();
    let trace = dir.path("trace.json");
    let out = broken(&["--model", RC5, "--replay", "-", "--trace", text(&trace)]);
    assert!(out.contains("the probe is deferred") && out.contains("BROKEN P1 (matching back-end on free)"), "{out}");
    let times = read(&trace).times;
    let lines = out.lines().filter(|l| l.trim_start().starts_with(|c: char| c.is_ascii_digit())).count();
    assert_eq!(times.len(), lines);
    assert!(times.windows(2).all(|w| w[0] < w[1]), "a model has no clock: its lines follow each other");
    assert!(
        explore(&["--model", "bindery", "--replay", "-"]).good().contains("ok  no promise was broken on this path")
    );
}
