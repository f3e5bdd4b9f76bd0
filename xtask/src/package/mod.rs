//! `cargo xtask package`: the host tool as a Debian package, and the package in a Debian of its own.

mod boot;
mod chroot;
mod deb;
mod fleet;
mod images;

use std::path::{Path, PathBuf};

use crate::outcome::{Outcome, Trouble};
use crate::small;
use crate::tool::target;

/// Architectures that there are packages for, with Debian's names for them.
const ARCHITECTURES: [(&str, &str); 2] = [("x86_64", "amd64"), ("aarch64", "arm64")];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Make the package for this architecture only
    #[arg(long, value_name = "ARCH", value_parser = ["x86_64", "aarch64"])]
    arch: Option<String>,
    /// Make the packages and look at what is in them; install nothing
    #[arg(long)]
    only_make: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    // Another architecture's program does not run here: what it would print is the same.
    let own = small::BINDCTL.build(std::env::consts::ARCH)?;
    let mut installable = None;
    for (arch, debian) in ARCHITECTURES.into_iter().filter(|(a, _)| args.arch.as_deref().is_none_or(|only| only == *a))
    {
        let program = if arch == std::env::consts::ARCH { own.clone() } else { small::BINDCTL.build(arch)? };
        let package = deb::make(&program, &own, arch, debian)?;
        if program == own {
            installable = Some(package);
        }
    }
    if args.only_make {
        return Ok(());
    }
    fleet::run(&own)?;
    installable.map_or(Ok(()), |package| installed(&package))
}

/// Installs, uses and purges the package.
fn installed(package: &Path) -> Outcome {
    let debian = chroot::Chroot::prepare()?;
    debian.install(package)?;
    let outcome = used(&debian);
    // Purged also after a failure: the folder is used again.
    let purged = debian.purge();
    outcome?;
    purged
}

fn used(debian: &chroot::Chroot) -> Outcome {
    debian.look()?;
    let images = images::make(debian)?;
    boot::try_all(debian, &images)
}

/// Directory of packages, tools and the Debian.
fn folder() -> PathBuf {
    target().join("package")
}

fn failed(what: impl Into<String>) -> Trouble {
    Trouble::Failed(what.into())
}
