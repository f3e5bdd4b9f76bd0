//! Run-down protection by one atomic word.

use crate::sync::WaitQueue;
use crate::sync::atomic::{AtomicUsize, Ordering};

const CLOSED: usize = 1 << (usize::BITS - 1);

/// Run-down reference: a count of active users, and a closed flag.
///
/// Count and flag share one word, so that no user can enter between the closing and the reading of the count (P5).
///
/// ```
/// use bindery::binding::Rundown;
///
/// let rundown = Rundown::open();
/// let user = rundown.enter().expect("it is open");
/// rundown.close();
/// assert!(rundown.enter().is_none() && !rundown.drained());
/// drop(user);
/// assert!(rundown.drained());
/// ```
#[derive(Debug)]
pub struct Rundown {
    state: AtomicUsize,
    /// Woken by the last user that leaves once it is closed.
    drained: WaitQueue,
}

/// Active use of a [`Rundown`]. Holding a `RundownGuard` tells you: what the run-down protects stays until you drop
/// this.
#[derive(Debug)]
pub struct RundownGuard<'a>(&'a Rundown);

impl Rundown {
    /// A closed run-down without users.
    pub fn closed() -> Self {
        Self::of(CLOSED)
    }

    /// An open run-down without users.
    pub fn open() -> Self {
        Self::of(0)
    }

    fn of(state: usize) -> Self {
        Self { state: AtomicUsize::new(state), drained: WaitQueue::new() }
    }

    /// Opens it. What users will access must be in place before.
    pub fn reopen(&self) {
        // Release: pairs with the Acquire in `enter`, so that users see what was put in place before.
        self.state.fetch_and(!CLOSED, Ordering::Release);
    }

    /// Starts a use; `None` when it is closed.
    pub fn enter(&self) -> Option<RundownGuard<'_>> {
        let mut seen = self.state.load(Ordering::Relaxed);
        loop {
            if seen & CLOSED != 0 {
                return None;
            }
            // Acquire: pairs with the Release in `reopen`. A failed exchange reads nothing else, so it may be Relaxed.
            match self.state.compare_exchange_weak(seen, seen + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(RundownGuard(self)),
                Err(now) => seen = now,
            }
        }
    }

    /// Closes it: no new use starts. Active users stay.
    pub fn close(&self) {
        // Release: what was done before closing is visible to whoever sees it closed. Acquire: sees what left users
        // did.
        self.state.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// True when it is closed.
    pub fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Number of active users.
    pub(super) fn inside(&self) -> usize {
        self.state.load(Ordering::Acquire) & !CLOSED
    }

    /// True when it is closed and no user is active; what it protects may then be freed.
    pub fn drained(&self) -> bool {
        // Acquire: pairs with the Release in the guard's drop, so that all accesses of users happened before the
        // freeing.
        self.state.load(Ordering::Acquire) == CLOSED
    }

    /// Closes it and waits until no user is active. Must not be called by an active user, which would wait for itself.
    /// The thread sleeps meanwhile.
    pub fn close_and_drain(&self) {
        self.close();
        if !self.drained() {
            self.drained.sleep(|| self.drained().then_some(()));
        }
    }

    /// Queue that is woken when the last user leaves after the closing.
    pub(super) fn drained_queue(&self) -> &WaitQueue {
        &self.drained
    }
}

impl Drop for RundownGuard<'_> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `drained`. A drainer that waits registers before it checks the count, so it
        // sees this exit, or this wake-up comes after the registration. From here on what the run-down protects may be gone,
        // but the run-down itself is borrowed until the end of this function.
        if self.0.state.fetch_sub(1, Ordering::Release) == CLOSED | 1 {
            self.0.drained.wake_all();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn no_user_enters_after_close_and_drain_waits_for_active_users() {
        let door = Rundown::open();
        let inside = door.enter().unwrap();
        door.close();
        assert!(door.enter().is_none());
        assert!(!door.drained());
        drop(inside);
        assert!(door.drained());
        door.reopen();
        assert!(door.enter().is_some());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sync::atomic::AtomicBool;
    use std::sync::Arc;

    /// P5: an active user sees the data alive; the closer frees it only after all users have left.
    #[test]
    fn loom_data_outlives_every_active_user() {
        loom::model(|| {
            let shared = Arc::new((Rundown::open(), AtomicBool::new(true)));
            let users: std::vec::Vec<_> = (0..2)
                .map(|_| {
                    let shared = Arc::clone(&shared);
                    loom::thread::spawn(move || {
                        if let Some(_inside) = shared.0.enter() {
                            assert!(shared.1.load(Ordering::Relaxed), "P5: data freed while a user is active");
                        }
                    })
                })
                .collect();
            shared.0.close_and_drain();
            shared.1.store(false, Ordering::Relaxed);
            for u in users {
                u.join().unwrap();
            }
        });
    }

    /// P5: a user that enters after the opening sees what was put in place before.
    #[test]
    fn loom_a_user_sees_what_was_in_place_before_reopen() {
        loom::model(|| {
            let shared = Arc::new((Rundown::closed(), AtomicBool::new(false)));
            let user = {
                let shared = Arc::clone(&shared);
                loom::thread::spawn(move || {
                    if let Some(_inside) = shared.0.enter() {
                        assert!(shared.1.load(Ordering::Relaxed), "P5: a user is active before the data is in place");
                    }
                })
            };
            shared.1.store(true, Ordering::Relaxed);
            shared.0.reopen();
            user.join().unwrap();
        });
    }
}
