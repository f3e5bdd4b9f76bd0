//! Interrupt lines, as devices are described with them.

use core::fmt;

/// One input of the machine's interrupt controller, numbered as the controller numbers it
/// (on a GIC, SPI n is line 32 + n).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct IrqLine(pub u32);

impl fmt::Display for IrqLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What on the wire counts as a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Trigger {
    /// Requested for as long as the line is high; stays until the device is acknowledged.
    #[default]
    LevelHigh,
    /// Requested once, when the line rises.
    EdgeRising,
}
