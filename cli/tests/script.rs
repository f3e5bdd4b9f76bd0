//! `--script`.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Dir, Ran, bindery, text};
use serde_json::Value;

fn run(script: &str) -> Ran {
    let dir = Dir::new();
    let path = dir.file("a.script", script);
    bindery(["--script", text(&path)])
}

#[test]
fn the_users_own_words_unbind_and_bind() {
    let out = run("\
# take the controller away and give it back
cat /sys/bus/platform/devices/ee300000.sata/driver_override
ls /sys/bus/platform/drivers/sata_rcar
echo ee300000.sata > /sys/bus/platform/drivers/sata_rcar/unbind
! cat /sys/bus/platform/devices/ee300000.sata/driver/uevent
echo ee300000.sata > /sys/bus/platform/drivers/sata_rcar/bind
cat /sys/bus/platform/drivers/sata_rcar/ee300000.sata/uevent
")
    .good();
    assert!(out.contains("ee300000.sata -> "), "{out}");
    assert!(out.contains("DRIVER=sata_rcar"), "{out}");
    assert!(out.contains("6 commands") && out.contains("0 broken"), "{out}");
}

#[test]
fn what_is_written_is_read_back_and_is_in_the_image() {
    let dir = Dir::new();
    let image = dir.image("disk.img", 16);
    let script = dir.file("a.script", "write 3 hello\nread 3\nwrite 4 0x00ff 10\nread 4 1\n");
    let out = bindery(["--script", text(&script), "--disk", text(&image)]).good();
    assert!(out.contains("00000600: 6865 6c6c 6f00 ") && out.contains("00000800: 00ff 1000 "), "{out}");
    let bytes = std::fs::read(&image).unwrap();
    assert_eq!(
        (&bytes[3 * 512..3 * 512 + 6], &bytes[4 * 512..4 * 512 + 4]),
        (&b"hello\0"[..], &[0, 0xff, 0x10, 0][..])
    );
}

#[test]
fn a_line_that_is_not_understood_is_named_and_nothing_is_run() {
    let dir = Dir::new();
    let image = dir.image("disk.img", 16);
    let script = dir.file("a.script", "write 3 hello\n\n  frobnicate now\n");
    let ran = bindery(["--script", text(&script), "--disk", text(&image)]);
    assert!(ran.err.contains("  frobnicate now"), "the line is shown: {}", ran.err);
    assert_eq!(
        ran.refused(&["a.script:3: unknown command \"frobnicate\"", "here", "write one of: echo VALUE > PATH"]),
        ""
    );
    assert!(std::fs::read(&image).unwrap().iter().all(|b| *b == 0));
}

#[test]
fn a_refusal_is_told_as_a_shell_would_and_the_rest_is_run() {
    let ran = run("echo none > /sys/bus/platform/drivers/sata_rcar/bind\ncat /sys/nothing\nread 0\n");
    assert_eq!((ran.code, ran.err.as_str()), (1, ""));
    assert!(ran.out.contains("echo: /sys/bus/platform/drivers/sata_rcar/bind: No such device"), "{}", ran.out);
    assert!(ran.out.contains("cat: /sys/nothing: No such file or directory"), "{}", ran.out);
    assert!(ran.out.contains("00000000: "), "{}", ran.out);
}

#[test]
fn what_was_to_be_refused_and_was_not_is_a_failure() {
    let ran = run("! read 0\n");
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("FAILED  line 1: ! read 0 was to be refused"), "{}", ran.out);
}

#[test]
fn the_disk_has_an_end_and_a_holder() {
    let long = "x".repeat(600);
    let ran = run(&format!(
        "! read 65536\n! read 18446744073709551615 2\n! read 0 2049\n! write 65536 x\n! write 65535 {long}\nread 65535\n\
        echo ee300000.sata > /sys/bus/platform/drivers/sata_rcar/unbind\n! read 0\n"
    ));
    let out = ran.good();
    assert!(out.contains("no disk: ee300000.sata is held by nobody"), "{out}");
}

#[test]
fn each_command_has_its_line_in_json() {
    let dir = Dir::new();
    let path = dir.file("a.script", "ls /sys\n\n! cat /nothing\n");
    let out = bindery(["--json", "--script", text(&path)]).good();
    let lines: Vec<Value> = out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let commands: Vec<_> = lines.iter().filter(|l| l["event"] == "command").collect();
    assert_eq!(
        commands.iter().map(|c| (&c["line"], &c["ok"])).collect::<Vec<_>>(),
        [(&1.into(), &true.into()), (&3.into(), &false.into())]
    );
}

#[test]
fn an_empty_script_does_nothing_well() {
    assert!(run("").good().contains("0 commands"));
    assert!(run("# only words\n\n").good().contains("0 commands"));
}
