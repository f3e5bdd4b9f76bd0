//! What becomes of a QEMU that is not there, refuses, ends or hangs.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use bindery_qtest::{Error, Machine, Options, Qemu, QemuEnv};
use serde_json::json;

/// Starts a shell script in place of QEMU, and waits for it so long.
fn script(text: &str, within: Duration) -> Result<Qemu, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("qemu");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let options = Options::new(Machine::Q35).program(path.to_str().unwrap());
    Qemu::start(&options.answers_within(within))
}

#[test]
fn a_program_that_is_not_there_is_named_with_its_package() {
    let error = Qemu::start(&Options::new(Machine::Virt).program("/nonexistent/qemu")).unwrap_err().to_string();
    assert!(error.starts_with("qemu-system-aarch64: ") && error.ends_with("the package qemu-system-arm"), "{error}");
}

#[test]
fn one_that_ends_at_once_is_told_with_its_last_words() {
    let error = script("echo 'no such machine' >&2; exit 1", Duration::from_mins(1)).unwrap_err();
    assert_eq!(error.to_string(), "QEMU has ended while it was started; its last words: no such machine");
}

#[test]
fn one_that_never_connects_is_ended() {
    // Enough for a busy host to start it and let it speak.
    let error = script("echo busy >&2; exec sleep 60", Duration::from_secs(5)).unwrap_err();
    assert_eq!(error.to_string(), "QEMU did not answer within 5s while it was started; its last words: busy");
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn a_device_that_qemu_does_not_have_is_refused_in_its_words() {
    let error = Qemu::start(&Options::new(Machine::Q35).device("frobnicator")).unwrap_err().to_string();
    assert!(error.contains("'frobnicator' is not a valid device model name"), "{error}");
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn commands_that_are_refused_and_a_process_that_ends_are_errors() {
    let mut qemu = Qemu::start(&Options::new(Machine::Q35)).unwrap();
    assert!(matches!(qemu.qtest("frobnicate"), Err(Error::Refused { .. })));
    assert!(matches!(qemu.monitor("frobnicate", &json!({})), Err(Error::Refused { .. })));
    assert_eq!(qemu.memory(0xffff_fff0, 4).unwrap(), [0xfa, 0xf4, 0xeb, 0xfd]);
    qemu.monitor("quit", &json!({})).unwrap();
    let error = (0..100).find_map(|_| qemu.qtest("readl 0x0").err()).unwrap();
    assert!(matches!(error, Error::Ended { .. }), "{error}");
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn a_monitor_that_hangs_is_asked_once() {
    let options = Options::new(Machine::Q35).answers_within(Duration::from_secs(15));
    let env = QemuEnv::start(&options).unwrap();
    let refused = env.monitor("frobnicate", &json!({})).unwrap_err();
    assert!(matches!(refused, Error::Refused { .. }) && env.error().is_none(), "{refused}");
    let text = format!("{env:?}");
    let (_, process) = text.split_once("process ").unwrap();
    let process = process.split(',').next().unwrap();
    assert!(Command::new("kill").args(["-STOP", process]).status().unwrap().success());
    let error = env.monitor("query-status", &json!({})).unwrap_err();
    assert!(matches!(error, Error::Hangs { .. }), "{error}");
    assert_eq!(env.error(), Some(error.to_string()));
    let start = Instant::now();
    let error = env.monitor("query-status", &json!({})).unwrap_err();
    assert!(matches!(error, Error::Failed { .. }) && error.to_string().contains("within 15s"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10), "it is asked nothing more");
}
