//! `bindery explore`: what it finds, how it ends, what it refuses.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bindery::binding::TRANSITIONS;
use bindery::promise::Promise;
use common::trace::{Trace, read};
use common::{Dir, Ran, bindery, bindery_to, closed_pipe, command, text};
use serde_json::Value;

const SEED: &str = "linux-5.0-rc5";

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
fn the_crash_of_the_report_is_found_by_itself_and_told_in_its_words() {
    let out = broken(&["--order", SEED]);
    for line in [
        "mode         exhaustive",
        "within       at most 1 fault, 1 interruption on a path",
        "BROKEN P1 (same hand): crash, unbind: freed by another back-end, after arch_teardown_dma_ops",
        "known as seed: DMA ops reset before managed resources on unbind; mended by 376991db4b64",
        "the shortest path has 0 deviations:",
        "allocated by the IOMMU ops at IOVA 0xfffff000",
        "cma_release failed",
        "page allocator: gets a page that it never gave: paging request fault",
        "again: bindery explore --order linux-5.0-rc5 --faults 1 --interrupts 1 --replay -\n",
    ] {
        assert!(out.contains(line), "{line:?} is not in:\n{out}");
    }
    assert!(!out.contains("NEVER REACHED"), "{out}");
}

#[test]
fn each_release_shows_its_own_breach_and_our_order_none() {
    for (order, known) in
        [("linux-5.0", "known as twin"), ("linux-6.12", "known as W1"), ("arm32-old", "known as arm32")]
    {
        let out = broken(&["--order", order]);
        assert!(out.contains(known) && !out.contains("known as seed"), "{order}: {out}");
    }
    let out = explore(&["--order", "bindery"]).good();
    assert!(out.contains("ok  no promise was broken on every path within the bounds"), "{out}");
}

#[test]
fn a_swallowed_deferral_hides_the_crash() {
    let out = broken(&["--order", "linux-5.0-rc5-swallowed", "--faults", "0"]);
    assert!(!out.contains("BROKEN P1 (") && out.contains("known as swallowed"), "{out}");
}

#[test]
fn every_finding_is_seen_again_when_its_path_is_replayed() {
    let report = json(&broken(&["--order", "linux-6.12", "--json"]));
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.len() >= 8);
    for finding in findings {
        let path = finding["path"].as_str().unwrap();
        let replay = json(&broken(&["--order", "linux-6.12", "--replay", path, "--json"]));
        let seen = replay["violations"].as_array().unwrap();
        assert!(seen.iter().any(|v| v["kind"] == finding["kind"] && v["promise"] == finding["promise"]), "{path}");
        assert!(replay["story"].as_array().unwrap().len() >= finding["story"].as_array().unwrap().len());
    }
}

/// What a report says of each of its findings: the promise with what was seen, and the line that walks it again.
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
        &["--order", SEED][..],
        &["--order", "linux-6.12", "--faults", "2", "--interrupts", "2"],
        &["--order", "arm32-old", "--faults", "0", "--interrupts", "3"],
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
fn a_replay_tells_everything_that_happens_and_writes_it_for_perfetto() {
    let dir = Dir::new();
    let trace = dir.path("trace.json");
    let out = broken(&["--order", SEED, "--replay", "-", "--trace", text(&trace)]);
    assert!(out.contains("the probe is deferred") && out.contains("BROKEN P1 (same hand)"), "{out}");
    let times = read(&trace).times;
    let lines = out.lines().filter(|l| l.trim_start().starts_with(|c: char| c.is_ascii_digit())).count();
    assert_eq!(times.len(), lines);
    assert!(times.windows(2).all(|w| w[0] < w[1]), "a model has no clock: its lines follow each other");
    assert!(
        explore(&["--order", "bindery", "--replay", "-"]).good().contains("ok  no promise was broken on this path")
    );
}

