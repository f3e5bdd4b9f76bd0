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
        if let Some((hooks, number)) = self.of_target {
            hooks.unpark(number);
        }
        // Also a thread with a number: its env may wait by `EventToken::park`.
        #[cfg(all(feature = "std", not(any(loom, shuttle))))]
        self.of_host.unpark();
    }

    /// Parks this thread, which is the calling one, until it is unparked. May return early for no reason.
    #[cfg(not(any(loom, shuttle)))]
    pub(super) fn park(&self) {
        match self.of_target {
            Some((hooks, _)) => hooks.park(),
            #[cfg(feature = "std")]
            None => std::thread::park(),
            #[cfg(not(feature = "std"))]
            None => super::relax(),
        }
    }
}

impl core::fmt::Debug for ThreadHandle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "ThreadHandle({:?})", self.of_target.map(|(_, number)| number))
    }
}

#[cfg(all(test, feature = "std", not(any(loom, shuttle))))]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    struct Numbers;

    impl TargetHooks for Numbers {}

    #[test]
    fn a_thread_with_a_number_that_parks_on_the_host_is_unparked_too() {
        let (to_me, handles) = mpsc::channel();
        let (ended, end) = mpsc::channel();
        std::thread::spawn(move || {
            let handle = ThreadHandle { of_target: Some((&Numbers, 1)), of_host: std::thread::current() };
            to_me.send(handle).unwrap();
            std::thread::park();
            ended.send(()).unwrap();
        });
        handles.recv().unwrap().unpark();
        end.recv_timeout(Duration::from_mins(1)).expect("the thread is parked for ever");
    }
}
