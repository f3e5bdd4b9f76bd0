//! What threads wait for, in words, for a scheduler that finds that nobody gets anywhere.

/// Whether a scheduler says when this thread runs: time passes by its turns, and a wait for a moment is one of them.
pub(crate) fn is_scheduled() -> bool {
    #[cfg(all(feature = "std", not(any(loom, shuttle))))]
    return super::thread_hook::of_this_thread().is_some();
    #[cfg(not(all(feature = "std", not(any(loom, shuttle)))))]
    return cfg!(any(loom, shuttle));
}

/// While this lives, the thread waits for what it was made with.
#[derive(Debug)]
#[must_use = "the thread waits while this lives"]
pub(crate) struct WaitRecord(
    #[cfg_attr(
        any(not(feature = "std"), shuttle),
        expect(dead_code, reason = "only a scheduler of threads wants to know")
    )]
    bool,
);

/// States what this thread is about to wait for. `what` is asked only where a scheduler wants to know.
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

/// What the calling thread does and waits for, outermost first, as far as that was said. For the scheduler's own part in
/// [`set_yield_hook`](super::set_yield_hook).
#[cfg(all(feature = "std", not(any(loom, shuttle))))]
pub fn current_wait() -> Option<std::string::String> {
    WAITS.with(|w| Some(w.borrow().join(": ")).filter(|text| !text.is_empty()))
}
