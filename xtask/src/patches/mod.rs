//! `cargo xtask mutants --patch FILE`: bugs as patch files, put into a scratch copy that tests must then fail on.

mod file;
mod scratch;
mod trial;

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::outcome::{Outcome, Trouble};
use crate::tool::root;
use file::Patch;
use scratch::Scratch;
use trial::{Trial, Verdict};

/// Folder of the repository's own patches.
const OWN: &str = "mutants";

/// The repository's patches that this commit's turn falls on: `count` of them, so that all have been run after a few commits.
pub(crate) fn sample(count: usize) -> Outcome {
    let all = own()?;
    let turn = crate::tool::output(
        std::process::Command::new("git").args(["rev-list", "--count", "HEAD"]).current_dir(root()),
    )
    .ok()
    .and_then(|n| n.trim().parse::<usize>().ok())
    .unwrap_or(0);
    let first = turn.wrapping_mul(count) % all.len().max(1);
    run(&all.iter().cycle().skip(first).take(count.min(all.len())).cloned().collect::<Vec<_>>())
}

/// All patches of the repository, by name.
pub(crate) fn own() -> Result<Vec<PathBuf>, Trouble> {
    patches_in(&root().join(OWN))
}

fn patches_in(folder: &Path) -> Result<Vec<PathBuf>, Trouble> {
    let entries = std::fs::read_dir(folder).map_err(|e| Trouble::Broken(format!("{}: {e}", folder.display())))?;
    let mut files: Vec<PathBuf> =
        entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.extension().is_some_and(|x| x == "patch")).collect();
    files.sort();
    Ok(files)
}

/// Runs the patches in `files`; a folder stands for the patches in it. Fails when one survives, no longer applies, or does
/// not compile.
pub(crate) fn run(files: &[PathBuf]) -> Outcome {
    let mut paths = Vec::new();
    for path in files {
        if path.is_dir() { paths.extend(patches_in(path)?) } else { paths.push(path.clone()) }
    }
    let patches = paths.iter().map(|p| Patch::read(p)).collect::<Result<Vec<_>, _>>()?;
    let scratch = Scratch::prepare()?;
    let mut trial = Trial::new(&scratch);
    let mut bad = Vec::new();
    for (at, patch) in patches.iter().enumerate() {
        eprintln!("[{} of {}] {}: breaks {}", at + 1, patches.len(), patch.name, patch.breaks);
        let begun = Instant::now();
        let verdict = trial.run(patch)?;
        println!("{:40} {:8} {verdict}  ({} s)", patch.name, patch.breaks, begun.elapsed().as_secs());
        if !matches!(verdict, Verdict::Killed { .. }) {
            bad.push(patch.name.as_str());
        }
    }
    println!("killed {} of {}", patches.len() - bad.len(), patches.len());
    if bad.is_empty() { Ok(()) } else { Err(Trouble::Failed(bad.join(", "))) }
}
