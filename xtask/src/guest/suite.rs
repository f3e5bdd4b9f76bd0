//! The tests, and the boots that they share.

use std::fmt::Write;
use std::fs;

use super::Arch;
use crate::outcome::Trouble;
use crate::tool::root;

/// Script that every boot begins with.
const PRELUDE: &str = "prelude";

/// Modules that the tests load, with what those need.
pub(super) const MODULES: &[&str] = &[
    "scsi-common",
    "scsi-mod",
    "libata",
    "libahci",
    "ahci",
    "crct10dif-common",
    "crc-t10dif",
    "crc64",
    "crc64-rocksoft",
    "t10-pi",
    "sd-mod",
    "irqbypass",
    "vfio-virqfd",
    "vfio",
    "vfio-iommu-type1",
    "iommufd",
    "vfio-pci-core",
    "vfio-pci",
    "nvme-keyring",
    "nvme-auth",
    "nvme-common",
    "nvme-core",
    "nvme",
    "e1000e",
    "e1000",
    "virtio",
    "virtio-ring",
    "virtio-pci",
    "virtio-pci-legacy-dev",
    "virtio-pci-modern-dev",
    "virtio-blk",
    "ext4",
    "jbd2",
    "mbcache",
    "crc16",
    "crc32c-generic",
    "libcrc32c",
];

/// Tests that share a boot, or a chain of boots.
#[derive(Clone)]
pub(super) struct Boot<Tests = Vec<&'static str>> {
    /// Its name.
    pub(super) name: &'static str,
    /// Added to the kernel's command line.
    pub(super) command_line: &'static str,
    /// Architectures that it runs on.
    arches: &'static [Arch],
    /// Runs only when it is named.
    by_name: bool,
    /// Scripts in `tests`, in order. Each leaves the devices as it found them.
    pub(super) tests: Tests,
}

/// All boots.
pub(super) const BOOTS: [Boot<&[&str]>; 9] = [
    Boot {
        name: "hand-over",
        // A graphics mode, so that the console draws on a framebuffer.
        command_line: "vga=791",
        arches: &Arch::ALL,
        by_name: false,
        // `apply` comes before the drivers are loaded; what is left of the swap space in `matrix` comes last.
        tests: &[
            "apply",
            "disk",
            "nvme",
            "network",
            "group",
            "twins",
            "multipath",
            "functions",
            "framebuffer",
            "state",
            "hang",
            "kill",
            "matrix",
        ],
    },
    Boot { name: "chain", command_line: "", arches: &Arch::ALL, by_name: false, tests: &["reboot", "root"] },
    Boot { name: "watch", command_line: "", arches: &Arch::ALL, by_name: false, tests: &["watch"] },
    // The drivers of the devices are not loaded when it begins; a crash may end it.
    Boot {
        name: "audit",
        command_line: "",
        arches: &[Arch::X86],
        by_name: false,
        tests: &["audit-handover", "audit-recorder", "audit-late"],
    },
    Boot { name: "planted", command_line: "", arches: &[Arch::X86], by_name: false, tests: &["audit-planted"] },
    Boot {
        name: "audit-arm",
        command_line: "",
        arches: &[Arch::Arm],
        by_name: false,
        tests: &["audit-handover", "audit-late"],
    },
    Boot { name: "planted-arm", command_line: "", arches: &[Arch::Arm], by_name: false, tests: &["audit-planted"] },
    // It does nothing that differs between architectures, and takes a minute.
    Boot { name: "recorder-arm", command_line: "", arches: &[Arch::Arm], by_name: true, tests: &["audit-recorder"] },
    Boot { name: "speed", command_line: "", arches: &Arch::ALL, by_name: true, tests: &["speed"] },
];

impl Boot<&[&'static str]> {
    /// The boot with the tests that are wanted, on this architecture.
    pub(super) fn only(&self, wanted: &[String], arch: Arch) -> Option<Boot> {
        let named = |name: &&&str| wanted.iter().any(|w| w == **name);
        let tests: Vec<&'static str> = match wanted {
            [] if self.by_name => Vec::new(),
            [] => self.tests.to_vec(),
            _ => self.tests.iter().filter(named).copied().collect(),
        };
        let Self { name, command_line, arches, by_name, .. } = *self;
        (arches.contains(&arch) && !tests.is_empty()).then_some(Boot { name, command_line, arches, by_name, tests })
    }
}

impl Boot {
    /// True when a test of it needs the module with bugs on purpose.
    pub(super) fn is_planted(&self) -> bool {
        self.tests.iter().any(|name| ["audit-late", "audit-planted"].contains(name))
    }

    /// The guest's first process.
    pub(super) fn script(&self) -> Result<String, Trouble> {
        let mut script = read(PRELUDE)?;
        for name in &self.tests {
            let body = read(name)?;
            let _ = write!(script, "\nbegin {name}\n{body}\npassed {name}\n");
        }
        Ok(script + "\nfinish all\n")
    }
}

fn read(name: &str) -> Result<String, Trouble> {
    let path = root().join("xtask/src/guest/tests").join(name).with_extension("sh");
    fs::read_to_string(&path).map_err(|e| Trouble::Broken(format!("{}: {e}", path.display())))
}
