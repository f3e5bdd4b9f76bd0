//! Wrong usage.

use super::common::{Dir, text};
use super::{RC5, explore};

#[test]
fn wrong_usage_names_what_is_wrong_and_what_there_is() {
    let refused = |args: &[&str], words: &[&str]| assert_eq!(explore(args).refused(words), "");
    refused(&["--model", "linux-5.0-rc6"], &["linux-5.0-rc6", "linux-5.0-rc5", "similar"]);
    refused(&["--model", RC5, "--shard", "4/3"], &["there is no shard 4 of 3: they count from 1 to 3"]);
    refused(&["--model", RC5, "--shard", "three"], &["is not a shard: write K/N, for example 3/8"]);
    refused(&["--model", RC5, "--replay", "0.x.1"], &["part 2 of the path is \"x\""]);
    refused(&["--model", RC5, "--replay", "0x1048577"], &["the path is longer than 1048576 choices"]);
    refused(
        &["--model", RC5, "--replay", "0x4.17"],
        &["0x4.17 does not belong here: choice 5 is at", "which has no such choice, in linux-5.0-rc5"],
    );
    refused(
        &["--model", RC5, "--replay", "0x5000.1"],
        &["0x5000.1 does not belong here: it has 5001 choices, and there are only", "choice points in linux-5.0-rc5"],
    );
    refused(&["--model", RC5, "--replay", ""], &["the path is empty; that of default choices only is written -"]);
    refused(&["--threads", "100000"], &["100000 is not in 1..=1024"]);
    refused(&["--threads", "0"], &["0 is not in 1..=1024"]);
    refused(&["--model", RC5, "--bound", "path=3"], &["there is no bound \"path\"; there are paths=N, states=N"]);
    refused(&["--model", RC5, "--bound", "time=soon"], &["time takes seconds, not \"soon\""]);
    refused(&["--model", RC5, "--threads", "0"], &["--threads"]);
    refused(&["--model", RC5, "--faults", "-1"], &["-1"]);
    refused(&["--model", RC5, "--trace", "/no/such/dir/t.json"], &["cannot write /no/such/dir/t.json"]);
    refused(&["--model", RC5, "--seed", "1"], &["--paths"]);
    refused(&["--model", RC5, "--replay", "-", "--shard", "1/2"], &["cannot be used with"]);
    refused(
        &["--model", RC5, "--replay", "-", "--trace", "/no/such/dir/t.json"],
        &["cannot write /no/such/dir/t.json"],
    );
}

#[test]
fn a_device_or_a_board_that_is_not_there_is_named_with_what_there_is() {
    let refused = |args: &[&str], words: &[&str]| assert_eq!(explore(args).refused(words), "");
    refused(&["--device", "ee300000.sato"], &["salvator-xs has no device \"ee300000.sato\"", "ee300000.sata,"]);
    refused(&["--device", "e6800000.ethernet"], &["salvator-xs: e6800000.ethernet is not bound by any driver"]);
    refused(
        &["--allow-unreached", "fault nothing"],
        &["'fault nothing' for '--allow-unreached <POINT>': there is no such coverage point"],
    );
    refused(&["--replay", "-", "--device", "nobody"], &["salvator-xs has no device \"nobody\""]);
    refused(&["--board", "salvator"], &["salvator", "salvator-xs"]);
    refused(&["--dtb", "/no/such.dtb"], &["cannot read /no/such.dtb"]);
    let dir = Dir::new();
    let noise = dir.file("noise.dtb", "noise");
    let picture = dir.path("states.svg");
    refused(&["--dtb", text(&noise), "--diagram", text(&picture)], &["noise.dtb: not a valid device tree"]);
    assert_eq!(dir.names(), ["noise.dtb"], "no picture of an exploration that did not happen");
    refused(&["--model", RC5, "--device", "ee300000.sata"], &["cannot be used with"]);
}

#[test]
fn a_scenario_that_is_not_there_is_named_with_what_there_is() {
    let refused = |args: &[&str], words: &[&str]| assert_eq!(explore(args).refused(words), "");
    refused(
        &["--scenario", "two-stream"],
        &["'two-stream' for '--scenario <NAME>'", "there are two-streams, two-iommus, ", "behind a colon"],
    );
    refused(&["--scenario", "two-streams:zz"], &["'two-streams:zz'", "a seed is a number behind a colon"]);
    refused(&["--scenario", "two-streams:"], &["a seed is a number behind a colon"]);
    refused(&["--scenario", "two-streams:4294967296"], &["a seed is a number behind a colon"]);
    refused(&["--scenario", "two-streams", "--steps", "0"], &["0 is not in 1..", "--steps"]);
    refused(&["--steps", "2"], &["--scenario"]);
    refused(&["--scenario", "two-streams", "--device", "ee300000.sata"], &["cannot be used with"]);
    refused(&["--scenario", "two-streams", "--model", RC5], &["cannot be used with"]);
    refused(&["--scenario", "two-streams", "--diagram", "-"], &["cannot be used with"]);
    refused(&["--scenario", "two-streams", "--replay", ""], &["the path is empty"]);
    refused(
        &["--scenario", "two-streams", "--replay", "9999"],
        &["the path 9999 does not belong here", "in two-streams"],
    );
    refused(&["--list", "--json"], &["--list", "cannot be used with one or more"]);
}

#[test]
fn a_path_that_does_not_belong_leaves_no_trace_behind() {
    let dir = Dir::new();
    explore(&["--model", RC5, "--replay", "0x500.1", "--trace", text(&dir.path("t.json"))]).refused(&["choice"]);
    assert_eq!(dir.names(), Vec::<String>::new());
}
