//! Descriptions of what threads wait for, for a scheduler that reports a deadlock.

/// True when a scheduler decides when this thread runs: time passes only at its scheduling points.
pub(crate) fn is_scheduled() -> bool {
    #[cfg(all(feature = "std", not(any(loom, shuttle))))]
    return super::thread_hook::of_this_thread().is_some();
    #[cfg(not(all(feature = "std", not(any(loom, shuttle)))))]
    return cfg!(any(loom, shuttle));
}

/// Marks the thread as waiting until it is dropped.
#[derive(Debug)]
#[must_use = "the thread waits while this lives"]
pub(crate) struct WaitRecord(
    #[cfg_attr(any(not(feature = "std"), shuttle), expect(dead_code, reason = "only a scheduler of threads reads it"))]
    bool,
);

/// Records what this thread is about to wait for. `what` is called under a scheduler only.
pub(crate) fn record_wait(what: impl FnOnce() -> alloc::string::String) -> WaitRecord {
    #[cfg(all(feature = "std", not(any(loom, shuttle))))]
    if is_scheduled() {
        WAITS.with(|w| w.borrow_mut().push(what()));
        return WaitRecord(true);
    }
    let _ = what;
    WaitRecord(false)
}

impl Drop for WaitRecord {
    fn drop(&mut self) {
        #[cfg(all(feature = "std", not(any(loom, shuttle))))]
        if self.0 {
            let _ = WAITS.try_with(|w| w.borrow_mut().pop());
        }
    }
}

#[cfg(all(feature = "std", not(any(loom, shuttle))))]
std::thread_local! {
    static WAITS: std::cell::RefCell<std::vec::Vec<std::string::String>> = const { std::cell::RefCell::new(std::vec::Vec::new()) };
}

/// Recorded waits of the calling thread, outermost first. For the scheduler's own part in
/// [`set_yield_hook`](super::set_yield_hook).
#[cfg(all(feature = "std", not(any(loom, shuttle))))]
pub fn current_wait() -> Option<std::string::String> {
    WAITS.with(|w| Some(w.borrow().join(": ")).filter(|text| !text.is_empty()))
}
