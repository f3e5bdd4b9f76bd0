//! Clock of a machine, and waits.

use alloc::sync::Arc;
use core::cell::Cell;
use core::fmt;
use core::time::Duration;

use super::Context;
use crate::env::{Env, EventToken};
use crate::sync::{Completion, Registration, WaitQueue, Waiter, might_sleep};
use crate::time::Instant;

/// Clock of a machine. Clones read the same clock, and may be kept indefinitely: services that a driver provides to its
/// consumers outlive a borrow of the binding.
#[derive(Clone)]
pub struct SystemClock {
    env: Arc<dyn Env>,
    events: Arc<WaitQueue>,
    deadlines: Arc<WaitQueue>,
}

impl Context {
    /// The machine's clock.
    pub fn system_clock(&self) -> SystemClock {
        SystemClock {
            env: Arc::clone(&self.env),
            events: Arc::clone(&self.events),
            deadlines: Arc::clone(&self.deadlines),
        }
    }

    /// As [`SystemClock::wait_on`].
    pub(crate) fn wait_on(&self, queue: &WaitQueue, timeout: Duration, done: impl FnMut() -> bool) -> bool {
        wait_on((&*self.env, &self.deadlines), queue, timeout, None, done)
    }
}

impl SystemClock {
    /// Monotonic time since the machine started.
    pub fn now(&self) -> Instant {
        self.env.now()
    }

    /// Waits until `done` returns true, for at most `timeout`; checks it whenever `queue` is woken. Returns the last
    /// result of `done`. No wake-up is lost: one that comes after a check ends the wait that follows it.
    ///
    /// Interrupts may be delivered meanwhile, so the caller may hold device locks, but no other lock.
    pub fn wait_on(&self, queue: &WaitQueue, timeout: Duration, done: impl FnMut() -> bool) -> bool {
        wait_on((&*self.env, &self.deadlines), queue, timeout, None, done)
    }

    /// Waits for `completion`, for at most `timeout`. Returns true when it has taken one. The caller may hold device
    /// locks, but no other lock.
    pub fn wait_for(&self, completion: &Completion, timeout: Duration) -> bool {
        self.wait_on(&completion.queue, timeout, || completion.try_wait())
    }

    /// Waits until `done` returns true, for at most `timeout`; checks it after each interrupt of the machine, and at
    /// least every `poll`. Returns the last result of `done`. Interrupts may be delivered meanwhile, so the caller may
    /// hold device locks, but no other lock.
    pub fn wait_until(&self, timeout: Duration, poll: Duration, done: impl FnMut() -> bool) -> bool {
        wait_on((&*self.env, &self.deadlines), &self.events, timeout, Some(poll), done)
    }
}

/// For envs on top of this machine.
impl SystemClock {
    /// Each interrupt and each timer of this machine ends the wait with `token` until the result is dropped: the
    /// requests of a guest come through its host, on any thread of the host.
    pub fn wakes(&self, token: &EventToken<'_>) -> Registration<'_> {
        self.events.register(token.waker())
    }
}

/// Waits until `done` returns true or `timeout` has passed.
fn wait_on(
    (env, deadlines): (&dyn Env, &WaitQueue),
    queue: &WaitQueue,
    timeout: Duration,
    poll: Option<Duration>,
    mut done: impl FnMut() -> bool,
) -> bool {
    let deadline = env.now() + timeout;
    let now = Cell::new(Instant(0));
    might_sleep();
    queue.wait(
        &Waiter::of_this_thread(),
        || {
            // The clock is read before the check: after a long delay the condition is still checked once past the deadline.
            now.set(env.now());
            if done() { Some(true) } else { (now.get() >= deadline).then_some(false) }
        },
        |token| {
            // Before the env looks for its next deadline: one that becomes earlier from here on ends the wait.
            let _earlier = deadlines.register(token.waker());
            env.wait(token, poll.map_or(deadline, |poll| deadline.min(now.get() + poll)));
        },
    )
}

impl fmt::Debug for SystemClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SystemClock({:?})", self.now())
    }
}
