//! `cargo xtask loom`: the small pieces that are made of atomics, in every interleaving.

use crate::cargo::Cargo;
use crate::outcome::Outcome;

#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Most times that a thread is interrupted in one interleaving; without it, all interleavings are tried
    #[arg(long, value_name = "N")]
    preemptions: Option<u32>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    let mut run = Cargo::new("test -p bindery --lib loom_").env("RUSTFLAGS", "--cfg loom").target_dir("loom");
    if let Some(n) = args.preemptions {
        run = run.env("LOOM_MAX_PREEMPTIONS", &n.to_string());
    }
    run.run()
}

/// The form that `cargo xtask test` runs: bugs that need more than three preemptions are rare, and so are such models.
pub(crate) fn short() -> Outcome {
    run(&Args { preemptions: Some(3) })
}
