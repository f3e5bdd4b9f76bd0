//! What a target does with interrupt lines.

use super::{Instant, IrqLine, Trigger};

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
