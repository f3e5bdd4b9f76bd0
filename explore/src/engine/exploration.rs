//! An exploration: workers that share the subtrees of the tree of choices.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::bounds::{Bounds, Kind};
use super::chooser::Chooser;
use super::estimate::Pace;
use super::execute::execute;
use super::execution::{ChoicePoint, Execution, Plan, Settings};
use super::explore::Engine;
use super::path::Path;
use super::progress::Progress;
use super::sample::{Draw, Length};
use super::shard::Shard;
use super::split::split;
use super::tally::Tally;
use super::violation::Violation;
use super::visited::Visited;
use super::walk::{Subtree, Walk};

/// Subtrees that the tree is split into, for each shard.
const SUBTREES: usize = 32;
/// Executions that splitting may take.
const CUTS: usize = 20_000;
/// Paths between two reports of a worker to the others.
const BATCH: u64 = 32;

/// Reason for which an exploration ended early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    Cancelled,
    Found,
    Paths(u64),
    Time(Duration),
    Diverged,
}

impl Stop {
    pub(super) fn text(self) -> String {
        match self {
            Self::Cancelled => "cancelled".into(),
            Self::Found => "something was found".into(),
            Self::Paths(most) => format!("the bound of {most} paths was met"),
            Self::Time(most) => format!("the time of {} s was over", most.as_secs_f64()),
            Self::Diverged => "the scenario is nondeterministic".into(),
        }
    }
}

/// Subtrees that wait for a worker.
#[derive(Default)]
struct Queue {
    subtrees: Vec<Subtree>,
    active: usize,
    finished: usize,
    stop: Option<Stop>,
}

/// Signals the end of a worker to the others, however it ended.
struct WorkerGuard<'a>(&'a Mutex<Queue>, &'a Condvar);

impl Drop for WorkerGuard<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).finished += 1;
        self.1.notify_all();
    }
}

/// One exploration of a tree, or of a part of it.
pub(super) struct Exploration<'a, F> {
    engine: &'a Engine,
    scenario: &'a F,
    bounds: Bounds,
    visited: Option<Arc<Visited>>,
    began: Instant,
    queue: Mutex<Queue>,
    changed: Condvar,
    idle: AtomicU64,
    started: AtomicU64,
    /// Explored mass, and the whole mass.
    done: Mutex<(f64, f64)>,
    pace: Mutex<Pace>,
    pub(super) tally: Tally,
    /// The exploration ends with the first finding.
    pub(super) first: bool,
    /// Progress is not reported.
    pub(super) silent: bool,
    /// The paths are random ones.
    sampling: bool,
}

