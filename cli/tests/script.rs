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
fn a_script_unbinds_and_binds() {
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
    assert!(out.contains("6 commands") && out.contains("No promise was broken"), "{out}");
}

#[test]
fn cat_prints_the_tabs_of_a_file() {
    let out = run("cat /sys/kernel/bindery/claims\n").good();
    assert!(!out.contains('\u{fffd}') && out.lines().any(|line| line.matches('\t').count() == 2), "{out}");
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
fn a_write_that_is_refused_leaves_the_medium_alone() {
    let dir = Dir::new();
    let image = dir.image("disk.img", 16);
    let unbind = "echo $controller > /sys/bus/platform/drivers/sata_rcar/unbind\n";
    let give = "echo vfio-platform > /sys/bus/platform/devices/$controller/driver_override\n\
        echo $controller > /sys/bus/platform/drivers_probe\n";
    for before in [String::from(unbind), format!("{unbind}{give}"), format!("{unbind}{give}guest start cooperative\n")]
    {
        let written = if before.contains("guest") { "" } else { "! guest write 4 hello\n! guest fill 5 2 guest\n" };
        let script = dir.file("a.script", format!("{before}! write 3 hello\n! fill 7 2 host\n{written}"));
        bindery(["--script", text(&script), "--disk", text(&image)]).good();
        assert!(std::fs::read(&image).unwrap().iter().all(|b| *b == 0), "{before}");
    }
}

/// The board's disk fails because the host's does: that is bad input, and no fault of the board.
#[cfg(target_os = "linux")]
#[test]
fn an_image_that_the_host_cannot_write_ends_the_run() {
    let dir = Dir::new();
    let image = dir.image("disk.img", 4096);
    for side in ["", "image "] {
        let script = dir.file("a.script", format!("{side}write 0 hello\n{side}write 4000 hello\n"));
        let command = "ulimit -f 1; trap '' XFSZ; exec \"$0\" --script \"$1\" --disk \"$2\"";
        let args = ["-c", command, env!("CARGO_BIN_EXE_bindery"), text(&script), text(&image)];
        let ran = Ran::of(&std::process::Command::new("sh").args(args).output().unwrap());
        let out = ran.refused(&["cannot write", "disk.img: File too large"]);
        assert!(out.contains("1 sector written"), "{out}");
    }
}

#[test]
fn a_syntax_error_is_named_and_nothing_is_run() {
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
fn an_error_is_printed_as_a_shell_would_and_the_rest_is_run() {
    let ran = run("echo none > /sys/bus/platform/drivers/sata_rcar/bind\ncat /sys/nothing\nread 0\n");
    assert_eq!((ran.code, ran.err.as_str()), (1, ""));
    assert!(ran.out.contains("echo: /sys/bus/platform/drivers/sata_rcar/bind: No such device"), "{}", ran.out);
    assert!(ran.out.contains("cat: /sys/nothing: No such file or directory"), "{}", ran.out);
    assert!(ran.out.contains("00000000: "), "{}", ran.out);
}

#[test]
fn a_command_that_must_fail_and_does_not_is_a_failure() {
    let ran = run("! read 0\n");
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("FAILED  line 1: ! read 0 was to be refused"), "{}", ran.out);
}

#[test]
fn the_disk_has_an_end_and_a_holder() {
    let long = "x".repeat(600);
    let ran = run(&format!(
        "! read 65536\n! read 18446744073709551615 2\n! write 65536 x\n! write 65535 {long}\nread 65535\n\
        echo ee300000.sata > /sys/bus/platform/drivers/sata_rcar/unbind\n! read 0\n"
    ));
    let out = ran.good();
    assert!(out.contains("no disk: ee300000.sata is not bound"), "{out}");
    run("! read 0 2049\n").refused(&["a.script:1: 2049 sectors are more than 2048"]);
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
fn an_empty_script_succeeds() {
    assert!(run("").good().contains("0 commands"));
    assert!(run("# only a comment\n\n").good().contains("0 commands"));
}

/// Each expectation on a machine where it does not hold: a failure with its line and with what is so instead. `wake-ups`,
/// `translation` and the order of `ledger` fail in `check.rs`, with events that no machine makes.
#[test]
fn every_expectation_can_fail() {
    let unbind = "echo $controller > /sys/bus/platform/drivers/sata_rcar/unbind\n";
    let off = "echo vfio-platform > /sys/bus/platform/devices/$controller/driver_override\n\
        echo $controller > /sys/bus/platform/drivers_probe\nguest start cooperative\n";
    for (script, line, seen) in [
        (String::from("expect driver none\n"), 1, ": ee300000.sata is bound to sata_rcar"),
        ("expect driver vfio-platform\n".into(), 1, ": ee300000.sata is bound to sata_rcar"),
        (format!("{unbind}expect driver sata_rcar\n"), 2, "is not bound"),
        ("expect was-bound vfio-platform\n".into(), 1, "was never bound to vfio-platform"),
        ("expect guest\n".into(), 1, "no guest runs"),
        (format!("{unbind}{off}expect guest asked\n"), 5, "it was not"),
        (format!("{unbind}{off}expect guest released\n"), 5, "it still has it"),
        (format!("{unbind}{off}expect dma-blocked\n"), 5, "had no DMA memory"),
        (format!("{unbind}{off}cat /sys/none\n"), 5, "No such file"),
        (format!("{unbind}{off}! echo 0 > /sys/none\nexpect dma-blocked\n"), 6, "it arrives"),
        ("settle\nexpect unmapped\n".into(), 2, "0 streaming buffers"),
        ("expect image reads 0 1 host\n".into(), 1, "first difference at byte 0"),
        ("expect reads 0 1 host\n".into(), 1, "first difference at byte 0"),
        ("fill 0 2 host\nexpect reads 0 2 other\n".into(), 2, "first difference at byte"),
        ("expect reads $end 1\n".into(), 1, "line 1"),
        ("expect guest reads 0 1\n".into(), 1, "no guest runs"),
        ("expect ledger\n".into(), 1, "there was no echo before"),
        ("! echo a > /sys/none\nexpect ledger\n".into(), 2, "instead of"),
        ("! echo a > /sys/none\nexpect stale\n".into(), 2, "Some(Ok("),
        ("expect pristine\n".into(), 1, "instead of"),
        (format!("{unbind}expect event bound\n"), 2, "it caused: "),
        ("ls /sys\nexpect output nothing\n".into(), 2, "it printed"),
        ("! guest stop\n".into(), 1, "was to be refused"),
    ] {
        let ran = run(&script);
        assert_eq!((ran.code, ran.err.as_str()), (1, ""), "{script}{}", ran.out);
        let failed = ran.out.lines().find(|l| l.contains("FAILED  ")).unwrap_or_else(|| panic!("{script}{}", ran.out));
        assert!(failed.contains(&format!("line {line}: ")) && failed.contains(seen), "{script}{failed}");
    }
}

/// A missing requirement, or a command with `?` that fails, ends its step and no other.
#[test]
fn what_is_required_and_missing_skips_the_rest_of_its_step_only() {
    let out = run("\
step one First
require guest
! settle
step two Second
? echo none > /sys/bus/platform/drivers/sata_rcar/bind
! settle
step three Third
if guest
  ! settle
else
  note no guest
end
@drivers add
@settle
expect driver sata_rcar
")
    .good();
    assert_eq!(out.matches("not possible here").count(), 2, "{out}");
    assert!(out.contains("not possible here: no guest runs") && out.contains("no guest\n"), "{out}");
    assert!(out.contains("not possible here: echo: ") && out.contains("No such file or directory"), "{out}");
    assert!(out.contains("ok  ee300000.sata is bound to sata_rcar") && !out.contains("bound to ipmmu-vmsa"), "{out}");
}

#[test]
fn variables_stand_for_the_disk_controller_and_sectors_of_the_disk() {
    let out = run("! read $end\nfill $host_sectors a\nexpect image reads $host_sectors a\necho $5 > /sys/none\n").out;
    assert!(out.contains("$ ! read 65536\n") && out.contains("$ fill 65392 72 a\n"), "{out}");
    assert!(out.contains("ok  the image holds the pattern \"a\" in sectors 65392 to 65463"), "{out}");
    assert!(out.contains("$ echo $5 > /sys/none"), "other words stay: {out}");
}