#[test]
fn the_json_is_one_report_with_everything_that_the_text_says() {
    let out = broken(&["--order", SEED, "--json", "--threads", "1"]);
    assert_eq!(out.lines().count(), 1);
    let report = json(&out);
    assert_eq!(report["name"], SEED);
    assert_eq!(report["mode"], "exhaustive");
    assert_eq!(report["missing"], json("[]"));
    let seed =
        report["findings"].as_array().unwrap().iter().find(|f| f["promise"] == "P1" && f["path"] == "-").unwrap();
    assert_eq!(
        (&seed["shortest"], seed["story"][0].as_str()),
        (&Value::Bool(true), Some("probe of ee300000.sata by sata_rcar"))
    );
    for field in ["paths", "pruned", "states", "longest", "questions"] {
        assert!(report[field].as_u64().unwrap() > 0, "{field}");
    }
    assert!(report["checks"]["P1"].as_u64().unwrap() > 0 && !report["coverage"].as_object().unwrap().is_empty());
}

#[test]
fn quiet_prints_what_is_wrong_and_nothing_else() {
    assert_eq!(explore(&["--order", "bindery", "-q"]).good(), "");
    let out = broken(&["--order", SEED, "-q"]);
    assert!(out.starts_with("BROKEN P1") && !out.contains("mode "), "{out}");
}

#[test]
fn a_bound_that_ends_the_walk_is_named_and_random_paths_follow_on_request() {
    let out = broken(&["--order", SEED, "--bound", "paths=5", "--threads", "1"]);
    assert!(out.contains("mode         partial: the bound of 5 paths was met"), "{out}");
    let sampled = |seed| {
        let args = [
            "--order",
            SEED,
            "--bound",
            "paths=5,states=100",
            "--paths",
            "50",
            "--seed",
            seed,
            "--json",
            "--threads",
            "1",
        ];
        json(&broken(&args))
    };
    let report = sampled("7");
    assert_eq!((&report["mode"], &report["samples"], &report["seed"]), (&json("\"sampled\""), &json("50"), &json("7")));
    assert_eq!(report["coverage"], sampled("7")["coverage"], "the same seed draws the same paths");
    assert_ne!(report["coverage"], sampled("8")["coverage"]);
}

/// Writes the reports of all shards; their files.
fn shards(dir: &Dir, of: u32, options: &[&str]) -> Vec<PathBuf> {
    let run = |k: u32| {
        let shard = format!("{k}/{of}");
        let ran = explore(&[options, &["--shard", &shard, "--json"]].concat());
        assert!(ran.code <= 1 && ran.err.is_empty(), "{}", ran.err);
        dir.file(&format!("{k}.json"), ran.out)
    };
    (1..=of).map(run).collect()
}

fn merge(files: &[PathBuf]) -> Ran {
    let files = files.iter().map(|file| text(file).to_owned());
    bindery(["explore", "--json", "--merge"].map(str::to_owned).into_iter().chain(files))
}

#[test]
fn the_union_of_all_shards_is_the_whole_run() {
    let dir = Dir::new();
    // States are not remembered, so that each path is walked to its end by somebody, and by nobody twice.
    let options = ["--order", "linux-6.12", "--bound", "states=0"];
    let whole = json(&broken(&[&options[..], &["--json"]].concat()));
    let merged = merge(&shards(&dir, 5, &options));
    assert_eq!(merged.code, 1);
    let merged = json(&merged.out);
    for field in
        ["name", "mode", "bounds", "paths", "questions", "longest", "checks", "coverage", "missing", "required"]
    {
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
    let options = ["--order", SEED];
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
        out.contains("again: bindery explore --order linux-5.0-rc5 --faults 1 --interrupts 1 --replay -\n"),
        "{out}"
    );
}

