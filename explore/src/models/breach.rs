//! Kinds of broken promises, distinguished by what happened, when, and after which step: never by the name of a known bug.

use std::fmt;

use bindery::promise::Promise;

use crate::engine::Violation;

/// The consequence of a breach.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Harm {
    /// The kernel crashes.
    Crash,
    /// A wait never ends.
    Hang,
    /// A resource is never released.
    Leak,
    /// A user loses what it uses.
    Theft,
    /// None yet: a concurrent operation may do harm as long as it lasts.
    Window,
    /// A notification is wrong.
    Untruth,
    /// Protection that was asked for is not there.
    Exposure,
}

impl Harm {
    /// The word that reports print.
    const fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Hang => "hang",
            Self::Leak => "leak",
            Self::Theft => "theft",
            Self::Window => "window",
            Self::Untruth => "untruth",
            Self::Exposure => "exposure",
        }
    }
}

/// The phase of a lifecycle.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Phase {
    /// Set-up.
    SetUp,
    /// Tear-down after a failed or deferred probe.
    Failure,
    /// Tear-down of a bound device.
    Unbind,
    /// Tear-down by `CONFIG_DEBUG_TEST_DRIVER_REMOVE`.
    TestRemove,
    /// No driver, or an idle one.
    Idle,
}

impl Phase {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::SetUp => "set-up",
            Self::Failure => "probe failure",
            Self::Unbind => "unbind",
            Self::TestRemove => "test_remove",
            Self::Idle => "idle",
        }
    }
}

/// A kind of breach: written as `crash, unbind: freed by another back-end, after arch_teardown_dma_ops`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Breach {
    pub(super) promise: Promise,
    pub(super) harm: Harm,
    pub(super) phase: Phase,
    pub(super) what: &'static str,
    /// The step or the other one that made it possible.
    pub(super) after: &'static str,
}

impl Breach {
    pub(super) fn because(self, detail: impl Into<String>) -> Violation {
        Violation::new(self.promise, self.to_string(), detail)
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}: {}", self.harm.name(), self.phase.name(), self.what)?;
        if self.after.is_empty() { Ok(()) } else { write!(f, ", after {}", self.after) }
    }
}
