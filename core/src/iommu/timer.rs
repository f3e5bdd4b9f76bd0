//! Deadlines of the flush queues of lazy domains, and of retries after unconfirmed flushes.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::time::Duration;

use super::Domain;
use crate::env::Instant;
use crate::sync::SpinLock;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::system::System;

/// Time from an unconfirmed flush to its first retry.
const RETRY_FIRST: Duration = Duration::from_millis(10);
/// Limit of the retry interval, which doubles each time.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Deadlines of a machine.
pub(crate) struct Timers {
    /// The earliest deadline, in nanoseconds, so that an env that waits need not lock; `u64::MAX` for none.
    next: AtomicU64,
    /// A leaf.
    set: SpinLock<Set>,
}

#[derive(Default)]
struct Set {
    /// Lazy domains, each once, and when to look at their queues.
    confirm: Vec<(Instant, Weak<Domain>)>,
    /// Time of the next retry of unconfirmed flushes, and the interval after it.
    retry: Option<(Instant, Duration)>,
}

impl Set {
    fn first(&self) -> Option<Instant> {
        let retry = self.retry.map(|(at, _)| at);
        self.confirm.iter().map(|(at, _)| *at).chain(retry).min()
    }
}

impl Default for Timers {
    fn default() -> Self {
        Self { next: AtomicU64::new(u64::MAX), set: SpinLock::default() }
    }
}

impl Timers {
    fn change<R>(&self, change: impl FnOnce(&mut Set) -> R) -> R {
        let mut set = self.set.lock();
        let result = change(&mut set);
        self.next.store(set.first().map_or(u64::MAX, |at| at.0), Ordering::Release);
        result
    }

    /// Looks at the queue of `domain` at `at`, unless that is to be done earlier already. A domain that fills its queue faster than this
    /// time passes has one entry, not one for each queue.
    pub(crate) fn confirm(&self, at: Instant, domain: &Arc<Domain>) {
        // Acquired and released: see `run`.
        if domain.has_timer.swap(true, Ordering::AcqRel) {
            return;
        }
        self.change(|set| {
            set.confirm.retain(|(_, domain)| domain.strong_count() > 0);
            set.confirm.push((at, Arc::downgrade(domain)));
        });
    }

    /// Adds a retry for an unconfirmed flush, if none is set.
    pub(crate) fn retry(&self, now: Instant) {
        self.change(|set| {
            set.retry.get_or_insert((now + RETRY_FIRST, RETRY_FIRST * 2));
        });
    }

    /// Number of queues that are looked at in time.
    #[cfg(test)]
    pub(crate) fn queues(&self) -> usize {
        self.set.lock().confirm.len()
    }

    /// Time of the next call of [`run`](Self::run).
    pub(crate) fn next(&self) -> Option<Instant> {
        // Pairs with the release in `change`: a thread that sees a deadline also sees its entry.
        let own = self.next.load(Ordering::Acquire);
        (own != u64::MAX).then_some(Instant(own))
    }

    /// Flushes queues that are due. When a retry is due, calls `retry`, which returns true when nothing is left to
    /// retry.
    pub(crate) fn run(&self, machine: &System, retry: impl FnOnce() -> bool) {
        let now = machine.env().now();
        if self.next().is_none_or(|at| at > now) {
            return;
        }
        let (due, retry_due) = self.change(|set| {
            let due: Vec<_> = set.confirm.extract_if(.., |(at, _)| *at <= now).collect();
            (due, set.retry.take_if(|(at, _)| *at <= now))
        });
        for domain in due.iter().filter_map(|(_, domain)| domain.upgrade()) {
            // Before the look at the queue: who has begun one and has found the timer set, has begun the one that is seen here.
            domain.has_timer.swap(false, Ordering::AcqRel);
            domain.confirm_due(machine);
            if let Some(at) = domain.queue_deadline() {
                self.confirm(at, &domain);
            }
        }
        if let Some((_, interval)) = retry_due
            && !retry()
        {
            let at = machine.env().now() + interval;
            self.change(|set| {
                set.retry.get_or_insert((at, (interval * 2).min(RETRY_MAX)));
            });
        }
    }
}
