//! `cargo xtask bench`: the figures of docs/benchmarks.md.

use crate::cargo::Cargo;
use crate::outcome::Outcome;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only benchmarks whose name contains this
    filter: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    let run = Cargo::new("bench -p bindery-bench -p bindery-linux --benches --");
    match &args.filter {
        Some(filter) => run.args(&[filter]).run(),
        None => run.run(),
    }
}
