//! What `bindctl list` takes on a host of 1,000 devices: figures of docs/benchmarks.md.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const NAME: &str = "list";
const DEVICES: usize = 1000;
const RUNS: usize = 40;

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with('-'));
    if words.next().is_some_and(|filter| !NAME.contains(&filter)) {
        return;
    }
    let host = tempfile::tempdir().unwrap();
    make(host.path());
    let mut times: Vec<Duration> = (0..RUNS).map(|_| time(host.path())).collect();
    times.sort();
    println!("bindctl list, {DEVICES} devices: least {:?}, median {:?}", times[0], times[RUNS / 2]);
    println!("bindctl list --json, {DEVICES} devices: peak memory {}", peak(host.path()));
}

fn list(host: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bindctl"));
    command.arg("--root").arg(host).arg("list");
    command
}

fn time(host: &Path) -> Duration {
    let started = Instant::now();
    let done = list(host).stdout(Stdio::null()).status().unwrap();
    assert!(done.success());
    started.elapsed()
}

/// The most memory that the process had in use. It is asked while the process waits for us to read the rest of its output,
/// which is longer than a pipe holds.
fn peak(host: &Path) -> String {
    let mut child = list(host).arg("--json").stdout(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0]).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let length = out.read_to_end(&mut Vec::new()).unwrap();
    assert!(length > 1 << 16 && child.wait().unwrap().success());
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().to_owned()
}

/// A quarter each of disks, network cards, USB controllers and cards without a driver, each in an IOMMU group of its own.
fn make(host: &Path) {
    let file = |path: &str, text: &str| {
        let path = host.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let link = |path: &str, target: &str| {
        // As in sysfs, the text climbs to sys and not beyond.
        let climb = "../".repeat(path.matches('/').count() - 1);
        let target = target.strip_prefix("sys/").unwrap();
        let place = host.join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        symlink(format!("{climb}{target}"), place).unwrap();
    };
    file("sys/class/iommu/dmar0/uevent", "");
    file("proc/self/mountinfo", "23 1 0:22 / /proc rw - proc proc rw\n");
    file("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
    for driver in ["nvme", "tg3", "xhci_hcd", "vfio-pci"] {
        file(&format!("sys/bus/pci/drivers/{driver}/bind"), "");
        file(&format!("sys/bus/pci/drivers/{driver}/unbind"), "");
    }
    for index in 0..DEVICES {
        let name = format!("0000:{:02x}:{:02x}.{}", 1 + index / 64, index % 64 / 4, index % 4);
        let device = format!("sys/devices/pci0000:00/0000:00:01.0/{name}");
        let (class, driver) =
            [("0x010802", Some("nvme")), ("0x020000", Some("tg3")), ("0x0c0330", Some("xhci_hcd")), ("0x020000", None)]
                [index % 4];
        for (attribute, text) in [
            ("vendor", "0x8086\n"),
            ("device", "0x0a54\n"),
            ("class", class),
            ("driver_override", "(null)\n"),
            ("modalias", "pci:v00008086d00000A54\n"),
            ("reset_method", "flr\n"),
            ("power/control", "auto\n"),
        ] {
            file(&format!("{device}/{attribute}"), text);
        }
        link(&format!("{device}/subsystem"), "sys/bus/pci");
        link(&format!("sys/bus/pci/devices/{name}"), &device);
        if let Some(driver) = driver {
            link(&format!("{device}/driver"), &format!("sys/bus/pci/drivers/{driver}"));
            link(&format!("sys/bus/pci/drivers/{driver}/{name}"), &device);
        }
        let group = format!("sys/kernel/iommu_groups/{index}");
        file(&format!("{group}/type"), "DMA-FQ\n");
        file(&format!("{group}/reserved_regions"), "0x00000000fee00000 0x00000000feefffff msi\n");
        link(&format!("{group}/devices/{name}"), &device);
        link(&format!("{device}/iommu_group"), &group);
        match driver {
            Some("nvme") => {
                let controller = format!("{device}/nvme/nvme{index}");
                let disk = format!("{controller}/nvme{index}n1");
                file(&format!("{controller}/dev"), &format!("240:{index}\n"));
                file(&format!("{controller}/serial"), &format!("S{index}\n"));
                link(&format!("{controller}/subsystem"), "sys/class/nvme");
                file(&format!("{disk}/dev"), &format!("259:{index}\n"));
                fs::create_dir_all(host.join(&disk).join("holders")).unwrap();
                link(&format!("{disk}/subsystem"), "sys/class/block");
                link(&format!("sys/class/block/nvme{index}n1"), &disk);
                link(&format!("sys/block/nvme{index}n1"), &disk);
            }
            Some("tg3") => {
                let interface = format!("{device}/net/eth{index}");
                file(&format!("{interface}/address"), "02:00:00:00:00:01\n");
                file(&format!("{interface}/flags"), "0x1002\n");
                link(&format!("{interface}/subsystem"), "sys/class/net");
                link(&format!("sys/class/net/eth{index}"), &interface);
            }
            _ => {}
        }
    }
}
