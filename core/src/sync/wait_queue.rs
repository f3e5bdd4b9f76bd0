//! Queues of waiting threads and tasks.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::task::Waker;

use super::atomic::{AtomicUsize, Ordering, fence};
use super::{EventToken, SpinLock, Waiter};

/// Threads and tasks that wait for one thing; waking them concerns nobody else.
///
/// A thread waits on it with [`SystemClock::wait_on`](crate::machine::SystemClock::wait_on), a task registers its waker.
/// Waking allocates and frees nothing, so an interrupt handler may do it. It takes no lock while nobody waits; otherwise it calls
/// the wakers with the queue's lock held, a leaf: a waker may wake other queues, but must not use the same one.
#[derive(Debug)]
pub struct WaitQueue {
    waiters: SpinLock<Waiters>,
    /// Number of waiters.
    len: AtomicUsize,
}

#[derive(Debug)]
struct Waiters {
    /// Number of the last registration.
    last: u64,
    /// Oldest first.
    list: Vec<Entry>,
}

impl Waiters {
    const NONE: Self = Self { last: 0, list: Vec::new() };
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug)]
struct Entry {
    number: u64,
    waker: Waker,
    /// Woken since it was last [armed](Registration::arm).
    woken: bool,
}

/// Place in a [`WaitQueue`]; given up when dropped.
#[derive(Debug)]
#[must_use = "dropping it leaves the queue"]
pub struct Registration<'q> {
    queue: &'q WaitQueue,
    number: u64,
}

impl WaitQueue {
    /// An empty queue.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { waiters: SpinLock::new(Waiters::NONE).nesting(), len: AtomicUsize::new(0) }
    }

    /// An empty queue.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self { waiters: SpinLock::new(Waiters::NONE).nesting(), len: AtomicUsize::new(0) }
    }

    /// Registers `waker`. Check the condition afterwards: a wake-up before the registration does not reach it.
    pub fn register(&self, waker: Waker) -> Registration<'_> {
        let mut waiters = self.waiters.lock();
        waiters.last += 1;
        let number = waiters.last;
        waiters.list.push(Entry { number, waker, woken: false });
        self.len.store(waiters.list.len(), Ordering::Relaxed);
        drop(waiters);
        // Pairs with the fence in `is_empty`: either the check that follows sees what the waking side has changed, or that
        // side sees this waiter.
        fence(Ordering::SeqCst);
        Registration { queue: self, number }
    }

    /// Waits until `check` returns a value; checks it whenever the queue is woken. The thread parks in between, without a
    /// time-out and without an env: the one that changes the condition must not need this thread.
    #[cfg_attr(any(debug_assertions, feature = "std"), track_caller)]
    pub fn sleep<R>(&self, check: impl FnMut() -> Option<R>) -> R {
        super::might_sleep();
        let at = core::panic::Location::caller();
        let _wait = super::record_wait(|| alloc::format!("the wake-up that is waited for at {at}"));
        #[expect(clippy::redundant_closure_for_method_calls, reason = "its lifetime is too narrow without the closure")]
        self.wait(&Waiter::for_threads(), check, |token| token.sleep())
    }

    /// Calls `check` until it returns a value: at first, and after each `pause`, which lets time pass until its token is
    /// past, or returns early. Wake-ups that come after a check end the pause that follows it.
    pub(crate) fn wait<R>(
        &self,
        waiter: &Arc<Waiter>,
        mut check: impl FnMut() -> Option<R>,
        mut pause: impl FnMut(&EventToken<'_>),
    ) -> R {
        // The token is taken before the waiter is registered or armed. In the other order a wake-up in between would count
        // for neither: its token would not be past, and `wake_one` would pass over a waiter that was woken already.
        let mut token = waiter.token();
        let registration = self.register(Waker::from(Arc::clone(waiter)));
        loop {
            if let Some(result) = check() {
                return result;
            }
            pause(&token);
            if token.is_past() {
                token = waiter.token();
                registration.arm(None);
            }
        }
    }

    /// True when nobody waits who could have missed what the caller has changed.
    fn is_empty(&self) -> bool {
        fence(Ordering::SeqCst);
        self.len.load(Ordering::Relaxed) == 0
    }

    /// Wakes all waiters.
    pub fn wake_all(&self) {
        if self.is_empty() {
            return;
        }
        for entry in &mut self.waiters.lock().list {
            entry.woken = true;
            entry.waker.wake_by_ref();
        }
    }

    /// Wakes the waiter that has waited longest and was not woken yet: for what one waiter takes and then passes on, a lock
    /// for example. A waiter that leaves without taking it calls this, too. A task may be dropped or never polled again
    /// without that, so what tasks wait for is told to [all](Self::wake_all).
    pub fn wake_one(&self) {
        if self.is_empty() {
            return;
        }
        if let Some(entry) = self.waiters.lock().list.iter_mut().find(|entry| !entry.woken) {
            entry.woken = true;
            entry.waker.wake_by_ref();
        }
    }
}

