//! The engine: explores the tree of choices on all cores, and reports.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bindery::promise::Promise;

use super::bounds::{Bounded, Bounds};
use super::chooser::Chooser;
use super::execute::execute;
use super::execution::{Execution, Plan, Settings};
use super::exploration::{Exploration, Stop};
use super::path::Path;
use super::progress::Progress;
use super::replay::{Replay, Step};
use super::report::{Finding, Mode, Report};
use super::shard::Shard;
use super::tally::Tally;
use super::violation::Violation;
use super::visited::Visited;

/// Receives progress reports.
type OnProgress = Box<dyn Fn(&Progress) + Send + Sync>;

/// Explores a scenario.
///
/// ```
/// use bindery::promise::Promise;
/// use bindery_explore::{Bounded, Engine};
///
/// // Two fallible calls, and a clean-up that forgets the second.
/// let report = Engine::new("two calls").faults(1).run(|ch| {
///     let first = !ch.fault("first");
///     let second = first && !ch.fault("second");
///     let left = if first && !second { 1 } else { 0 };
///     ch.check(Promise::NothingLeft, left == 0, "leak", || format!("{left} left"))
/// });
/// assert!(report.complete());
/// assert_eq!(report.findings[0].path.to_string(), "0.1");
/// ```
pub struct Engine {
    name: String,
    pub(super) bounds: Bounds,
    pub(super) threads: usize,
    pub(super) shard: Option<Shard>,
    required: Vec<String>,
    allowed_unreached: Vec<String>,
    pub(super) hashes: bool,
    pub(super) first: bool,
    pub(super) cancel: Arc<AtomicBool>,
    pub(super) every: Duration,
    pub(super) progress: Option<OnProgress>,
}

impl Bounded for Engine {
    fn bounds_mut(&mut self) -> &mut Bounds {
        &mut self.bounds
    }
}

impl Engine {
    /// An engine with the default [`Bounds`], on all cores.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            bounds: Bounds::default(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            shard: None,
            required: Vec::new(),
            allowed_unreached: Vec::new(),
            hashes: true,
            first: false,
            cancel: Arc::default(),
            every: Duration::from_millis(200),
            progress: None,
        }
    }

    /// Explores on this many threads; at least one.
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        Self { threads: threads.max(1), ..self }
    }

    /// Explores one part of the tree. The parts, each explored once anywhere, are the whole.
    #[must_use]
    pub fn shard(self, shard: Option<Shard>) -> Self {
        Self { shard, ..self }
    }

    /// Requires coverage points: names given to [`Chooser::cover`], `fault NAME`, `preemption NAME`. An exploration that
    /// does not reach one of them does not pass.
    #[must_use]
    pub fn require<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.required.extend(names.into_iter().map(Into::into));
        self
    }

    /// Allows coverage points to stay unreached. Without this, each fault or preemption point that is met has to take a
    /// non-default choice at least once.
    #[must_use]
    pub fn allow_unreached<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.allowed_unreached.extend(names.into_iter().map(Into::into));
        self
    }

    /// Executes every path to its end, whatever states it meets.
    #[must_use]
    pub fn without_hashing(self) -> Self {
        Self { hashes: false, ..self }
    }

    /// Stops at the first path on which something is found. With one [thread](Self::threads) that is always the same one.
    #[must_use]
    pub fn first_only(self) -> Self {
        Self { first: true, ..self }
    }

    /// Stops when the flag is set, and reports the results until then.
    #[must_use]
    pub fn cancelled_by(self, cancel: Arc<AtomicBool>) -> Self {
        Self { cancel, ..self }
    }

    /// Calls `report` about five times a second.
    #[must_use]
    pub fn progress(self, report: impl Fn(&Progress) + Send + Sync + 'static) -> Self {
        Self { progress: Some(Box::new(report)), ..self }
    }

    /// Explores `scenario`. It is executed once for each path, on several threads at once, and must be deterministic: see
    /// [`Chooser::choose`]. A panic in it is a finding.
    pub fn run<F>(&self, scenario: F) -> Report
    where
        F: Fn(&Chooser) -> Result<(), Violation> + Sync,
    {
        let began = Instant::now();
        let visited = self.hashes.then(|| Arc::new(Visited::new(self.bounds.states)));
        let mut work = Exploration::new(self, &scenario, self.bounds.clone(), visited.clone(), began);
        work.exhaust(self.shard);
        let mut tally = std::mem::take(&mut work.tally);
        let stopped = work.stopped();
        let explored = tally.paths;
        let mode = match stopped {
            None => Mode::Exhaustive,
            Some(why) if matches!(why, Stop::Cancelled | Stop::Found) || self.bounds.samples == 0 => {
                Mode::Partial { why: why.text() }
            }
            Some(why) => {
                tally.merge(work.sample(self.shard));
                Mode::Sampled { why: why.text(), explored, samples: tally.paths - explored, seed: self.bounds.seed }
            }
        };
        let findings = if tally.diverged.is_some() { Vec::new() } else { self.findings(&scenario, &tally) };
        self.report(tally, mode, visited.as_deref(), findings, began)
    }

    /// Executes one path with logging on. The bounds do not apply: the path has all choices.
    pub fn replay<F>(&self, path: &Path, scenario: F) -> Replay
    where
        F: Fn(&Chooser) -> Result<(), Violation>,
    {
        let settings = Settings {
            bounds: Bounds { non_default: None, depth: None, ..self.bounds.clone() },
            visited: None,
            replayed: 0,
            prunes: false,
            logs: true,
            enforces_bounds: false,
        };
        execute(&scenario, Execution::new(Plan::Follow(path.choices().to_vec()), settings)).finish(|run| Replay {
            steps: run.trail.iter().map(|t| Step { kind: t.kind, what: t.what, choice: t.choice }).collect(),
            trace: std::mem::take(&mut run.trace),
            events: std::mem::take(&mut run.events),
            violations: run.violations.drain(..).map(|(violation, _)| violation).collect(),
            diverged_at: run.diverged_at,
        })
    }

    fn report(
        &self,
        mut tally: Tally,
        mode: Mode,
        visited: Option<&Visited>,
        findings: Vec<Finding>,
        began: Instant,
    ) -> Report {
        let injected = tally.injected();
        let mut coverage: BTreeMap<String, u64> =
            tally.covered.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
        for (name, count) in injected {
            *coverage.entry(name).or_insert(0) += count;
        }
        coverage.retain(|name, count| *count > 0 || !self.allowed_unreached.contains(name));
        let checks = Promise::ALL.iter().zip(tally.checks).filter(|(_, count)| *count > 0);
        let mut report = Report {
            name: self.name.clone(),
            mode,
            bounds: self.bounds.clone(),
            shard: self.shard,
            paths: tally.paths,
            pruned: tally.pruned,
            truncated: tally.truncated,
            states: visited.map_or(0, Visited::states),
            states_full: visited.is_some_and(Visited::full),
            longest_path: tally.longest_path,
            choice_points: tally.choice_points,
            millis: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            checks: checks.map(|(promise, count)| (promise.id().to_owned(), count)).collect(),
            coverage,
            required: self.required.clone(),
            missing: Vec::new(),
            findings,
            further: tally.further,
            diverged: tally.diverged,
        };
        if report.shard.is_none() {
            report.find_missing();
        }
        report
    }
}
