//! Control and delivery of interrupt lines.

use super::{Instant, IrqLine, Trigger};

/// Operation of the core on an interrupt line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IrqControl {
    /// Start delivery of the line, unmasked.
    Enable(Trigger),
    /// Suspend delivery; a level-triggered request stays pending at the device.
    Mask,
    /// Resume delivery.
    Unmask,
    /// Stop delivery and free the line.
    Disable,
}

/// Receiver of interrupts from an env, including those of its timer.
pub trait IrqSink: Send + Sync {
    /// Delivers an interrupt on `line`. The receiver masks the line if it cannot handle the interrupt immediately, so that
    /// a level-triggered request does not recur endlessly.
    fn interrupt(&self, line: IrqLine);

    /// Time of the next call to [`timer`](Self::timer). An env queries it before it waits or idles, and again when it is
    /// woken, and waits no longer than until then.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Signals that the deadline has passed. Called like an interrupt: from inside [`Env::wait`](super::Env::wait), or from
    /// a hardware timer interrupt. May call [`Env::wait`](super::Env::wait) itself.
    fn timer(&self) {}
}
