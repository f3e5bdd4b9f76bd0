//! `bindery run` and `bindery tree` on QEMU's machines. What needs QEMU runs by `cargo xtask qtest`.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Dir, Ran, bindery, command, text};
use serde_json::Value;

/// The lines of JSON that `bindery run` prints with `args`.
fn lines(args: &[&str]) -> Vec<Value> {
    let out = bindery([&["run", "--json"], args].concat()).good();
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The main job with one `edu` is done, and its events are those of the simulated board.
fn the_main_job(machine: &str) {
    let out = bindery(["run", "--qemu", machine]).good();
    for part in [
        &format!("QEMU's machine {machine}"),
        "bound to edu",
        "DMA coherent: ",
        "the host reads the pattern \"host\" in sectors 1 to 3",
        "entries of the ledger went back, newest first",
        "gets an error, not memory",
        "the host reads the pattern \"again\"",
        "the machine uses what it used before the first probe",
        "register accesses",
        "No promise was broken",
    ] {
        // The tree of `virt` has another model.
        assert!(out.contains(part) || part.starts_with("QEMU's") && machine == "virt", "{part:?} is not in: {out}");
    }
    let lines = lines(&["--qemu", machine]);
    let steps: Vec<&str> = lines.iter().filter(|l| l["event"] == "step").map(|l| l["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["machine", "probe", "io", "unbind", "return", "verdict"]);
    let events = |name: &str| lines.iter().filter(|l| l["event"] == name && l["device"] != Value::Null).count();
    assert!(events("bound") >= 3 && events("unbound") >= 3, "{lines:#?}");
    assert_eq!(lines.last().unwrap()["exit"], 0);
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn the_main_job_runs_on_q35() {
    the_main_job("q35");
}

#[test]
#[ignore = "needs qemu-system-aarch64"]
fn the_main_job_runs_on_virt() {
    the_main_job("virt");
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn each_of_two_devices_is_used_in_turn_and_one_without_a_driver_is_left() {
    let devices =
        ["--device", "edu,addr=5", "--device", "edu,addr=4,dma_mask=0xfffffff", "--device", "nvme,serial=a,addr=6"];
    let lines = lines(&[&["--qemu", "q35"], &devices[..]].concat());
    let used: Vec<&str> = lines
        .iter()
        .filter(|l| l["event"] == "unbound" && l["step"] == "unbind")
        .map(|l| l["device"].as_str().unwrap())
        .collect();
    assert_eq!(used, ["0000:00:04.0", "0000:00:05.0"]);
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn without_a_device_that_a_driver_uses_the_job_says_so() {
    let lines = lines(&["--qemu", "q35", "--device", "nvme,serial=a"]);
    assert_eq!(lines.last().unwrap()["skipped"], serde_json::json!(["io"]));
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn a_mask_that_the_driver_cannot_meet_is_a_failed_probe() {
    let ran = bindery(["run", "--qemu", "q35", "--device", "edu,dma_mask=0xfff"]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    let says = |words: &str| assert!(ran.out.contains(words), "{words:?} is not in: {}", ran.out);
    says("FAILED  line 4: 0000:00:01.0 is bound to edu: 0000:00:01.0 is not bound: it waits for edu was refused: ");
    says("the machine uses what it used before the first probe");
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn a_script_of_the_users_runs_on_qemu() {
    let dir = Dir::new();
    let script =
        dir.file("s", "device 0000:00:05.0\nfill 0 2 mine\nexpect reads 0 2 mine\n! device nobody\n! image read 0\n");
    let args = ["run", "--qemu", "q35", "--device", "edu,addr=5", "--script", text(&script)];
    let out = bindery(args).good();
    assert!(out.contains("the host reads the pattern \"mine\""), "{out}");
}

#[test]
#[ignore = "needs qemu-system-x86_64 and qemu-system-aarch64"]
fn the_tree_of_each_machine_has_its_functions() {
    for machine in ["q35", "virt"] {
        let devices = [
            "--device",
            "pcie-root-port,id=rp,chassis=1,slot=1,addr=3",
            "--device",
            "edu,bus=rp",
            "--device",
            "nvme,serial=a,addr=6",
        ];
        let args = [&["tree", "--qemu", machine], &devices[..]].concat();
        let facts: Value = serde_json::from_str(&bindery([&args[..], &["--json"]].concat()).good()).unwrap();
        let functions: Vec<&Value> =
            facts["devices"].as_array().unwrap().iter().filter(|d| d["bus"] == "pci").collect();
        let of =
            |vendor, device| functions.iter().find(|f| f["pci"]["vendor"] == vendor && f["pci"]["device"] == device);
        let edu = of(0x1234, 0x11e8).unwrap();
        assert_eq!((&edu["name"], &edu["driver"]), (&"0000:01:00.0".into(), &"edu".into()), "{machine}");
        assert_eq!(edu["registers"][0]["len"], 1 << 20);
        let nvme = of(0x1b36, 0x10).unwrap();
        assert_eq!((&nvme["state"], &nvme["pci"]["class"]), (&"no-driver".into(), &0x01_0802.into()), "{machine}");
        let host = facts["devices"].as_array().unwrap().iter().find(|d| d["driver"] == "pci-host-generic").unwrap();
        assert_eq!(edu["parent"], host["node"]);
        let drawn = bindery(args).good();
        let line = drawn.lines().find(|l| l.contains("─ 0000:01:00.0")).unwrap();
        assert!(line.contains("bound to edu") && line.contains("1234:11e8, class 00ff00"), "{line}");
        if machine == "virt" {
            assert!(drawn.contains(".pl031") && drawn.contains(".pl011"), "{drawn}");
        }
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn a_device_that_qemu_does_not_have_is_refused_in_its_words() {
    for command in ["run", "tree"] {
        let out = bindery([command, "--qemu", "q35", "--device", "frobnicator"])
            .refused(&["'frobnicator' is not a valid device model name", "-device help"]);
        assert_eq!(out, "");
    }
    bindery(["run", "--qemu", "q35", "--device", "edu,colour=red"]).refused(&["colour"]);
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn a_qemu_that_ends_in_the_middle_is_an_error_with_its_last_words() {
    let dir = Dir::new();
    let real = Command::new("sh").args(["-c", "command -v qemu-system-x86_64"]).output().unwrap();
    let real = String::from_utf8(real.stdout).unwrap();
    let stand_in = format!("#!/bin/sh\n{} \"$@\" &\nsleep 2\necho 'qemu: tired' >&2\nkill -9 $!\n", real.trim());
    let program = dir.file("qemu-system-x86_64", stand_in);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let long = dir.file("long", "fill 0 7 a\nexpect reads 0 7 a\n".repeat(20_000));
    let path = format!("{}:{}", text(&dir.path("")), std::env::var("PATH").unwrap());
    let start = Instant::now();
    let args = ["run", "--qemu", "q35", "--quiet", "--script", text(&long)];
    let output = command().env("PATH", path).args(args).output().unwrap();
    Ran::of(&output).refused(&["QEMU has ended while", "its last words: qemu: tired"]);
    assert!(start.elapsed() < Duration::from_mins(1));
}

#[test]
fn a_qemu_that_is_not_there_is_named_with_its_package() {
    for (command_name, machine, package) in
        [("tree", "virt", "qemu-system-arm"), ("run", "virt", "qemu-system-arm"), ("run", "q35", "qemu-system-x86")]
    {
        let output = command().env("PATH", "/nonexistent").args([command_name, "--qemu", machine]).output().unwrap();
        Ran::of(&output).refused(&[package]);
    }
}

#[test]
fn wrong_usage_is_refused() {
    bindery(["tree", "--qemu", "virt", "--dtb", "x"]).refused(&["--dtb"]);
    bindery(["run", "--qemu", "pc"]).refused(&["pc", "q35, virt"]);
    bindery(["run", "--device", "edu"]).refused(&["--qemu"]);
    bindery(["run", "--qemu", "q35", "--board", "virt"]).refused(&["--board"]);
    bindery(["run", "--qemu", "q35", "--disk", "x"]).refused(&["--disk", "QEMU's machine q35 has no disk controller"]);
    bindery(["run", "--board", "virt", "--disk", "x"]).refused(&["--disk", "the board virt has no disk controller"]);
}

#[test]
fn the_main_job_runs_on_the_simulated_board_with_pci() {
    let out = bindery(["run", "--board", "virt"]).good();
    for part in [
        "0000:02:01.0",
        "bound to edu",
        "the host reads the pattern \"host\" in sectors 1 to 3",
        "entries of the ledger went back, newest first",
        "the host reads the pattern \"again\"",
        "the machine uses what it used before the first probe",
        "used as its manual allows, without exception",
        "No promise was broken",
    ] {
        assert!(out.contains(part), "{part:?} is not in: {out}");
    }
    assert!(!out.contains("not possible here"), "{out}");
}

#[test]
fn the_tree_of_the_simulated_board_has_its_functions() {
    let facts: Value = serde_json::from_str(&bindery(["tree", "--board", "virt", "--json"]).good()).unwrap();
    let functions: Vec<&str> = facts["devices"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|d| d["bus"] == "pci")
        .map(|d| d["name"].as_str().unwrap())
        .collect();
    assert_eq!(functions, ["0000:00:00.0", "0000:00:01.0", "0000:01:00.0", "0000:02:01.0"]);
    let drawn = bindery(["tree", "--board", "virt"]).good();
    let edu = drawn.lines().find(|l| l.contains("─ 0000:02:01.0")).unwrap();
    assert!(edu.contains("bound to edu") && edu.contains("1234:11e8, class 00ff00, revision 10"), "{edu}");
}
