//! `bindery explore`: its findings and their report.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod end;
mod files;
mod life;
mod scenarios;
mod shards;
mod usage;

use std::path::Path;
use std::process::Command;

use common::{Ran, bindery};
use serde_json::Value;

const RC5: &str = "linux-5.0-rc5";
/// The smallest exploration: no faults, no preemptions.
const QUIETLY: [&str; 4] = ["--faults", "0", "--preemptions", "0"];

fn explore(args: &[&str]) -> Ran {
    bindery(["explore"].iter().chain(args))
}

/// A run that found something, and complained of nothing else.
#[track_caller]
fn broken(args: &[&str]) -> String {
    let ran = explore(args);
    assert_eq!((ran.code, ran.err.as_str()), (1, ""), "{}", ran.out);
    ran.out
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_crash_on_unbind_is_found() {
    let out = broken(&["--model", RC5]);
    for line in [
        "mode         exhaustive",
        "within       at most 1 fault, 1 preemption on a path",
        "BROKEN P1 (matching back-end on free): crash, unbind: freed by another back-end, after arch_teardown_dma_ops",
        "known as unbind-crash: DMA ops reset before managed resources on unbind; fixed by 376991db4b64",
        "the shortest path has 0 non-default choices:",
        "allocated by the IOMMU ops at IOVA 0xfffff000",
        "cma_release failed",
        "page allocator: gets a page that it never gave: paging request fault",
        "again: bindery explore --model linux-5.0-rc5 --faults 1 --preemptions 1 --replay -\n",
    ] {
        assert!(out.contains(line), "{line:?} is not in:\n{out}");
    }
    assert!(!out.contains("NEVER REACHED"), "{out}");
}

#[test]
fn each_release_shows_its_own_violation_and_our_order_none() {
    for (model, known) in [
        ("linux-5.0", "known as probe-failure-crash"),
        ("linux-6.12", "known as group-type"),
        ("arm32-old", "known as arm32-leak"),
    ] {
        let out = broken(&["--model", model]);
        assert!(out.contains(known) && !out.contains("known as unbind-crash"), "{model}: {out}");
    }
    let out = explore(&["--model", "bindery"]).good();
    assert!(out.contains("ok  no promise was broken on every path within the bounds"), "{out}");
}

#[test]
fn a_swallowed_deferral_hides_the_crash() {
    let out = broken(&["--model", "linux-5.0-rc5-swallowed", "--faults", "0"]);
    assert!(!out.contains("BROKEN P1 (") && out.contains("known as swallowed"), "{out}");
}

#[test]
fn every_finding_is_seen_again_when_its_path_is_replayed() {
    let report = json(&broken(&["--model", "linux-6.12", "--json"]));
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.len() >= 8);
    for finding in findings {
        let path = finding["path"].as_str().unwrap();
        let replay = json(&broken(&["--model", "linux-6.12", "--replay", path, "--json"]));
        let seen = replay["violations"].as_array().unwrap();
        assert!(seen.iter().any(|v| v["kind"] == finding["kind"] && v["promise"] == finding["promise"]), "{path}");
        assert!(replay["trace"].as_array().unwrap().len() >= finding["trace"].as_array().unwrap().len());
    }
}

/// The findings of a report: each promise with what was seen, and the line that replays it.
fn findings(report: &str) -> Vec<(&str, &str)> {
    let stories = report.split("\n\n").filter(|part| part.starts_with("BROKEN"));
    stories
        .map(|story| {
            let seen = story.lines().rfind(|line| line.starts_with("     BROKEN")).unwrap_or_else(|| panic!("{story}"));
            let again = story.lines().find_map(|line| line.strip_prefix("   again: "));
            (seen.trim(), again.unwrap_or_else(|| panic!("{story}")))
        })
        .collect()
}

/// Pastes `line` into a shell that finds the command.
#[track_caller]
fn paste(line: &str) -> String {
    let folder = Path::new(env!("CARGO_BIN_EXE_bindery")).parent().unwrap();
    let output = Command::new("/bin/sh").args(["-c", line]).env("PATH", folder).output().unwrap();
    assert_eq!((output.status.code(), &*output.stderr), (Some(1), &b""[..]), "{line}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_line_under_a_finding_shows_it_again_when_it_is_pasted() {
    let mut lines = 0;
    for args in [
        &["--model", RC5][..],
        &["--model", "linux-6.12", "--faults", "2", "--preemptions", "2"],
        &["--model", "arm32-old", "--faults", "0", "--preemptions", "3"],
    ] {
        let report = broken(args);
        for (seen, again) in findings(&report) {
            let told = paste(again);
            assert!(told.lines().any(|line| line.trim_start().ends_with(seen)), "{again}\n{seen}\nis not in\n{told}");
            lines += 1;
        }
    }
    assert!(lines >= 20, "{lines}");
}

#[test]
fn the_json_is_one_report_with_everything_that_the_text_says() {
    let out = broken(&["--model", RC5, "--json", "--threads", "1"]);
    assert_eq!(out.lines().count(), 1);
    let report = json(&out);
    assert_eq!(report["name"], RC5);
    assert_eq!(report["mode"], "exhaustive");
    assert_eq!(report["missing"], json("[]"));
    let crash =
        report["findings"].as_array().unwrap().iter().find(|f| f["promise"] == "P1" && f["path"] == "-").unwrap();
    assert_eq!(
        (&crash["shortest"], crash["trace"][0].as_str()),
        (&Value::Bool(true), Some("probe of ee300000.sata by sata_rcar"))
    );
    for field in ["paths", "pruned", "states", "longest_path", "choice_points"] {
        assert!(report[field].as_u64().unwrap() > 0, "{field}");
    }
    assert!(report["checks"]["P1"].as_u64().unwrap() > 0 && !report["coverage"].as_object().unwrap().is_empty());
}

#[test]
fn quiet_prints_what_is_wrong_and_nothing_else() {
    assert_eq!(explore(&["--model", "bindery", "-q"]).good(), "");
    let out = broken(&["--model", RC5, "-q"]);
    assert!(out.starts_with("BROKEN P1") && !out.contains("mode "), "{out}");
}
