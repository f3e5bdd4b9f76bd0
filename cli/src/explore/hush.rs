//! Panics in the walked code are findings: the report tells of them, once each. Told where they happen, thousands of them
//! would hide it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::{Arc, Mutex, PoisonError};

/// Runs `walk` without a word about panics inside it. A panic that gets out of it is told as always.
pub(super) fn hushed<T>(walk: impl FnOnce() -> T) -> T {
    let last = Arc::new(Mutex::new(String::new()));
    let keep = Arc::clone(&last);
    let before = take_hook();
    set_hook(Box::new(move |info| *keep.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string()));
    let outcome: Result<T, Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(walk));
    set_hook(before);
    outcome.unwrap_or_else(|panic| {
        eprintln!("{}", last.lock().unwrap_or_else(PoisonError::into_inner));
        resume_unwind(panic)
    })
}
