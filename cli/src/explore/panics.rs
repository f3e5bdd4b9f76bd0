//! Suppression of panic messages. Panics in the explored code are findings, which the report lists once each; thousands of
//! messages would hide it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::{Arc, Mutex, PoisonError};

/// Runs `work` without printing the panics inside it. A panic that leaves it is printed.
pub(super) fn without_panic_output<T>(work: impl FnOnce() -> T) -> T {
    let last = Arc::new(Mutex::new(String::new()));
    let keep = Arc::clone(&last);
    let before = take_hook();
    set_hook(Box::new(move |info| *keep.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string()));
    let outcome: Result<T, Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(work));
    set_hook(before);
    outcome.unwrap_or_else(|panic| {
        eprintln!("{}", last.lock().unwrap_or_else(PoisonError::into_inner));
        resume_unwind(panic)
    })
}
