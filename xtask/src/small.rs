//! Static programs for targets: small, of musl, for each architecture.

use std::path::PathBuf;
use std::process::Command;

use crate::cargo::Cargo;
use crate::outcome::{Outcome, Trouble};
use crate::tool::{output, root, target};

/// Architectures that they are built for.
const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

/// Folder below `target`.
const FOLDER: &str = "musl";

/// A program for targets.
pub(crate) struct Program {
    package: &'static str,
    name: &'static str,
    /// Largest size, in bytes: it goes into initramfs images.
    limit: u64,
}

/// The host tool.
pub(crate) const BINDCTL: Program = Program { package: "bindery-linux", name: "bindctl", limit: 4 << 20 };
/// The auditor with its recorder.
pub(crate) const AUDIT: Program = Program { package: "bindery-audit", name: "bindery-audit", limit: 4 << 20 };
/// The small user of VFIO that guests are tested with.
pub(crate) const VFIO_CHECK: Program = Program { package: "vfio-check", name: "vfio-check", limit: 4 << 20 };

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build for this architecture only
    #[arg(long, value_name = "ARCH", value_parser = ARCHITECTURES)]
    arch: Option<String>,
}

impl Program {
    /// Builds it and compares its size with the limit.
    pub(crate) fn run(&self, args: &Args) -> Outcome {
        let wanted = |arch: &&str| args.arch.as_deref().is_none_or(|only| only == *arch);
        for arch in ARCHITECTURES.into_iter().filter(wanted) {
            let program = self.build(arch)?;
            let size =
                std::fs::metadata(&program).map_err(|e| Trouble::Broken(format!("{}: {e}", program.display())))?.len();
            println!("{}: {} KiB", program.display(), size >> 10);
            if size > self.limit {
                return Err(Trouble::Failed(format!("{} is larger than {} KiB", program.display(), self.limit >> 10)));
            }
        }
        Ok(())
    }

    /// Builds it for one architecture and returns its path.
    pub(crate) fn build(&self, arch: &str) -> Result<PathBuf, Trouble> {
        let triple = format!("{arch}-unknown-linux-musl");
        output(Command::new("rustup").current_dir(root()).args(["target", "add", &triple]))
            .map_err(|t| Trouble::Skipped(format!("rustup could not add {triple}: {}", t.why())))?;
        // Rust brings musl and a linker for both: no C compiler for another architecture is needed.
        let variable = |name: &str| format!("CARGO_TARGET_{}_UNKNOWN_LINUX_MUSL_{name}", arch.to_uppercase());
        Cargo::new("build --quiet --profile small")
            .args(&["-p", self.package, "--bin", self.name, "--target", &triple])
            .env(&variable("LINKER"), "rust-lld")
            .env(&variable("RUSTFLAGS"), "-C link-self-contained=yes -C target-feature=+crt-static")
            .target_dir(FOLDER)
            .run()?;
        Ok(target().join(FOLDER).join(triple).join("small").join(self.name))
    }
}
