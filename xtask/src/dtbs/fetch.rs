//! Fetches the trees, and the reader that they are compared with, from Debian.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::guest::Apt;
use crate::install::install;
use crate::outcome::{Outcome, Trouble};
use crate::tool::{exists, output, target};

/// An architecture whose kernel package of Debian's has device trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Arch {
    /// 64-bit Arm, Debian 12
    Arm64,
    /// 32-bit Arm, Debian 12 (`armmp`)
    Armhf,
    /// 64-bit RISC-V, Debian 13
    Riscv64,
}

impl Arch {
    /// Debian's name, the package whose only job is to depend on the newest kernel, and the release that has it.
    fn debian(self) -> [&'static str; 3] {
        match self {
            Self::Arm64 => ["arm64", "linux-image-arm64", "bookworm"],
            Self::Armhf => ["armhf", "linux-image-armmp", "bookworm"],
            Self::Riscv64 => ["riscv64", "linux-image-riscv64", "trixie"],
        }
    }
}

/// The directory with Debian's trees. What was fetched before is used again.
pub(super) fn debian(arch: Arch) -> Result<PathBuf, Trouble> {
    let [name, meta, release] = arch.debian();
    let folder = target().join("dtbs").join(name);
    let trees = folder.join("trees");
    if trees.is_dir() {
        return Ok(trees);
    }
    let apt = Apt::new(folder.join("apt"), name, release);
    apt.update()?;
    apt.unpack(&apt.dependency(meta, "linux-image-")?, &trees)?;
    // The trees lie below usr/lib/linux-image-VERSION; the kernel and its modules are not needed.
    for unused in ["lib", "boot", "usr/lib/modules"] {
        let _ = fs::remove_dir_all(trees.join(unused));
    }
    Ok(trees)
}

/// The kernel's source, as Debian packages it: what the device trees of Renesas' boards are made of, and nothing else of it.
pub(super) fn source() -> Result<PathBuf, Trouble> {
    const NAME: &str = "linux-source-6.1";
    const PARTS: [&str; 3] =
        ["arch/arm64/boot/dts/renesas", "include/dt-bindings", "include/uapi/linux/input-event-codes.h"];
    let folder = target().join("dtbs/source");
    let (tree, package) = (folder.join(NAME), folder.join("package"));
    if tree.is_dir() {
        return Ok(tree);
    }
    let apt = Apt::new(folder.join("apt"), "arm64", "bookworm");
    apt.update()?;
    apt.unpack(NAME, &package)?;
    let draft = folder.join("draft");
    let failed = |e| Trouble::Broken(format!("{}: {e}", folder.display()));
    let _ = fs::remove_dir_all(&draft);
    fs::create_dir_all(&draft).map_err(failed)?;
    let archive = package.join("usr/src").join(format!("{NAME}.tar.xz"));
    let mut tar = Command::new("tar");
    tar.arg("-xJf").arg(archive).arg("-C").arg(&draft).args(PARTS.map(|part| format!("{NAME}/{part}")));
    output(&mut tar)?;
    fs::rename(draft.join(NAME), &tree).map_err(failed)?;
    fs::remove_dir_all(&package).and_then(|()| fs::remove_dir_all(&draft)).map_err(failed)?;
    Ok(tree)
}

/// Makes sure that `dtc` is there.
pub(crate) fn compiler() -> Outcome {
    if exists("dtc") {
        return Ok(());
    }
    install(&["device-tree-compiler"])
}
