//! Leaf locks.

use core::fmt;
use core::ops::{Deref, DerefMut};

use super::hooks::InterruptsDisabled;
use super::imp;
use super::order::{Held, Kind, LockClass, LockLevel};

/// Lock for a few steps that wait for nothing (Linux: `raw_spinlock_t`, taken with `spin_lock_irqsave`).
///
/// While it is held, the CPU's interrupts are disabled ([`TargetHooks`](super::TargetHooks)), so an interrupt handler may
/// take it, too. Its holder must not sleep: take no [`Mutex`](super::Mutex), and call no
/// [`Env::wait`](crate::env::Env::wait). A thread that waits for it spins; with the feature `std` it parks.
///
/// A thread drops its guards in the reverse order of their taking: each restores the interrupts as it found them, so in
/// another order they would be enabled while a lock is still held, and then stay disabled. The lock-order checker panics.
///
/// ```
/// use bindery::sync::SpinLock;
///
/// let count = SpinLock::new(0);
/// *count.lock() += 1;
/// assert_eq!(count.into_inner(), 1);
/// ```
pub struct SpinLock<T> {
    class: LockClass,
    value: imp::Mutex<T>,
}

/// Exclusive access to the value of a [`SpinLock`]; gives it back when dropped.
#[must_use = "the lock is released at once otherwise"]
pub struct SpinGuard<'a, T> {
    // Dropped in this order: interrupts stay disabled until the lock is free.
    guard: imp::MutexGuard<'a, T>,
    _held: Held,
    _interrupts: InterruptsDisabled,
}

impl<T> SpinLock<T> {
    /// A free lock that holds `value`. The place of this call is its [class](LockLevel).
    #[cfg(not(loom))]
    #[track_caller]
    pub const fn new(value: T) -> Self {
        Self { class: LockClass::here(LockLevel::Leaf), value: imp::Mutex::new(value) }
    }

    /// A free lock that holds `value`.
    #[cfg(loom)]
    pub fn new(value: T) -> Self {
        Self { class: LockClass::here(LockLevel::Leaf), value: imp::Mutex::new(value) }
    }

    /// The same lock at `level` of the order in which locks are taken; without this, it is a leaf.
    #[must_use]
    pub const fn at(mut self, level: LockLevel) -> Self {
        self.class = self.class.at(level);
        self
    }

    /// The same lock in a class of which a thread may hold several, because the code orders them otherwise.
    #[must_use]
    pub const fn nesting(mut self) -> Self {
        self.class = self.class.nesting();
        self
    }

    /// Locks it, waiting if need be. The explorer's scheduler and the lock-order checker name the place of this call.
    #[cfg_attr(any(debug_assertions, feature = "std"), track_caller)]
    #[inline]
    pub fn lock(&self) -> SpinGuard<'_, T> {
        self.class.wanted(Kind::Spin, core::any::type_name::<T>());
        let interrupts = InterruptsDisabled::begin();
        if let Some(guard) = imp::try_lock(&self.value) {
            return self.locked(guard, interrupts);
        }
        self.lock_contended(interrupts)
    }

    /// Waits until it is free.
    #[cfg_attr(any(debug_assertions, feature = "std"), track_caller)]
    #[cold]
    fn lock_contended(&self, interrupts: InterruptsDisabled) -> SpinGuard<'_, T> {
        #[cfg(all(feature = "std", not(any(loom, shuttle))))]
        if let Some(yield_hook) = super::thread_hook::of_this_thread() {
            let at = core::panic::Location::caller();
            let _wait = super::record_wait(|| alloc::format!("the lock that is taken at {at}"));
            loop {
                yield_hook();
                if let Some(guard) = imp::try_lock(&self.value) {
                    return self.locked(guard, interrupts);
                }
            }
        }
        #[cfg(any(feature = "std", loom, shuttle))]
        return self.locked(imp::lock(&self.value), interrupts);
        #[cfg(not(any(feature = "std", loom, shuttle)))]
        {
            // Interrupts are enabled while it spins, so that the holder's time is not added to their latency.
            drop(interrupts);
            loop {
                let interrupts = InterruptsDisabled::begin();
                if let Some(guard) = imp::try_lock(&self.value) {
                    return self.locked(guard, interrupts);
                }
                drop(interrupts);
                while self.value.is_locked() {
                    core::hint::spin_loop();
                }
            }
        }
    }

    /// Locks it if it is free at this moment.
    #[cfg_attr(any(debug_assertions, feature = "std"), track_caller)]
    pub fn try_lock(&self) -> Option<SpinGuard<'_, T>> {
        let interrupts = InterruptsDisabled::begin();
        let guard = imp::try_lock(&self.value)?;
        Some(self.locked(guard, interrupts))
    }

    #[cfg_attr(any(debug_assertions, feature = "std"), track_caller)]
    #[inline]
    fn locked<'a>(&self, guard: imp::MutexGuard<'a, T>, interrupts: InterruptsDisabled) -> SpinGuard<'a, T> {
        SpinGuard { guard, _held: self.class.held(Kind::Spin, core::any::type_name::<T>()), _interrupts: interrupts }
    }

    /// Consumes the lock and returns its value; being owned, it cannot be locked.
    #[cfg(not(loom))]
    pub fn into_inner(self) -> T {
        imp::into_inner(self.value)
    }
}

impl<T: Default> Default for SpinLock<T> {
    /// A free lock. The place of this call is its [class](LockLevel): the locks of all values that one `derive(Default)`
    /// makes are of one class.
    #[cfg_attr(not(loom), track_caller)]
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for SpinLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T> Deref for SpinGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for SpinGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T: fmt::Debug> fmt::Debug for SpinGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
