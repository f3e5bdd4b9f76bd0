//! Words, files and directories that make no sense.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::common::{Host, gives};

#[test]
fn names_that_cannot_be_a_device_are_usage_errors() {
    let host = Host::with_disk("");
    for word in ["../../etc", "/etc/passwd", "colour=red", "0000:99:00.0", "/sys/../etc"] {
        let said = host.give(word);
        assert_eq!(said.exit, 2, "{word}: {}", said.text);
        assert!(!said.text.is_empty());
    }
    assert_eq!(host.give("02:00.0 0000:02:00.0").exit, 2, "named twice");
    assert_eq!(host.bindctl("plan --to a/b 02:00.0").exit, 2);
}

#[test]
fn a_name_with_a_newline_does_not_reach_the_terminal() {
    let host = Host::with_disk("");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bindctl"));
    let done = command.args(["show", "a\n\u{1b}[2Jb", "--root"]).arg(host.path()).output().unwrap();
    assert_eq!(done.status.code(), Some(2));
    assert!(!String::from_utf8(done.stderr).unwrap().contains('\u{1b}'));
}

#[test]
fn a_root_that_is_no_host_is_told() {
    let dir = tempfile::tempdir().unwrap();
    for root in [dir.path().to_path_buf(), dir.path().join("nothing")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bindctl"));
        let done = command.args(["list", "--root"]).arg(&root).output().unwrap();
        assert_eq!(done.status.code(), Some(2));
        assert!(String::from_utf8(done.stderr).unwrap().contains(&root.display().to_string()));
    }
}

#[test]
fn a_link_that_leads_out_is_told_and_not_followed() {
    let host = Host::with_disk("");
    symlink("/sys/devices", host.path().join("sys/bus/pci/devices/0000:66:00.0")).unwrap();
    symlink("../../../../../../../etc", host.path().join("sys/bus/pci/devices/0000:67:00.0")).unwrap();
    let said = host.bindctl("list");
    assert!(said.text.contains("0000:66:00.0 leads out"), "{}", said.text);
    assert!(said.text.contains("0000:67:00.0 leads out"), "{}", said.text);
    gives(&host.give("02:00.0"), "0000:02:00.0");
}

#[test]
fn a_pipe_among_the_files_does_not_block() {
    let host = Host::with_disk("rm $R/proc/swaps; mkfifo $R/proc/swaps; rm $R/$P/vendor; mkfifo $R/$P/vendor");
    assert_eq!(host.give("0000:02:00.0").exit, 0);
}

#[test]
fn a_host_without_the_expected_files_is_not_a_panic() {
    let host = Host::with_disk("");
    for missing in ["proc", "sys/kernel", "sys/class", "sys/bus/pci/drivers", "run", "dev"] {
        let _ = std::fs::remove_dir_all(host.path().join(missing));
        for line in ["list", "list --all", "show 0000:02:00.0", "plan --to vfio 0000:02:00.0", "plan --to host 02:00.0"]
        {
            let said = host.bindctl(line);
            assert!((0..=5).contains(&said.exit), "{line}: {}", said.text);
        }
    }
}
