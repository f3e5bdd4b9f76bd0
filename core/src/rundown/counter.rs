//! Run-down protection: lets users in until the door is closed, then waits until the last one has left.

use crate::sync::atomic::{AtomicUsize, Ordering};

const CLOSED: usize = 1 << (usize::BITS - 1);

/// A door with a counter behind it.
///
/// The count and the "closed" mark share one word, so that no user can slip in between the closing and the look at the
/// count (P5).
#[derive(Debug)]
pub struct Rundown(AtomicUsize);

/// Holding a `RundownGuard` tells you: what the door protects stays until you drop this.
#[derive(Debug)]
pub struct RundownGuard<'a>(&'a Rundown);

impl Rundown {
    /// A closed door; nobody is inside.
    pub fn closed() -> Self {
        Self(AtomicUsize::new(CLOSED))
    }

    /// An open door; nobody is inside.
    pub fn open() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Lets users in from now on. What they will find must be in place before.
    pub fn reopen(&self) {
        self.0.fetch_and(!CLOSED, Ordering::Release);
    }

    /// Goes in, unless the door is closed.
    pub fn enter(&self) -> Option<RundownGuard<'_>> {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            if seen & CLOSED != 0 {
                return None;
            }
            match self.0.compare_exchange_weak(seen, seen + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(RundownGuard(self)),
                Err(now) => seen = now,
            }
        }
    }

    /// Closes the door. Users inside stay.
    pub fn close(&self) {
        self.0.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// Whether nobody gets in any more.
    pub fn is_closed(&self) -> bool {
        self.0.load(Ordering::Acquire) & CLOSED != 0
    }

    /// How many are inside.
    pub(super) fn inside(&self) -> usize {
        self.0.load(Ordering::Acquire) & !CLOSED
    }

    /// True when the door is closed and everybody has left; what it protects may then go.
    pub fn drained(&self) -> bool {
        self.0.load(Ordering::Acquire) == CLOSED
    }

    /// Closes the door and waits until everybody has left. Must not be called from inside.
    pub fn close_and_drain(&self) {
        self.close();
        while !self.drained() {
            crate::sync::relax();
        }
    }
}

impl Drop for RundownGuard<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_in_after_close_and_drain_waits_for_those_inside() {
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

    /// P5: a user that got in sees the data alive for as long as it stays; the closer frees only after all have left.
    #[test]
    fn loom_data_outlives_every_user_inside() {
        loom::model(|| {
            let shared = Arc::new((Rundown::open(), AtomicBool::new(true)));
            let users: std::vec::Vec<_> = (0..2)
                .map(|_| {
                    let shared = Arc::clone(&shared);
                    loom::thread::spawn(move || {
                        if let Some(_inside) = shared.0.enter() {
                            assert!(shared.1.load(Ordering::Relaxed), "P5: data gone while a user is inside");
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

    /// P5: whoever gets in after the door was opened sees what was put in place before.
    #[test]
    fn loom_who_gets_in_sees_what_was_there_when_the_door_was_opened() {
        loom::model(|| {
            let shared = Arc::new((Rundown::closed(), AtomicBool::new(false)));
            let user = {
                let shared = Arc::clone(&shared);
                loom::thread::spawn(move || {
                    if let Some(_inside) = shared.0.enter() {
                        assert!(shared.1.load(Ordering::Relaxed), "P5: a user is inside before the data");
                    }
                })
            };
            shared.1.store(true, Ordering::Relaxed);
            shared.0.reopen();
            user.join().unwrap();
        });
    }
}