#[test]
fn reports_that_do_not_make_a_whole_are_named() {
    let dir = Dir::new();
    let files = shards(&dir, 3, &["--order", SEED]);
    let [a, b, c] = &files[..] else { unreachable!() };
    let refused = |files: &[&PathBuf], words: &[&str]| {
        merge(&files.iter().map(|f| (*f).clone()).collect::<Vec<_>>()).refused(words);
    };
    refused(&[a, c], &["reports are missing: those of shard 2 of 3", "--shard K/3"]);
    refused(&[a], &["those of shards 2, 3 of 3"]);
    refused(&[a, b, b, c], &["2.json: shard 2/3 is there already, from", "2.json"]);
    let whole = dir.file("whole.json", broken(&["--order", SEED, "--json"]));
    refused(&[a, &whole], &["whole.json: the report is of a whole run"]);
    let other = explore(&["--order", "linux-5.0", "--shard", "2/3", "--json"]).out;
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
    let files = shards(&dir, 2, &["--order", SEED]);
    let huge = |file: &PathBuf| {
        let mut report = json(&std::fs::read_to_string(file).unwrap());
        for field in ["paths", "pruned", "cut", "states", "questions", "millis", "more"] {
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

#[test]
fn the_diagram_shows_how_often_each_transition_was_taken() {
    let dir = Dir::new();
    let mut report = json(&explore(&["--order", "bindery", "--shard", "1/1", "--json"]).good());
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

#[test]
fn wrong_usage_names_what_is_wrong_and_what_there_is() {
    let refused = |args: &[&str], words: &[&str]| assert_eq!(explore(args).refused(words), "");
    refused(&["--order", "linux-5.0-rc6"], &["linux-5.0-rc6", "linux-5.0-rc5", "similar"]);
    refused(&["--order", SEED, "--shard", "4/3"], &["there is no shard 4 of 3: they count from 1 to 3"]);
    refused(&["--order", SEED, "--shard", "three"], &["is not a shard: write K/N, for example 3/8"]);
    refused(&["--order", SEED, "--replay", "0.x.1"], &["part 2 of the path is \"x\""]);
    refused(&["--order", SEED, "--replay", "0x1048577"], &["the path is longer than 1048576 answers"]);
    refused(&["--order", SEED, "--replay", "0x4.17"], &["does not belong here", "answer 5 of the path"]);
    refused(&["--order", SEED, "--replay", "0x500.1"], &["does not belong here", "no further question"]);
    refused(&["--order", SEED, "--bound", "path=3"], &["there is no bound \"path\"; there are paths=N, states=N"]);
    refused(&["--order", SEED, "--bound", "time=soon"], &["time takes seconds, not \"soon\""]);
    refused(&["--order", SEED, "--threads", "0"], &["--threads"]);
    refused(&["--order", SEED, "--faults", "-1"], &["-1"]);
    refused(&["--order", SEED, "--trace", "/no/such/dir/t.json"], &["cannot write /no/such/dir/t.json"]);
    refused(&["--order", SEED, "--seed", "1"], &["--paths"]);
    refused(&["--order", SEED, "--replay", "-", "--shard", "1/2"], &["cannot be used with"]);
    refused(
        &["--order", SEED, "--replay", "-", "--trace", "/no/such/dir/t.json"],
        &["cannot write /no/such/dir/t.json"],
    );
}

#[test]
fn a_device_or_a_board_that_is_not_there_is_named_with_what_there_is() {
    let refused = |args: &[&str], words: &[&str]| assert_eq!(explore(args).refused(words), "");
    refused(&["--device", "ee300000.sato"], &["salvator-xs has no device \"ee300000.sato\"", "ee300000.sata,"]);
    refused(&["--device", "e6800000.ethernet"], &["salvator-xs: e6800000.ethernet is not bound by any driver"]);
    refused(&["--without", "fault nothing"], &["'fault nothing' for '--without <PLACE>': there is no such place"]);
    refused(&["--replay", "-", "--device", "nobody"], &["salvator-xs has no device \"nobody\""]);
    refused(&["--board", "salvator"], &["salvator", "salvator-xs"]);
    refused(&["--dtb", "/no/such.dtb"], &["cannot read /no/such.dtb"]);
    let dir = Dir::new();
    let noise = dir.file("noise.dtb", "noise");
    let picture = dir.path("states.svg");
    refused(&["--dtb", text(&noise), "--diagram", text(&picture)], &["noise.dtb: not a device tree"]);
    assert_eq!(dir.names(), ["noise.dtb"], "no picture of a walk that never was");
    refused(&["--order", SEED, "--device", "ee300000.sata"], &["cannot be used with"]);
}

/// The least of a life: nothing fails, and nobody comes in.
const QUIETLY: [&str; 4] = ["--faults", "0", "--interrupts", "0"];

#[test]
fn the_life_of_the_disk_controller_keeps_every_promise_on_the_real_core() {
    let report = json(&explore(&[&QUIETLY[..], &["--json"]].concat()).good());
    assert_eq!(
        (&report["name"], &report["mode"]),
        (&json("\"ee300000.sata on salvator-xs\""), &json("\"exhaustive\""))
    );
    for promise in Promise::ALL {
        assert!(report["checks"][promise.id()].as_u64().is_some_and(|times| times > 0), "{promise:?}: {report}");
    }
    assert_eq!((&report["findings"], &report["missing"]), (&json("[]"), &json("[]")));
    let out = explore(&QUIETLY).good();
    assert!(out.starts_with("ee300000.sata on salvator-xs  on the real core\n"), "{out}");
    assert!(out.contains("ok  no promise was broken on every path within the bounds"), "{out}");
}

#[test]
fn a_run_without_bounds_walks_with_one_fault_and_one_interruption_and_says_what_it_never_reached() {
    let report = json(&broken(&["--bound", "paths=1", "--json", "--threads", "1"]));
    assert_eq!((&report["bounds"]["faults"], &report["bounds"]["interrupts"]), (&json("1"), &json("1")));
    let missing = report["missing"].as_array().unwrap();
    assert!(
        missing.contains(&json("\"fault clock-enable\"")) && missing.contains(&json("\"interrupt somebody else\"")),
        "{report}"
    );
}

#[test]
fn a_device_is_spared_the_places_that_it_cannot_reach() {
    let clock = ["--device", "scif", "--bound", "paths=500"];
    let all = json(&explore(&[&clock[..], &["--json"]].concat()).out);
    let missing: Vec<_> = all["missing"].as_array().unwrap().iter().map(|place| place.as_str().unwrap()).collect();
    assert!(missing.contains(&"error EIO") && missing.len() > 1, "{missing:?}");
    let spared: Vec<_> = missing.iter().flat_map(|place| ["--without", place]).collect();
    let out = explore(&[&clock[..], &spared].concat()).good();
    assert!(!out.contains("NEVER REACHED"), "{out}");
}

#[test]
fn a_path_of_a_life_is_told_event_by_event() {
    let out = explore(&["--replay", "-"]).good();
    for line in ["probe by sata_rcar", "ledger +1 ", "ledger -1 ", "unbound from sata_rcar (unbind)"] {
        assert!(out.contains(line), "{line:?} is not in:\n{out}");
    }
    assert!(out.contains("ok  no promise was broken on this path"), "{out}");
    let disturbed = explore(&["--replay", "0x15.1"]).good();
    assert!(disturbed.contains("somebody comes in: arrival: unbind"), "{disturbed}");
}

/// The disk controller of `machine` was probed, and could reach memory.
#[track_caller]
fn shows_a_probe(trace: &Trace, machine: &str) {
    let of_disk = |name: &str| (format!("{machine} ee300000.sata"), name.to_owned());
    assert!(trace.slices.contains(&of_disk("probe sata_rcar")), "{:?}", trace.slices);
    assert!(trace.spans.contains(&of_disk("coherent")), "{:?}", trace.spans);
}

/// What happened to the whole machine, or was told beside its events.
#[track_caller]
fn shows_an_instant(trace: &Trace, name: &str) {
    let instant = ("host machine".to_owned(), name.to_owned());
    assert!(trace.instants.contains(&instant), "{name:?} is not in {:?}", trace.instants);
}

#[test]
fn a_path_of_a_life_is_written_for_perfetto_as_the_machine_lived_it() {
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
    assert!(plain.times.iter().all(|at| *at > 0.0), "nothing happened before the life began");
    shows_an_instant(&traced("0x15.1"), "somebody comes in: arrival: unbind");
    let failed = traced("0x2.1").instants;
    assert!(failed.contains(&("host ee300000.sata".into(), "injected".into())), "{failed:?}");
    let handed_over = traced("5");
    shows_an_instant(&handed_over, "== life: handed to a guest that lets go");
    shows_a_probe(&handed_over, "guest");
    assert_eq!(dir.names(), ["trace.json"]);
}

#[test]
fn the_plainest_path_that_breaks_a_promise_is_written_for_perfetto() {
    let dir = Dir::new();
    let trace = dir.path("trace.json");
    let out = broken(&["--order", SEED, "--trace", text(&trace)]);
    let named = format!(
        "   again: bindery explore --order {SEED} --faults 1 --interrupts 1 --replay -\n   trace: {}\n",
        text(&trace)
    );
    assert!(out.contains(&named) && out.matches("trace: ").count() == 1, "{out}");
    let instants = read(&trace).instants;
    assert!(instants.iter().any(|(_, name)| name.starts_with("BROKEN P1 (same hand)")), "{instants:?}");
    let none = dir.path("none.json");
    let out = explore(&["--order", "bindery", "--trace", text(&none)]).good();
    assert!(out.contains("trace        none was written: there is no path that breaks a promise"), "{out}");
    explore(&["--merge", "a.json", "--trace", text(&none)]).refused(&["cannot be used with"]);
    assert_eq!(dir.names(), ["trace.json"]);
}

#[test]
fn another_device_tree_is_another_life_with_a_name_of_its_own() {
    let dir = Dir::new();
    let tree = dir.file("board.dtb", bindery_sim::salvator::DEVICE_TREE);
    let report = json(&explore(&[&QUIETLY[..], &["--json", "--dtb", text(&tree)]].concat()).good());
    assert_eq!(report["name"], format!("ee300000.sata on salvator-xs, described by {}", text(&tree)));
}

#[test]
fn the_diagram_of_a_life_counts_every_transition() {
    let list = explore(&[&QUIETLY[..], &["-q", "--diagram", "-"]].concat()).good();
    let taken = list.lines().filter(|line| line.ends_with(" times") || line.ends_with("once"));
    assert_eq!(taken.count(), TRANSITIONS.len(), "{list}");
}

#[test]
fn the_parts_of_a_life_make_a_whole() {
    let dir = Dir::new();
    let merged = merge(&shards(&dir, 2, &QUIETLY));
    assert_eq!((merged.code, merged.err.as_str()), (0, ""));
    let whole = json(&explore(&[&QUIETLY[..], &["--json"]].concat()).good());
    let merged = json(&merged.out);
    let reached = |report: &Value| report["coverage"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!((&merged["name"], reached(&merged)), (&whole["name"], reached(&whole)));
}

#[test]
fn a_path_that_does_not_belong_leaves_no_trace_behind() {
    let dir = Dir::new();
    explore(&["--order", SEED, "--replay", "0x500.1", "--trace", text(&dir.path("t.json"))]).refused(&["answer"]);
    assert_eq!(dir.names(), Vec::<String>::new());
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    for more in [&[][..], &["--json"], &["--replay", "-"]] {
        let ran = bindery_to(closed_pipe(), ["explore", "--order", SEED].iter().chain(more));
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{more:?}");
    }
}

/// Hundredths of a second for which process `id` has had a processor (`proc_pid_stat(5)`: utime and stime).
fn worked(id: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let (_, after_name) = stat.rsplit_once(')').unwrap();
    after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// A walk that takes hours, and a signal once it runs.
fn interrupted(signal: &str, args: &[&str]) -> (i32, String, String) {
    let endless =
        ["--order", "linux-6.12", "--faults", "9", "--interrupts", "9", "--bound", "states=0,paths=100000000000"];
    let mut child = command()
        .arg("explore")
        .args(endless)
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Until the handler is there, a signal ends the program without a report, and the walk has to come to a finding.
    while worked(child.id()) < 150 {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (child.wait().unwrap().code().expect("ended by itself"), out, err)
}

#[test]
fn an_interrupt_ends_the_walk_with_a_report_of_what_is_known() {
    let (code, out, err) = interrupted("-INT", &[]);
    assert_eq!((code, err.as_str()), (130, ""), "{out}");
    assert!(out.contains("mode         partial: cancelled, the rest is unknown"), "{out}");
    assert!(out.contains("BROKEN P7") && out.contains("the shortest known path"), "{out}");
    let (code, out, _) = interrupted("-TERM", &["--json", "--shard", "1/2"]);
    let report = json(&out);
    assert_eq!((code, &report["mode"], &report["why"]), (130, &json("\"partial\""), &json("\"cancelled\"")));
    assert!(report["paths"].as_u64().unwrap() > 0);
}
