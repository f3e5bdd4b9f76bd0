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
    ///
    /// Callable in hard interrupt context, between any two instructions of other code: it allocates and frees nothing, and
    /// takes no lock that other code holds with interrupts enabled. It may call [`Env::irq`](super::Env::irq) and
    /// [`Env::now`](super::Env::now). A target whose traps preempt marks them ([`HardIrq`](crate::sync::HardIrq)), and keeps the
    /// receiver alive by a reference that no trap drops. What cannot be done in hard context (threaded parts of handlers,
    /// reports) is then left for [`timer`](Self::timer). Without a mark, as when a simulator delivers from inside
    /// [`Env::wait`](super::Env::wait), it is done before this returns.
    fn interrupt(&self, line: IrqLine);

    /// Time of the next call to [`timer`](Self::timer); in the past when a handler in hard context has left work. An env
    /// queries it before it waits or idles, and again when it is woken or was interrupted, and waits no longer than until then.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Signals that the deadline has passed. Called in task context: from inside [`Env::wait`](super::Env::wait), or from a
    /// thread of the target that holds no locks, but not from a trap. Runs threaded parts of interrupt handlers, too. May call
    /// [`Env::wait`](super::Env::wait) itself.
    fn timer(&self) {}
}
