//! Parking of threads: those of the target's hooks, or those of the operating system.

use super::hooks::{self, TargetHooks, ThreadNumber};

/// A thread that can be unparked.
pub(super) struct ThreadHandle {
    /// The target's own thread.
    of_target: Option<(&'static dyn TargetHooks, ThreadNumber)>,
    #[cfg(all(feature = "std", not(any(loom, shuttle))))]
    of_host: std::thread::Thread,
}

impl ThreadHandle {
    /// The calling thread.
    pub(super) fn current() -> Self {
        Self {
            of_target: hooks::get().and_then(|hooks| Some((hooks, hooks.current_thread()?))),
            #[cfg(all(feature = "std", not(any(loom, shuttle))))]
            of_host: std::thread::current(),
        }
    }

    /// Ends the thread's current or next parking. Callable from an interrupt handler.
    pub(super) fn unpark(&self) {
        match self.of_target {
            Some((hooks, number)) => hooks.unpark(number),
            #[cfg(all(feature = "std", not(any(loom, shuttle))))]
            None => self.of_host.unpark(),
            #[cfg(not(all(feature = "std", not(any(loom, shuttle)))))]
            None => {}
        }
    }

    /// Parks this thread, which is the calling one, until it is unparked. May return early for no reason.
    pub(super) fn park(&self) {
        match self.of_target {
            Some((hooks, _)) => hooks.park(),
            #[cfg(all(feature = "std", not(any(loom, shuttle))))]
            None => std::thread::park(),
            #[cfg(not(all(feature = "std", not(any(loom, shuttle)))))]
            None => super::relax(),
        }
    }
}

impl core::fmt::Debug for ThreadHandle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "ThreadHandle({:?})", self.of_target.map(|(_, number)| number))
    }
}
