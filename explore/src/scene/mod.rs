//! One execution on the real core: a fixture, choice points at every fallible call and every wait, concurrent operations,
//! and the oracles.

pub(crate) mod coverage;
pub(crate) mod env;
pub(crate) mod fixture;
pub(crate) mod hooks;
mod oracle;
pub(crate) mod scheduler;
mod symmetry;

pub use hooks::Operation;
pub(crate) use oracle::check;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bindery::control::Tree;
use bindery::device::NodeId;
use bindery::machine::Machine;
use bindery::promise::Promise;
use bindery_sim::board::Board;

use crate::engine::{Chooser, Violation};
use crate::events;
use env::InstrumentedEnv;
use fixture::Fixture;
use hooks::Hooks;
use scheduler::Scheduler;

/// A machine with the real core and drivers on a simulated board, on which a scenario is executed.
///
/// Every fallible call of the core is a fault point, and a scheduling point at which a concurrent operation may preempt the
/// scenario. Call [`step`](Self::step) where nothing is under way: it checks the promises.
pub struct Scene {
    guard: RunGuard,
    pub(crate) fixture: Fixture,
    pub(crate) hooks: Arc<Hooks>,
    before: [u64; Promise::COUNT],
}

impl Scene {
    /// `operations` may preempt the scenario, and the order in which `ordered` are probed is a choice.
    pub(crate) fn new(fixture: Fixture, chooser: &Chooser, operations: Vec<Operation>, ordered: Vec<NodeId>) -> Self {
        let hooks = Arc::new(Hooks::new(chooser.clone(), Scheduler::new(), operations, ordered));
        if chooser.logs() {
            let (chooser, over) = (chooser.clone(), Arc::downgrade(&hooks));
            fixture.board.on_event(Box::new(move |event| {
                if over.upgrade().is_none_or(|hooks| hooks.is_over()) {
                    return;
                }
                chooser.log(|| events::line(event));
            }));
        }
        let before = fixture.checks();
        fixture.env.set(Some(Arc::clone(&hooks)));
        let guard = RunGuard { hooks: Arc::clone(&hooks), env: Arc::clone(&fixture.env) };
        Self { guard, fixture, hooks, before }
    }

    /// The machine.
    pub fn machine(&self) -> &Arc<Machine> {
        &self.fixture.machine
    }

    /// The hardware.
    pub fn board(&self) -> &Board {
        &self.fixture.board
    }

    /// The machine's control tree.
    pub fn tree(&self) -> &Tree {
        &self.fixture.tree
    }

    /// The chooser, for further choices.
    pub fn chooser(&self) -> &Chooser {
        &self.hooks.chooser
    }

    /// Returns true when a concurrent operation has started.
    pub fn was_preempted(&self) -> bool {
        self.hooks.preempted.load(Ordering::Relaxed)
    }

    /// Ends a step called `what`: waits for concurrent operations, and checks the promises.
    pub fn step(&self, what: &'static str) -> Result<(), Violation> {
        self.hooks.scheduling_point();
        if let Some(panicked) = self.hooks.scheduler.join_all().first() {
            return Err(Violation::panicked(panicked));
        }
        self.hooks.chooser.cover(what);
        self.hooks.chooser.log(|| format!("-- {what}"));
        self.check(what)
    }

    /// A number for the state of machine and hardware at this moment.
    pub fn digest(&self) -> u64 {
        self.fixture.digest()
    }

    /// Disables faults and preemptions from here on, or enables them again.
    pub fn disable_faults(&self, disable: bool) {
        self.hooks.disable_faults(disable);
    }

    /// Ends the scene. Returns the fixture when its state is the initial one.
    pub(crate) fn end(self) -> Option<Fixture> {
        let Self { guard, fixture, hooks, before } = self;
        drop(guard);
        hooks.checked(&before, &fixture.checks());
        hooks.coverage.report(&hooks.chooser);
        let same = !hooks.chooser.logs() && fixture.matches_start();
        same.then_some(fixture)
    }
}

/// Ends an execution, however it ended: joins all threads, and disconnects the chooser.
struct RunGuard {
    hooks: Arc<Hooks>,
    env: Arc<InstrumentedEnv>,
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        self.hooks.disable_faults(true);
        self.hooks.scheduler.finish();
        self.hooks.end();
        self.env.set(None);
    }
}

impl fmt::Debug for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scene({:?})", self.machine())
    }
}
