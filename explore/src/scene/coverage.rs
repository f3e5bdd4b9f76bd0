//! Counters of the core's coverage points.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bindery::binding::{ResourceKind, TRANSITIONS};
use bindery::driver::Errno;
use bindery::instrument::CoveragePoint;

use crate::engine::Chooser;

/// Every coverage point of the core, and its name in reports.
fn all() -> &'static [(CoveragePoint, String)] {
    static ALL: OnceLock<Vec<(CoveragePoint, String)>> = OnceLock::new();
    ALL.get_or_init(|| {
        let transitions = TRANSITIONS
            .iter()
            .map(|t| (CoveragePoint::Transition(t.from, t.to), format!("transition {} -> {}", t.from, t.to)));
        let released =
            ResourceKind::ALL.iter().map(|k| (CoveragePoint::Released(*k), format!("released {}", k.name())));
        let refused = Errno::ALL.iter().map(|e| (CoveragePoint::Refused(*e), format!("error {e}")));
        transitions.chain(released).chain(refused).collect()
    })
}

/// Names of all coverage points.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    all().iter().map(|(_, name)| name.as_str())
}

/// Number of times that each was reached on one path.
#[derive(Debug)]
pub(crate) struct Coverage(Vec<AtomicU64>);

impl Coverage {
    pub(crate) fn new() -> Self {
        Self(all().iter().map(|_| AtomicU64::new(0)).collect())
    }

    pub(crate) fn count(&self, coverage_point: CoveragePoint) {
        if let Some(at) = all().iter().position(|(known, _)| *known == coverage_point) {
            self.0[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Passes the counts on to the engine.
    pub(crate) fn report(&self, chooser: &Chooser) {
        for (count, name) in self.0.iter().zip(names()) {
            chooser.cover_times(name, count.swap(0, Ordering::Relaxed));
        }
    }
}
