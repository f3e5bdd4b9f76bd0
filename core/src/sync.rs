//! The core's only lock type, and its atomics.
//!
//! With the feature `std` a waiter parks; without it, it spins; under `cfg(loom)` and `cfg(shuttle)` the model checkers
//! provide locks, atomics and threads. A lock whose holder panicked stays usable: the core never leaves a guarded value
//! half-changed across a call that may panic, and a failing test should report its own failure, not a poisoned lock.

mod completion;
mod nesting;
mod wait_queue;
mod waiter;
mod waiting;

pub use completion::Completion;
pub use imp::atomic;
pub use nesting::{Nested, Nesting};
pub use wait_queue::{Registration, WaitQueue};
pub use waiter::{EventToken, Waiter};
#[cfg(all(feature = "std", not(any(loom, shuttle))))]
pub use waiting::current_wait;
pub(crate) use waiting::{is_scheduled, record_wait};

/// Identity of threads, for targets that have threads.
#[cfg(all(any(feature = "std", shuttle), not(loom)))]
pub mod thread {
    pub use super::imp::thread::{ThreadId, current};
}

/// Mutual exclusion. [`lock`](Self::lock) blocks until the value is free.
#[derive(Debug, Default)]
pub struct Mutex<T>(imp::Mutex<T>);

/// Exclusive access to the value of a [`Mutex`]; gives it back when dropped.
pub type Guard<'a, T> = imp::MutexGuard<'a, T>;

impl<T> Mutex<T> {
    /// An unlocked mutex that holds `value`.
    #[cfg(not(loom))]
    pub const fn new(value: T) -> Self {
        Self(imp::Mutex::new(value))
    }

    /// An unlocked mutex that holds `value`.
    #[cfg(loom)]
    pub fn new(value: T) -> Self {
        Self(imp::Mutex::new(value))
    }

    /// Locks the mutex, waiting if need be. The explorer's scheduler names the place of this call when it reports a
    /// deadlock.
    #[cfg_attr(all(feature = "std", not(any(loom, shuttle))), track_caller)]
    pub fn lock(&self) -> Guard<'_, T> {
        #[cfg(all(feature = "std", not(any(loom, shuttle))))]
        if let Some(guard) = self.try_lock() {
            return guard;
        } else if let Some(yield_hook) = thread_hook::of_this_thread() {
            let at = core::panic::Location::caller();
            let _wait = record_wait(|| alloc::format!("the lock that is taken at {at}"));
            loop {
                yield_hook();
                if let Some(guard) = self.try_lock() {
                    return guard;
                }
            }
        }
        #[cfg(any(feature = "std", loom, shuttle))]
        return self.0.lock().unwrap_or_else(imp::PoisonError::into_inner);
        #[cfg(not(any(feature = "std", loom, shuttle)))]
        return self.0.lock();
    }

    /// Locks the mutex if it is free at this moment.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        #[cfg(any(feature = "std", loom, shuttle))]
        return match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(imp::TryLockError::Poisoned(e)) => Some(e.into_inner()),
            Err(imp::TryLockError::WouldBlock) => None,
        };
        #[cfg(not(any(feature = "std", loom, shuttle)))]
        return self.0.try_lock();
    }

    /// Consumes the mutex and returns its value; being owned, it cannot be locked.
    #[cfg(not(loom))]
    pub fn into_inner(self) -> T {
        #[cfg(any(feature = "std", shuttle))]
        return self.0.into_inner().unwrap_or_else(imp::PoisonError::into_inner);
        #[cfg(not(any(feature = "std", shuttle)))]
        return self.0.into_inner();
    }
}

#[cfg(loom)]
mod imp {
    pub use loom::sync::atomic;
    pub(super) use loom::sync::{Mutex, MutexGuard};
    pub(super) use std::sync::{PoisonError, TryLockError};
}
#[cfg(all(shuttle, not(loom)))]
#[expect(unreachable_pub, reason = "named by public aliases")]
mod imp {
    pub(super) use shuttle::sync::{Mutex, PoisonError, TryLockError};
    pub use shuttle::sync::{MutexGuard, atomic};
    pub use shuttle::thread;
}
#[cfg(all(feature = "std", not(any(loom, shuttle))))]
#[expect(unreachable_pub, reason = "named by public aliases")]
mod imp {
    pub use core::sync::atomic;
    pub use std::sync::MutexGuard;
    pub(super) use std::sync::{Mutex, PoisonError, TryLockError};
    pub use std::thread;
}
#[cfg(not(any(feature = "std", loom, shuttle)))]
#[expect(unreachable_pub, reason = "named by public aliases")]
mod imp {
    pub use core::sync::atomic;
    pub(super) use spin::Mutex;
    pub use spin::MutexGuard;
}

