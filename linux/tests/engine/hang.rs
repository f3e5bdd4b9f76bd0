//! An unbind that waits for whoever holds the device.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bindery_linux::engine::Ended;
use bindery_linux::face::{Face, FaceError, Host};
use bindery_linux::state::{Lock, Recovered};

use crate::kernel::Fault;
use crate::scenario::all;

const DISK: &str = "0000:5e:00.0";

#[test]
fn a_device_whose_unbind_hangs_is_left_alone_until_it_ends() {
    let disk = all().remove(0);
    let run = disk.start();
    let before = run.kernel.state();
    // The second write is the unbind.
    run.kernel.faults.borrow_mut().insert(1, Fault::Hang);
    let ended = disk.give(&run);
    assert!(matches!(ended, Ended::TimedOut { helper: Some(4711), .. }), "{ended:?}");
    assert_eq!(run.kernel.writes.get(), 2, "nothing more is written");

    // The helper that waits keeps the lock.
    let helper = run.store.lock(DISK, "unbind").unwrap();
    let outcomes = run.recover();
    assert!(matches!(&outcomes[..], [Recovered::Busy(who)] if who.contains("unbind")), "{outcomes:?}");
    assert_eq!(run.kernel.writes.get(), 2);

    run.kernel.unbind(DISK, "nvme").unwrap();
    drop(helper);
    assert_eq!(run.recover(), [Recovered::Undone]);
    assert_eq!(run.kernel.state(), before);
}

/// A program that does not answer, and ends when its file is removed.
fn late_program(dir: &tempfile::TempDir) -> PathBuf {
    let program = dir.path().join("late");
    if !program.exists() {
        fs::write(&program, "#!/bin/sh\nwhile [ -e \"$0\" ]; do sleep 0.05; done\n").unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    }
    program
}

/// Ends the helpers that did not come back in time.
fn end_late(dir: &tempfile::TempDir) {
    fs::remove_file(dir.path().join("late")).unwrap();
}

/// A host with a helper that does not come back in time.
fn late(dir: &tempfile::TempDir) -> Host {
    Host::open().unwrap().with_noted_helper(late_program(dir), vec![dir.path().join("notes")])
}

#[test]
fn a_late_helper_is_left_behind_with_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let host = late(&dir);
    let lock = Lock::take(dir.path(), "group 7", "give").unwrap();
    let other = Lock::take(dir.path(), "group 8", "give").unwrap();
    let copies = [lock.copy().unwrap(), other.copy().unwrap()];
    let answer = host.write_within("/dev/null", b"x", Duration::from_millis(100), &copies);
    assert!(matches!(answer, Err(FaceError::Late { helper: Some(_), .. })), "{answer:?}");
    drop((lock, other, copies));
    assert!(Lock::take(dir.path(), "group 7", "take").is_err(), "the helper has it");
    assert!(Lock::take(dir.path(), "group 8", "take").is_err(), "and all others of the plan");
    end_late(&dir);
    let started = Instant::now();
    while Lock::take(dir.path(), "group 7", "take").is_err() {
        assert!(started.elapsed() < Duration::from_mins(1));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_late_read_is_told_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let answer = late(&dir).read_within("/proc/version", Duration::from_millis(50));
    assert!(matches!(&answer, Err(error @ FaceError::Late { .. }) if error.to_string().contains("under way")));
}

#[test]
fn one_reader_waits_for_a_device_however_often_it_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    // Without notes, as where none can be written.
    let host = Host::open().unwrap().with_helper(late_program(&dir));
    let helper = |path: &str| match host.read_within(path, Duration::from_millis(20)) {
        Err(FaceError::Late { helper: Some(pid), .. }) => pid,
        other => panic!("{path}: {other:?}"),
    };
    let first = helper("/sys/devices/a/driver_override");
    assert_eq!(helper("/sys/devices/a/driver_override"), first);
    assert_eq!(helper("/sys/devices/a/vpd"), first, "another attribute of the same device");
    assert_ne!(helper("/sys/devices/b/driver_override"), first, "another device is asked");
}

#[test]
fn a_later_command_leaves_no_further_reader_for_a_device() {
    let dir = tempfile::tempdir().unwrap();
    let wait = Duration::from_millis(20);
    let ask = |path: &str| late(&dir).read_within(path, wait);
    let Err(FaceError::Late { helper: Some(first), .. }) = ask("/sys/devices/a/driver_override") else { panic!() };
    for path in ["/sys/devices/a/driver_override", "/sys/devices/a/sriov_numvfs"] {
        let answer = ask(path);
        assert!(matches!(&answer, Err(FaceError::Late { helper, .. }) if *helper == Some(first)), "{path}: {answer:?}");
    }
    assert!(
        matches!(ask("/sys/devices/b/driver_override"), Err(FaceError::Late { helper, .. }) if helper != Some(first))
    );
    end_late(&dir);
    let program = env!("CARGO_BIN_EXE_bindctl");
    let later = Host::open().unwrap().with_noted_helper(program, vec![dir.path().join("notes")]);
    let started = Instant::now();
    loop {
        match later.read_within("/sys/devices/a/driver_override", Duration::from_secs(30)) {
            Err(FaceError::Late { .. }) if started.elapsed() < Duration::from_mins(1) => {
                std::thread::sleep(Duration::from_millis(50));
            }
            answer => break assert!(answer.unwrap_err().is_absent()),
        }
    }
}

#[test]
fn a_lock_is_not_kept_once_the_write_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::open().unwrap().with_helper(env!("CARGO_BIN_EXE_bindctl"));
    let lock = Lock::take(dir.path(), "group 7", "give").unwrap();
    host.write_within("/dev/null", b"x", Duration::from_secs(30), &[lock.copy().unwrap()]).unwrap();
    drop(lock);
    Lock::take(dir.path(), "group 7", "take").unwrap();
}

#[test]
fn readers_end_with_whom_they_read_for() {
    let host = Host::open().unwrap().with_helper(env!("CARGO_BIN_EXE_bindctl"));
    let wait = Duration::from_secs(30);
    let parent = || {
        let text = host.read_within("/proc/self/stat", wait).unwrap();
        String::from_utf8(text).unwrap().split(' ').next().unwrap().to_owned()
    };
    let reader = parent();
    assert_eq!(parent(), reader, "one process answers all");
    assert!(host.read_within("/sys/no\nsuch", wait).is_err(), "a name with a newline is no request");
    drop(host);
    assert!(!Path::new("/proc").join(reader).exists());
}

#[test]
fn a_helper_that_is_this_program_reads_and_writes() {
    let host = Host::open().unwrap().with_helper(env!("CARGO_BIN_EXE_bindctl"));
    let wait = Duration::from_secs(30);
    assert_eq!(host.read_within("/proc/version", wait).unwrap(), host.read("/proc/version").unwrap());
    let missing = host.read_within("/proc/nothing", wait).unwrap_err();
    assert!(missing.is_absent(), "{missing}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("attribute");
    fs::write(&file, "").unwrap();
    host.write_within(file.to_str().unwrap(), b"0000:02:00.0", wait, &[]).unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"0000:02:00.0");
}
