//! Commands that only look, on a host where an unbind hangs.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use clap::Parser;

use super::args::Cli;
use super::run::Host;
use super::{list, report, show, status};
use crate::face::{Directory, Entry, Face, FaceError, Kind, Node, Result};
use crate::path;

/// Attributes that wait for a lock which an unbind or a probe holds, on one kernel or another.
const LOCKED: [&str; 5] = ["driver_override", "sriov_numvfs", "state_synced", "config", "vpd"];

/// A host whose locked attributes never answer. A plain read of one would wait without end, and fails the test.
struct Hanging {
    host: Directory,
}

fn is_locked(path: &str) -> bool {
    path::within(path, "/sys/devices") && LOCKED.contains(&path::name(path))
}

impl Face for Hanging {
    fn read(&self, path: &str) -> Result<Vec<u8>> {
        assert!(!is_locked(path), "{path} is read without a deadline");
        self.host.read(path)
    }

    fn read_within(&self, path: &str, after: Duration) -> Result<Vec<u8>> {
        if !is_locked(path) {
            return self.host.read(path);
        }
        Err(FaceError::Late { path: path.into(), after, helper: None })
    }

    fn write(&self, path: &str, _: &[u8]) -> Result<()> {
        panic!("{path} is written");
    }

    fn write_within(&self, path: &str, value: &[u8], _: Duration, _: &[File]) -> Result<()> {
        self.write(path, value)
    }

    fn load_module(&self, name: &str) -> Result<()> {
        self.host.load_module(name)
    }

    fn own(&self, path: &str, node: Node, user: u32, group: u32) -> Result<()> {
        self.host.own(path, node, user, group)
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>> {
        self.host.list(path)
    }

    fn link(&self, path: &str) -> Result<String> {
        self.host.link(path)
    }

    fn kind(&self, path: &str) -> Result<Kind> {
        self.host.kind(path)
    }

    fn open_node(&self, pid: u32, fd: u32, text: &str) -> Option<Node> {
        self.host.open_node(pid, fd, text)
    }

    fn owner(&self, path: &str) -> Result<(u32, u32)> {
        self.host.owner(path)
    }

    fn claimed(&self, _: &str, _: Node) -> Option<bool> {
        None
    }

    fn has_kernel(&self) -> bool {
        false
    }
}

#[test]
fn commands_that_only_look_do_not_hang_with_an_unbind() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts/fake/12-pf-with-live-vfs.sh");
    let made = std::process::Command::new("sh").arg(fake).arg(dir.path()).status().unwrap();
    assert!(made.success());
    let device = dir.path().join("sys/bus/pci/devices/0000:17:00.0");
    for file in ["vpd", "state_synced"] {
        std::fs::write(device.join(file), "x").unwrap();
    }
    let face = Hanging { host: Directory::open(dir.path()).unwrap() };
    let host = Host::of(Box::new(face));
    let root = dir.path().display().to_string();
    let cli = Cli::parse_from(["bindctl", "--root", &root, "report", "0000:17:00.0"]);
    list::run(&host, true, false).unwrap();
    status::status(&cli, &host, None).unwrap();
    let shown = show::lines(&host, host.select("0000:17:00.0").unwrap());
    assert!(shown.iter().any(|line| line.contains("was not answered within")), "what was not read is said: {shown:?}");
    for unknown in ["override    not read", "product     not read"] {
        assert!(shown.iter().any(|line| line.contains(unknown)), "{unknown}: {shown:?}");
    }
    let out = dir.path().join("report");
    report::run(&cli, &host, "0000:17:00.0", Some(&out)).unwrap();
    let text = std::fs::read_to_string(out).unwrap();
    for name in LOCKED.into_iter().filter(|name| *name != "vpd") {
        assert!(text.contains(&format!("{name}: not read")), "{name} in:\n{text}");
    }
}
