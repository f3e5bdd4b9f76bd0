//! Fetches the trees, and the reader that they are compared with, from Debian.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::install::{install, offline};
use crate::outcome::{Outcome, Trouble};
use crate::tool::{exists, is_root, output, target};

/// The package whose only job is to depend on the newest kernel.
const META: &str = "linux-image-arm64:arm64";

/// The directory with Debian's trees. What was fetched before is used again.
pub(super) fn debian() -> Result<PathBuf, Trouble> {
    let dir = target().join("dtbs");
    let trees = dir.join("trees");
    if trees.is_dir() {
        return Ok(trees);
    }
    if !exists("apt-get") || !exists("dpkg") {
        return Err(Trouble::Skipped("fetching Debian's device trees needs apt-get and dpkg".into()));
    }
    if !is_root() {
        return Err(Trouble::Skipped(
            "fetching Debian's device trees needs root, to add the arm64 package list".into(),
        ));
    }
    output(Command::new("dpkg").args(["--add-architecture", "arm64"]))?;
    update()?;
    let package = kernel()?;
    println!("fetching {package}");
    let failed = |e| Trouble::Broken(format!("{}: {e}", dir.display()));
    let unpacked = dir.join("unpacked");
    let _ = fs::remove_dir_all(&unpacked);
    fs::create_dir_all(&unpacked).map_err(failed)?;
    let download = ["-q", "-o", "APT::Sandbox::User=root", "download", &package];
    output(Command::new("apt-get").current_dir(&unpacked).args(download)).map_err(offline)?;
    let archive = fs::read_dir(&unpacked).map_err(failed)?.filter_map(Result::ok).map(|e| e.path()).next();
    let archive = archive.ok_or_else(|| Trouble::Broken(format!("apt-get download {package} left no file")))?;
    output(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&unpacked))?;
    fs::remove_file(&archive).map_err(failed)?;
    // The trees lie below usr/lib/linux-image-VERSION; the kernel and its modules are not needed.
    let _ = fs::remove_dir_all(unpacked.join("lib"));
    let _ = fs::remove_dir_all(unpacked.join("boot"));
    // Renamed last: a directory of that name is complete.
    fs::rename(&unpacked, &trees).map_err(failed)?;
    Ok(trees)
}

/// Makes sure that `dtc` is there.
pub(crate) fn compiler() -> Outcome {
    if exists("dtc") {
        return Ok(());
    }
    install(&["device-tree-compiler"])
}

fn update() -> Outcome {
    output(Command::new("apt-get").args(["-q", "-o", "Acquire::Retries=1", "update", "--error-on=any"]))
        .map(drop)
        .map_err(offline)
}

/// The kernel that the meta package stands for today.
fn kernel() -> Result<String, Trouble> {
    let depends = output(Command::new("apt-cache").args(["depends", META]))?;
    let named = depends.lines().filter_map(|l| l.trim().strip_prefix("Depends: "));
    let mut kernels = named.filter(|p| p.starts_with("linux-image-"));
    let kernel = kernels.next().ok_or_else(|| Trouble::Broken(format!("{META} depends on no linux-image package")))?;
    Ok(if kernel.contains(':') { kernel.to_owned() } else { format!("{kernel}:arm64") })
}
