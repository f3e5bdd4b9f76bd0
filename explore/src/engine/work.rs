//! The walk itself: workers that share the pieces of a tree.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::bounds::{Bounds, Kind, Shard};
use super::chooser::Chooser;
use super::estimate::remaining;
use super::execute::execute;
use super::explore::Engine;
use super::path::Path;
use super::progress::Progress;
use super::run::{Plan, Run, Settings, Taken};
use super::sample::{Draw, Length};
use super::split::split;
use super::tally::Tally;
use super::violation::Violation;
use super::visited::Visited;
use super::walk::{Piece, Walk};

/// Pieces that the tree is cut into, for each shard.
const PIECES: usize = 32;
/// Runs that cutting may take.
const CUTS: usize = 20_000;
/// Paths between two reports of a worker to the others.
const BATCH: u64 = 32;

/// Why a walk ended early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    Cancelled,
    Found,
    Paths(u64),
    Time(Duration),
    Strayed,
}

impl Stop {
    pub(super) fn text(self) -> String {
        match self {
            Self::Cancelled => "cancelled".into(),
            Self::Found => "something was found".into(),
            Self::Paths(most) => format!("the bound of {most} paths was met"),
            Self::Time(most) => format!("the time of {} s was over", most.as_secs_f64()),
            Self::Strayed => "the scenario is not deterministic".into(),
        }
    }
}

/// Pieces that wait for a worker.
#[derive(Default)]
struct Queue {
    pieces: Vec<Piece>,
    active: usize,
    finished: usize,
    stop: Option<Stop>,
}

/// Tells the others that a worker is over, however it ended.
struct Leaving<'a>(&'a Mutex<Queue>, &'a Condvar);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).finished += 1;
        self.1.notify_all();
    }
}

/// One walk over a tree, or a part of it.
pub(super) struct Work<'a, F> {
    engine: &'a Engine,
    scenario: &'a F,
    bounds: Bounds,
    visited: Option<Arc<Visited>>,
    began: Instant,
    queue: Mutex<Queue>,
    changed: Condvar,
    hungry: AtomicU64,
    started: AtomicU64,
    /// Mass done, as the bits of an `f64`, and of how much.
    done: Mutex<(f64, f64)>,
    pub(super) tally: Tally,
    /// The walk is over as soon as something is found.
    pub(super) first: bool,
    /// No progress is told.
    pub(super) quiet: bool,
    /// The paths are random ones.
    sampling: bool,
}

