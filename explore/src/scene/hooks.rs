//! The choice points of an execution: every fallible call and every wait of the machine.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use bindery::device::NodeId;
use bindery::instrument::{CoveragePoint, FaultPoint};
use bindery::promise::Promise;

use super::coverage::Coverage;
use super::scheduler::Scheduler;
use crate::engine::{Chooser, Kind, Violation};

/// Waits in a row that are scheduling points.
const WAITS: u32 = 3;

/// Name of the choice point at which a concurrent operation may start or continue.
const PREEMPT: &str = "concurrent operation";

/// Body of an [`Operation`].
type Act = dyn Fn() -> Result<bool, Violation> + Send + Sync;

/// An operation of another user of the machine, concurrent with the scenario.
#[derive(Clone)]
pub struct Operation {
    /// Name in reports.
    pub name: &'static str,
    act: Arc<Act>,
}

impl Operation {
    /// `act` runs on a thread of its own from any scheduling point on, and may block on the locks of the core. It returns true
    /// when it had its effect, which it has checked: the coverage point `name` counts those only. An operation that the core
    /// refuses, because of what else is under way, has none.
    pub fn new(name: &'static str, act: impl Fn() -> Result<bool, Violation> + Send + Sync + 'static) -> Self {
        Self { name, act: Arc::new(act) }
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Choice points and counters of one execution's env.
pub(crate) struct Hooks {
    pub(crate) chooser: Chooser,
    pub(crate) scheduler: Arc<Scheduler>,
    pub(crate) coverage: Coverage,
    operations: Vec<Operation>,
    /// Devices whose order of probing may decide something.
    ordered: Vec<NodeId>,
    /// No faults and no preemptions: the lifecycle is being recovered.
    faults_disabled: AtomicBool,
    /// Accesses that an IOMMU refused.
    refused: AtomicU64,
    /// Waits since the machine last made progress.
    waited: AtomicU32,
    /// Set when events are not part of the execution any more.
    over: AtomicBool,
    /// Refused accesses are expected.
    expects: AtomicBool,
    /// A concurrent operation has started.
    pub(crate) preempted: AtomicBool,
}

impl Hooks {
    pub(crate) fn new(
        chooser: Chooser,
        scheduler: Arc<Scheduler>,
        operations: Vec<Operation>,
        ordered: Vec<NodeId>,
    ) -> Self {
        Self {
            chooser,
            scheduler,
            coverage: Coverage::new(),
            operations,
            ordered,
            faults_disabled: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            waited: AtomicU32::new(0),
            over: AtomicBool::new(false),
            expects: AtomicBool::new(false),
            preempted: AtomicBool::new(false),
        }
    }

    /// Returns what was said before.
    pub(crate) fn disable_faults(&self, disable: bool) -> bool {
        self.faults_disabled.swap(disable, Ordering::Relaxed)
    }

    fn are_faults_disabled(&self) -> bool {
        self.faults_disabled.load(Ordering::Relaxed)
    }

    /// The machine waits. Only the first few of several waits in a row are scheduling points.
    pub(crate) fn on_wait(&self) {
        if self.waited.fetch_add(1, Ordering::Relaxed) < WAITS {
            self.maybe_preempt();
        }
        self.scheduler.progress();
    }

    /// The machine makes progress: a concurrent operation may start or continue here.
    pub(crate) fn scheduling_point(&self) {
        self.waited.store(0, Ordering::Relaxed);
        self.maybe_preempt();
    }

    fn maybe_preempt(&self) {
        self.scheduler.progress();
        if self.are_faults_disabled() {
            return;
        }
        if self.scheduler.has_others() {
            if self.chooser.choose(Kind::Preemption, PREEMPT, 2) == 1 {
                self.scheduler.preempt();
            }
            return;
        }
        if self.operations.is_empty() {
            return;
        }
        let who = self.chooser.choose(Kind::Preemption, PREEMPT, self.operations.len() + 1);
        if let Some(operation) = who.checked_sub(1).and_then(|who| self.operations.get(who)) {
            self.preempted.store(true, Ordering::Relaxed);
            self.chooser.log(|| format!("preempted by {}", operation.name));
            let (name, act, chooser) = (operation.name, Arc::clone(&operation.act), self.chooser.clone());
            self.scheduler.spawn(move || match act() {
                Ok(true) => chooser.cover(name),
                Ok(false) => chooser.log(|| format!("{name}: no effect")),
                Err(violation) => chooser.report(violation),
            });
        }
    }

    /// Chooses whether a fallible call fails.
    pub(crate) fn should_fail(&self, point: FaultPoint) -> bool {
        self.scheduling_point();
        !self.are_faults_disabled() && self.chooser.fault(point.name())
    }

    pub(crate) fn choose_next(&self, queued: &mut dyn ExactSizeIterator<Item = NodeId>) -> usize {
        if self.are_faults_disabled() || self.ordered.is_empty() {
            return 0;
        }
        // Devices whose turn decides nothing go first, without a choice point.
        let mut places = Vec::with_capacity(queued.len());
        for (at, node) in queued.enumerate() {
            if !self.ordered.contains(&node) {
                return at;
            }
            places.push(node);
        }
        // Sorted, so that the choices do not depend on the order of arrival: a state is a set.
        let mut sorted = places.clone();
        sorted.sort_unstable();
        let ids: Vec<u64> = sorted.iter().map(|n| u64::from(n.0)).collect();
        let chosen = sorted[self.chooser.order("which device is probed next", &ids)];
        places.iter().position(|n| *n == chosen).unwrap_or(0)
    }

    pub(crate) fn cover(&self, coverage_point: CoveragePoint) {
        if coverage_point == CoveragePoint::AccessRefused {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        self.coverage.count(coverage_point);
    }

    /// Accesses that an IOMMU refused since the last call.
    pub(crate) fn take_refused(&self) -> u64 {
        self.refused.swap(0, Ordering::Relaxed)
    }

    /// The hardware was broken so that accesses have to be refused.
    pub(crate) fn expect_refusals(&self) {
        self.expects.store(true, Ordering::Relaxed);
    }

    pub(crate) fn expects_refusals(&self) -> bool {
        self.expects.load(Ordering::Relaxed)
    }

    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Counts checks that a machine has made.
    pub(crate) fn checked(&self, before: &[u64; Promise::COUNT], after: &[u64; Promise::COUNT]) {
        for ((promise, before), after) in Promise::ALL.into_iter().zip(before).zip(after) {
            self.chooser.checked(promise, after - before);
        }
    }
}
