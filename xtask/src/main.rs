//! Developer commands: `cargo xtask COMMAND`, the same that CI runs.

mod dtbs;
mod outcome;
mod tool;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Everything a developer does to this repository.
///
/// Exit code 0: done and good. 1: a check failed. 2: wrong arguments, or a tool failed. 77: skipped, because this machine
/// lacks what the command needs; the line that says so begins with `skipped`.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Describe every device tree of Debian's arm64 kernel and compare with an independent reader
    Dtbs(dtbs::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Dtbs(args) => dtbs::run(&args),
    };
    outcome::report(outcome)
}
