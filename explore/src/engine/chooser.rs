//! What a scenario holds: the one to ask.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bindery::event::Event;
use bindery::promise::Promise;

use super::bounds::Kind;
use super::run::Run;
use super::violation::Violation;

/// Answers the questions of one run.
///
/// A cheap handle: clone it into whatever has to ask (an env's fault injection, a queue's order). A clone that outlives
/// its run gets the ordinary answer to everything, and reaches no other run.
#[derive(Clone)]
pub struct Chooser(Arc<Mutex<Run>>);

/// Whether the state at a scheduling point is new.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Visit {
    /// Not walked from yet with as much left to spend. Go on.
    New,
    /// Walked from already. The rest of this run is answered 0 and does not branch; the scenario may as well return.
    Seen,
}

impl Chooser {
    pub(super) fn new(run: Run) -> Self {
        Self(Arc::new(Mutex::new(run)))
    }

    fn run(&self) -> MutexGuard<'_, Run> {
        // A scenario may panic between two questions; the answers so far are still good.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the run and hands out what it saw.
    pub(super) fn finish<T>(&self, look: impl FnOnce(&mut Run) -> T) -> T {
        let mut run = self.run();
        run.close();
        look(&mut run)
    }

    /// One of the numbers below `n`. 0 is the ordinary answer, and the only one when `n` is 0 or 1.
    ///
    /// `what` names the question in reports. A scenario must ask the same questions in the same order when it gets the
    /// same answers: no clock, no thread, no random number of its own may decide anything.
    pub fn choose(&self, kind: Kind, what: &'static str, n: usize) -> usize {
        self.run().choose(kind, what, u32::try_from(n).unwrap_or(u32::MAX), None) as usize
    }

    /// Whether the fallible call at `site` fails now.
    pub fn fault(&self, site: &'static str) -> bool {
        self.choose(Kind::Fault, site, 2) == 1
    }

    /// Which of those in line goes next, as an index into `line`. Each has a number that stays the same while it waits:
    /// above the bound, the engine draws orders by giving each number a priority.
    pub fn order(&self, what: &'static str, line: &[u64]) -> usize {
        self.run().choose(Kind::Order, what, u32::try_from(line.len()).unwrap_or(u32::MAX), Some(line)) as usize
    }

    /// Tells the engine which state the scenario is in now, between two steps. When it was here before with at least
    /// as much left to spend, everything that can follow is known.
    ///
    /// `state` must cover all that decides what follows, the scenario's own place in its script included, and all that
    /// a later check looks at. [`fingerprint`](super::fingerprint) makes such a number.
    pub fn scheduling_point(&self, state: u64) -> Visit {
        if self.run().state(state) { Visit::New } else { Visit::Seen }
    }

    /// Checks a promise. When it does not hold, gives the violation, to be returned or to be [reported](Self::report).
    pub fn check(
        &self,
        promise: Promise,
        holds: bool,
        kind: &str,
        detail: impl FnOnce() -> String,
    ) -> Result<(), Violation> {
        self.run().check(promise);
        if holds { Ok(()) } else { Err(Violation::new(promise, kind, detail())) }
    }

    /// Notes a violation after which the scenario can go on.
    pub fn report(&self, violation: Violation) {
        self.run().violation(violation);
    }

    /// Notes that this place was reached. A run lists the places that it [had to](super::Engine::must_hit) reach and
    /// did not.
    pub fn mark(&self, name: &'static str) {
        *self.run().marks.entry(name).or_insert(0) += 1;
    }

    /// Notes that this place was reached so many times.
    pub fn mark_times(&self, name: &'static str, times: u64) {
        if times > 0 {
            *self.run().marks.entry(name).or_insert(0) += times;
        }
    }

    /// Notes that somebody else has checked `promise` so many times: a machine counts its own checks.
    pub fn checked(&self, promise: Promise, times: u64) {
        self.run().checks[promise as usize] += times;
    }

    /// Whether a call has failed on this path, or somebody has come in.
    pub fn is_disturbed(&self) -> bool {
        self.run().is_disturbed()
    }

    /// Whether a call has failed on this path.
    pub fn has_failed(&self) -> bool {
        self.run().has_failed()
    }

    /// Adds a line to the story, which is only kept when a path is replayed.
    pub fn tell<S: Into<String>>(&self, line: impl FnOnce() -> S) {
        if self.tells() {
            let line = line().into();
            self.run().tell(line);
        }
    }

    /// Keeps `event` of `machine` with the line of the story that has just told of it, for
    /// [`Replay::events`](super::Replay::events).
    pub fn keep(&self, machine: &'static str, event: &Event) {
        self.run().keep(machine, event);
    }

    /// Whether lines of the story are kept.
    pub fn tells(&self) -> bool {
        self.run().tells()
    }
}

impl fmt::Debug for Chooser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chooser({} answers so far)", self.run().trail.len())
    }
}
