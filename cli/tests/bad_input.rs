//! Bad input, one by one: a message that names what and where, exit code 2, nothing half-written, no panic.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::process::Command;

use bindery_sim::salvator::DEVICE_TREE;
use common::{Dir, bindery, bindery_to, closed_pipe, full_device, text};

#[test]
fn a_disk_image_that_cannot_be_one_is_named() {
    let dir = Dir::new();
    let refused = |path: &str, why: &str| {
        assert_eq!(bindery(["--disk", path]).refused(&["disk image", path, why]), "");
    };
    refused(text(&dir.path("missing.img")), "No such file or directory");
    refused(text(&dir.path("")), "not a regular file");
    refused(text(&dir.file("empty.img", "")), "the file is empty");
    refused(text(&dir.file("ragged.img", [0; 1000])), "1000 bytes are not a multiple of 512");
    refused("/dev/null", "not a regular file");
    // A program that runs cannot be written to, whoever asks: the same error path as for a file that is read-only.
    refused(env!("CARGO_BIN_EXE_bindery"), "Text file busy");
}

#[test]
fn a_device_tree_or_script_that_cannot_be_read_is_named() {
    let dir = Dir::new();
    bindery(["--dtb", "/no/such.dtb"]).refused(&["cannot read /no/such.dtb: No such file or directory"]);
    bindery(["--script", "/no/such.script"]).refused(&["cannot read /no/such.script: No such file or directory"]);
    bindery(["--script", text(&dir.path(""))]).refused(&["is a directory"]);
    bindery(["--script", "/dev/zero"]).refused(&["/dev/zero: more than 16 MiB, which no script has"]);
    let cut = dir.file("cut.dtb", &DEVICE_TREE[..DEVICE_TREE.len() / 2]);
    assert_eq!(bindery(["--dtb", text(&cut)]).refused(&["cut.dtb", "not a valid device tree blob"]), "");
    let binary = dir.file("binary.script", [0xff, 0xfe, 0, 1]);
    bindery(["--script", text(&binary)]).refused(&["binary.script:1: unknown command"]);
}

#[test]
fn every_byte_of_the_tree_may_be_wrong() {
    let dir = Dir::new();
    for at in (0..DEVICE_TREE.len()).step_by(397) {
        let mut blob = DEVICE_TREE.to_vec();
        blob[at] ^= 0xff;
        let path = dir.file("flipped.dtb", &blob);
        let ran = bindery(["--dtb", text(&path)]);
        assert!((0..=2).contains(&ran.code) && !ran.err.contains("panicked"), "byte {at}: {}", ran.err);
    }
}

#[test]
fn a_reader_that_leaves_ends_the_run_quietly() {
    for args in [&["run"][..], &["--json"], &["tree", "--json"], &["completions", "zsh"]] {
        let ran = bindery_to(closed_pipe(), args);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
    }
}

#[test]
fn no_space_left_is_told_with_the_name_of_the_file() {
    bindery_to(full_device(), ["run"]).refused(&["cannot write standard output: No space left on device"]);
    bindery_to(full_device(), ["--json"]).refused(&["cannot write standard output: No space left on device"]);
    bindery(["--trace", "/dev/full"]).refused(&["cannot write /dev/full: No space left on device"]);
    bindery(["--trace", "/no/such/dir/trace.json"]).refused(&["cannot write /no/such/dir/trace.json"]);
}

/// With a limit on the size of files, so that the host refuses a write in the middle: `blocks` of 512 or 1,024 bytes, as
/// the shell counts.
fn limited(blocks: u32, args: &[&str]) -> (i32, String) {
    let script = format!("ulimit -f {blocks}; trap '' XFSZ; exec \"$0\" \"$@\"");
    let ran = Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_bindery")]).args(args).output().unwrap();
    (ran.status.code().unwrap(), String::from_utf8(ran.stderr).unwrap())
}

#[test]
fn a_host_error_on_the_image_is_reported_with_its_name() {
    let dir = Dir::new();
    let image = dir.image("disk.img", 200);
    let (code, err) = limited(1, &["--disk", text(&image)]);
    assert!(code == 2 && err.contains("disk.img: File too large"), "{code}: {err}");
    let script = dir.file("a.script", "write 100 hello\n");
    let (code, err) = limited(1, &["--disk", text(&image), "--script", text(&script)]);
    assert!(code == 2 && err.contains("disk.img: File too large"), "{code}: {err}");
}

#[test]
fn a_trace_that_does_not_fit_leaves_nothing_behind() {
    let dir = Dir::new();
    let image = dir.image("disk.img", 2);
    let path = dir.path("trace.json");
    let (code, err) = limited(8, &["--disk", text(&image), "--trace", text(&path)]);
    assert!(code == 2 && err.contains("trace.json: File too large"), "{code}: {err}");
    assert_eq!(dir.names(), ["disk.img"]);
}
