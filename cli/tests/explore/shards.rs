//! One exploration in several parts.

use std::path::PathBuf;

use serde_json::Value;

use super::common::{Dir, Ran, bindery, text};
use super::{RC5, broken, explore, json};

/// Writes the reports of all shards; their files.
pub(crate) fn shards(dir: &Dir, of: u32, options: &[&str]) -> Vec<PathBuf> {
    let run = |k: u32| {
        let shard = format!("{k}/{of}");
        let ran = explore(&[options, &["--shard", &shard, "--json"]].concat());
        assert!(ran.code <= 1 && ran.err.is_empty(), "{}", ran.err);
        dir.file(&format!("{k}.json"), ran.out)
    };
    (1..=of).map(run).collect()
}

pub(crate) fn merge(files: &[PathBuf]) -> Ran {
    let files = files.iter().map(|file| text(file).to_owned());
    bindery(["explore", "--json", "--merge"].map(str::to_owned).into_iter().chain(files))
}

#[test]
fn the_union_of_all_shards_is_the_whole_run() {
    let dir = Dir::new();
    // States are not remembered, so that each path is executed to its end by exactly one shard.
    let options = ["--model", "linux-6.12", "--bound", "states=0"];
    let whole = json(&broken(&[&options[..], &["--json"]].concat()));
    let merged = merge(&shards(&dir, 5, &options));
    assert_eq!(merged.code, 1);
    let merged = json(&merged.out);
    for field in [
        "name",
        "mode",
        "bounds",
        "paths",
        "choice_points",
        "longest_path",
        "checks",
        "coverage",
        "missing",
        "required",
    ] {
        assert_eq!(merged[field], whole[field], "{field}");
    }
    assert_eq!(merged["shard"], Value::Null);
    let kinds = |report: &Value| {
        let all = report["findings"].as_array().unwrap().iter();
        all.map(|f| (f["promise"].clone(), f["kind"].clone(), f["times"].clone(), f["path"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(&merged), kinds(&whole));
}

#[test]
fn shards_that_remember_states_find_what_the_whole_run_finds() {
    let dir = Dir::new();
    let options = ["--model", RC5];
    let files = shards(&dir, 3, &options);
    let whole = json(&broken(&[&options[..], &["--json"]].concat()));
    // As a log collector leaves them: all in one file.
    let all: String = files.iter().rev().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let merged = json(&merge(&[dir.file("all.json", all)]).out);
    assert_eq!(merged["missing"], whole["missing"]);
    let kinds = |report: &Value| {
        report["findings"].as_array().unwrap().iter().map(|f| f["kind"].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&merged), kinds(&whole));
    let out = explore(&["--merge", text(&dir.path("all.json"))]).out;
    assert!(
        out.contains("again: bindery explore --model linux-5.0-rc5 --faults 1 --preemptions 1 --replay -\n"),
        "{out}"
    );
}

#[test]
fn reports_that_do_not_make_a_whole_are_named() {
    let dir = Dir::new();
    let files = shards(&dir, 3, &["--model", RC5]);
    let [a, b, c] = &files[..] else { unreachable!() };
    let refused = |files: &[&PathBuf], words: &[&str]| {
        merge(&files.iter().map(|f| (*f).clone()).collect::<Vec<_>>()).refused(words);
    };
    refused(&[a, c], &["reports are missing: those of shard 2 of 3", "--shard K/3"]);
    refused(&[a], &["those of shards 2, 3 of 3"]);
    refused(&[a, b, b, c], &["2.json: shard 2/3 is there already, from", "2.json"]);
    let whole = dir.file("whole.json", broken(&["--model", RC5, "--json"]));
    refused(&[a, &whole], &["whole.json: the report is of a whole run"]);
    let other = explore(&["--model", "linux-5.0", "--shard", "2/3", "--json"]).out;
    refused(
        &[a, &dir.file("other.json", other), c],
        &["other.json: the report is of another run: its name differs", "1.json"],
    );
    let cut = std::fs::read_to_string(b).unwrap();
    refused(&[a, &dir.file("cut.json", &cut[..cut.len() / 2]), c], &["cut.json: not a report", "line 1 column"]);
    refused(&[&dir.file("list.json", "[1, 2]")], &["list.json: not a report"]);
    refused(&[&dir.file("empty.json", " \n")], &["empty.json: the file is empty", "run it again"]);
    refused(&[&dir.path("none.json")], &["cannot read", "none.json"]);
}

#[test]
fn numbers_in_reports_may_be_as_large_as_they_like() {
    let dir = Dir::new();
    let files = shards(&dir, 2, &["--model", RC5]);
    let huge = |file: &PathBuf| {
        let mut report = json(&std::fs::read_to_string(file).unwrap());
        for field in ["paths", "pruned", "truncated", "states", "choice_points", "millis", "further"] {
            report[field] = u64::MAX.into();
        }
        report["checks"]["P1"] = u64::MAX.into();
        report["findings"][0]["times"] = u64::MAX.into();
        dir.file(&format!("huge-{}", file.file_name().unwrap().to_str().unwrap()), report.to_string())
    };
    let files: Vec<_> = files.iter().map(huge).collect();
    let merged = merge(&files);
    assert_eq!((merged.code, merged.err.as_str()), (1, ""));
    assert_eq!(json(&merged.out)["paths"], u64::MAX);
    assert_eq!(explore(&["--merge", text(&files[0]), text(&files[1])]).code, 1);
}
