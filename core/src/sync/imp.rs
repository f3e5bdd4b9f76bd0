//! Locks, atomics and threads of the standard library, of `spin`, or of a model checker.

#[cfg(loom)]
mod of_target {
    pub use loom::sync::atomic;
    pub(in crate::sync) use loom::sync::{Mutex, MutexGuard};
    pub(super) use std::sync::{PoisonError, TryLockError};
}
#[cfg(all(shuttle, not(loom)))]
mod of_target {
    pub use shuttle::sync::atomic;
    pub(in crate::sync) use shuttle::sync::{Mutex, MutexGuard};
    pub(super) use shuttle::sync::{PoisonError, TryLockError};
    pub(in crate::sync) use shuttle::thread;
}
#[cfg(all(feature = "std", not(any(loom, shuttle))))]
mod of_target {
    pub use core::sync::atomic;
    pub(in crate::sync) use std::sync::{Mutex, MutexGuard};
    pub(super) use std::sync::{PoisonError, TryLockError};
    pub(in crate::sync) use std::thread;
}
#[cfg(not(any(feature = "std", loom, shuttle)))]
mod of_target {
    pub use core::sync::atomic;
    pub(in crate::sync) use spin::{Mutex, MutexGuard};
}

pub use of_target::atomic;
#[cfg(all(any(feature = "std", shuttle), not(loom)))]
pub(super) use of_target::thread;
pub(super) use of_target::{Mutex, MutexGuard};

/// Locks `mutex`; blocks until it is free.
#[cfg(any(feature = "std", loom, shuttle))]
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(of_target::PoisonError::into_inner)
}

/// Locks `mutex` if it is free.
#[inline]
pub(super) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    #[cfg(any(feature = "std", loom, shuttle))]
    return match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(of_target::TryLockError::Poisoned(e)) => Some(e.into_inner()),
        Err(of_target::TryLockError::WouldBlock) => None,
    };
    #[cfg(not(any(feature = "std", loom, shuttle)))]
    return mutex.try_lock();
}

/// Value of `mutex`.
#[cfg(not(loom))]
pub(super) fn into_inner<T>(mutex: Mutex<T>) -> T {
    #[cfg(any(feature = "std", shuttle))]
    return mutex.into_inner().unwrap_or_else(of_target::PoisonError::into_inner);
    #[cfg(not(any(feature = "std", shuttle)))]
    return mutex.into_inner();
}
