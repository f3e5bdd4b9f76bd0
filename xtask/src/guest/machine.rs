//! A machine with an IOMMU, and all devices that the tests hand over.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Guest;
use crate::outcome::Trouble;
use crate::tool::output;

/// Time in which a kernel starts its first process, which takes ten seconds, on a busy host too. One that hangs before shows
/// nothing of what the tests are about.
const START: Duration = Duration::from_mins(2);

/// Size of each disk, in bytes.
const DISK: u64 = 64 << 20;

/// The disk that keeps what a boot leaves to the next one.
pub(super) const STATE: &str = "state";

/// Disks: each is a file.
const DISKS: [&str; 6] = ["sata", "nvme", "twin", "shared", "functions", STATE];

/// Devices, at addresses that the tests know (`tests/prelude.sh`).
const DEVICES: [&str; 17] = [
    "ich9-ahci,id=ahci0,addr=3",
    "ide-hd,drive=sata,bus=ahci0.0,serial=DISK0",
    "nvme,drive=nvme,serial=NVME0,addr=4",
    "e1000e,addr=5",
    // Two functions of a slot that is not isolated share a group.
    "e1000,addr=6.0,multifunction=on",
    "e1000,addr=6.1",
    "virtio-blk-pci,drive=state,addr=7",
    "nvme,drive=twin,serial=NVME1,addr=8",
    // One namespace behind two controllers of a subsystem.
    "nvme-subsys,id=subsys0",
    "nvme,id=path0,serial=PATHS,subsys=subsys0,addr=9",
    "nvme,id=path1,serial=PATHS,subsys=subsys0,addr=a",
    "nvme-ns,drive=shared,bus=path0,nsid=1,shared=on",
    // A controller with virtual functions, isolated by its port.
    "pcie-root-port,id=port0,chassis=1,addr=b",
    "nvme-subsys,id=subsys1",
    "nvme,id=pf0,serial=PF0,bus=port0,subsys=subsys1,sriov_max_vfs=2,sriov_vq_flexible=4,sriov_vi_flexible=2",
    "nvme-ns,drive=functions,bus=pf0,nsid=1",
    // No driver of Linux's takes this one.
    "edu,addr=c",
];

impl Guest {
    /// Makes empty disks for boots under this name; the last one has an ext4 file system.
    pub(crate) fn disks(&self, name: &str) -> Result<(), Trouble> {
        for disk in DISKS {
            let path = self.disk(name, disk);
            let failed = |e| Trouble::Broken(format!("{}: {e}", path.display()));
            let _ = fs::remove_file(&path);
            File::create(&path).and_then(|file| file.set_len(DISK)).map_err(failed)?;
        }
        let mut make = Command::new("sh");
        make.arg("-c").arg("PATH=$PATH:/usr/sbin:/sbin mke2fs -q -F -t ext4 \"$0\"").arg(self.disk(name, STATE));
        output(&mut make).map(drop)
    }

    fn disk(&self, name: &str, disk: &str) -> std::path::PathBuf {
        self.folder.join(format!("{name}.{disk}"))
    }

    /// File that the guest's serial console goes to.
    pub(super) fn console(&self, name: &str) -> std::path::PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// Boots the machine with the disks of that name, and returns what it wrote to its serial console, also when it was
    /// stopped after `limit`. `extra` is added to the kernel's command line.
    pub(super) fn boot(&self, name: &str, initrd: &Path, extra: &str, limit: Duration) -> Result<String, Trouble> {
        let console = self.console(name);
        let (emulator, _) = self.arch.emulator();
        let mut machine = Command::new(emulator);
        machine.args(self.arch.machine());
        machine.args(["-m", "1024", "-smp", "2", "-display", "none", "-no-reboot", "-nic", "none"]);
        machine.arg("-serial").arg(format!("file:{}", console.display()));
        machine.arg("-kernel").arg(&self.image).arg("-initrd").arg(initrd);
        machine.arg("-append").arg(format!("{} {extra}", self.arch.command_line()));
        for disk in DISKS {
            let path = self.disk(name, disk);
            machine.arg("-drive").arg(format!("if=none,id={disk},format=raw,file={}", path.display()));
        }
        for device in DEVICES {
            machine.args(["-device", device]);
        }
        let broken = |e: std::io::Error| Trouble::Broken(format!("{emulator}: {e}"));
        let errors = self.folder.join(format!("{name}.qemu"));
        let said = File::create(&errors).map_err(broken)?;
        let quiet = machine.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let mut running = quiet.spawn().map_err(broken)?;
        let started = Instant::now();
        let status = loop {
            match running.try_wait().map_err(broken)? {
                Some(status) => break Some(status),
                None if started.elapsed() < limit && (started.elapsed() < START || has_begun(&console)) => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                None => {
                    let _ = running.kill();
                    let _ = running.wait();
                    break None;
                }
            }
        };
        if status.is_some_and(|status| !status.success()) {
            let why = fs::read_to_string(&errors).unwrap_or_default();
            return Err(Trouble::Broken(format!("{emulator} did not run: {}", why.trim())));
        }
        let mut bytes = Vec::new();
        File::open(&console).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(broken)?;
        let mut said = String::from_utf8_lossy(&bytes).replace('\r', "");
        if status.is_none() {
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing").to_owned();
            let _ = write!(
                said,
                "\nGUEST: failed: stopped after {} s; it printed last: {last}\n",
                started.elapsed().as_secs()
            );
        }
        Ok(said)
    }
}

/// True when the guest's first process runs: it has begun a test, or said why not.
pub(super) fn has_begun(console: &Path) -> bool {
    fs::read(console).is_ok_and(|said| {
        said.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"## ") || line.starts_with(b"GUEST: "))
    })
}
