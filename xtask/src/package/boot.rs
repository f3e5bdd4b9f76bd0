//! The images, booted: the device that is desired for VFIO never sees its own driver.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::chroot::Chroot;
use super::images::Image;
use super::{failed, folder};
use crate::outcome::{Outcome, Trouble};
use crate::tool::exists;

const EMULATOR: &str = "qemu-system-x86_64";

/// Longest boot. One takes 10 to 30 s.
const LIMIT: Duration = Duration::from_mins(3);

/// Boots each image.
pub(super) fn try_all(debian: &Chroot, images: &[Image]) -> Outcome {
    if !exists(EMULATOR) {
        return Err(Trouble::Skipped(format!("not installed: {EMULATOR}; the images were made and not booted")));
    }
    for image in images {
        let said = boot(debian, image)?;
        let told: Vec<&str> =
            said.lines().filter_map(|line| line.split_once("CHECK: ")).map(|(_, told)| told.trim()).collect();
        let good = told.contains(&"given vfio-pci")
            && told.contains(&"twin nvme")
            && told.contains(&"end")
            && !told.contains(&"the real driver was bound");
        if !good {
            println!("{said}");
            return Err(failed(format!("the image of {}: {told:?}; the serial console is above", image.maker)));
        }
        println!(
            "package: booted the image of {}: the device is given, its twin is not, and its own driver never saw it",
            image.maker
        );
    }
    Ok(())
}

/// Two disk controllers that differ by their address only.
fn boot(debian: &Chroot, image: &Image) -> Result<String, Trouble> {
    let broken = |e: std::io::Error| Trouble::Broken(format!("{EMULATOR}: {e}"));
    let folder = folder();
    let disk = folder.join("disk");
    File::create(&disk).and_then(|file| file.set_len(16 << 20)).map_err(broken)?;
    let drive = |name: &str| format!("if=none,id={name},format=raw,file.locking=off,file={}", disk.display());
    let console = folder.join(format!("{}.log", image.maker));
    let mut machine = Command::new(EMULATOR)
        .args(["-M", "q35,kernel-irqchip=split", "-device", "intel-iommu,intremap=on,caching-mode=on"])
        .args(["-m", "1024", "-smp", "2", "-display", "none", "-no-reboot", "-nic", "none"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-kernel")
        .arg(debian.root.join("boot").join(format!("vmlinuz-{}", debian.release()?)))
        .arg("-initrd")
        .arg(debian.root.join(image.path.trim_start_matches('/')))
        .args([
            "-append",
            "console=ttyS0 intel_iommu=on panic=-1 no_timer_check root=/dev/none rd.shell=0 ignore_loglevel",
        ])
        .args(["-drive", &drive("a"), "-device", "nvme,drive=a,serial=TWIN0,addr=4"])
        .args(["-drive", &drive("b"), "-device", "nvme,drive=b,serial=TWIN1,addr=5"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(broken)?;
    let started = Instant::now();
    while machine.try_wait().map_err(broken)?.is_none() {
        if started.elapsed() > LIMIT {
            let _ = machine.kill();
            let _ = machine.wait();
            println!("stopped after {} s", LIMIT.as_secs());
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(String::from_utf8_lossy(&fs::read(&console).map_err(broken)?).replace('\r', ""))
}
