//! Fake hosts, and the command on them.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A directory that looks like a host.
pub(crate) struct Host {
    dir: tempfile::TempDir,
}

/// Output and exit code of the command.
pub(crate) struct Said {
    pub(crate) exit: i32,
    pub(crate) json: Value,
    pub(crate) text: String,
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts/fake")
}

impl Host {
    /// The host of `fake/NAME.sh`.
    pub(crate) fn reported(name: &str) -> Self {
        let host = Self { dir: tempfile::tempdir().unwrap() };
        let script = scripts().join(format!("{name}.sh"));
        let done = Command::new("sh").arg(script).arg(host.path()).output().unwrap();
        assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
        host
    }

    /// A host that these lines make, with the functions of `fake/lib.sh`.
    pub(crate) fn made_by(lines: &str) -> Self {
        let host = Self { dir: tempfile::tempdir().unwrap() };
        host.run(&format!("root \"$0\"\n{lines}"));
        host
    }

    /// A host with one NVMe disk at 0000:02:00.0 (path in `$P`, disk in `$N`), and these lines.
    pub(crate) fn with_disk(lines: &str) -> Self {
        Self::made_by(&format!(
            "iommu dmar0; drv pci nvme nvme; drv pci pcieport; vfio_stack; proc 1 systemd
             pci sys/devices/pci0000:00 0000:00:1c.0 060400 8086 a110 1; bind $P pci pcieport; group 3 DMA-FQ $P; RP=$P
             pci $RP 0000:02:00.0 010802 8086 0a54; bind $P pci nvme; group 11 DMA-FQ $P; reset_by $P flr
             nvme $P 0 PHLN9000A1 'Example SSD'; N=$C/nvme0n1; disk $N 259 0
             V=sys/devices/virtual/block
             mount_line '30 1 8:2 / / rw - ext4 /dev/sda2 rw'
             {lines}"
        ))
    }

    /// A host with one network card at 0000:04:00.0 (path in `$P`) that makes eth9, and these lines.
    pub(crate) fn with_card(state: &str, lines: &str) -> Self {
        Self::made_by(&format!(
            "iommu dmar0; drv pci tg3 tg3; drv pci pcieport; vfio_stack; proc 1 systemd
             pci sys/devices/pci0000:00 0000:00:1c.0 060400 8086 a110 1; bind $P pci pcieport; group 3 DMA-FQ $P; RP=$P
             pci $RP 0000:04:00.0 020000 14e4 1657; bind $P pci tg3; group 25 DMA-FQ $P; reset_by $P flr
             net $P eth9 02:00:00:04:00:00 {state}; X=sys/devices/virtual/net
             {lines}"
        ))
    }

    /// Changes the host by more lines. `P` and the other variables of the lines that made it are not known any more.
    pub(crate) fn run(&self, lines: &str) {
        let script = format!("set -e\n. {}/lib.sh\nR=$0\n{lines}\n", scripts().display());
        let done = Command::new("sh").arg("-c").arg(script).arg(self.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Runs the command, once for its text and once for its JSON, and checks that both end alike.
    pub(crate) fn bindctl(&self, line: &str) -> Said {
        let run = |more: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_bindctl"));
            command.args(line.split_whitespace()).arg("--root").arg(self.path()).args(more);
            command.output().unwrap()
        };
        let text = run(&[]);
        let json = run(&["--json"]);
        assert_eq!(text.status.code(), json.status.code(), "{line}");
        let both = String::from_utf8([text.stdout, text.stderr].concat()).unwrap();
        Said {
            exit: text.status.code().unwrap(),
            json: serde_json::from_slice(&json.stdout).unwrap_or(Value::Null),
            text: both,
        }
    }

    /// The plan that gives a device to VFIO.
    pub(crate) fn give(&self, devices: &str) -> Said {
        self.bindctl(&format!("plan --to vfio {devices}"))
    }
}

impl Said {
    /// The command refused with this exit code, and named all of these in text and JSON.
    #[track_caller]
    pub(crate) fn refused(&self, exit: i32, names: &[&str]) -> &Self {
        assert_eq!(self.exit, exit, "{}", self.text);
        assert_eq!(self.json["outcome"], "refused");
        assert_eq!(self.json["steps"].as_array().map(Vec::len), Some(0));
        self.names(names)
    }

    /// The command made a plan with steps of these kinds, in this order.
    #[track_caller]
    pub(crate) fn planned(&self, steps: &[&str]) -> &Self {
        assert_eq!(self.exit, 0, "{}", self.text);
        assert_eq!(self.json["outcome"], "plan", "{}", self.text);
        let done: Vec<String> = self.json["steps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| format!("{} {}", s["device"].as_str().unwrap(), s["do"].as_str().unwrap()))
            .collect();
        assert_eq!(done, steps, "{}", self.text);
        self
    }

    /// All of these stand in the text and in the JSON.
    #[track_caller]
    pub(crate) fn names(&self, names: &[&str]) -> &Self {
        let json = self.json.to_string();
        for name in names {
            assert!(self.text.contains(name), "{name} is missing in:\n{}", self.text);
            let quoted = serde_json::to_string(name).unwrap();
            assert!(json.contains(quoted.trim_matches('"')), "{name} is missing in:\n{json}");
        }
        self
    }

    /// The command ended with this code, and its text has all of these.
    #[track_caller]
    pub(crate) fn names_in_text(&self, names: &[&str], exit: i32) {
        assert_eq!(self.exit, exit, "{}", self.text);
        for name in names {
            assert!(self.text.contains(name), "{name} is missing in:\n{}", self.text);
        }
    }

    #[track_caller]
    pub(crate) fn does_not_name(&self, name: &str) -> &Self {
        assert!(!self.text.contains(name), "{name} stands in:\n{}", self.text);
        self
    }

    /// Actions that undo the plan, in order.
    pub(crate) fn undo(&self) -> Vec<String> {
        let undo = self.json["undo"].as_array().unwrap();
        undo.iter().map(|u| format!("{} {}", u["device"].as_str().unwrap(), u["what"].as_str().unwrap())).collect()
    }
}

/// The steps that give one PCI device to VFIO.
pub(crate) fn give_steps(device: &str) -> Vec<String> {
    ["driver_override", "unbind", "bind", "verify-driver", "verify-node"]
        .iter()
        .map(|s| format!("{device} {s}"))
        .collect()
}

/// The same as borrowed words.
#[track_caller]
pub(crate) fn gives(said: &Said, device: &str) {
    let steps = give_steps(device);
    said.planned(&steps.iter().map(String::as_str).collect::<Vec<_>>());
}
