//! Wake-ups of one thread, which cannot be lost.

use alloc::sync::Arc;
use alloc::task::Wake;
use core::task::Waker;

use super::atomic::{AtomicU32, Ordering};
use super::parking::ThreadHandle;

/// Count of the wake-ups of one waiting thread (an *event count*).
///
/// A wait takes a [token](Self::token), checks its condition, and then lets time pass until the count is newer than the
/// token ([`Env::wait`](crate::env::Env::wait)): a wake-up between check and wait ends the wait at once. The waker of a
/// waiter (`Waker::from`) may be called from anywhere, an interrupt handler included.
///
/// ```
/// use bindery::sync::Waiter;
/// use std::task::Waker;
///
/// let waiter = Waiter::of_this_thread();
/// let token = waiter.token();
/// assert!(!token.is_past());
/// Waker::from(waiter.clone()).wake();
/// assert!(token.is_past() && !waiter.token().is_past());
/// ```
#[derive(Debug)]
pub struct Waiter {
    wake_ups: AtomicU32,
    thread: ThreadHandle,
    /// Other threads wake it, rather than devices.
    by_threads: bool,
}

/// State of a [`Waiter`] at one moment.
#[derive(Clone, Copy, Debug)]
pub struct EventToken<'w> {
    waiter: &'w Arc<Waiter>,
    seen: u32,
}

impl Waiter {
    /// A waiter for the calling thread.
    pub fn of_this_thread() -> Arc<Self> {
        Self::new(false)
    }

    /// A waiter for the calling thread that other threads of the program wake, rather than devices.
    pub(crate) fn for_threads() -> Arc<Self> {
        Self::new(true)
    }

    fn new(by_threads: bool) -> Arc<Self> {
        Arc::new(Self { wake_ups: AtomicU32::new(0), thread: ThreadHandle::current(), by_threads })
    }

    /// Token to take before the condition is checked.
    pub fn token(self: &Arc<Self>) -> EventToken<'_> {
        // Acquire: what was done before the counted wake-ups is visible to the check that follows.
        EventToken { waiter: self, seen: self.wake_ups.load(Ordering::Acquire) }
    }
}

impl Wake for Waiter {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Release: pairs with the loads of the waiting thread, which then sees what it was woken for. A wait that misses
        // 2^32 wake-ups is out of the question: each of them ends it.
        self.wake_ups.fetch_add(1, Ordering::Release);
        self.thread.unpark();
    }
}

impl EventToken<'_> {
    /// True once the waiter was woken since the token was taken.
    pub fn is_past(&self) -> bool {
        self.waiter.wake_ups.load(Ordering::Acquire) != self.seen
    }

    /// True when another thread is to end the wait, rather than a device: an env whose time passes in waits alone lets
    /// that thread run before it lets much time pass.
    pub fn awaits_threads(&self) -> bool {
        self.waiter.by_threads
    }

    /// Waker that ends the wait, for an env on top of another machine, whose events may be its own.
    pub fn waker(&self) -> Waker {
        Waker::from(Arc::clone(self.waiter))
    }

    /// Parks the calling thread until the token is past. May return early for no reason.
    pub(super) fn sleep(&self) {
        // Under a model checker no sleep ends for no reason: a lost wake-up is one that the model sees.
        #[cfg(any(loom, shuttle))]
        while !self.is_past() {
            super::relax();
        }
        // A wake-up between this check and the parking is remembered.
        #[cfg(not(any(loom, shuttle)))]
        if !self.is_past() {
            if super::is_scheduled() {
                // The scheduler runs the thread that is waited for, and sees when there is none.
                super::relax();
            } else {
                self.waiter.thread.park();
            }
        }
    }

    /// Parks the calling thread until the token is past, but not longer than `timeout`; for an
    /// [`Env::wait`](crate::env::Env::wait) on threads of a host. May return early for no reason.
    #[cfg(all(feature = "std", not(any(loom, shuttle))))]
    pub fn park(&self, timeout: core::time::Duration) {
        // `unpark` is remembered, so one between this check and the parking is not lost either.
        if !self.is_past() {
            std::thread::park_timeout(timeout);
        }
    }

    /// As on the threads of a host: here another thread gets its turn.
    #[cfg(all(shuttle, not(loom)))]
    pub fn park(&self, _timeout: core::time::Duration) {
        if !self.is_past() {
            super::relax();
        }
    }
}
