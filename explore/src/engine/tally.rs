//! Sums over the executions of one worker.

use std::collections::{BTreeMap, HashMap};

use bindery::promise::Promise;

use super::bounds::Kind;
use super::execution::Execution;
use super::hasher::BuildFastHasher;
use super::path::Path;

/// Findings kept apart; further kinds are counted only.
const KINDS: usize = 256;

/// One kind of violation.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) path: Path,
    pub(super) times: u64,
    /// Description of the violation on that path.
    pub(super) detail: String,
}

/// `(promise or "panic", kind)`.
pub(super) type Key = (&'static str, String);

/// Sums over executions.
#[derive(Default, Debug)]
pub(super) struct Tally {
    pub(super) paths: u64,
    pub(super) pruned: u64,
    pub(super) truncated: u64,
    pub(super) longest_path: u64,
    pub(super) choice_points: u64,
    pub(super) mass: f64,
    pub(super) checks: [u64; Promise::COUNT],
    pub(super) covered: HashMap<&'static str, u64>,
    /// Choice points of the bounded kinds, with the number of non-default choices taken there.
    injected: HashMap<(Kind, usize, usize), (&'static str, u64), BuildFastHasher>,
    pub(super) found: BTreeMap<Key, Found>,
    pub(super) further: u64,
    pub(super) diverged: Option<String>,
}

impl Tally {
    /// Adds one finished execution.
    pub(super) fn add(&mut self, run: &mut Execution) {
        self.paths += 1;
        self.pruned += u64::from(run.seen);
        self.truncated += u64::from(run.truncated);
        self.longest_path = self.longest_path.max(run.trail.len() as u64);
        self.choice_points += run.choice_points;
        self.mass +=
            run.trail.iter().filter(|t| t.alternatives > 1).map(|t| 1.0 / f64::from(t.alternatives)).product::<f64>();
        for (sum, count) in self.checks.iter_mut().zip(run.checks) {
            *sum += count;
        }
        for (name, count) in run.covered.drain() {
            *self.covered.entry(name).or_insert(0) += count;
        }
        for taken in &run.trail {
            if matches!(taken.kind, Kind::Fault | Kind::Preemption) {
                self.count_injections(taken.kind, taken.what, u64::from(taken.choice != 0));
            }
        }
        for (violation, end) in std::mem::take(&mut run.violations) {
            let path = run.path(end);
            let key = (violation.promise_id(), violation.kind);
            self.find(key, Found { path, times: 1, detail: violation.detail });
        }
    }

    fn find(&mut self, key: Key, found: Found) {
        let full = self.found.len() >= KINDS;
        if let Some(known) = self.found.get_mut(&key) {
            known.times += found.times;
            if found.path.cost() < known.path.cost() {
                (known.path, known.detail) = (found.path, found.detail);
            }
        } else if full {
            self.further += found.times;
        } else {
            self.found.insert(key, found);
        }
    }

    /// Counts by the address of the name, which is cheaper than by its text; [`Self::injected`] merges equal names.
    fn count_injections(&mut self, kind: Kind, what: &'static str, count: u64) {
        self.injected.entry((kind, what.as_ptr() as usize, what.len())).or_insert((what, 0)).1 += count;
    }

    /// Takes out the choice points of the bounded kinds, with the number of non-default choices taken at each.
    pub(super) fn injected(&mut self) -> impl Iterator<Item = (String, u64)> + use<> {
        std::mem::take(&mut self.injected)
            .into_iter()
            .map(|((kind, ..), (what, count))| (format!("{kind} {what}"), count))
    }

    /// Adds another worker's sums.
    pub(super) fn merge(&mut self, other: Self) {
        self.paths += other.paths;
        self.pruned += other.pruned;
        self.truncated += other.truncated;
        self.longest_path = self.longest_path.max(other.longest_path);
        self.choice_points += other.choice_points;
        self.mass += other.mass;
        self.further += other.further;
        for (sum, count) in self.checks.iter_mut().zip(other.checks) {
            *sum += count;
        }
        for (name, count) in other.covered {
            *self.covered.entry(name).or_insert(0) += count;
        }
        for ((kind, ..), (what, count)) in other.injected {
            self.count_injections(kind, what, count);
        }
        for (key, found) in other.found {
            self.find(key, found);
        }
        if self.diverged.is_none() {
            self.diverged = other.diverged;
        }
    }
}
