//! Sleeping locks.

use core::fmt;
use core::ops::{Deref, DerefMut};

use super::atomic::{AtomicBool, Ordering};
use super::imp;
use super::order::{Held, Kind, LockClass, LockLevel};
use super::wait_queue::WaitQueue;

/// Lock whose holder may wait for I/O, and whose waiters sleep (Linux: `struct mutex`).
///
/// Not for interrupt handlers, and not to be taken while a [`SpinLock`](super::SpinLock) is held. A waiting thread parks:
/// see [`TargetHooks`](super::TargetHooks).
///
/// ```
/// use bindery::sync::Mutex;
///
/// let name = Mutex::new(String::new());
/// name.lock().push_str("sda");
/// assert_eq!(name.into_inner(), "sda");
/// ```
pub struct Mutex<T> {
    class: LockClass,
    value: imp::Mutex<T>,
    waiters: WaitQueue,
    /// A waiter was woken and found the lock taken again: threads that come now queue behind it.
    starved: AtomicBool,
}

/// Exclusive access to the value of a [`Mutex`]; gives it back when dropped.
#[must_use = "the lock is released at once otherwise"]
pub struct MutexGuard<'a, T> {
    // Dropped in this order: the next one is woken once the lock is free. The guard borrows the lock, so the queue is still
    // there, whatever the next holder does.
    guard: imp::MutexGuard<'a, T>,
    _held: Held,
    _wake_next: WakeNext<'a>,
}

/// Wakes a waiter when it is dropped.
struct WakeNext<'a>(&'a WaitQueue);

impl<T> Mutex<T> {
    /// A free lock that holds `value`. The place of this call is its [class](LockLevel).
    #[cfg(not(loom))]
    #[track_caller]
    pub const fn new(value: T) -> Self {
        Self {
            class: LockClass::here(LockLevel::Other),
            value: imp::Mutex::new(value),
            waiters: WaitQueue::new(),
            starved: AtomicBool::new(false),
        }
    }

    /// A free lock that holds `value`.
    #[cfg(loom)]
    pub fn new(value: T) -> Self {
        Self {
            class: LockClass::here(LockLevel::Other),
            value: imp::Mutex::new(value),
            waiters: WaitQueue::new(),
            starved: AtomicBool::new(false),
        }
    }

    /// The same lock at `level` of the order in which locks are taken.
    #[must_use]
    pub const fn at(mut self, level: LockLevel) -> Self {
        self.class = self.class.at(level);
        self
    }

    /// The same lock in a class of which a thread may hold several, because the code orders them otherwise: a parent before
    /// its child, or under a lock that only one thread can hold.
    #[must_use]
    pub const fn nesting(mut self) -> Self {
        self.class = self.class.nesting();
        self
    }

    /// Locks it, sleeping if need be. The explorer's scheduler and the lock-order checker name the place of this call.
    #[cfg_attr(any(debug_assertions, feature = "std"), track_caller)]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.class.wanted(Kind::Sleeping, core::any::type_name::<T>());
        if let Some(guard) = self.take_as_newcomer() {
            return self.locked(guard);
        }
        #[cfg(all(feature = "std", not(any(loom, shuttle))))]
        if let Some(yield_hook) = super::thread_hook::of_this_thread() {
            let at = core::panic::Location::caller();
            let _wait = super::record_wait(|| alloc::format!("the lock that is taken at {at}"));
            loop {
                yield_hook();
                if let Some(guard) = imp::try_lock(&self.value) {
                    return self.locked(guard);
                }
            }
        }
        // The model checkers see a thread that blocks, and report a deadlock.
        #[cfg(any(loom, shuttle))]
        return self.locked(imp::lock(&self.value));
        #[cfg(not(any(loom, shuttle)))]
        self.locked(self.sleep(true))
    }

    /// Takes the lock if it is free and no starved waiter is about to take it.
    fn take_as_newcomer(&self) -> Option<imp::MutexGuard<'_, T>> {
        // Relaxed: a thread that misses the flag is one more that is faster than the waiter, which sets it again.
        if self.starved.load(Ordering::Relaxed) { None } else { imp::try_lock(&self.value) }
    }

    /// Sleeps until the lock is free, and takes it. Each release wakes the one that has waited longest. It takes the lock,
    /// or sleeps again when another thread was faster, whose own release then wakes; but from then on newcomers leave the lock to
    /// it. So a thread that takes the lock again and again cannot keep others out, as on one CPU with cooperative threads,
    /// where the one that was woken does not run until the holder sleeps.
    #[cfg_attr(any(loom, shuttle), allow(dead_code, reason = "a model of its own calls it"))]
    fn sleep(&self, newcomer: bool) -> imp::MutexGuard<'_, T> {
        let mut attempts = self.attempts(u8::from(newcomer));
        self.waiters.sleep(|| attempts.take())
    }

    /// Attempts of one thread to take the lock, `before` of them before it sleeps for the first time.
    pub(crate) fn attempts(&self, before: u8) -> Attempts<'_, T> {
        Attempts { lock: self, before, starved: false, taken: false }
    }

    /// Checks that the calling thread may wait for the lock now, for a wait that tries it again and again.
    #[cfg_attr(any(debug_assertions, feature = "std"), track_caller)]
    pub(crate) fn check_order(&self) {
        self.class.wanted(Kind::Sleeping, core::any::type_name::<T>());
    }

    /// Queue of the waiting threads, woken at each release, for a wait that does more than sleep. Who waits on it takes the
    /// lock, or wakes the next one.
    pub(crate) fn waiters(&self) -> &WaitQueue {
        &self.waiters
    }

    /// Locks it if it is free at this moment. Does not queue behind starved waiters.
    #[cfg_attr(any(debug_assertions, feature = "std"), track_caller)]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        Some(self.locked(imp::try_lock(&self.value)?))
    }

    #[cfg_attr(any(debug_assertions, feature = "std"), track_caller)]
    fn locked<'a>(&'a self, guard: imp::MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        MutexGuard {
            guard,
            _held: self.class.held(Kind::Sleeping, core::any::type_name::<T>()),
            _wake_next: WakeNext(&self.waiters),
        }
    }

    /// Consumes the lock and returns its value; being owned, it cannot be locked.
    #[cfg(not(loom))]
    pub fn into_inner(self) -> T {
        imp::into_inner(self.value)
    }
}