/// Per-thread hook that replaces parking while a thread waits.
#[cfg(all(feature = "std", not(any(loom, shuttle))))]
mod thread_hook {
    use std::cell::RefCell;
    use std::sync::Arc;

    std::thread_local! {
        static YIELD_HOOK: RefCell<Option<Arc<dyn Fn()>>> = const { RefCell::new(None) };
    }

    pub(super) fn set(yield_hook: Option<Arc<dyn Fn()>>) {
        YIELD_HOOK.with(|g| g.replace(yield_hook));
    }

    pub(super) fn of_this_thread() -> Option<Arc<dyn Fn()>> {
        YIELD_HOOK.with(|g| g.borrow().clone())
    }
}

/// Sets the hook that the calling thread calls repeatedly, in place of parking, while it waits for a lock or for a
/// run-down: a scheduler that runs one thread at a time switches to another one there. `None` parks again.
///
/// The hook returns when it is this thread's turn; it may panic to end the wait.
#[cfg(all(feature = "std", not(any(loom, shuttle))))]
pub fn set_yield_hook(yield_hook: Option<std::sync::Arc<dyn Fn()>>) {
    thread_hook::set(yield_hook);
}

/// Yields to other threads once, inside a loop that waits for one of them (Linux: `cpu_relax`).
pub fn relax() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(all(shuttle, not(loom)))]
    shuttle::thread::yield_now();
    #[cfg(all(feature = "std", not(any(loom, shuttle))))]
    match thread_hook::of_this_thread() {
        Some(yield_hook) => yield_hook(),
        None => std::thread::yield_now(),
    }
    #[cfg(not(any(feature = "std", loom, shuttle)))]
    core::hint::spin_loop();
}

/// Yields for longer than [`relax`], about 0.1 ms where threads can sleep: for a wait for a thread that has not started
/// yet.
pub fn pause() {
    #[cfg(all(feature = "std", not(any(loom, shuttle))))]
    if thread_hook::of_this_thread().is_none() {
        std::thread::sleep(core::time::Duration::from_micros(100));
        return;
    }
    relax();
}

/// Runs `act`, and catches a panic in it where panics unwind. A panic in the destructor of the panic's payload is
/// caught, too.
///
/// # Errors
///
/// The panic's message.
pub fn catch_panic<R>(act: impl FnOnce() -> R) -> Result<R, alloc::string::String> {
    #[cfg(all(feature = "std", not(loom)))]
    return std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).map_err(|payload| {
        let text = payload.downcast_ref::<std::string::String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).into()));
        if text.is_none()
            && let Err(second) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(payload)))
        {
            // Its destructor may panic again, and so on: leak it.
            core::mem::forget(second);
        }
        text.unwrap_or_else(|| "no message".into())
    });
    #[cfg(any(loom, not(feature = "std")))]
    return Ok(act());
}

/// Closure for another thread to run.
pub type Job = alloc::boxed::Box<dyn FnOnce() + Send>;

/// Runs `job` on a new thread.
///
/// # Errors
///
/// Returns `job` where there are no threads, or none could be started.
pub(crate) fn spawn(job: Job) -> Result<(), Job> {
    #[cfg(all(shuttle, not(loom)))]
    {
        shuttle::thread::spawn(job);
        Ok(())
    }
    #[cfg(all(feature = "std", not(any(loom, shuttle))))]
    {
        // Shared, because a failed `spawn` drops its closure, and the job must not be lost with it.
        let slot = std::sync::Arc::new(std::sync::Mutex::new(Some(job)));
        let take = |slot: &std::sync::Mutex<Option<Job>>| {
            slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
        };
        let theirs = std::sync::Arc::clone(&slot);
        let run = move || {
            let job = take(&theirs);
            if let Some(job) = job {
                job();
            }
        };
        match std::thread::Builder::new().name("bindery".into()).spawn(run) {
            Ok(_) => Ok(()),
            Err(_) => take(&slot).map_or(Ok(()), Err),
        }
    }
    #[cfg(any(loom, not(any(feature = "std", shuttle))))]
    Err(job)
}
