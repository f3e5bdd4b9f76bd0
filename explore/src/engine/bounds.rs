//! Bounds of an exploration, and the kinds of choice points that they limit.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The kind of a choice point. [`Bounds`] limit the non-default choices of some kinds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Choice of the pending step that runs next. Not bounded.
    Order,
    /// Failure of a fallible call. Bounded by [`Bounds::faults`].
    Fault,
    /// Start or continuation of a concurrent operation (an unbind, a removal, a second binder) at a scheduling point.
    /// Bounded by [`Bounds::preemptions`].
    Preemption,
    /// Choice among several values or variants. Not bounded.
    Value,
}

impl Kind {
    /// The word that reports print.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Fault => "fault",
            Self::Preemption => "preemption",
            Self::Value => "value",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bounds of an exploration. Within the first four it is exhaustive; the others end it early, and the report says so.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bounds {
    /// Most faults on one path.
    pub faults: u32,
    /// Most preemptions on one path.
    pub preemptions: u32,
    /// Most non-default choices on one path, of all kinds together. `None`: any number.
    pub non_default: Option<u32>,
    /// Choice points on one path after which choice 0 is taken, and the path counts as truncated. `None`:
    /// [`Bounds::LONGEST`].
    pub depth: Option<u32>,
    /// Paths after which the exhaustive exploration stops.
    pub paths: u64,
    /// Most states that are remembered. Further ones are explored each time they are met. One takes about 32 bytes.
    pub states: u64,
    /// Time after which the exhaustive exploration stops.
    pub time: Option<Duration>,
    /// Paths drawn at random when the exhaustive exploration had to stop. 0: none.
    pub samples: u64,
    /// Seed of the random paths: the same seed draws the same paths, on any number of threads.
    pub seed: u64,
}

impl Bounds {
    /// Choice points above which a path is truncated whatever [`Bounds::depth`] says, so that a scenario that never ends
    /// does not fill the memory.
    pub const LONGEST: u32 = 1 << 20;
}

impl Default for Bounds {
    /// One fault, one preemption, a million paths, four million states, no samples.
    fn default() -> Self {
        Self {
            faults: 1,
            preemptions: 1,
            non_default: None,
            depth: None,
            paths: 1_000_000,
            states: 4_000_000,
            time: None,
            samples: 0,
            seed: 1,
        }
    }
}

/// Builder of [`Bounds`] for everything that explores within them.
pub trait Bounded: Sized {
    /// The bounds to set.
    fn bounds_mut(&mut self) -> &mut Bounds;

    /// Sets [`Bounds::faults`].
    #[must_use]
    fn faults(mut self, most: u32) -> Self {
        self.bounds_mut().faults = most;
        self
    }

    /// Sets [`Bounds::preemptions`].
    #[must_use]
    fn preemptions(mut self, most: u32) -> Self {
        self.bounds_mut().preemptions = most;
        self
    }

    /// Sets all bounds.
    #[must_use]
    fn bounds(mut self, bounds: Bounds) -> Self {
        *self.bounds_mut() = bounds;
        self
    }
}

impl Bounded for Bounds {
    fn bounds_mut(&mut self) -> &mut Self {
        self
    }
}
