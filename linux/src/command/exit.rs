//! Exit codes. They are stable: scripts rely on them.

use crate::obstacle::{Class, Obstacle};

/// Exit code of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or nothing to do.
    Done = 0,
    /// Wanted and actual state differ.
    Drift = 1,
    /// Wrong usage or bad input; nothing was changed.
    Usage = 2,
    /// Refused by a rule of this tool.
    Policy = 3,
    /// The device is in use, or its use cannot be ruled out.
    InUse = 4,
    /// The device or its group cannot be assigned.
    NotViable = 5,
    /// The kernel refused, and nothing was changed.
    Kernel = 6,
    /// The kernel did not answer in time; the journal is left for `recover`.
    TimedOut = 7,
    /// A step failed, and everything before it was undone.
    RolledBack = 8,
    /// A step failed, and not everything could be undone.
    RollbackFailed = 9,
    /// Only root can do this.
    NeedsRoot = 10,
}

/// The codes, for `--help`.
pub(super) const HELP: &str = "\
Exit codes:
  0  done, or nothing to do
  1  what is wanted is not what is (status)
  2  wrong usage or bad input; nothing was changed
  3  refused by a rule of bindctl
  4  the device is in use, or its use cannot be ruled out
  5  the device or its IOMMU group cannot be assigned
  6  the kernel refused, and nothing was changed
  7  the kernel did not answer in time; see `bindctl recover`
  8  a step failed, and everything before it was undone
  9  a step failed, and not everything could be undone; see `bindctl recover`
 10  only root can do this";

impl Exit {
    /// The code for obstacles; a user that may be overridden is named before what cannot be.
    pub fn of<'a>(obstacles: impl IntoIterator<Item = &'a Obstacle>) -> Self {
        let worst = obstacles.into_iter().filter(|o| !o.overridden).map(|o| match o.class {
            Class::InUse | Class::CannotTell => (3, Self::InUse),
            Class::NotViable => (2, Self::NotViable),
            Class::Policy => (1, Self::Policy),
        });
        worst.max_by_key(|(rank, _)| *rank).map_or(Self::Done, |(_, exit)| exit)
    }
}
