//! Deadlines of lazy domains, whose queues are to be confirmed, and of IOMMUs that did not confirm.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::time::Duration;

use super::Domain;
use crate::env::Instant;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::system::System;

/// How long after it did not confirm an IOMMU is asked again.
const RETRY_FIRST: Duration = Duration::from_millis(10);
/// The interval doubles up to this.
const RETRY_MOST: Duration = Duration::from_secs(10);

/// The deadlines of a machine.
pub(crate) struct Timers {
    /// The first of them, in nanoseconds, so that an env that waits need not lock; `u64::MAX` when there is none.
    next: AtomicU64,
    /// A leaf.
    set: Mutex<Set>,
}

#[derive(Default)]
struct Set {
    /// Lazy domains, and when their queues are to be confirmed.
    confirm: Vec<(Instant, Weak<Domain>)>,
    /// When IOMMUs that did not confirm are asked again, and the interval after that.
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
        Self { next: AtomicU64::new(u64::MAX), set: Mutex::default() }
    }
}

impl Timers {
    fn change<R>(&self, change: impl FnOnce(&mut Set) -> R) -> R {
        let mut set = self.set.lock();
        let result = change(&mut set);
        self.next.store(set.first().map_or(u64::MAX, |at| at.0), Ordering::Release);
        result
    }

    /// The queue of `domain` is to be confirmed at `at`.
    pub(crate) fn confirm(&self, at: Instant, domain: &Arc<Domain>) {
        self.change(|set| set.confirm.push((at, Arc::downgrade(domain))));
    }

    /// Something waits for an IOMMU that does not answer.
    pub(crate) fn retry(&self, now: Instant) {
        self.change(|set| {
            set.retry.get_or_insert((now + RETRY_FIRST, RETRY_FIRST * 2));
        });
    }

    /// When [`run`](Self::run) is to be called next.
    pub(crate) fn next(&self) -> Option<Instant> {
        // Pairs with the store in `change`: whoever sees a deadline sees what is due then.
        let own = self.next.load(Ordering::Acquire);
        (own != u64::MAX).then_some(Instant(own))
    }

    /// Confirms queues that are due. When IOMMUs are to be asked again, `retry` does so and answers whether nothing waits
    /// for one any more.
    pub(crate) fn run(&self, machine: &System, retry: impl FnOnce() -> bool) {
        let now = machine.env().now();
        if self.next().is_none_or(|at| at > now) {
            return;
        }
        let (due, late) = self.change(|set| {
            let due: Vec<_> = set.confirm.extract_if(.., |(at, _)| *at <= now).collect();
            (due, set.retry.take_if(|(at, _)| *at <= now))
        });
        for domain in due.iter().filter_map(|(_, domain)| domain.upgrade()) {
            domain.confirm_due(machine);
        }
        if let Some((_, interval)) = late
            && !retry()
        {
            let at = machine.env().now() + interval;
            self.change(|set| {
                set.retry.get_or_insert((at, (interval * 2).min(RETRY_MOST)));
            });
        }
    }
}
