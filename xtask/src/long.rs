//! `cargo xtask long`: campaigns that take an hour rather than minutes.

use crate::cargo::Cargo;
use crate::outcome::Outcome;
use crate::session::Session;
use crate::{fuzz, loom, miri, patches, shuttle};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Cases of each property test
    #[arg(long, default_value_t = 20_000)]
    cases: u32,
    /// Seconds of the threads test
    #[arg(long, default_value_t = 300)]
    seconds: u32,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
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
