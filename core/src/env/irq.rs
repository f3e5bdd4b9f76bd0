//! Interrupt lines.

use core::fmt;

use super::Instant;

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

/// What the core asks of an interrupt line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IrqControl {
    /// Deliver this line from now on, unmasked.
    Enable(Trigger),
    /// Deliver nothing for now; a level request stays pending at the device.
    Mask,
    /// Deliver again.
    Unmask,
    /// Forget the line.
    Disable,
}

/// Where an env delivers interrupts, its own timer's among them.
pub trait IrqSink: Send + Sync {
    /// The line is requested. The receiver masks it if it can not serve it at once, so that a level request does not
    /// come back for ever.
    fn interrupt(&self, line: IrqLine);

    /// When [`timer`](Self::timer) is to be called next. An env asks before it waits or idles, and again when it is woken;
    /// it waits no longer than until then.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// The moment has come. Called like an interrupt: from inside [`Env::wait`](super::Env::wait), or from a timer of the
    /// hardware that behaves like it. May call [`Env::wait`](super::Env::wait) itself.
    fn timer(&self) {}
}