impl<'a, F> Exploration<'a, F>
where
    F: Fn(&Chooser) -> Result<(), Violation> + Sync,
{
    pub(super) fn new(
        engine: &'a Engine,
        scenario: &'a F,
        bounds: Bounds,
        visited: Option<Arc<Visited>>,
        began: Instant,
    ) -> Self {
        Self {
            engine,
            scenario,
            bounds,
            visited,
            began,
            queue: Mutex::default(),
            changed: Condvar::new(),
            idle: AtomicU64::new(0),
            started: AtomicU64::new(0),
            done: Mutex::new((0.0, 1.0)),
            pace: Mutex::default(),
            tally: Tally::default(),
            first: engine.first,
            silent: false,
            sampling: false,
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stopped(&self) -> Option<Stop> {
        self.queue().stop
    }

    fn stop(&self, why: Stop) {
        self.queue().stop.get_or_insert(why);
        self.changed.notify_all();
    }

    fn settings(&self, replayed: usize, prunes: bool) -> Settings {
        Settings {
            bounds: self.bounds.clone(),
            visited: self.visited.clone(),
            replayed,
            prunes,
            logs: false,
            enforces_bounds: true,
        }
    }

    /// Explores the whole tree, or a shard of it.
    pub(super) fn exhaust(&mut self, shard: Option<Shard>) {
        let mut subtrees = vec![Subtree::whole()];
        if let Some(shard) = shard {
            let mut tally = Tally::default();
            let mut runs = 0;
            // No states here: what is known must not depend on which shard explored first.
            let cut = split(SUBTREES * shard.of() as usize, CUTS, |choices| {
                let mut settings = self.settings(0, false);
                settings.visited = None;
                let own = shard.owns(runs);
                runs += 1;
                execute(self.scenario, Execution::new(Plan::Follow(choices), settings)).finish(|run| {
                    let trail = run.trail.clone();
                    if own {
                        tally.add(run);
                    }
                    trail
                })
            });
            if let Some(diverged) = cut.diverged {
                tally.diverged = Some(divergence(diverged.at, &[]));
                self.stop(Stop::Diverged);
            }
            subtrees = cut.subtrees.into_iter().enumerate().filter(|(i, _)| shard.owns(*i)).map(|(_, p)| p).collect();
            self.started = AtomicU64::new(tally.paths);
            let all: f64 = subtrees.iter().map(Subtree::mass).sum::<f64>() + tally.mass;
            self.done = Mutex::new((tally.mass, all.max(f64::MIN_POSITIVE)));
            self.tally = tally;
        }
        subtrees.reverse();
        self.queue().subtrees = subtrees;
        let tally = self.run_workers(Self::worker);
        self.tally.merge(tally);
    }

    /// Executes random paths.
    pub(super) fn sample(&mut self, shard: Option<Shard>) -> Tally {
        *self.queue() = Queue::default();
        self.sampling = true;
        let length =
            execute(self.scenario, Execution::new(Plan::Follow(Vec::new()), self.settings(0, false))).finish(|run| {
                let count = |kind| run.trail.iter().filter(|t| t.kind == kind).count() as u64;
                Length { faults: count(Kind::Fault), preemptions: count(Kind::Preemption), orders: count(Kind::Order) }
            });
        let next = AtomicU64::new(0);
        self.run_workers(|work| {
            let mut tally = Tally::default();
            while work.stopped().is_none() {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= work.bounds.samples {
                    break;
                }
                if work.engine.cancel.load(Ordering::Relaxed) {
                    work.stop(Stop::Cancelled);
                }
                if shard.is_some_and(|shard| !shard.owns((index % u64::from(shard.of())) as usize)) {
                    continue;
                }
                let plan = Plan::Draw(Draw::new(&work.bounds, index, length));
                execute(work.scenario, Execution::new(plan, work.settings(0, false))).finish(|run| tally.add(run));
                work.started.fetch_add(1, Ordering::Relaxed);
            }
            tally
        })
    }

    /// Runs `job` on every thread, and reports progress meanwhile.
    fn run_workers(&self, job: impl Fn(&Self) -> Tally + Sync) -> Tally {
        let threads = self.engine.threads;
        if threads == 1 && (self.silent || self.engine.progress.is_none()) {
            return job(self);
        }
        std::thread::scope(|scope| {
            let job = &job;
            let worker = move || {
                let _guard = WorkerGuard(&self.queue, &self.changed);
                job(self)
            };
            let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, worker).ok();
            // A host that has no further thread to give leaves the work to those that there are.
            let workers: Vec<_> = (0..threads).map_while(spawn).collect();
            let threads = workers.len();
            if threads == 0 {
                return job(self);
            }
            let mut queue = self.queue();
            let mut reported = Instant::now();
            while queue.finished < threads {
                queue = self.changed.wait_timeout(queue, self.engine.every).unwrap_or_else(PoisonError::into_inner).0;
                if reported.elapsed() >= self.engine.every && queue.finished < threads {
                    drop(queue);
                    self.report_progress();
                    reported = Instant::now();
                    queue = self.queue();
                }
            }
            drop(queue);
            let mut sum = Tally::default();
            for worker in workers {
                match worker.join() {
                    Ok(tally) => sum.merge(tally),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            sum
        })
    }

    fn report_progress(&self) {
        let Some(progress) = self.engine.progress.as_ref().filter(|_| !self.silent) else { return };
        let (done, all) = *self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let (done, elapsed) = ((done / all).min(1.0), self.began.elapsed());
        progress(&Progress {
            paths: self.started.load(Ordering::Relaxed),
            states: self.visited.as_deref().map_or(0, Visited::states),
            elapsed,
            done,
            remaining: self.pace.lock().unwrap_or_else(PoisonError::into_inner).remaining(done, elapsed),
            sampling: self.sampling,
        });
    }

    fn worker(&self) -> Tally {
        let mut tally = Tally::default();
        let mut reported = 0.0;
        while let Some(subtree) = self.next_subtree() {
            self.walk_subtree(subtree, &mut tally, &mut reported);
            let mut queue = self.queue();
            queue.active -= 1;
            if queue.active == 0 {
                self.changed.notify_all();
            }
        }
        self.done.lock().unwrap_or_else(PoisonError::into_inner).0 += tally.mass - reported;
        tally
    }

    /// The next subtree. Waits while others may split one off.
    fn next_subtree(&self) -> Option<Subtree> {
        let mut queue = self.queue();
        loop {
            if queue.stop.is_some() {
                return None;
            }
            if let Some(subtree) = queue.subtrees.pop() {
                queue.active += 1;
                return Some(subtree);
            }
            if queue.active == 0 {
                return None;
            }
            self.idle.fetch_add(1, Ordering::Relaxed);
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            self.idle.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn walk_subtree(&self, subtree: Subtree, tally: &mut Tally, reported: &mut f64) {
        let mut walk = Walk::new(subtree);
        let mut trail: Vec<ChoicePoint> = Vec::new();
        loop {
            if !self.may_go_on() {
                return;
            }
            let prefix = walk.prefix();
            let choices = prefix.clone();
            let settings = self.settings(prefix.len(), true);
            let before = std::mem::take(&mut trail);
            execute(self.scenario, Execution::new(Plan::Follow(prefix), settings)).finish(|run| {
                tally.add(run);
                trail = std::mem::take(&mut run.trail);
            });
            if let Err(diverged) = walk.learn(&trail) {
                tally.diverged = Some(format!("{}: {}", divergence(diverged.at, &before), Path::new(choices)));
                self.stop(Stop::Diverged);
                return;
            }
            if self.first && !tally.found.is_empty() {
                self.stop(Stop::Found);
                return;
            }
            if self.idle.load(Ordering::Relaxed) > 0 {
                let mut queue = self.queue();
                // One for each idle worker: those split off already may not have been taken yet.
                if (queue.subtrees.len() as u64) < self.idle.load(Ordering::Relaxed)
                    && let Some(subtree) = walk.split_off()
                {
                    queue.subtrees.push(subtree);
                    self.changed.notify_all();
                }
            }
            if tally.paths.is_multiple_of(BATCH) {
                self.done.lock().unwrap_or_else(PoisonError::into_inner).0 += tally.mass - *reported;
                *reported = tally.mass;
            }
            if !walk.advance() {
                return;
            }
        }
    }

    /// Counts one more path, unless the exploration is over.
    fn may_go_on(&self) -> bool {
        if self.engine.cancel.load(Ordering::Relaxed) {
            self.stop(Stop::Cancelled);
            return false;
        }
        if let Some(most) = self.bounds.time.filter(|most| self.began.elapsed() >= *most) {
            self.stop(Stop::Time(most));
            return false;
        }
        if self.started.fetch_add(1, Ordering::Relaxed) >= self.bounds.paths {
            self.started.fetch_sub(1, Ordering::Relaxed);
            self.stop(Stop::Paths(self.bounds.paths));
            return false;
        }
        true
    }
}

/// Describes the choice point at which a scenario was nondeterministic.
fn divergence(at: usize, before: &[ChoicePoint]) -> String {
    let what = before.get(at).map(|t| format!(" ({} `{}`)", t.kind, t.what)).unwrap_or_default();
    format!("choice point {}{what} differed when the same path prefix was executed again", at + 1)
}
