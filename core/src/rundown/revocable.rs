//! Values that are used under run-down protection, without a lock.

// UNSAFETY: users read the value while they are inside the run-down, and it changes only while that is closed and drained.
#![expect(unsafe_code, reason = "a value that users reach without a lock, and that its owner takes out")]

use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;

use super::{Rundown, RundownGuard};
use crate::sync::WaitQueue;
use crate::sync::atomic::{AtomicBool, Ordering};

/// Place for a value that users reach with two atomic operations, until its owner revokes it (Linux: `Revocable` of the Rust
/// abstractions, `percpu_ref`).
///
/// # Invariants
///
/// - While the run-down is open, or a guard of it exists, `value` is `Some` and does not change.
/// - `value` changes only while `changing` is true, by the thread that set it, with the run-down closed and drained; and only
///   that thread opens the run-down.
pub(crate) struct Revocable<T> {
    rundown: Rundown,
    changing: AtomicBool,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: users on several threads share `&T` (`T: Sync`), and its owner may take the value out on another thread than the one
// that put it in (`T: Send`). Changes exclude each other and all users (invariants).
unsafe impl<T: Send + Sync> Sync for Revocable<T> {}

/// Use of the value of a [`Revocable`], which stays until this is dropped.
pub(crate) struct RevocableGuard<'a, T> {
    /// No reference: one that a function is given must be valid until that returns, and this guard may be dropped before.
    value: NonNull<T>,
    _inside: RundownGuard<'a>,
    shared: PhantomData<&'a T>,
}

impl<T> Revocable<T> {
    /// A place without a value.
    pub(crate) fn empty() -> Self {
        Self { rundown: Rundown::closed(), changing: AtomicBool::new(false), value: UnsafeCell::new(None) }
    }

    /// Starts a use; `None` without a value. Takes no lock and allocates nothing.
    pub(crate) fn enter(&self) -> Option<RevocableGuard<'_, T>> {
        let inside = self.rundown.enter()?;
        // SAFETY: inside the run-down the value does not change (first invariant), so it may be shared for as long as
        // `inside` lives.
        let value = NonNull::from(unsafe { &*self.value.get() }.as_ref()?);
        Some(RevocableGuard { value, _inside: inside, shared: PhantomData })
    }

    /// Puts `value` in, and admits users.
    ///
    /// # Errors
    ///
    /// Returns `value` while there is another one.
    pub(crate) fn publish(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.change(|place| {
            if place.is_none() {
                *place = value.take();
                // Opened while no other change can begin. Release: users see the value.
                self.rundown.reopen();
            }
        });
        value.map_or(Ok(()), Err)
    }

    /// Admits no new users. Active ones stay.
    pub(crate) fn close(&self) {
        self.rundown.close();
    }

    /// True when it is closed and has no users.
    pub(crate) fn drained(&self) -> bool {
        self.rundown.drained()
    }

    /// Queue that is woken when the last user leaves after the closing.
    pub(crate) fn drained_queue(&self) -> &WaitQueue {
        self.rundown.drained_queue()
    }

    /// Takes the value out if it is closed and has no users.
    pub(crate) fn take(&self) -> Option<T> {
        let mut taken = None;
        self.change(|place| taken = place.take());
        taken
    }

    /// Lets `act` change the value, unless there are users, or another change is under way.
    fn change(&self, act: impl FnOnce(&mut Option<T>)) {
        // Acquire: sees the last change.
        if self.changing.swap(true, Ordering::Acquire) {
            return;
        }
        if self.rundown.drained() {
            // SAFETY: this thread has set `changing`, so no other one changes the value or opens the run-down, which is
            // closed and drained: there are no users, and none comes (second invariant).
            act(unsafe { &mut *self.value.get() });
        }
        // Release: the next change sees this one.
        self.changing.store(false, Ordering::Release);
    }
}

impl<T> Deref for RevocableGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: this guard is inside the run-down for as long as it is borrowed, so the value is there and does not change
        // (first invariant).
        unsafe { self.value.as_ref() }
    }
}

impl<T> fmt::Debug for Revocable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Revocable({:?})", self.rundown)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use alloc::sync::Arc;

    #[test]
    fn a_value_stays_while_it_is_used_and_is_taken_out_once() {
        let place = Revocable::empty();
        assert!(place.enter().is_none() && place.take().is_none());
        let value = Arc::new(7);
        place.publish(Arc::clone(&value)).unwrap();
        assert_eq!(place.publish(Arc::new(8)), Err(Arc::new(8)));
        let user = place.enter().unwrap();
        assert!(place.take().is_none(), "it is open");
        place.close();
        assert!(place.take().is_none() && !place.drained(), "it is in use");
        assert_eq!(**user, 7);
        drop(user);
        assert!(place.enter().is_none());
        assert_eq!((place.take().is_some(), place.take().is_some()), (true, false));
        place.publish(value).unwrap();
        assert!(place.enter().is_some(), "the place can be used again");
    }

    /// Drops a guard that it owns, and takes the value out before it returns, as another thread may do. Miri checks that the
    /// argument keeps no reference to the value.
    fn leave_and_take(
        user: RevocableGuard<'_, alloc::boxed::Box<u32>>,
        place: &Revocable<alloc::boxed::Box<u32>>,
    ) -> u32 {
        let seen = **user;
        drop(user);
        place.take().map_or(0, |taken| seen + *taken)
    }

    #[test]
    fn a_value_may_be_taken_out_before_the_function_that_was_given_its_guard_returns() {
        let place = Revocable::empty();
        place.publish(alloc::boxed::Box::new(7)).unwrap();
        let user = place.enter().unwrap();
        place.close();
        assert_eq!(leave_and_take(user, &place), 14);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use alloc::sync::Arc;
    use std::sync::atomic::{AtomicBool as PlainBool, Ordering as PlainOrdering};

    struct Value(Arc<PlainBool>);

    impl Drop for Value {
        fn drop(&mut self) {
            self.0.store(true, PlainOrdering::SeqCst);
        }
    }

    /// P5: no user sees a value that was taken out, or one that is not there yet.
    #[test]
    fn loom_a_value_outlives_its_users() {
        loom::model(|| {
            let dropped = Arc::new(PlainBool::new(false));
            let place = Arc::new(Revocable::empty());
            let theirs = Arc::clone(&place);
            let user = loom::thread::spawn(move || {
                if let Some(value) = theirs.enter() {
                    let value: &Value = &value;
                    assert!(!value.0.load(PlainOrdering::SeqCst), "P5: used after it was taken out");
                    loom::thread::yield_now();
                    assert!(!value.0.load(PlainOrdering::SeqCst), "P5: taken out while it was used");
                }
            });
            assert!(place.publish(Value(Arc::clone(&dropped))).is_ok());
            place.close();
            while !place.drained() {
                crate::sync::relax();
            }
            assert!(place.take().is_some());
            assert!(dropped.load(PlainOrdering::SeqCst));
            user.join().unwrap();
        });
    }
}
