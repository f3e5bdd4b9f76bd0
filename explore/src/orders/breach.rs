//! Kinds of broken promises, told apart by what happened, when, and after which step: never by the name of a known bug.

use std::fmt;

use bindery::promise::Promise;

use crate::engine::Violation;

/// What a breach does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Harm {
    /// The kernel crashes.
    Crash,
    /// Somebody waits for ever.
    Hang,
    /// Something is never given back.
    Leak,
    /// Somebody is thrown out, or cut off.
    Theft,
    /// Nothing yet: others may do harm as long as it lasts.
    Window,
    /// Somebody is told what is not so.
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

/// Which part of a life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Phase {
    /// The way up.
    SetUp,
    /// The way back after a failed or deferred probe.
    Failure,
    /// The way back of a bound device.
    Unbind,
    /// The way back that `CONFIG_DEBUG_TEST_DRIVER_REMOVE` makes.
    TestRemove,
    /// No driver, or a driver at rest.
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
