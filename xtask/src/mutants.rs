//! `cargo xtask mutants`: each historical bug is put back, and the explorer must find it. With `--patch`, bugs come as patch
//! files.

use std::path::PathBuf;

use crate::cargo::Cargo;
use crate::outcome::Outcome;
use crate::patches;

#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Write docs/mutants.md instead of comparing with it
    #[arg(long, conflicts_with_all = ["json", "names"])]
    update: bool,
    /// Print one JSON array instead of comparing with docs/mutants.md
    #[arg(long, conflicts_with = "names")]
    json: bool,
    /// Explore these bugs only, and tell what happens on each path
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Apply these patch files (or all of a folder) to a scratch copy, one at a time; the test that each names must fail
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["update", "json", "names"])]
    patch: Vec<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    if !args.patch.is_empty() {
        return patches::run(&args.patch);
    }
    let mut words: Vec<&str> = args.names.iter().map(String::as_str).collect();
    words.extend(args.update.then_some("--update"));
    words.extend(args.json.then_some("--json"));
    // A target folder of its own: the feature would have the core built anew each time.
    Cargo::new("run --quiet --release -p bindery-explore --features mutants --bin mutants --")
        .args(&words)
        .target_dir("mutants")
        .run()
}
