//! `cargo xtask dtbs`: real device trees, several hundred of them.
//!
//! Debian's kernel packages for arm64 and 32-bit arm carry the trees of every board that they support. Each one is described,
//! and nodes, registers, interrupts, DMA windows, coherence and suppliers are compared with what an independent reader finds
//! in the source that `dtc` makes of it. A machine without drivers takes each one in, and `bindery tree` draws it.

mod boards;
mod check;
mod compare;
mod facts;
mod fetch;
mod machine;
mod source;
mod walk;

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::cargo::Cargo;
use crate::outcome::{Outcome, Trouble};
use check::Totals;
use fetch::Arch;
pub(crate) use fetch::compiler;

/// Failures that are printed.
const SHOWN: usize = 20;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Check the `.dtb` files below this directory instead of Debian's
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Check Debian's trees of these architectures
    #[arg(long, value_enum, conflicts_with = "dir", default_values_t = [Arch::Arm64, Arch::Armhf])]
    arch: Vec<Arch>,
    /// Print the notes of each tree, too
    #[arg(long)]
    notes: bool,
    /// Instead, build the trees of Renesas' boards from Debian's `linux-source-6.1`, and run the main job on them
    #[arg(long, conflicts_with_all = ["dir", "arch", "notes"])]
    boards: bool,
}

impl Args {
    /// The trees of Renesas' boards.
    pub(crate) fn boards() -> Self {
        Self { boards: true, ..Self::default() }
    }
}

impl Default for Args {
    fn default() -> Self {
        Self { dir: None, arch: vec![Arch::Arm64, Arch::Armhf], notes: false, boards: false }
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    compiler()?;
    Cargo::new("build --quiet --package bindery-cli").run()?;
    if args.boards {
        return boards::run();
    }
    if let Some(dir) = &args.dir {
        return all(dir, args.notes);
    }
    let mut outcome = Ok(());
    for arch in &args.arch {
        let done = fetch::debian(*arch).and_then(|dir| all(&dir, args.notes));
        outcome = outcome.and(done);
    }
    outcome
}

/// Checks all trees below a directory.
fn all(dir: &Path, notes: bool) -> Outcome {
    let blobs = blobs(dir)?;
    if blobs.is_empty() {
        return Err(Trouble::Broken(format!("{}: no .dtb files below", dir.display())));
    }
    let start = Instant::now();
    let mut totals = Totals::default();
    for path in &blobs {
        check::tree(path, notes, &mut totals)?;
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
    println!(
        "compared: {} registers, {} interrupts, {} DMA windows, {} suppliers",
        totals.compared.registers, totals.compared.interrupts, totals.compared.windows, totals.compared.suppliers
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
