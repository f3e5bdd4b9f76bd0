//! `cargo xtask long mutants`: mutants that `cargo mutants` makes, all of the modules that hold the promises and a sample of
//! the others; and those of the lines that a change touches, for the gate.

mod mutant;
mod results;
mod stage;
mod switched;
mod tool;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::outcome::{Outcome, Trouble};
use crate::tool::{output, root, target};
use mutant::Mutant;
use results::{Fate, Results};
use stage::{Stage, stages};
use switched::Switches;
use tool::{BATCH, Tool};

/// Folder of the campaign below `target`.
const FOLDER: &str = "campaign";

/// Mutants that go through all stages before the next ones begin.
const PART: usize = 4 * BATCH;

/// Variable that names the commit that a change is compared with.
const BASE: &str = "MUTANTS_BASE";

/// Mutants of a change that the gate tries at most, and the time after which it begins no other batch.
const GATE: (usize, Duration) = (8, Duration::from_secs(100));

#[derive(clap::Args, Default)]
#[expect(clippy::struct_excessive_bools, reason = "options of a command line")]
pub(crate) struct Args {
    /// Try the K-th of N equal parts only, from 1
    #[arg(long, value_name = "K/N", value_parser = shard)]
    shard: Option<(usize, usize)>,
    /// Try mutants of this module of the core, or of this package, only
    #[arg(long, value_name = "NAME")]
    area: Vec<String>,
    /// Begin no other batch after so many seconds
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Forget the results of an interrupted campaign instead of going on with it
    #[arg(long)]
    fresh: bool,
    /// Try again those that were missed or did not end in time
    #[arg(long)]
    again: bool,
    /// Leave out the tests of whole systems, which take a minute and more a mutant
    #[arg(long)]
    unit: bool,
    /// Try them all in one build, each behind a switch; what has none is told, and left to a call without this
    #[arg(long)]
    switched: bool,
    /// With `--switched`: mutants that are tried at a time
    #[arg(long, value_name = "N", default_value = "2")]
    at_a_time: usize,
    /// With `--switched`: the tests of whole systems only, for those that the unit tests have missed
    #[arg(long, conflicts_with = "unit")]
    systems: bool,
    /// With `--switched`: leave out tests that take longer than so many seconds by themselves
    #[arg(long, value_name = "N", default_value = "600")]
    longest: u64,
    /// Try what the gate tries: some mutants of the lines that differ from the commit before, or from `MUTANTS_BASE`
    #[arg(long, exclusive = true)]
    changed: bool,
    /// Print the results so far, and try none
    #[arg(long, conflicts_with_all = ["fresh", "again", "seconds"])]
    report: bool,
}

impl Args {
    /// Those of `all` that belong to the campaign, in its order, and to the part that is asked for.
    fn chosen(&self, all: Vec<Mutant>) -> Vec<Mutant> {
        let mut mutants = mutant::campaign(all);
        if let Some((k, n)) = self.shard {
            mutants = mutants.into_iter().skip(k - 1).step_by(n).collect();
        }
        mutants.retain(|mutant| self.area.is_empty() || self.area.iter().any(|area| area == mutant.area()));
        mutants
    }
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    match parts {
        Some((k, n)) if (1..=n).contains(&k) => Ok((k, n)),
        _ => Err("not K/N with K from 1 to N".into()),
    }
}

/// Runs the campaign, or goes on with it. Fails when a mutant is missed.
pub(crate) fn run(args: &Args) -> Outcome {
    if args.changed {
        return changed();
    }
    let path = target().join(FOLDER).join("results.tsv");
    if args.report {
        let results = Results::read(path)?;
        results.report(&args.chosen(tool::listed()?));
        return Ok(());
    }
    let mut tool = Tool::prepare(FOLDER)?;
    if args.fresh && path.exists() {
        fs::remove_file(&path).map_err(|e| Trouble::Broken(format!("{}: {e}", path.display())))?;
    }
    let mut results = Results::read(path)?;
    let mutants = args.chosen(tool.list(None)?);
    let due: Vec<_> = mutants
        .iter()
        .filter(|mutant| match results.fate(mutant) {
            None => true,
            Some(Fate::Missed) => args.again || args.systems,
            Some(Fate::TimedOut) => args.again,
            Some(_) => false,
        })
        .cloned()
        .collect();
    println!("{} mutants, {} to try", mutants.len(), due.len());
    if args.switched {
        switched(args, &due, &mut results)?;
        results.report(&mutants);
        return Ok(());
    }
    let deadline = args.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    try_all(&mut tool, &due, if args.unit { 1 } else { usize::MAX }, deadline, |mutant, fate| {
        results.set(mutant, fate);
        results.save()
    })?;
    results.report(&mutants);
    let missed = mutants.iter().filter(|mutant| results.fate(mutant) == Some(Fate::Missed)).count();
    if missed == 0 { Ok(()) } else { Err(Trouble::Failed(format!("{missed} mutants were missed"))) }
}

