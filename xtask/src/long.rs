//! `cargo xtask long`: campaigns that take an hour rather than minutes.

use crate::cargo::Cargo;
use crate::outcome::Outcome;
use crate::session::Session;
use crate::{bench, campaign, fuzz, loom, miri, patches, shuttle};

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    only: Option<Only>,
    /// Cases of each property test
    #[arg(long, default_value_t = 20_000)]
    cases: u32,
    /// Seconds of the threads test
    #[arg(long, default_value_t = 300)]
    seconds: u32,
}

/// A campaign that is run by itself, because it takes longer than the others together.
#[derive(clap::Subcommand)]
enum Only {
    /// Mutants made by cargo-mutants: all of the modules that hold the promises, 300 of the others
    Mutants(campaign::Args),
    /// A mixed DMA load, 10⁹ operations: what is in use after each round, and whether it grows
    Dma(bench::mixed::Args),
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    match &args.only {
        Some(Only::Mutants(args)) => return campaign::run(args),
        Some(Only::Dma(args)) => return bench::mixed::run(args),
        None => {}
    }
    let mut session = Session::new();
    session.step("tests, optimized, many cases", || {
        Cargo::new("test --workspace --release --no-fail-fast")
            .env("PROPTEST_CASES", &args.cases.to_string())
            .env("BINDERY_THREADS_SECONDS", &args.seconds.to_string())
            .run()
    });
    session.step("loom models, all interleavings", || loom::run(&loom::Args::default()));
    session.step("shuttle, many orders", shuttle::long);
    session.step("mutants, all patches", || patches::named(&[], false));
    session.step("fuzzing, an hour", || fuzz::run(&fuzz::Args::default()));
    session.step("Miri", || miri::run(&miri::Args::default()));
    session.finish()
}
