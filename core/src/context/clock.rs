//! Clock of a machine.

use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use super::Context;
use crate::env::Env;
use crate::time::Instant;

/// Clock of a machine. Clones read the same clock, and may be kept indefinitely: services that a driver provides to its
/// consumers outlive a borrow of the binding.
#[derive(Clone)]
pub struct SystemClock(Arc<dyn Env>);

impl Context {
    /// The machine's clock.
    pub fn system_clock(&self) -> SystemClock {
        SystemClock(Arc::clone(&self.env))
    }
}

impl SystemClock {
    /// Monotonic time since the machine started.
    pub fn now(&self) -> Instant {
        self.0.now()
    }

    /// Lets time pass until something happens or until `until`, whichever is first. May return spuriously. As with
    /// [`wait_until`](Self::wait_until), the caller may hold device locks, but no other lock.
    pub fn wait(&self, until: Instant) {
        self.0.wait(until);
    }

    /// Waits until `done` returns true, for at most `timeout`; polls whenever something happens, and at least every `poll`.
    /// Returns the last result of `done`. Interrupts may be delivered meanwhile, so the caller may hold device locks, but no
    /// other lock.
    pub fn wait_until(&self, timeout: Duration, poll: Duration, mut done: impl FnMut() -> bool) -> bool {
        let deadline = self.now() + timeout;
        loop {
            // The clock is read before `done`: after a long delay the condition is still checked once past the deadline.
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
