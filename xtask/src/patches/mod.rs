//! `cargo xtask mutants`: bugs as patch files, put into a scratch copy that tests must then fail on.

mod file;
mod page;
mod scratch;
mod trial;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::outcome::{Outcome, Trouble};
use crate::tool::{output, root};
use file::Patch;
use trial::{Trial, Verdict};

pub(crate) use page::{check, update};
pub(crate) use scratch::Scratch;
pub(crate) use trial::PROFILE;

/// Folder of the repository's own patches.
const OWN: &str = "mutants";

/// Number of commits within which a change counts as new.
const RECENT: &str = "12";

/// A few of the repository's patches: `count` of those whose files have changed lately, and one of the others. Which of them
/// changes with each commit, so that all have their turn.
pub(crate) fn sample(count: usize) -> Outcome {
    let git = |args: &[&str]| output(Command::new("git").args(args).current_dir(root()));
    let turn = git(&["rev-list", "--count", "HEAD"]).ok().and_then(|n| n.trim().parse().ok()).unwrap_or(0);
    // A copy without history has no recent changes; the others still have their turn.
    let changed = git(&["log", "-n", RECENT, "--name-only", "--format="]).unwrap_or_default();
    let changed: BTreeSet<&str> = changed.lines().collect();
    let (due, others): (Vec<_>, Vec<_>) =
        own()?.into_iter().partition(|patch| patch.files.iter().any(|file| changed.contains(file.as_str())));
    let mut chosen = in_turn(due, turn, count);
    chosen.extend(in_turn(others, turn, 1));
    run(&chosen, false)
}

/// `count` of `patches`, others each turn.
fn in_turn(mut patches: Vec<Patch>, turn: usize, count: usize) -> Vec<Patch> {
    let first = turn.wrapping_mul(count) % patches.len().max(1);
    patches.rotate_left(first);
    patches.truncate(count);
    patches
}

/// The repository's patches called `names`, or all of them.
pub(crate) fn named(names: &[String], json: bool) -> Outcome {
    let mut patches = own()?;
    if let Some(unknown) = names.iter().find(|name| patches.iter().all(|patch| patch.name != **name)) {
        let known: Vec<_> = patches.iter().map(|patch| patch.name.as_str()).collect();
        return Err(Trouble::Broken(format!("there is no {OWN}/{unknown}.patch; there are: {}", known.join(", "))));
    }
    patches.retain(|patch| names.is_empty() || names.contains(&patch.name));
    run(&patches, json)
}

/// The patches in `files`; a folder stands for the patches in it.
pub(crate) fn files(files: &[PathBuf], json: bool) -> Outcome {
    let mut patches = Vec::new();
    for path in files {
        if path.is_dir() { patches.extend(patches_in(path)?) } else { patches.push(Patch::read(path)?) }
    }
    run(&patches, json)
}

/// All patches of the repository, by name.
fn own() -> Result<Vec<Patch>, Trouble> {
    patches_in(&root().join(OWN))
}

fn patches_in(folder: &Path) -> Result<Vec<Patch>, Trouble> {
    let entries = std::fs::read_dir(folder).map_err(|e| Trouble::Broken(format!("{}: {e}", folder.display())))?;
    let mut files: Vec<PathBuf> =
        entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.extension().is_some_and(|x| x == "patch")).collect();
    files.sort();
    files.iter().map(|file| Patch::read(file)).collect()
}

/// Tries `patches`. Fails when one survives, is seen otherwise than it says, no longer applies, or does not compile.
fn run(patches: &[Patch], json: bool) -> Outcome {
    let scratch = Scratch::prepare("patched")?;
    let trial = Trial::new(&scratch);
    let useless = trial.check_unpatched(patches)?;
    let mut rows = Vec::new();
    let mut bad = Vec::new();
    for (at, patch) in patches.iter().enumerate() {
        eprintln!("[{} of {}] {}: breaks {}", at + 1, patches.len(), patch.name, patch.breaks);
        let begun = Instant::now();
        let verdict = trial.run(patch, &useless)?;
        let seconds = begun.elapsed().as_secs();
        if json {
            rows.push(page::row(patch, &verdict, seconds));
        } else {
            println!("{:40} {:8} {verdict}  ({seconds} s)", patch.name, patch.breaks);
        }
        if !matches!(verdict, Verdict::Killed { .. }) {
            bad.push(patch.name.as_str());
        }
    }
    if json {
        println!("[{}]", rows.join(",\n "));
    } else {
        println!("killed {} of {}", patches.len() - bad.len(), patches.len());
    }
    if bad.is_empty() { Ok(()) } else { Err(Trouble::Failed(bad.join(", "))) }
}
