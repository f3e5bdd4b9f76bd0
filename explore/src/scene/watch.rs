//! Where a run meets its engine: at every fallible call and every wait of the machine.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use bindery::device::NodeId;
use bindery::env::{Landmark, Site};
use bindery::promise::Promise;

use super::landmarks::Landmarks;
use super::stage::Stage;
use crate::engine::{Chooser, Kind};

/// Waits in a row at which somebody may come in.
const WAITS: u32 = 3;

/// The question whether somebody else runs now: one who comes in, or one who has come in and was held up.
const SOMEBODY: &str = "somebody else";

/// Somebody who may come in between: another user of the machine.
#[derive(Clone)]
pub struct Arrival {
    /// For reports.
    pub name: &'static str,
    act: Arc<dyn Fn() + Send + Sync>,
}

impl Arrival {
    /// `act` runs on a thread of its own, at any moment of a run, and may be held up by the locks of the core.
    pub fn new(name: &'static str, act: impl Fn() + Send + Sync + 'static) -> Self {
        Self { name, act: Arc::new(act) }
    }
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// What one run's env asks and notes.
pub(crate) struct Watch {
    pub(crate) chooser: Chooser,
    pub(crate) stage: Arc<Stage>,
    pub(crate) landmarks: Landmarks,
    arrivals: Vec<Arrival>,
    /// Devices whose order of probing may decide something.
    ordered: Vec<NodeId>,
    /// No more faults and nobody comes in: what is broken is being mended.
    calm: AtomicBool,
    /// Accesses that an IOMMU refused.
    refused: AtomicU64,
    /// Waits since the machine last got on.
    waited: AtomicU32,
    /// What happens now is not part of the run any more.
    over: AtomicBool,
    /// Refused accesses are what is to happen.
    expects: AtomicBool,
    /// Somebody came in on this run.
    pub(crate) visited: AtomicBool,
}

impl Watch {
    pub(crate) fn new(chooser: Chooser, stage: Arc<Stage>, arrivals: Vec<Arrival>, ordered: Vec<NodeId>) -> Self {
        Self {
            chooser,
            stage,
            landmarks: Landmarks::new(),
            arrivals,
            ordered,
            calm: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            waited: AtomicU32::new(0),
            over: AtomicBool::new(false),
            expects: AtomicBool::new(false),
            visited: AtomicBool::new(false),
        }
    }

    pub(crate) fn calm(&self, calm: bool) {
        self.calm.store(calm, Ordering::Relaxed);
    }

    fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// The machine waits. Waiting again and again for the same thing is one moment, or a few.
    pub(crate) fn waits(&self) {
        if self.waited.fetch_add(1, Ordering::Relaxed) < WAITS {
            self.offer();
        }
        self.stage.progress();
    }

    /// The machine gets on: anybody may come in here, or go on.
    pub(crate) fn point(&self) {
        self.waited.store(0, Ordering::Relaxed);
        self.offer();
    }

    fn offer(&self) {
        self.stage.progress();
        if self.is_calm() {
            return;
        }
        if self.stage.others() {
            if self.chooser.choose(Kind::Interrupt, SOMEBODY, 2) == 1 {
                self.stage.switch();
            }
            return;
        }
        if self.arrivals.is_empty() {
            return;
        }
        let who = self.chooser.choose(Kind::Interrupt, SOMEBODY, self.arrivals.len() + 1);
        if let Some(arrival) = who.checked_sub(1).and_then(|who| self.arrivals.get(who)) {
            self.visited.store(true, Ordering::Relaxed);
            self.chooser.mark(arrival.name);
            self.chooser.tell(|| format!("somebody comes in: {}", arrival.name));
            let act = Arc::clone(&arrival.act);
            self.stage.send_in(move || act());
        }
    }

    /// One fallible call: whether it fails.
    pub(crate) fn fails(&self, site: Site) -> bool {
        self.point();
        !self.is_calm() && self.chooser.fault(site.name())
    }

    pub(crate) fn next(&self, line: &mut dyn ExactSizeIterator<Item = NodeId>) -> usize {
        if self.is_calm() || self.ordered.is_empty() {
            return 0;
        }
        // Devices whose turn decides nothing go first, without a question.
        let mut places = Vec::with_capacity(line.len());
        for (at, node) in line.enumerate() {
            if !self.ordered.contains(&node) {
                return at;
            }
            places.push(node);
        }
        // Asked in an order that does not depend on who came first, so that a state is a set.
        let mut sorted = places.clone();
        sorted.sort_unstable();
        let ids: Vec<u64> = sorted.iter().map(|n| u64::from(n.0)).collect();
        let chosen = sorted[self.chooser.order("which device is probed next", &ids)];
        places.iter().position(|n| *n == chosen).unwrap_or(0)
    }

    pub(crate) fn passes(&self, landmark: Landmark) {
        if landmark == Landmark::AccessRefused {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        self.landmarks.pass(landmark);
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
