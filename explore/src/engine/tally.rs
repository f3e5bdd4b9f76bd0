//! What the runs of one worker add up to.

use std::collections::{BTreeMap, HashMap};

use bindery::promise::Promise;

use super::bounds::Kind;
use super::cheap::BuildCheap;
use super::path::Path;
use super::run::Run;

/// Findings kept apart; further kinds are counted only.
const KINDS: usize = 256;

/// One kind of violation.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) path: Path,
    pub(super) times: u64,
    /// What was seen on that path.
    pub(super) detail: String,
}

/// `(promise or "panic", kind)`.
pub(super) type Key = (&'static str, String);

/// Sums over runs.
#[derive(Default, Debug)]
pub(super) struct Tally {
    pub(super) paths: u64,
    pub(super) pruned: u64,
    pub(super) cut: u64,
    pub(super) longest: u64,
    pub(super) questions: u64,
    pub(super) mass: f64,
    pub(super) checks: [u64; Promise::COUNT],
    pub(super) marks: HashMap<&'static str, u64>,
    /// Questions of the rationed kinds, and how often they were answered otherwise than 0.
    struck: HashMap<(Kind, usize, usize), (&'static str, u64), BuildCheap>,
    pub(super) found: BTreeMap<Key, Found>,
    pub(super) more: u64,
    pub(super) strayed: Option<String>,
}

impl Tally {
    /// Takes in one finished run.
    pub(super) fn add(&mut self, run: &mut Run) {
        self.paths += 1;
        self.pruned += u64::from(run.seen);
        self.cut += u64::from(run.cut);
        self.longest = self.longest.max(run.trail.len() as u64);
        self.questions += run.questions;
        self.mass += run.trail.iter().filter(|t| t.open > 1).map(|t| 1.0 / f64::from(t.open)).product::<f64>();
        for (sum, count) in self.checks.iter_mut().zip(run.checks) {
            *sum += count;
        }
        for (mark, count) in run.marks.drain() {
            *self.marks.entry(mark).or_insert(0) += count;
        }
        for taken in &run.trail {
            if matches!(taken.kind, Kind::Fault | Kind::Interrupt) {
                self.strike(taken.kind, taken.what, u64::from(taken.answer != 0));
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
            self.more += found.times;
        } else {
            self.found.insert(key, found);
        }
    }

    /// Counts by the place of the name in memory, which is cheaper than by its letters; [`Self::struck`] brings names together.
    fn strike(&mut self, kind: Kind, what: &'static str, count: u64) {
        self.struck.entry((kind, what.as_ptr() as usize, what.len())).or_insert((what, 0)).1 += count;
    }

    /// Takes the questions of the rationed kinds out, and how often each was answered otherwise than 0.
    pub(super) fn struck(&mut self) -> impl Iterator<Item = (String, u64)> + use<> {
        std::mem::take(&mut self.struck)
            .into_iter()
            .map(|((kind, ..), (what, count))| (format!("{kind} {what}"), count))
    }

    /// Adds another worker's sums.
    pub(super) fn merge(&mut self, other: Self) {
        self.paths += other.paths;
        self.pruned += other.pruned;
        self.cut += other.cut;
        self.longest = self.longest.max(other.longest);
        self.questions += other.questions;
        self.mass += other.mass;
        self.more += other.more;
        for (sum, count) in self.checks.iter_mut().zip(other.checks) {
            *sum += count;
        }
        for (mark, count) in other.marks {
            *self.marks.entry(mark).or_insert(0) += count;
        }
        for ((kind, ..), (what, count)) in other.struck {
            self.strike(kind, what, count);
        }
        for (key, found) in other.found {
            self.find(key, found);
        }
        if self.strayed.is_none() {
            self.strayed = other.strayed;
        }
    }
}