/// Tries `due` in one build.
fn switched(args: &Args, due: &[Mutant], results: &mut Results) -> Outcome {
    let mut switches = Switches::prepare("switched", due)?;
    let mut open: BTreeSet<usize> = (0..switches.mutants.len()).collect();
    for depth in usize::from(args.systems)..if args.unit { 1 } else { 2 } {
        // Stages in their order, each with the package that it is for.
        let mut groups: BTreeMap<(Stage, String), Vec<usize>> = BTreeMap::new();
        for n in &open {
            let mutant = &switches.mutants[*n];
            if let Some(stage) = stages(mutant).get(depth) {
                groups.entry((*stage, mutant.package.clone())).or_default().push(*n);
            }
        }
        for ((stage, package), list) in groups {
            let begin = Instant::now();
            let suite =
                switched::suite(&mut switches, &stage, &package, args.at_a_time, Duration::from_secs(args.longest))?;
            for n in switches.unviable.drain(..) {
                open.remove(&n);
                results.set(&switches.mutants[n], Fate::Unviable);
            }
            for n in &switches.aside {
                open.remove(n);
            }
            println!(
                "built and measured after {} s; {} without a switch",
                begin.elapsed().as_secs(),
                switches.aside.len()
            );
            let list = list.into_iter().filter(|n| open.contains(n)).collect();
            let found = Mutex::new((&mut open, &mut *results, 0));
            suite.try_all(&switches, &stage, list, args.at_a_time, |n, fate| {
                let Ok(mut found) = found.lock() else { return Ok(()) };
                if fate != Fate::Missed {
                    found.0.remove(&n);
                }
                found.1.set(&switches.mutants[n], fate);
                found.2 += 1;
                if found.2 % 50 == 0 { found.1.save() } else { Ok(()) }
            })?;
            results.save()?;
            println!("{}, {package}: {} s", stage.name, begin.elapsed().as_secs());
        }
    }
    for n in &switches.aside {
        println!("no switch: {}", switches.mutants[*n].name);
    }
    Ok(())
}

/// Mutants of the lines that differ from the commit before, or from the one that `MUTANTS_BASE` names: a few of them, chosen
/// by the commit, when there are many. Fails when one is missed.
pub(crate) fn changed() -> Outcome {
    let git = |args: &[&str]| output(Command::new("git").args(args).current_dir(root()));
    let named = std::env::var(BASE).ok();
    if named.is_none() && git(&["rev-parse", "--verify", "--quiet", "HEAD^"]).is_err() {
        println!("no earlier commit here to compare with ({BASE} names one)");
        return Ok(());
    }
    let base = named.unwrap_or_else(|| "HEAD^".into());
    let diff = git(&["diff", "--no-ext-diff", &base, "--", "*.rs"])?;
    if diff.trim().is_empty() {
        println!("no line of Rust differs from {base}");
        return Ok(());
    }
    let folder = target().join(FOLDER);
    let file = folder.join("change.diff");
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&file, diff))
        .map_err(|e| Trouble::Broken(format!("{}: {e}", file.display())))?;
    gate(&file, &base)
}

fn gate(diff: &Path, base: &str) -> Outcome {
    // The copy of the patches, so that packages from outside are built once.
    let mut tool = Tool::prepare("patched")?;
    let mut mutants = tool.list(Some(diff))?;
    let all = mutants.len();
    let seed = output(Command::new("git").args(["rev-list", "--count", "HEAD"]).current_dir(root()));
    mutant::shuffle(&mut mutants, seed.ok().and_then(|n| n.trim().parse().ok()).unwrap_or(0));
    mutants.truncate(GATE.0);
    println!("{all} mutants of lines that differ from {base}, {} to try", mutants.len());
    let (mut tried, mut missed) = (0, Vec::new());
    try_all(&mut tool, &mutants, usize::MAX, Some(Instant::now() + GATE.1), |mutant, fate| {
        tried += 1;
        if fate == Fate::Missed {
            missed.push(mutant.name.clone());
        }
        Ok(())
    })?;
    // The others have survived what there was time for, or had no turn.
    println!("{tried} decided, {} missed", missed.len());
    if missed.is_empty() {
        return Ok(());
    }
    let what = "no test notices; write one, or exclude the function in .cargo/mutants.toml with the reason";
    Err(Trouble::Failed(format!("{what}:\n{}", missed.join("\n"))))
}

/// Tries `mutants`, each with its first `depth` stages until one notices it, and tells `each` its fate.
fn try_all(
    tool: &mut Tool,
    mutants: &[Mutant],
    depth: usize,
    deadline: Option<Instant>,
    mut each: impl FnMut(&Mutant, Fate) -> Outcome,
) -> Outcome {
    // Not all through the first stage and then all through the next: an interruption would lose the survivors.
    for part in mutants.chunks(PART) {
        let mut subjects: BTreeMap<(&str, &str), Vec<Mutant>> = BTreeMap::new();
        for mutant in part {
            subjects.entry((&mutant.package, mutant.subject())).or_default().push(mutant.clone());
        }
        for mut list in subjects.into_values() {
            let all: &[Stage] = list.first().map_or(&[], stages);
            let all = &all[..depth.min(all.len())];
            for (at, stage) in all.iter().enumerate() {
                let mut survivors = Vec::new();
                for batch in list.chunks(stage.batch()) {
                    if deadline.is_some_and(|at| Instant::now() >= at) {
                        return Ok(());
                    }
                    for (mutant, fate) in tool.run(stage, batch)? {
                        if fate == Fate::Missed && at + 1 < all.len() {
                            survivors.push(mutant);
                        } else {
                            each(&mutant, fate)?;
                        }
                    }
                }
                list = survivors;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_one_of_n() {
        assert_eq!(shard("2/3"), Ok((2, 3)));
        for wrong in ["0/3", "4/3", "3", "a/b", "1/0", ""] {
            assert!(shard(wrong).is_err(), "{wrong}");
        }
    }
}