impl<'a, F> Work<'a, F>
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
            hungry: AtomicU64::new(0),
            started: AtomicU64::new(0),
            done: Mutex::new((0.0, 1.0)),
            tally: Tally::default(),
            first: engine.first,
            quiet: false,
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

    fn settings(&self, repeats: usize, prunes: bool) -> Settings {
        Settings {
            bounds: self.bounds.clone(),
            visited: self.visited.clone(),
            repeats,
            prunes,
            tells: false,
            obeys: true,
        }
    }

    /// Walks the whole tree, or a shard of it.
    pub(super) fn everything(&mut self, shard: Option<Shard>) {
        let mut pieces = vec![Piece::whole()];
        if let Some(shard) = shard {
            let mut tally = Tally::default();
            let mut runs = 0;
            // No states here: what is known must not depend on who walked before.
            let cut = split(PIECES * shard.of() as usize, CUTS, |answers| {
                let mut settings = self.settings(0, false);
                settings.visited = None;
                let own = shard.owns(runs);
                runs += 1;
                execute(self.scenario, Run::new(Plan::Follow(answers), settings)).finish(|run| {
                    let trail = run.trail.clone();
                    if own {
                        tally.add(run);
                    }
                    trail
                })
            });
            if let Some(strayed) = cut.strayed {
                tally.strayed = Some(stray(strayed.at, &[]));
                self.stop(Stop::Strayed);
            }
            pieces = cut.pieces.into_iter().enumerate().filter(|(i, _)| shard.owns(*i)).map(|(_, p)| p).collect();
            self.started = AtomicU64::new(tally.paths);
            let all: f64 = pieces.iter().map(Piece::mass).sum::<f64>() + tally.mass;
            self.done = Mutex::new((tally.mass, all.max(f64::MIN_POSITIVE)));
            self.tally = tally;
        }
        pieces.reverse();
        self.queue().pieces = pieces;
        let tally = self.crowd(Self::worker);
        self.tally.merge(tally);
    }

    /// Walks random paths.
    pub(super) fn samples(&mut self, shard: Option<Shard>) -> Tally {
        *self.queue() = Queue::default();
        self.sampling = true;
        let length =
            execute(self.scenario, Run::new(Plan::Follow(Vec::new()), self.settings(0, false))).finish(|run| {
                let count = |kind| run.trail.iter().filter(|t| t.kind == kind).count() as u64;
                Length { faults: count(Kind::Fault), interrupts: count(Kind::Interrupt), orders: count(Kind::Order) }
            });
        let next = AtomicU64::new(0);
        self.crowd(|work| {
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
                execute(work.scenario, Run::new(plan, work.settings(0, false))).finish(|run| tally.add(run));
                work.started.fetch_add(1, Ordering::Relaxed);
            }
            tally
        })
    }

    /// Runs `job` on every thread, and reports progress meanwhile.
    fn crowd(&self, job: impl Fn(&Self) -> Tally + Sync) -> Tally {
        let threads = self.engine.threads;
        if threads == 1 && (self.quiet || self.engine.progress.is_none()) {
            return job(self);
        }
        std::thread::scope(|scope| {
            let job = &job;
            let workers: Vec<_> = (0..threads)
                .map(|_| {
                    scope.spawn(move || {
                        let _leaving = Leaving(&self.queue, &self.changed);
                        job(self)
                    })
                })
                .collect();
            let mut queue = self.queue();
            let mut told = Instant::now();
            while queue.finished < threads {
                queue = self.changed.wait_timeout(queue, self.engine.every).unwrap_or_else(PoisonError::into_inner).0;
                if told.elapsed() >= self.engine.every && queue.finished < threads {
                    drop(queue);
                    self.tell();
                    told = Instant::now();
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

    fn tell(&self) {
        let Some(progress) = self.engine.progress.as_ref().filter(|_| !self.quiet) else { return };
        let (done, all) = *self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let (done, elapsed) = ((done / all).min(1.0), self.began.elapsed());
        progress(&Progress {
            paths: self.started.load(Ordering::Relaxed),
            states: self.visited.as_deref().map_or(0, Visited::states),
            elapsed,
            done,
            remaining: remaining(done, elapsed),
            sampling: self.sampling,
        });
    }

    fn worker(&self) -> Tally {
        let mut tally = Tally::default();
        let mut told = 0.0;
        while let Some(piece) = self.take() {
            self.piece(piece, &mut tally, &mut told);
            let mut queue = self.queue();
            queue.active -= 1;
            if queue.active == 0 {
                self.changed.notify_all();
            }
        }
        self.done.lock().unwrap_or_else(PoisonError::into_inner).0 += tally.mass - told;
        tally
    }

    /// The next piece. Waits while others may give one away.
    fn take(&self) -> Option<Piece> {
        let mut queue = self.queue();
        loop {
            if queue.stop.is_some() {
                return None;
            }
            if let Some(piece) = queue.pieces.pop() {
                queue.active += 1;
                return Some(piece);
            }
            if queue.active == 0 {
                return None;
            }
            self.hungry.fetch_add(1, Ordering::Relaxed);
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            self.hungry.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn piece(&self, piece: Piece, tally: &mut Tally, told: &mut f64) {
        let mut walk = Walk::new(piece);
        let mut trail: Vec<Taken> = Vec::new();
        loop {
            if !self.may_go_on() {
                return;
            }
            let prefix = walk.prefix();
            let answers = prefix.clone();
            let settings = self.settings(prefix.len(), true);
            let before = std::mem::take(&mut trail);
            execute(self.scenario, Run::new(Plan::Follow(prefix), settings)).finish(|run| {
                tally.add(run);
                trail = std::mem::take(&mut run.trail);
            });
            if let Err(strayed) = walk.learn(&trail) {
                tally.strayed = Some(format!("{}: {}", stray(strayed.at, &before), Path::new(answers)));
                self.stop(Stop::Strayed);
                return;
            }
            if self.first && !tally.found.is_empty() {
                self.stop(Stop::Found);
                return;
            }
            if self.hungry.load(Ordering::Relaxed) > 0 {
                let mut queue = self.queue();
                // One for each who waits: those given away already may not have been taken yet.
                if (queue.pieces.len() as u64) < self.hungry.load(Ordering::Relaxed)
                    && let Some(piece) = walk.donate()
                {
                    queue.pieces.push(piece);
                    self.changed.notify_all();
                }
            }
            if tally.paths.is_multiple_of(BATCH) {
                self.done.lock().unwrap_or_else(PoisonError::into_inner).0 += tally.mass - *told;
                *told = tally.mass;
            }
            if !walk.advance() {
                return;
            }
        }
    }

    /// Counts one more path, unless the walk is over.
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

/// Says where a scenario was not the same twice.
fn stray(at: usize, before: &[Taken]) -> String {
    let what = before.get(at).map(|t| format!(" ({} `{}`)", t.kind, t.what)).unwrap_or_default();
    format!("question {}{what} was not the same when the path was walked again", at + 1)
}
