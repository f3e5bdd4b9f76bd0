//! A PC with an IOMMU, two disks and two network cards.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::outcome::Trouble;
use crate::tool::target;

/// Size of each disk, in bytes.
const DISK: u64 = 64 << 20;

/// Boots the machine and returns what it wrote to its serial console, also when it was stopped after `limit`.
pub(super) fn boot(name: &str, kernel: &Path, initrd: &Path, limit: Duration) -> Result<String, Trouble> {
    let folder = target().join("guest/x86_64");
    let failed = |e| Trouble::Broken(format!("{}: {e}", folder.display()));
    let mut disks = Vec::new();
    for disk in ["sata", "nvme"] {
        let path = folder.join(format!("{name}.{disk}"));
        File::create(&path).and_then(|file| file.set_len(DISK)).map_err(failed)?;
        disks.push(format!("if=none,id={disk},format=raw,file={}", path.display()));
    }
    let console = folder.join(format!("{name}.log"));
    let mut machine = Command::new("qemu-system-x86_64");
    machine
        .args(["-M", "q35,kernel-irqchip=split", "-device", "intel-iommu,intremap=on,caching-mode=on"])
        .args(["-m", "1024", "-smp", "2", "-display", "none", "-no-reboot", "-nic", "none"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd)
        // On a busy host an emulated timer ticks too late for the kernel's check of it, which would end in a panic.
        .args(["-append", "console=ttyS0 intel_iommu=on quiet panic=-1 no_timer_check"])
        .args(["-drive", &disks[0], "-device", "ich9-ahci,id=ahci0,addr=3"])
        .args(["-device", "ide-hd,drive=sata,bus=ahci0.0,serial=DISK0"])
        .args(["-drive", &disks[1], "-device", "nvme,drive=nvme,serial=NVME0,addr=4"])
        .args(["-device", "e1000e,addr=5"]);
    let mut running = machine
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| Trouble::Broken(format!("qemu-system-x86_64: {e}")))?;
    let started = Instant::now();
    loop {
        match running.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if started.elapsed() < limit => std::thread::sleep(Duration::from_millis(100)),
            Ok(None) => {
                println!("guest {name}: stopped after {} s", limit.as_secs());
                let _ = running.kill();
                let _ = running.wait();
                break;
            }
            Err(e) => return Err(Trouble::Broken(format!("qemu-system-x86_64: {e}"))),
        }
    }
    let mut bytes = Vec::new();
    File::open(&console).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).replace('\r', ""))
}
