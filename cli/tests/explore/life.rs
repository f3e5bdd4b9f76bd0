//! The lifecycle of a device on the real core.

use bindery::binding::TRANSITIONS;
use bindery::promise::Promise;
use serde_json::Value;

use super::common::{Dir, text};
use super::shards::{merge, shards};
use super::{QUIETLY, broken, explore, json};

#[test]
fn the_lifecycle_of_the_disk_controller_keeps_every_promise_on_the_real_core() {
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
fn without_options_there_is_one_fault_and_one_preemption_and_unreached_points_are_named() {
    let early = ["--bound", "paths=1", "--threads", "1"];
    let report = json(&explore(&[&early[..], &["--json"]].concat()).good());
    assert_eq!((&report["bounds"]["faults"], &report["bounds"]["preemptions"]), (&json("1"), &json("1")));
    let missing = report["missing"].as_array().unwrap();
    assert!(
        missing.contains(&json("\"fault clock-enable\""))
            && missing.contains(&json("\"preemption concurrent operation\"")),
        "{report}"
    );
    let out = explore(&early).good();
    assert!(out.contains("   not reached yet  fault clock-enable\n") && !out.contains("NEVER REACHED"), "{out}");
    assert!(out.contains("ok  no promise was broken on the paths that were executed"), "{out}");
    assert_eq!(explore(&[&early[..], &["-q"]].concat()).good(), "", "nothing failed");
}

#[test]
fn a_point_that_no_path_reaches_fails_an_exploration_of_all_of_them() {
    let out = broken(&["--device", "scif", "--bound", "non-default=1"]);
    assert!(out.contains("NEVER REACHED  fault map-io") && !out.contains("not reached yet"), "{out}");
}

#[test]
fn a_board_without_any_device_to_explore_says_so() {
    let dir = Dir::new();
    // A device tree with a root and nothing else: header, an empty list of reservations, one node.
    let header = [0xd00d_feed_u32, 72, 56, 72, 40, 17, 16, 0, 0, 16];
    let words = header.into_iter().chain([0; 4]).chain([1, 0, 2, 9]);
    let blob: Vec<u8> = words.flat_map(u32::to_be_bytes).collect();
    let path = dir.file("empty.dtb", blob);
    explore(&["--dtb", text(&path)])
        .refused(&["empty.dtb has no device \"ee300000.sata\"", "no driver here binds any device of it"]);
}

#[test]
fn a_device_is_allowed_the_points_that_it_cannot_reach() {
    let clock = ["--device", "scif", "--bound", "paths=500"];
    let all = json(&explore(&[&clock[..], &["--json"]].concat()).out);
    let missing: Vec<_> = all["missing"].as_array().unwrap().iter().map(|place| place.as_str().unwrap()).collect();
    assert!(missing.contains(&"fault map-io") && missing.len() > 1, "{missing:?}");
    let allowed: Vec<_> = missing.iter().flat_map(|place| ["--allow-unreached", place]).collect();
    let out = explore(&[&clock[..], &allowed].concat()).good();
    assert!(!out.contains("NEVER REACHED"), "{out}");
}

#[test]
fn a_path_of_a_lifecycle_is_printed_event_by_event() {
    let out = explore(&["--replay", "-"]).good();
    for line in ["probe by sata_rcar", "ledger +1 ", "ledger -1 ", "unbound from sata_rcar (unbind)"] {
        assert!(out.contains(line), "{line:?} is not in:\n{out}");
    }
    assert!(out.contains("ok  no promise was broken on this path"), "{out}");
    let preempted = explore(&["--replay", "0x15.1"]).good();
    assert!(preempted.contains("preempted by concurrent: unbind"), "{preempted}");
}

#[test]
fn another_device_tree_is_another_lifecycle_with_a_name_of_its_own() {
    let dir = Dir::new();
    let tree = dir.file("board.dtb", bindery_sim::salvator::DEVICE_TREE);
    let report = json(&explore(&[&QUIETLY[..], &["--json", "--dtb", text(&tree)]].concat()).good());
    assert_eq!(report["name"], format!("ee300000.sata on salvator-xs, described by {}", text(&tree)));
}

#[test]
fn the_diagram_of_a_lifecycle_counts_every_transition() {
    let list = explore(&[&QUIETLY[..], &["-q", "--diagram", "-"]].concat()).good();
    let taken = list.lines().filter(|line| line.ends_with(" times") || line.ends_with("once"));
    assert_eq!(taken.count(), TRANSITIONS.len(), "{list}");
}

#[test]
fn the_shards_of_a_lifecycle_make_a_whole() {
    let dir = Dir::new();
    let merged = merge(&shards(&dir, 2, &QUIETLY));
    assert_eq!((merged.code, merged.err.as_str()), (0, ""));
    let whole = json(&explore(&[&QUIETLY[..], &["--json"]].concat()).good());
    let merged = json(&merged.out);
    let reached = |report: &Value| report["coverage"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!((&merged["name"], reached(&merged)), (&whole["name"], reached(&whole)));
}
