//! The mixed load of `bench/examples/mixed`, for a long time.

use crate::cargo::Cargo;
use crate::outcome::Outcome;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Operations of both threads together
    #[arg(long, default_value_t = 1_000_000_000)]
    operations: u64,
    /// Where the random choices start
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    let (operations, seed) = (args.operations.to_string(), args.seed.to_string());
    Cargo::new("run --release -q -p bindery-bench --example mixed --").args(&[&operations, &seed]).run()
}

/// The part of `cargo xtask test`.
pub(crate) fn short() -> Outcome {
    run(&Args { operations: 10_000_000, seed: 1 })
}
