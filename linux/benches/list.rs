//! Time and memory of `bindctl list` on a host of 1,000 devices: figures of docs/benchmarks.md.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

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
    let mut times: Vec<Times> = (0..RUNS).map(|_| time(host.path())).collect();
    let mut walks: Vec<Duration> = (0..RUNS).map(|_| walk(host.path())).collect();
    walks.sort();
    times.sort_by_key(|time| time.elapsed);
    let (elapsed, median) = (times[0].elapsed, times[RUNS / 2].elapsed);
    println!("bindctl list, {DEVICES} devices: least {elapsed:?}, median {median:?}");
    times.sort_by_key(|time| time.cpu);
    let (cpu, walk) = (times[0].cpu, walks[0]);
    let ratio = cpu.as_secs_f64() / walk.as_secs_f64();
    println!("time on a processor: least {cpu:?}; listing all directories takes {walk:?}, ratio {ratio:.2}");
    println!("bindctl list --json, {DEVICES} devices: peak memory {}", peak(host.path()));
}

fn list(host: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bindctl"));
    command.arg("--root").arg(host).arg("list");
    command
}

/// What one run took.
struct Times {
    elapsed: Duration,
    /// Time on a processor, which other programs on a busy machine disturb less.
    cpu: Duration,
}

fn time(host: &Path) -> Times {
    let started = Instant::now();
    let mut child = list(host).stdout(Stdio::null()).spawn().unwrap();
    // Not reaped yet: its times can still be read.
    waitid(WaitId::Pid(Pid::from_child(&child)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
    let elapsed = started.elapsed();
    let cpu = processor_time(&child.id().to_string());
    assert!(child.wait().unwrap().success());
    Times { elapsed, cpu }
}

/// Time that a process was on a processor.
fn processor_time(process: &str) -> Duration {
    let text = fs::read_to_string(format!("/proc/{process}/schedstat")).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// The time that listing every directory of the host takes, without a look into any file.
fn walk(host: &Path) -> Duration {
    fn below(folder: &Path) -> usize {
        let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
        entries.map(|e| if e.file_type().unwrap().is_dir() { below(&e.path()) } else { 1 }).sum()
    }
    let before = processor_time("thread-self");
    assert!(below(host) > DEVICES);
    processor_time("thread-self").saturating_sub(before)
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
        let modalias =
            format!("pci:v00008086d00000A54sv00008086sd00000001bc{}sc{}i{}\n", &class[2..4], &class[4..6], &class[6..]);
        for (attribute, text) in [
            ("vendor", "0x8086\n"),
            ("device", "0x0a54\n"),
            ("class", class),
            ("driver_override", "(null)\n"),
            ("modalias", &modalias),
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
