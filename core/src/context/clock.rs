//! The clock of a machine, for whoever needs nothing else of its env.

use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use super::Context;
use crate::env::Env;
use crate::time::Instant;

/// Time of a machine. Clones read the same clock, and may be kept for as long as their holder likes: what a driver provides
/// to its consumers outlives a borrow of the binding.
#[derive(Clone)]
pub struct SystemClock(Arc<dyn Env>);

impl Context {
    /// The clock that the machine runs by.
    pub fn system_clock(&self) -> SystemClock {
        SystemClock(Arc::clone(&self.env))
    }
}

impl SystemClock {
    /// Time since the machine started, never going back.
    pub fn now(&self) -> Instant {
        self.0.now()
    }

    /// Lets time pass until something happens or until `until`, whichever is first. May return early for no reason. As with
    /// [`wait_until`](Self::wait_until), the caller holds no lock but device locks.
    pub fn wait(&self, until: Instant) {
        self.0.wait(until);
    }

    /// Waits until `done` returns true, for at most `timeout`; polls whenever something happens, and at least every `poll`.
    /// Returns what `done` returned last. Interrupts may be delivered meanwhile, so the caller holds no lock but device locks.
    pub fn wait_until(&self, timeout: Duration, poll: Duration, mut done: impl FnMut() -> bool) -> bool {
        let deadline = self.now() + timeout;
        loop {
            // The clock is read first: a wait that was held up for long still looks once more before it gives up.
            let now = self.now();
            if done() {
                return true;
            }
            if now >= deadline {
                return false;
            }
            self.0.wait(deadline.min(now + poll));
        }
    }
}

impl fmt::Debug for SystemClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SystemClock({:?})", self.now())
    }
}
