//! Requests to run a threaded part.

use crate::sync::atomic::{AtomicBool, Ordering};

/// Requests to run one threaded part, which at most one thread runs.
#[derive(Default)]
pub(super) struct ThreadRequests {
    requested: AtomicBool,
    runs: AtomicBool,
}

/// Mark of the only thread that runs a threaded part, also when that panics.
struct Runs<'a>(&'a AtomicBool);

impl Drop for Runs<'_> {
    fn drop(&mut self) {
        // A swap, acquire: it reads what a thread that came meanwhile has written in vain, so that this thread sees the request for
        // which that one came. Release: the next thread that runs the part sees what this one did.
        self.0.swap(false, Ordering::AcqRel);
    }
}

impl ThreadRequests {
    /// Requests a run.
    pub(super) fn request(&self) {
        // Release: pairs with the acquire of the thread, which sees what the hard handler did. A swap, acquire: a request that
        // replaces another CPU's passes on what that one's handler did.
        self.requested.swap(true, Ordering::AcqRel);
    }

    /// Takes the request.
    pub(super) fn take(&self) -> bool {
        self.requested.swap(false, Ordering::AcqRel)
    }

    /// Calls `part` once if it was requested and no other thread runs it. True when it was requested again meanwhile, and nobody
    /// runs it: then it is to be called again. It is not called again in here, so that a device that requests without end does
    /// not keep the thread.
    pub(super) fn run(&self, part: impl FnOnce()) -> bool {
        if !self.requested.load(Ordering::Acquire) {
            return false;
        }
        // Release: pairs with the acquire of the thread that runs the part, which looks at the request once more afterwards.
        if self.runs.swap(true, Ordering::AcqRel) {
            return false;
        }
        let runs = Runs(&self.runs);
        if self.take() {
            part();
        }
        drop(runs);
        self.requested.load(Ordering::Acquire)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use core::cell::Cell;

    #[test]
    fn a_part_runs_once_a_call_and_says_that_it_was_requested_again() {
        let (requests, runs) = (ThreadRequests::default(), Cell::new(0));
        let part = || {
            runs.set(runs.get() + 1);
            requests.request();
            assert!(!requests.run(|| unreachable!("one thread at a time")));
        };
        assert!(!requests.run(part), "not requested");
        requests.request();
        for n in 1..4 {
            assert!(requests.run(part));
            assert_eq!(runs.get(), n);
        }
        assert!(requests.take() && !requests.run(part));
    }

    #[test]
    fn a_part_that_panics_can_run_again() {
        let requests = ThreadRequests::default();
        requests.request();
        let panics = std::panic::AssertUnwindSafe(|| requests.run(|| panic!("in the threaded part")));
        assert!(std::panic::catch_unwind(panics).is_err());
        requests.request();
        let mut ran = false;
        assert!(!requests.run(|| ran = true) && ran);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sync::atomic::AtomicUsize;
    use alloc::sync::Arc;

    /// Two threads each request a run, and run the part as delivery does: the last run sees both requests.
    #[test]
    fn loom_a_request_while_another_thread_runs_the_part_is_not_lost() {
        loom::model(|| {
            let shared = Arc::new((ThreadRequests::default(), AtomicUsize::new(0), AtomicUsize::new(0)));
            let deliver = |shared: &(ThreadRequests, AtomicUsize, AtomicUsize)| {
                let (requests, made, served) = shared;
                made.fetch_add(1, Ordering::Relaxed);
                requests.request();
                while requests.run(|| served.store(made.load(Ordering::Relaxed), Ordering::Relaxed)) {}
            };
            let theirs = Arc::clone(&shared);
            let other = loom::thread::spawn(move || deliver(&theirs));
            deliver(&shared);
            other.join().unwrap();
            assert!(!shared.0.take(), "a request is left, and nobody runs the part");
            assert_eq!(shared.2.load(Ordering::Relaxed), 2, "the last run has seen both requests");
        });
    }
}
