//! What a machine does by itself when a time has come, although nobody calls it.
//!
//! The env keeps the time: it asks [`IrqSink::next_deadline`](crate::env::IrqSink) before it waits or idles, and calls
//! [`IrqSink::timer`](crate::env::IrqSink) when the moment has come, as it delivers an interrupt.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::time::Duration;

use super::Machine;
use crate::env::{Instant, IrqSink};
use crate::iommu::Domain;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

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
    guests: Arc<GuestTimers>,
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
        Self { next: AtomicU64::new(u64::MAX), set: Mutex::default(), guests: Arc::default() }
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

    fn next(&self) -> Option<Instant> {
        let own = self.next.load(Ordering::Acquire);
        let own = (own != u64::MAX).then_some(Instant(own));
        own.into_iter().chain(self.guests.next()).min()
    }
}

/// The machines of guests, whose timers this machine's env keeps, too: a guest that is not run waits for nothing by
/// itself.
#[derive(Default)]
pub struct GuestTimers(Mutex<Vec<Weak<dyn IrqSink>>>);

impl GuestTimers {
    /// Adds a guest, until it is gone.
    pub fn add(&self, guest: Weak<dyn IrqSink>) {
        let mut guests = self.0.lock();
        guests.retain(|g| g.strong_count() > 0);
        guests.push(guest);
    }

    fn all(&self) -> Vec<Arc<dyn IrqSink>> {
        self.0.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn next(&self) -> Option<Instant> {
        let guests = self.0.lock();
        guests.iter().filter_map(Weak::upgrade).filter_map(|g| g.next_deadline()).min()
    }
}

impl core::fmt::Debug for GuestTimers {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "GuestTimers({})", self.0.lock().len())
    }
}

impl Machine {
    /// Where the env of a guest puts its machine, for its deadlines to be kept.
    pub fn guest_timers(&self) -> &Arc<GuestTimers> {
        &self.timers.guests
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.next().into_iter().chain(self.irqs.next_due()).min()
    }

    /// Does what is due.
    pub(super) fn run_timers(&self) {
        self.irqs.end_overdue(self);
        let now = self.env.now();
        if self.timers.next().is_none_or(|at| at > now) {
            return;
        }
        let (due, retry) = self.timers.change(|set| {
            let due: Vec<_> = set.confirm.extract_if(.., |(at, _)| *at <= now).collect();
            (due, set.retry.take_if(|(at, _)| *at <= now))
        });
        for domain in due.iter().filter_map(|(_, domain)| domain.upgrade()) {
            domain.confirm_due(self);
        }
        if let Some((_, interval)) = retry
            && !self.quarantine.retry(self)
        {
            let at = self.env.now() + interval;
            self.timers.change(|set| {
                set.retry.get_or_insert((at, (interval * 2).min(RETRY_MOST)));
            });
        }
        for guest in self.timers.guests.all() {
            guest.timer();
        }
    }
}
