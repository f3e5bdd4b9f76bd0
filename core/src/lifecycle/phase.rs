//! The phases of a device's binding, and the only ways from one to another.

use core::fmt;

/// Where a device is in its life with a driver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Phase {
    /// No driver. The ledger is empty.
    Unbound = 0,
    /// The ledger is being filled: steps of the core, then the driver's probe.
    Probing = 1,
    /// A driver holds the device.
    Bound = 2,
    /// New users are shut out and the driver stops the device.
    Quiescing = 3,
    /// The ledger is being emptied.
    Releasing = 4,
}

/// One way from a phase to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transition {
    /// From here.
    pub from: Phase,
    /// To there.
    pub to: Phase,
    /// What happened, for diagrams.
    pub label: &'static str,
}

/// Every transition that exists. [`Phase::may_become`] reads this table, so a diagram made from it cannot be wrong.
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

    /// Whether the table has a transition from here to `next`.
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
    fn there_is_no_way_from_bound_to_unbound_past_the_ledger() {
        assert!(!Phase::Bound.may_become(Phase::Unbound));
        assert!(!Phase::Quiescing.may_become(Phase::Unbound));
    }
}
