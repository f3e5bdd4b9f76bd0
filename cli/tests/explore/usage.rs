//! What it refuses.

use super::common::{Dir, text};
use super::{SEED, explore};

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

#[test]
fn a_path_that_does_not_belong_leaves_no_trace_behind() {
    let dir = Dir::new();
    explore(&["--order", SEED, "--replay", "0x500.1", "--trace", text(&dir.path("t.json"))]).refused(&["answer"]);
    assert_eq!(dir.names(), Vec::<String>::new());
}
