//! The handle through which a scenario makes its choices.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bindery::event::Event;
use bindery::promise::Promise;

use super::bounds::Kind;
use super::execution::Execution;
use super::violation::Violation;

/// Makes the choices of one execution.
///
/// A cheap handle: clone it into whatever needs choices (an env's fault injection, a queue's order). A clone that
/// outlives its execution takes the default choice everywhere, and affects no other execution.
#[derive(Clone)]
pub struct Chooser(Arc<Mutex<Execution>>);

/// Result of looking up the state at a scheduling point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Visit {
    /// Not explored yet with as much of the bounds left. Go on.
    New,
    /// Explored already. The rest of this execution takes choice 0 and does not branch; the scenario may as well return.
    Seen,
}

impl Chooser {
    pub(super) fn new(run: Execution) -> Self {
        Self(Arc::new(Mutex::new(run)))
    }

    fn run(&self) -> MutexGuard<'_, Execution> {
        // A scenario may panic between two choice points; the choices so far are still good.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the execution, and passes it to `look`.
    pub(super) fn finish<T>(&self, look: impl FnOnce(&mut Execution) -> T) -> T {
        let mut run = self.run();
        run.close();
        look(&mut run)
    }

    /// A choice among the numbers below `n`. 0 is the default, and the only choice when `n` is 0 or 1.
    ///
    /// `what` names the choice point in reports. Given the same choices, a scenario must meet the same choice points in the
    /// same order: no clock, no thread, no random number of its own may decide anything.
    pub fn choose(&self, kind: Kind, what: &'static str, n: usize) -> usize {
        self.run().choose(kind, what, u32::try_from(n).unwrap_or(u32::MAX), None) as usize
    }

    /// Chooses whether the fallible call at `site` fails now.
    pub fn fault(&self, point: &'static str) -> bool {
        self.choose(Kind::Fault, point, 2) == 1
    }

    /// The next to run, as an index into `line`. Each entry has an id that stays the same while it waits: when sampling,
    /// the engine draws orders by giving each id a priority.
    pub fn order(&self, what: &'static str, line: &[u64]) -> usize {
        self.run().choose(Kind::Order, what, u32::try_from(line.len()).unwrap_or(u32::MAX), Some(line)) as usize
    }

    /// Reports the state of the scenario between two steps. When it was here before with at least as much of the bounds
    /// left, everything that can follow is known.
    ///
    /// `state` must cover all that decides the rest of the path, including the scenario's own position, and all that later
    /// checks read. [`fingerprint`](super::fingerprint) makes such a number.
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

    /// Reports a violation after which the scenario can go on.
    pub fn report(&self, violation: Violation) {
        self.run().violation(violation);
    }

    /// Counts a coverage point as reached. The report lists [required](super::Engine::require) ones that were not.
    pub fn cover(&self, name: &'static str) {
        *self.run().covered.entry(name).or_insert(0) += 1;
    }

    /// Counts a coverage point as reached so many times.
    pub fn cover_times(&self, name: &'static str, times: u64) {
        if times > 0 {
            *self.run().covered.entry(name).or_insert(0) += times;
        }
    }

    /// Adds checks of `promise` that were made elsewhere: a machine counts its own.
    pub fn checked(&self, promise: Promise, times: u64) {
        self.run().checks[promise as usize] += times;
    }

    /// Returns true when a fault or a preemption has happened on this path.
    pub fn is_disturbed(&self) -> bool {
        self.run().is_disturbed()
    }

    /// Returns true when a call has failed on this path.
    pub fn has_failed(&self) -> bool {
        self.run().has_failed()
    }

    /// Adds a line to the trace, which is only kept when a path is replayed.
    pub fn log<S: Into<String>>(&self, line: impl FnOnce() -> S) {
        if self.logs() {
            let line = line().into();
            self.run().log(line);
        }
    }

    /// Keeps `event` of `machine` with the newest line of the trace, which describes it, for
    /// [`Replay::events`](super::Replay::events).
    pub fn record(&self, machine: &'static str, event: &Event) {
        self.run().record(machine, event);
    }

    /// Returns true when lines of the trace are kept.
    pub fn logs(&self) -> bool {
        self.run().logs()
    }
}

impl fmt::Debug for Chooser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chooser({} choices so far)", self.run().trail.len())
    }
}
