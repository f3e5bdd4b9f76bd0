//! `cargo xtask shuttle`: whole machines whose threads run in an order that a scheduler chooses.

use crate::cargo::Cargo;
use crate::outcome::Outcome;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Orders in which each scenario is run: half of them at random, half under PCT
    #[arg(long, value_name = "N", default_value_t = 500)]
    iterations: u32,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    Cargo::new("test -p bindery-drivers --test shuttle --test topology")
        .env("RUSTFLAGS", "--cfg shuttle")
        .env("BINDERY_SHUTTLE_ITERATIONS", &args.iterations.to_string())
        .target_dir("shuttle")
        .run()
}

/// The form that `cargo xtask test` runs.
pub(crate) fn short() -> Outcome {
    run(&Args { iterations: 100 })
}

/// The form that `cargo xtask long` runs.
pub(crate) fn long() -> Outcome {
    run(&Args { iterations: 5_000 })
}
