//! The kernel, and the programs that boot it, from Debian.

use std::fs;
use std::path::{Path, PathBuf};

use super::apt::Apt;
use super::arch::{Arch, Version};
use crate::install::install;
use crate::outcome::{Outcome, Trouble};
use crate::tool::{exists, target};

/// A kernel that was unpacked, and what boots with it.
pub(crate) struct Guest {
    /// Its architecture.
    pub(super) arch: Arch,
    /// Its kernel.
    pub(super) version: Version,
    /// Directory of images, disks and logs of this architecture and kernel.
    pub(super) folder: PathBuf,
    /// The image that QEMU boots.
    pub(super) image: PathBuf,
    /// The folder that has `lib/modules`.
    pub(super) root: PathBuf,
    /// Its release: `6.1.0-56-amd64`.
    pub(super) release: String,
    /// The static `busybox` for it.
    pub(super) busybox: PathBuf,
}

impl Guest {
    /// Fetches what is not there yet: emulator, kernel and busybox.
    pub(crate) fn fetch(arch: Arch, version: Version) -> Result<Self, Trouble> {
        programs(arch)?;
        let above = target().join("guest").join(arch.name());
        let folder = above.join(version.number());
        let root = folder.join("kernel");
        let busybox = above.join("busybox");
        if !root.is_dir() {
            let apt = Apt::new(folder.join("apt"), arch.debian(), version.release());
            apt.update()?;
            let meta = format!("linux-image-{}", arch.debian());
            apt.unpack(&apt.dependency(&meta, "linux-image-")?, &root)?;
        }
        if !busybox.is_dir() {
            let apt = Apt::new(above.join("apt"), arch.debian(), Version::V6_1.release());
            apt.update()?;
            apt.unpack("busybox-static", &busybox)?;
        }
        let failed = |e| Trouble::Broken(format!("{}: {e}", root.display()));
        let boot = fs::read_dir(root.join("boot")).map_err(failed)?.filter_map(Result::ok);
        let image = boot.map(|e| e.path()).find(|p| name(p).starts_with("vmlinuz-"));
        let image = image.ok_or_else(|| Trouble::Broken(format!("no vmlinuz in {}", root.display())))?;
        let release = name(&image).trim_start_matches("vmlinuz-").to_owned();
        let busybox = busybox.join("bin/busybox");
        Ok(Self { arch, version, folder, image, root, release, busybox })
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Installs the programs that are not there, if that can be done.
fn programs(arch: Arch) -> Outcome {
    let programs = [arch.emulator(), ("cpio", "cpio"), ("depmod", "kmod"), ("xz", "xz-utils"), ("mke2fs", "e2fsprogs")];
    let missing: Vec<&str> =
        programs.iter().filter(|(program, _)| !found(program)).map(|(_, package)| *package).collect();
    install(&missing)
}

/// True when a program can be started, also one for root alone.
fn found(program: &str) -> bool {
    exists(program) || exists(&format!("/usr/sbin/{program}")) || exists(&format!("/sbin/{program}"))
}
