//! Completions: events that happen once, or a counted number of times.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use super::atomic::{AtomicU32, Ordering};
use super::wait_queue::{Registration, WaitQueue};

/// Count from which on a completion stays complete.
const ALL: u32 = u32::MAX;

/// Event that one side completes, an interrupt handler for example, and that others wait for (Linux:
/// `struct completion`).
///
/// Each [`complete`](Self::complete) ends one wait, now or later; [`complete_all`](Self::complete_all) all of them. A
/// thread waits with [`SystemClock::wait_for`](crate::machine::SystemClock::wait_for), a task with [`wait`](Self::wait).
///
/// ```
/// use bindery::sync::Completion;
/// use std::pin::pin;
/// use std::task::{Context, Poll, Waker};
///
/// let done = Completion::new();
/// let mut task = Context::from_waker(Waker::noop());
/// let mut wait = pin!(done.wait());
/// assert_eq!(wait.as_mut().poll(&mut task), Poll::Pending);
/// done.complete();
/// assert_eq!(wait.as_mut().poll(&mut task), Poll::Ready(()));
/// assert!(!done.try_wait(), "one wait was completed");
/// ```
#[derive(Debug, Default)]
pub struct Completion {
    /// Completions that no wait has taken yet.
    done: AtomicU32,
    pub(crate) queue: WaitQueue,
}

impl Completion {
    /// A completion that nobody has completed.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { done: AtomicU32::new(0), queue: WaitQueue::new() }
    }

    /// A completion that nobody has completed.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Completes it for one wait. Callable from an interrupt handler.
    pub fn complete(&self) {
        // Release: whoever takes it sees what was done before. Saturates: then it stays complete.
        let more = |done: u32| Some(done.saturating_add(1));
        let _ = self.done.fetch_update(Ordering::Release, Ordering::Relaxed, more);
        // All, of whom one takes it: a task that alone was told may be dropped, or never polled again.
        self.queue.wake_all();
    }

    /// Completes it for all waits, also for those to come, until [`reset`](Self::reset). Callable from an interrupt
    /// handler.
    pub fn complete_all(&self) {
        self.done.store(ALL, Ordering::Release);
        self.queue.wake_all();
    }

    /// Forgets completions that no wait has taken.
    pub fn reset(&self) {
        self.done.store(0, Ordering::Relaxed);
    }

    /// Takes one completion if there is one.
    pub fn try_wait(&self) -> bool {
        let take = |done: u32| (done > 0).then(|| if done == ALL { ALL } else { done - 1 });
        // Acquire: pairs with the Release of the completing side.
        self.done.fetch_update(Ordering::Acquire, Ordering::Relaxed, take).is_ok()
    }

    /// Future that waits for the completion.
    pub fn wait(&self) -> impl Future<Output = ()> + Send + '_ {
        Wait { completion: self, registration: None }
    }
}

/// Wait of a task.
struct Wait<'c> {
    completion: &'c Completion,
    registration: Option<Registration<'c>>,
}

impl Future for Wait<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        let completion = self.completion;
        // Registered before the check, so that a completion in between wakes the task.
        match &self.registration {
            Some(registration) => registration.arm(Some(task.waker())),
            None => self.registration = Some(completion.queue.register(task.waker().clone())),
        }
        if !completion.try_wait() {
            return Poll::Pending;
        }
        self.registration = None;
        Poll::Ready(())
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use alloc::sync::Arc;
    use alloc::task::Wake;
    use core::pin::pin;
    use core::task::Waker;

    use super::*;

    /// Completes something when its last waker is dropped.
    struct CompletesAtTheEnd(Arc<Completion>);

    impl Wake for CompletesAtTheEnd {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for CompletesAtTheEnd {
        fn drop(&mut self) {
            self.0.complete();
        }
    }

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_completion_while_another_is_taken_wakes_the_next_waiter() {
        let done = Arc::new(Completion::new());
        let (mut first, mut second) = (pin!(done.wait()), pin!(done.wait()));
        let before = Waker::from(Arc::new(CompletesAtTheEnd(Arc::clone(&done))));
        assert!(first.as_mut().poll(&mut Context::from_waker(&before)).is_pending());
        drop(before);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert!(second.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        done.complete();
        woken.0.store(0, Ordering::Relaxed);
        // The second completion comes between the re-arming of the first waiter, which drops its old waker, and its check.
        assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "one completion is left for the second waiter");
        assert!(second.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
        assert!(!done.try_wait());
    }
    #[test]
    fn a_wait_that_is_forgotten_or_never_polled_again_takes_nothing_from_another() {
        let done = Completion::new();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut forgotten = alloc::boxed::Box::pin(done.wait());
        let mut idle = pin!(done.wait());
        let mut waiting = pin!(done.wait());
        for wait in [forgotten.as_mut() as Pin<&mut dyn Future<Output = ()>>, idle.as_mut()] {
            assert!(wait.poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        core::mem::forget(forgotten);
        done.complete();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
    }

    /// Completes another one when it is woken, as an executor may that runs a task on a thread which waits for it.
    struct Completes(Completion);

    impl Wake for Completes {
        fn wake(self: Arc<Self>) {
            self.0.complete();
        }
    }

    #[test]
    fn a_waker_may_complete_another_completion() {
        let (done, next) = (Completion::new(), Arc::new(Completes(Completion::new())));
        let mut wait = pin!(done.wait());
        assert!(wait.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&next)))).is_pending());
        let _waiting = next.0.queue.register(Waker::noop().clone());
        done.complete();
        assert!(next.0.try_wait());
    }
}
