//! Errors of clocks, power domains, reset lines and regulators.

use alloc::boxed::Box;

use crate::bus::BusError;
use crate::claim::Conflict;

/// Error of switching a supply.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SupplyError {
    /// The specifier names no line of this provider.
    #[error("no such clock, power domain or reset line, nor regulator")]
    NoSuchLine,
    /// The hardware did not respond in time, or its registers are gone.
    #[error("the supply does not respond")]
    Dead,
    /// The binding of this use has ended.
    #[error("the binding that used it has ended")]
    Gone,
    /// Another user holds the line and would be affected.
    #[error(transparent)]
    Held(#[from] Box<Conflict>),
    /// The device's bus could not reset it.
    #[error("reset by its bus: {0}")]
    Bus(#[from] BusError),
    /// It was switched off more often than on.
    #[error("switched off more often than on")]
    Unbalanced,
    /// The supply cannot give a voltage in this range, in microvolts.
    #[error("no voltage from {min} uV to {max} uV is available")]
    Voltage {
        /// Lowest requested voltage.
        min: u32,
        /// Highest requested voltage.
        max: u32,
    },
}

impl From<Conflict> for SupplyError {
    fn from(conflict: Conflict) -> Self {
        Self::Held(Box::new(conflict))
    }
}
