//! The kernel, and the programs that boot it, from Debian.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::outcome::{Outcome, Trouble};
use crate::tool::{exists, is_root, output, target};

/// The package whose only job is to depend on the newest kernel.
const META: &str = "linux-image-amd64";

/// Programs with the packages that have them.
const PROGRAMS: [(&str, &str); 3] = [("qemu-system-x86_64", "qemu-system-x86"), ("cpio", "cpio"), ("depmod", "kmod")];

/// A kernel that was unpacked.
pub(super) struct Kernel {
    /// The image that QEMU boots.
    pub(super) image: PathBuf,
    /// The folder that has `lib/modules`.
    pub(super) root: PathBuf,
    /// Its release: `6.1.0-56-amd64`.
    pub(super) release: String,
}

/// The static `busybox` of Debian.
pub(super) const BUSYBOX: &str = "/bin/busybox";

/// Fetches what is not there yet.
pub(super) fn kernel() -> Result<Kernel, Trouble> {
    programs()?;
    let folder = target().join("guest/x86_64");
    let root = folder.join("kernel");
    if !root.is_dir() {
        unpack(&folder, &root)?;
    }
    let failed = |e| Trouble::Broken(format!("{}: {e}", root.display()));
    let boot = fs::read_dir(root.join("boot")).map_err(failed)?.filter_map(Result::ok);
    let image = boot.map(|e| e.path()).find(|p| name(p).starts_with("vmlinuz-"));
    let image = image.ok_or_else(|| Trouble::Broken(format!("no vmlinuz in {}", root.display())))?;
    let release = name(&image).trim_start_matches("vmlinuz-").to_owned();
    Ok(Kernel { image, root, release })
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn unpack(folder: &Path, root: &Path) -> Outcome {
    let failed = |e| Trouble::Broken(format!("{}: {e}", folder.display()));
    let draft = folder.join("unpacked");
    let _ = fs::remove_dir_all(&draft);
    fs::create_dir_all(&draft).map_err(failed)?;
    let depends = output(Command::new("apt-cache").args(["depends", META]))?;
    let mut named = depends.lines().filter_map(|l| l.trim().strip_prefix("Depends: "));
    let package = named
        .find(|p| p.starts_with("linux-image-"))
        .ok_or_else(|| Trouble::Skipped(format!("{META} is not known to apt: no kernel of Debian's for amd64")))?;
    println!("fetching {package}");
    let download = ["-q", "-o", "APT::Sandbox::User=root", "download", package];
    output(Command::new("apt-get").current_dir(&draft).args(download)).map_err(offline)?;
    let archive = fs::read_dir(&draft).map_err(failed)?.filter_map(Result::ok).map(|e| e.path()).next();
    let archive = archive.ok_or_else(|| Trouble::Broken(format!("apt-get download {package} left no file")))?;
    output(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&draft))?;
    fs::remove_file(&archive).map_err(failed)?;
    // Renamed last: a folder of that name is complete.
    fs::rename(&draft, root).map_err(failed)
}

fn programs() -> Outcome {
    let mut missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !exists(program)).map(|(_, package)| *package).collect();
    if !Path::new(BUSYBOX).exists() {
        missing.push("busybox-static");
    }
    if missing.is_empty() {
        return Ok(());
    }
    if !exists("apt-get") || !is_root() {
        return Err(Trouble::Skipped(format!("not installed: {}", missing.join(", "))));
    }
    output(Command::new("apt-get").args(["-q", "update"])).map_err(offline)?;
    let install = ["-q", "-y", "install", "--no-install-recommends"];
    output(Command::new("apt-get").args(install).args(&missing)).map(drop).map_err(offline)
}

/// A package tool that fails here does so for want of a network.
fn offline(trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Broken(what) => Trouble::Skipped(format!("Debian's packages cannot be fetched: {what}")),
        other => other,
    }
}