/// Attempts of one thread to take a [`Mutex`]: as a newcomer before it sleeps; afterwards, whenever it is woken, as a waiter for
/// which newcomers stand back once it was woken in vain.
pub(crate) struct Attempts<'l, T> {
    lock: &'l Mutex<T>,
    /// Attempts as a newcomer that are left.
    before: u8,
    /// The last attempt was in vain, and newcomers stand back.
    starved: bool,
    taken: bool,
}

impl<'l, T> Attempts<'l, T> {
    /// Takes the lock, if it is free.
    #[cfg_attr(any(debug_assertions, feature = "std"), track_caller)]
    pub(crate) fn lock(&mut self) -> Option<MutexGuard<'l, T>> {
        self.take().map(|guard| self.lock.locked(guard))
    }

    fn take(&mut self) -> Option<imp::MutexGuard<'l, T>> {
        if let Some(left) = self.before.checked_sub(1) {
            self.before = left;
            let guard = self.lock.take_as_newcomer();
            self.taken = guard.is_some();
            return guard;
        }
        let guard = imp::try_lock(&self.lock.value);
        // Set before this waiter sleeps again: the release that wakes it comes after its attempt, and so it clears the flag
        // whenever it has set it last. Another starved waiter sets it again when it is woken.
        (self.starved, self.taken) = (guard.is_none(), guard.is_some());
        self.lock.starved.store(self.starved, Ordering::Relaxed);
        guard
    }
}

impl<T> Drop for Attempts<'_, T> {
    fn drop(&mut self) {
        // The wait ends without the lock, by a panic in what runs meanwhile: newcomers must not stand back for nobody, nor the
        // next waiter sleep because of a wake-up that this one has got.
        if self.starved {
            self.lock.starved.store(false, Ordering::Relaxed);
        }
        if !self.taken {
            self.lock.waiters.wake_one();
        }
    }
}

impl Drop for WakeNext<'_> {
    fn drop(&mut self) {
        self.0.wake_one();
    }
}

impl<T: Default> Default for Mutex<T> {
    /// A free lock. The place of this call is its [class](LockLevel): the locks of all values that one `derive(Default)`
    /// makes are of one class.
    #[cfg_attr(not(loom), track_caller)]
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T: fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use alloc::sync::Arc;
    use alloc::vec::Vec;

    use super::*;

    struct Woken(AtomicBool);

    impl alloc::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_wait_that_ends_without_the_lock_passes_its_wake_up_on() {
        for attempts_before_it_sleeps in [0, 1] {
            let lock = Mutex::new(());
            let wakers: Vec<_> = (0..2).map(|_| Arc::new(Woken(AtomicBool::new(false)))).collect();
            let mut places = wakers.iter().map(|w| lock.waiters().register(Arc::clone(w).into())).collect::<Vec<_>>();
            let is_woken = |n: usize| wakers[n].0.load(Ordering::Relaxed);
            let mut attempts = lock.attempts(attempts_before_it_sleeps);
            let held = lock.lock();
            assert!(attempts.lock().is_none());
            drop(held);
            assert_eq!((is_woken(0), is_woken(1)), (true, false));
            // The first waiter's wait is over, by a panic in what ran meanwhile.
            drop(places.remove(0));
            drop(attempts);
            assert!(is_woken(1), "{attempts_before_it_sleeps}");
            assert!(lock.take_as_newcomer().is_some(), "nobody stands back for it");
        }
    }

    #[test]
    fn threads_that_wait_for_the_lock_get_it_one_after_the_other() {
        let count = Arc::new(Mutex::new(0));
        let held = count.lock();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let count = Arc::clone(&count);
                std::thread::spawn(move || (0..1000).for_each(|_| *count.lock() += 1))
            })
            .collect();
        drop(held);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(*count.lock(), 4000);
        assert!(count.try_lock().is_some());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::Arc;

    use super::*;

    /// The first waiter starves while the second one comes: neither sleeps for ever, and nobody is left out afterwards.
    #[test]
    fn loom_a_starved_waiter_and_a_newcomer_both_get_the_lock() {
        loom::model(|| {
            let count = Arc::new(Mutex::new(0));
            count.starved.store(true, Ordering::Relaxed);
            let add = |count: &Mutex<u32>, newcomer| {
                let mut guard = count.locked(count.sleep(newcomer));
                *guard += 1;
            };
            let theirs = Arc::clone(&count);
            let other = loom::thread::spawn(move || add(&theirs, false));
            add(&count, true);
            other.join().unwrap();
            assert_eq!(*count.lock(), 2);
        });
    }

    /// A lost wake-up leaves a thread asleep: the model ends in a deadlock.
    #[test]
    fn loom_each_release_wakes_a_thread_that_waits_for_the_lock() {
        loom::model(|| {
            let count = Arc::new(Mutex::new(0));
            let add = |count: &Mutex<u32>| {
                let mut guard = count.locked(count.sleep(true));
                *guard += 1;
            };
            let theirs = Arc::clone(&count);
            let other = loom::thread::spawn(move || add(&theirs));
            add(&count);
            other.join().unwrap();
            assert_eq!(*count.lock(), 2);
        });
    }
}
