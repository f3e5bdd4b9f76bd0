//! Phases of a device's binding, and the transitions between them.

use core::fmt;

/// Phase of a device's binding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Phase {
    /// No driver is bound. The ledger is empty.
    Unbound = 0,
    /// The ledger is being filled: steps of the core, then the driver's probe.
    Probing = 1,
    /// A driver is bound to the device.
    Bound = 2,
    /// New users are refused and the driver stops the device.
    Quiescing = 3,
    /// The ledger is being emptied.
    Releasing = 4,
}

/// Transition from one phase to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transition {
    /// Phase before.
    pub from: Phase,
    /// Phase after.
    pub to: Phase,
    /// Cause, for diagrams.
    pub label: &'static str,
}

/// All transitions. [`Phase::may_become`] reads this table, so a diagram made from it is always correct.
pub const TRANSITIONS: &[Transition] = &[
    Transition { from: Phase::Unbound, to: Phase::Probing, label: "matched, suppliers present" },
    Transition { from: Phase::Probing, to: Phase::Bound, label: "probe succeeded" },
    Transition { from: Phase::Probing, to: Phase::Releasing, label: "a step failed or deferred" },
    Transition { from: Phase::Bound, to: Phase::Quiescing, label: "unbind, removal, supplier leaving" },
    Transition { from: Phase::Quiescing, to: Phase::Releasing, label: "quiesced, or timed out" },
    Transition { from: Phase::Releasing, to: Phase::Unbound, label: "ledger empty" },
];

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 5] = [Self::Unbound, Self::Probing, Self::Bound, Self::Quiescing, Self::Releasing];

    /// Returns true when the table has a transition to `next`.
    pub fn may_become(self, next: Self) -> bool {
        TRANSITIONS.iter().any(|t| t.from == self && t.to == next)
    }

    pub(crate) fn from_u8(value: u8) -> Self {
        Self::ALL.into_iter().find(|p| *p as u8 == value).unwrap_or(Self::Unbound)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unbound => "unbound",
            Self::Probing => "probing",
            Self::Bound => "bound",
            Self::Quiescing => "quiescing",
            Self::Releasing => "releasing",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_is_reached_and_left() {
        for phase in Phase::ALL {
            assert!(TRANSITIONS.iter().any(|t| t.to == phase) && TRANSITIONS.iter().any(|t| t.from == phase));
        }
    }

    #[test]
    fn bound_reaches_unbound_only_through_release_of_the_ledger() {
        assert!(!Phase::Bound.may_become(Phase::Unbound));
        assert!(!Phase::Quiescing.may_become(Phase::Unbound));
    }
}