impl Registration<'_> {
    /// Makes the waiter one for the next [`WaitQueue::wake_one`] again, with a new `waker` if one is given.
    pub fn arm(&self, waker: Option<&Waker>) {
        // Cloned before the lock, and the old one dropped after it, as when a registration is dropped.
        let mut waker = waker.cloned();
        let mut waiters = self.queue.waiters.lock();
        if let Some(entry) = waiters.list.iter_mut().find(|entry| entry.number == self.number) {
            entry.woken = false;
            if let Some(waker) = &mut waker {
                core::mem::swap(&mut entry.waker, waker);
            }
        }
        drop(waiters);
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let mut waiters = self.queue.waiters.lock();
        let at = waiters.list.iter().position(|entry| entry.number == self.number);
        // Dropped after the lock: a waker's destructor is its executor's.
        let _left = at.map(|at| waiters.list.remove(at));
        self.queue.len.store(waiters.list.len(), Ordering::Relaxed);
        drop(waiters);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use alloc::sync::Arc;
    use alloc::task::Wake;
    use alloc::vec::Vec;
    use core::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counts(all: &[Arc<Count>]) -> Vec<u32> {
        all.iter().map(|count| count.0.swap(0, Ordering::Relaxed)).collect()
    }

    #[test]
    fn a_wake_up_concerns_the_waiters_of_its_queue_in_their_order_and_nobody_else() {
        let (queue, other) = (WaitQueue::new(), WaitQueue::new());
        let wakers: Vec<_> = (0..4).map(|_| Arc::new(Count::default())).collect();
        let of = |n: usize| Waker::from(Arc::clone(&wakers[n]));
        let first = queue.register(of(0));
        let second = queue.register(of(1));
        let third = queue.register(of(2));
        let _elsewhere = other.register(of(3));
        queue.wake_one();
        queue.wake_one();
        assert_eq!(counts(&wakers), [1, 1, 0, 0]);
        first.arm(None);
        queue.wake_one();
        assert_eq!(counts(&wakers), [1, 0, 0, 0], "it waits longest again");
        drop(second);
        queue.wake_one();
        queue.wake_one();
        assert_eq!(counts(&wakers), [0, 0, 1, 0]);
        third.arm(Some(&of(1)));
        queue.wake_all();
        assert_eq!(counts(&wakers), [1, 1, 0, 0], "the third has a new waker");
        drop((first, third));
        queue.wake_all();
        assert_eq!(counts(&wakers), [0; 4]);
    }

    #[cfg(feature = "std")]
    #[test]
    fn under_a_scheduler_a_sleeping_thread_yields_and_says_what_it_waits_for() {
        let (to_me, woken) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let shared = Arc::new((WaitQueue::new(), AtomicU32::new(0)));
            let theirs = Arc::clone(&shared);
            crate::sync::set_yield_hook(Some(Arc::new(move || {
                let waits = crate::sync::current_wait().unwrap_or_default();
                assert!(waits.contains(file!()), "{waits:?}");
                theirs.1.fetch_add(1, Ordering::Relaxed);
                theirs.0.wake_all();
            })));
            shared.0.sleep(|| (shared.1.load(Ordering::Relaxed) == 2).then_some(()));
            crate::sync::set_yield_hook(None);
            to_me.send(()).unwrap();
        });
        woken.recv_timeout(std::time::Duration::from_mins(1)).expect("the thread parks, or has panicked");
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use alloc::sync::Arc;

    use super::super::atomic::AtomicU32;
    use super::super::atomic::{AtomicBool, Ordering};
    use super::super::{Completion, Waiter, relax};
    use super::*;

    /// Units, of which each wakes one waiter.
    struct Units(AtomicU32, WaitQueue);

    impl Units {
        fn add(&self) {
            self.0.fetch_add(1, Ordering::Release);
            self.1.wake_one();
        }

        fn take(&self) -> bool {
            self.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
        }
    }

    /// Waits without a time-out: a lost wake-up makes it wait for ever.
    fn wait_on(queue: &WaitQueue, mut done: impl FnMut() -> bool) {
        queue.wait(
            &Waiter::of_this_thread(),
            || done().then_some(()),
            |token| {
                while !token.is_past() {
                    relax();
                }
            },
        );
    }

    #[test]
    fn loom_no_wake_up_is_lost_between_check_and_wait() {
        loom::model(|| {
            let shared = Arc::new((WaitQueue::new(), AtomicBool::new(false)));
            let theirs = Arc::clone(&shared);
            let waker = loom::thread::spawn(move || {
                theirs.1.store(true, Ordering::Relaxed);
                theirs.0.wake_all();
            });
            wait_on(&shared.0, || shared.1.load(Ordering::Relaxed));
            waker.join().unwrap();
        });
    }

    #[test]
    fn loom_a_waiter_whose_unit_was_taken_by_another_gets_the_next_one() {
        loom::model(|| {
            let units = Arc::new(Units(AtomicU32::new(0), WaitQueue::new()));
            let theirs = Arc::clone(&units);
            let adding = loom::thread::spawn(move || {
                theirs.add();
                let taken = theirs.take();
                theirs.add();
                taken
            });
            wait_on(&units.1, || units.take());
            let taken = adding.join().unwrap();
            assert_eq!(units.take(), !taken);
        });
    }

    #[test]
    fn loom_each_completion_ends_one_wait_even_when_another_waiter_gives_up() {
        loom::model(|| {
            let done = Arc::new(Completion::new());
            // This waiter gives up, before or after it is woken.
            let registration = done.queue.register(Waker::from(Waiter::of_this_thread()));
            let (theirs, others) = (Arc::clone(&done), Arc::clone(&done));
            let completing = loom::thread::spawn(move || theirs.complete());
            let waiting = loom::thread::spawn(move || wait_on(&others.queue, || others.try_wait()));
            drop(registration);
            completing.join().unwrap();
            waiting.join().unwrap();
            assert!(!done.try_wait());
        });
    }
}
