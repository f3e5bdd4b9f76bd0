//! Report of an exploration: the findings, the bounds, the coverage.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::bounds::Bounds;
use super::path::Path;
use super::shard::Shard;

/// Method by which the paths were chosen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "kebab-case")]
pub enum Mode {
    /// Every path within the bounds was executed, or led into a state that was explored.
    Exhaustive,
    /// The exhaustive exploration ended early, and the rest is unknown.
    Partial {
        /// Reason.
        why: String,
    },
    /// The exhaustive exploration ended early, and random paths followed.
    Sampled {
        /// Reason.
        why: String,
        /// Paths of the exhaustive part.
        explored: u64,
        /// Random paths.
        samples: u64,
        /// Their seed.
        seed: u64,
    },
}

/// One kind of broken promise.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// `"P1"` to `"P14"`, or `"panic"`.
    pub promise: String,
    /// The kind of breach, as the scenario named it.
    pub kind: String,
    /// Description of the violation on the path below.
    pub detail: String,
    /// The shortest path known: fewest non-default choices, then fewest choices.
    pub path: Path,
    /// Set when every path with fewer non-default choices is known not to lead there.
    pub shortest: bool,
    /// Number of paths on which it was seen.
    pub times: u64,
    /// The trace of the path, line by line.
    pub trace: Vec<String>,
}

/// Report of an exploration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Name of the scenario.
    pub name: String,
    /// Method by which the paths were chosen.
    #[serde(flatten)]
    pub mode: Mode,
    /// The bounds.
    pub bounds: Bounds,
    /// The part of the whole that was explored.
    pub shard: Option<Shard>,
    /// Paths executed.
    pub paths: u64,
    /// Number of these that ended in a state that was explored already.
    pub pruned: u64,
    /// Number of these that met the depth bound.
    pub truncated: u64,
    /// Different states met. In a merged report, states that several shards met count more than once.
    pub states: u64,
    /// Set when the table of states was full at some time, so that states may have been explored twice.
    pub states_full: bool,
    /// Most choice points on one path.
    pub longest_path: u64,
    /// Choice points of all paths together.
    pub choice_points: u64,
    /// Wall-clock time, in milliseconds; for a merged report, the sum.
    pub millis: u64,
    /// Number of checks of each promise, by its id.
    pub checks: BTreeMap<String, u64>,
    /// Number of times that each coverage point was reached; faults and preemptions as `fault NAME` and `preemption NAME`.
    pub coverage: BTreeMap<String, u64>,
    /// Coverage points that have to be reached.
    pub required: Vec<String>,
    /// Coverage points that had to be reached and were not. Empty in the report of one shard: only the merged report has them.
    pub missing: Vec<String>,
    /// Findings, by promise and kind.
    pub findings: Vec<Finding>,
    /// Violations of further kinds, beyond those that are kept apart.
    pub further: u64,
    /// The choice point at which the scenario was nondeterministic, if it was: the results are not valid then.
    pub diverged: Option<String>,
}

impl Report {
    /// Returns true when no promise was broken, the scenario was deterministic, and nothing was left unreached: an
    /// exploration that a bound ended early may still have reached the rest.
    pub fn passed(&self) -> bool {
        let reached = self.missing.is_empty() || !self.complete();
        self.findings.is_empty() && self.further == 0 && self.diverged.is_none() && reached
    }

    /// Returns true when every path within the bounds is explored.
    pub fn complete(&self) -> bool {
        self.mode == Mode::Exhaustive && self.truncated == 0 && self.diverged.is_none()
    }

    /// The coverage points that a report names as not reached: none while there are findings, since a path ends where a promise
    /// breaks, and points behind it are not reached for that reason. They were never reached when the exploration is
    /// [complete](Self::complete), else not yet.
    pub fn overlooked(&self) -> &[String] {
        if self.findings.is_empty() { &self.missing } else { &[] }
    }

    /// Lists required coverage points that were not reached.
    pub(super) fn find_missing(&mut self) {
        let reached = |name: &str| self.coverage.get(name).is_some_and(|&count| count > 0);
        let required = self.required.iter().filter(|name| !reached(name)).cloned();
        // A fault or preemption point that was met and never taken, although the bounds would have allowed it.
        let never = self.coverage.iter().filter(|&(name, &count)| {
            count == 0
                && (self.bounds.faults > 0 && name.starts_with("fault ")
                    || self.bounds.preemptions > 0 && name.starts_with("preemption "))
        });
        let mut missing: Vec<String> = required.chain(never.map(|(name, _)| name.clone())).collect();
        missing.sort();
        missing.dedup();
        self.missing = missing;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if let Some(shard) = self.shard {
            write!(f, ", shard {shard}")?;
        }
        writeln!(f)?;
        match &self.mode {
            Mode::Exhaustive => writeln!(f, "  mode: exhaustive, {}", Within(&self.bounds))?,
            Mode::Partial { why } => writeln!(f, "  mode: PARTIAL, {}: {why}", Within(&self.bounds))?,
            Mode::Sampled { why, explored, samples, seed } => writeln!(
                f,
                "  mode: SAMPLED, {}: {why} after {explored} paths; then {samples} random paths, seed {seed}",
                Within(&self.bounds)
            )?,
        }
        if self.truncated > 0 {
            writeln!(f, "  {} paths were longer than the depth bound and are known up to it only", self.truncated)?;
        }
        writeln!(
            f,
            "  {} paths ({} ended in a known state), {} states, at most {} choice points on a path, {}.{:03} s",
            self.paths,
            self.pruned,
            self.states,
            self.longest_path,
            self.millis / 1000,
            self.millis % 1000
        )?;
        let checks: Vec<String> = self.checks.iter().map(|(id, count)| format!("{id} x {count}")).collect();
        writeln!(f, "  checked: {}", if checks.is_empty() { "nothing".into() } else { checks.join(", ") })?;
        let reached = self.coverage.values().filter(|&&count| count > 0).count();
        writeln!(
            f,
            "  reached: {reached} of {} coverage points",
            self.coverage.len().max(reached + self.missing.len())
        )?;
        for name in self.overlooked() {
            writeln!(f, "  {}: {name}", if self.complete() { "NEVER REACHED" } else { "not reached yet" })?;
        }
        if let Some(diverged) = &self.diverged {
            writeln!(f, "  NONDETERMINISTIC: {diverged}")?;
        }
        for finding in &self.findings {
            let sure = if finding.shortest { "shortest path" } else { "shortest known path" };
            writeln!(f, "  BROKEN {}: {} ({} times)", finding.promise, finding.kind, finding.times)?;
            writeln!(f, "    {sure}: --replay {}", finding.path)?;
            for line in &finding.trace {
                writeln!(f, "    {line}")?;
            }
        }
        if self.further > 0 {
            writeln!(f, "  and {} violations of further kinds", self.further)?;
        }
        Ok(())
    }
}

/// The bounds in words.
struct Within<'a>(&'a Bounds);

impl fmt::Display for Within<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {} faults and {} preemptions on a path", self.0.faults, self.0.preemptions)?;
        if let Some(non_default) = self.0.non_default {
            write!(f, ", {non_default} non-default choices in all")?;
        }
        if let Some(depth) = self.0.depth {
            write!(f, ", {depth} choice points")?;
        }
        Ok(())
    }
}
