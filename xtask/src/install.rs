//! Programs of Debian's that a command needs on this machine.

use std::process::Command;

use crate::outcome::{Outcome, Trouble};
use crate::tool::{exists, is_root, output};

/// Option of apt's: a mirror that does not answer is asked again.
pub(crate) const RETRIES: &str = "Acquire::Retries=5";

/// Installs `packages`, if that can be done.
pub(crate) fn install(packages: &[&str]) -> Outcome {
    if packages.is_empty() {
        return Ok(());
    }
    if !exists("apt-get") || !is_root() {
        return Err(Trouble::Skipped(format!("not installed: {}", packages.join(", "))));
    }
    output(Command::new("apt-get").args(["-o", RETRIES, "-q", "update"])).map_err(offline)?;
    let install = ["-o", RETRIES, "-q", "-y", "install", "--no-install-recommends"];
    output(Command::new("apt-get").args(install).args(packages)).map(drop).map_err(offline)
}

/// A package tool that fails here does so for want of a network.
pub(crate) fn offline(trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Broken(what) => Trouble::Skipped(format!("Debian's packages cannot be fetched: {what}")),
        other => other,
    }
}
