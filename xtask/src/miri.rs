//! `cargo xtask miri`: the core's unit tests under Miri, which finds undefined behaviour in the few unsafe modules, and those
//! of the simulated RAM.

use std::process::{Command, Stdio};

use crate::cargo::{Cargo, NIGHTLY};
use crate::outcome::{Outcome, Trouble};
use crate::tool::output;

/// Modules that hold `unsafe` code, or stand right on it, and are quick.
const SHORT: [&str; 6] =
    ["addr::", "binding::", "dma::tests::scatter", "dma::tests::streaming", "env::", "mem::access"];

/// RAM is looked at through atomics of mixed size (see `bindery::mem::access`), which the emulation of weak memory does
/// not know. Tests forget handles on purpose (P9), which leaks. Property tests ask where they are, to keep what failed.
const FLAGS: &str =
    "-Zmiri-strict-provenance -Zmiri-disable-weak-memory-emulation -Zmiri-ignore-leaks -Zmiri-disable-isolation";

#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Only the modules with unsafe code and what stands right on them
    #[arg(long)]
    short: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    prepare()?;
    let run = Cargo::miri("test -p bindery --lib --").env("MIRIFLAGS", FLAGS);
    let run = if args.short { run.args(&SHORT) } else { run };
    run.run()?;
    // The simulated RAM, and a guest's windows of it.
    Cargo::miri("test -p bindery-sim --lib -- memory::").env("MIRIFLAGS", FLAGS).run()
}

/// The form that `cargo xtask test` runs.
pub(crate) fn short() -> Outcome {
    run(&Args { short: true })
}

/// Makes sure that there is a nightly tool chain with Miri.
fn prepare() -> Outcome {
    let ready = |args: &[&str]| {
        let mut command = Command::new("rustup");
        command.args(["run", NIGHTLY]).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|s| s.success())
    };
    if !ready(&["cargo", "miri", "--version"]) {
        eprintln!("adding {NIGHTLY} with Miri through rustup");
        let add = ["toolchain", "install", NIGHTLY, "--profile", "minimal", "--component", "miri,rust-src"];
        output(Command::new("rustup").args(add))
            .map_err(|t| Trouble::Skipped(format!("rustup could not add a nightly with Miri: {}", t.why())))?;
    }
    Cargo::miri("setup").run()
}
