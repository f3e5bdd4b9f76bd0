//! `cargo xtask bindctl`: the host tool as static programs for each architecture, and their size.

use std::path::PathBuf;
use std::process::Command;

use crate::cargo::Cargo;
use crate::outcome::{Outcome, Trouble};
use crate::tool::{output, root, target};

/// Architectures that it is built for.
const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

/// Largest program, in bytes: it goes into initramfs images.
const LIMIT: u64 = 4 << 20;

/// Folder below `target`.
const FOLDER: &str = "musl";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build for this architecture only
    #[arg(long, value_name = "ARCH", value_parser = ARCHITECTURES)]
    arch: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    let wanted = |arch: &&str| args.arch.as_deref().is_none_or(|only| only == *arch);
    for arch in ARCHITECTURES.into_iter().filter(wanted) {
        let program = build(arch)?;
        let size =
            std::fs::metadata(&program).map_err(|e| Trouble::Broken(format!("{}: {e}", program.display())))?.len();
        println!("{}: {} KiB", program.display(), size >> 10);
        if size > LIMIT {
            return Err(Trouble::Failed(format!("{} is larger than {} KiB", program.display(), LIMIT >> 10)));
        }
    }
    Ok(())
}

/// Builds one program and returns its path.
pub(crate) fn build(arch: &str) -> Result<PathBuf, Trouble> {
    let triple = format!("{arch}-unknown-linux-musl");
    output(Command::new("rustup").current_dir(root()).args(["target", "add", &triple]))
        .map_err(|t| Trouble::Skipped(format!("rustup could not add {triple}: {}", t.why())))?;
    // Rust brings musl and a linker for both: no C compiler for another architecture is needed.
    let variable = |name: &str| format!("CARGO_TARGET_{}_UNKNOWN_LINUX_MUSL_{name}", arch.to_uppercase());
    Cargo::new("build --quiet --profile small -p bindery-linux --bin bindctl --target")
        .args(&[&triple])
        .env(&variable("LINKER"), "rust-lld")
        .env(&variable("RUSTFLAGS"), "-C link-self-contained=yes -C target-feature=+crt-static")
        .target_dir(FOLDER)
        .run()?;
    Ok(target().join(FOLDER).join(triple).join("small/bindctl"))
}
