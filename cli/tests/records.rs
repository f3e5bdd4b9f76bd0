//! `--json` and `--trace`.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Dir, bindery, bindery_to, closed_pipe, text};
use serde_json::Value;

fn lines() -> Vec<Value> {
    bindery(["--json"]).good().lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

#[test]
fn every_line_is_an_object_with_its_event_and_step() {
    let lines = lines();
    let steps = ["machine", "probe", "io", "unbind", "hand-over", "return", "verdict"];
    for line in &lines {
        assert!(line["event"].is_string() && steps.contains(&line["step"].as_str().unwrap()), "{line}");
    }
    let begun: Vec<_> = lines.iter().filter(|l| l["event"] == "step").map(|l| l["step"].as_str().unwrap()).collect();
    assert_eq!(begun, steps);
    assert_eq!((&lines[0]["event"], &lines.last().unwrap()["event"]), (&"step".into(), &"end".into()));
    assert_eq!(lines.last().unwrap()["exit"], 0);
}

#[test]
fn events_of_each_machine_are_numbered_without_gaps() {
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    for line in lines().iter().filter(|l| l["seq"].is_number()) {
        let (machine, seq) = (line["machine"].as_str().unwrap(), line["seq"].as_u64().unwrap());
        let last = next.entry(machine.into()).or_default();
        // A second guest counts anew.
        assert!(seq == *last + 1 || (machine == "guest" && seq == 1), "{machine} {seq} after {last}");
        *last = seq;
    }
    assert_eq!(next.len(), 2, "host and guest");
}

#[test]
fn the_verdict_counts_every_promise_on_both_machines() {
    let lines = lines();
    let promises: Vec<_> = lines.iter().filter(|l| l["event"] == "promise").collect();
    assert_eq!(promises.len(), 2 * bindery::promise::Promise::ALL.len());
    for p in promises {
        assert!(p["checked"].as_u64().unwrap() > 0 && p["broken"] == Value::Array(vec![]), "{p}");
    }
}

#[test]
fn what_is_acquired_is_released_and_what_is_mapped_is_unmapped() {
    let mut held = BTreeSet::new();
    for line in lines() {
        let key = |what: &str| format!("{} {} {what}", line["machine"], line["device"]);
        match line["event"].as_str().unwrap() {
            "acquired" => assert!(held.insert(key(&line["entry"].to_string())), "{line}"),
            "released" => assert!(held.remove(&key(&line["entry"].to_string())), "{line}"),
            "dma-mapped" => assert!(held.insert(key(&format!("dma {}", line["addr"]))), "{line}"),
            "dma-unmapped" => assert!(held.remove(&key(&format!("dma {}", line["addr"]))), "{line}"),
            _ => {}
        }
    }
    assert_eq!(held, BTreeSet::new());
}

#[test]
fn the_trace_is_valid_and_its_slices_and_spans_are_balanced() {
    let dir = Dir::new();
    let path = dir.path("trace.json");
    bindery(["--trace", text(&path), "-q"]).good();
    assert_eq!(dir.names(), ["trace.json"]);
    let trace = common::trace::read(&path);
    assert!(!trace.slices.is_empty() && !trace.spans.is_empty() && !trace.instants.is_empty());
}

#[test]
fn a_trace_replaces_an_older_one_whole() {
    let dir = Dir::new();
    let path = dir.file("trace.json", "old");
    bindery(["--trace", text(&path), "-q"]).good();
    assert!(std::fs::read(&path).unwrap().starts_with(b"{"));
    assert_eq!(dir.names(), ["trace.json"]);
}

#[test]
fn nothing_is_left_of_a_trace_when_the_run_ends_early() {
    let dir = Dir::new();
    let path = dir.path("trace.json");
    bindery_to(common::full_device(), ["--trace", text(&path)]).refused(&["cannot write standard output"]);
    assert_eq!(dir.names(), Vec::<String>::new());
}

#[test]
fn a_trace_is_whole_although_the_reader_of_the_output_left() {
    let dir = Dir::new();
    let (path, other) = (dir.path("trace.json"), dir.path("other.json"));
    let ran = bindery_to(closed_pipe(), ["--trace", text(&path)]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    bindery(["--trace", text(&other), "-q"]).good();
    assert_eq!(std::fs::read(path).unwrap(), std::fs::read(other).unwrap());
}
