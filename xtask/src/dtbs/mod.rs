//! `cargo xtask dtbs`: real device trees, several hundred of them.
//!
//! Debian's kernel package for arm64 carries the trees of every board that it supports. Each one is described, and the
//! nodes that the description accounts for are compared with those that a reader of another make, `dtc`, shows. A machine
//! without drivers takes each one in, and `bindery tree` draws it.

mod check;
mod fetch;
mod machine;
mod walk;

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::cargo::Cargo;
use crate::outcome::{Outcome, Trouble};
use check::Totals;
pub(crate) use fetch::compiler;

/// Failures that are printed.
const SHOWN: usize = 20;

#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Check the `.dtb` files below this directory instead of Debian's
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print the notes of each tree, too
    #[arg(long)]
    notes: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    let dir = args.dir.clone().map_or_else(fetch::debian, Ok)?;
    compiler()?;
    let blobs = blobs(&dir)?;
    if blobs.is_empty() {
        return Err(Trouble::Broken(format!("{}: no .dtb files below", dir.display())));
    }
    Cargo::new("build --quiet --package bindery-cli").run()?;
    let start = Instant::now();
    let mut totals = Totals::default();
    for path in &blobs {
        check::tree(path, args.notes, &mut totals)?;
    }
    println!(
        "{} trees, {} devices, {} other nodes, {} suppliers, {} notes, {} errors, {:.1} s (longest {:.1} ms: {})",
        blobs.len(),
        totals.devices,
        totals.others,
        totals.suppliers,
        totals.notes,
        totals.failures.len(),
        start.elapsed().as_secs_f64(),
        totals.longest.0.as_secs_f64() * 1e3,
        totals.longest.1.display(),
    );
    for failure in totals.failures.iter().take(SHOWN) {
        println!("  {failure}");
    }
    match totals.failures.len() {
        0 => Ok(()),
        n => Err(Trouble::Failed(format!("{n} of {} trees are not described as they are", blobs.len()))),
    }
}

/// All `.dtb` files below `dir`, sorted.
fn blobs(dir: &Path) -> Result<Vec<PathBuf>, Trouble> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let failed = |e| Trouble::Broken(format!("{}: {e}", dir.display()));
        for entry in dir.read_dir().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            if entry.file_type().map_err(failed)?.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "dtb") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
