//! `cargo xtask mutants`: bugs as patch files, and whether the checks notice them.

use std::path::PathBuf;

use crate::outcome::Outcome;
use crate::patches;

#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Write docs/mutants.md, the list of the repository's patches, and try none
    #[arg(long, conflicts_with_all = ["json", "names", "patch"])]
    update: bool,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
    /// Try mutants/NAME.patch; all of them when none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Try these patch files, or all of a folder, from anywhere
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["update", "names"])]
    patch: Vec<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    if args.update {
        patches::update()
    } else if args.patch.is_empty() {
        patches::named(&args.names, args.json)
    } else {
        patches::files(&args.patch, args.json)
    }
}
