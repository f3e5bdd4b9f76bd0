//! Interrupt lines in device descriptions.

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

/// Signal on the wire that counts as an interrupt request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Trigger {
    /// Level-triggered: requested while the line is high, until the device is acknowledged.
    #[default]
    LevelHigh,
    /// Edge-triggered: requested once, when the line rises.
    EdgeRising,
}
