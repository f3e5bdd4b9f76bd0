//! Locks, waits and atomics.
//!
//! There are two locks: a [`SpinLock`] is for a few steps, also of an interrupt handler; the holder of a [`Mutex`] may wait
//! for I/O. A target supplies what they need by [`TargetHooks`]; under `cfg(loom)` and `cfg(shuttle)` the model checkers
//! provide locks, atomics and threads. A lock whose holder panicked stays usable: the core never leaves a guarded value
//! half-changed across a call that may panic, and a failing test should report its own failure, not a poisoned lock.

mod completion;
mod hard_irq;
mod hooks;
mod imp;
mod mutex;
mod nesting;
mod order;
mod parking;
mod per_cpu;
mod spin_lock;
mod wait_queue;
mod waiter;
mod waiting;

pub use completion::Completion;
pub(crate) use hard_irq::Delivering;
pub use hard_irq::HardIrq;
#[cfg(not(any(loom, shuttle)))]
pub use hooks::set_target_hooks;
pub use hooks::{HooksAlreadySet, InterruptState, TargetHooks, ThreadNumber};
pub use imp::atomic;
pub use mutex::{Mutex, MutexGuard};
pub use nesting::{Nested, Nesting};
pub use order::LockLevel;
pub(crate) use per_cpu::PerCpu;
pub use spin_lock::{SpinGuard, SpinLock};
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

/// Marks a place that may wait: for the lock-order checker, an error while the calling thread holds a [`SpinLock`] or is in
/// hard interrupt context (Linux: `might_sleep`).
#[cfg_attr(any(debug_assertions, feature = "std"), track_caller)]
pub fn might_sleep() {
    order::might_sleep();
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
