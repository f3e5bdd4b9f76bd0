//! Board time and timers.
//!
//! Every model has a fixed number of timers, so the schedule never grows. Two timers due at the same moment run in the
//! order in which they were set. The host's clock is never used.

#![forbid(unsafe_code)]

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bindery::env::Instant;

use crate::models::ipmmu::{CONTEXTS, INSTANCES};
use crate::models::sata::SataTimer;

/// One of the board's timers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timer {
    /// A timer of the disk controller.
    Sata(SataTimer),
    /// Completion of an IOTLB flush in one context of one IPMMU instance.
    Flush {
        /// Instance, 0 to [`INSTANCES`] - 1.
        instance: u8,
        /// Context, 0 to [`CONTEXTS`] - 1.
        context: u8,
    },
    /// Enabled module clocks start.
    ModuleClocks,
    /// A power domain reaches its new state.
    Power(u8),
    /// A timer of an [attached device](crate::models::attached).
    Attached {
        /// The device, in the order in which they were given to the board.
        device: u8,
        /// The timer.
        timer: u8,
    },
}

const FLUSH: u64 = SataTimer::COUNT as u64;
const MODULE: u64 = FLUSH + (INSTANCES * CONTEXTS) as u64;
const POWER: u64 = MODULE + 1;
const ATTACHED: u64 = POWER + 256;

impl Timer {
    /// Unique number of the timer.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Sata(t) => t as u64,
            Self::Flush { instance, context } => FLUSH + u64::from(instance) * CONTEXTS as u64 + u64::from(context),
            Self::ModuleClocks => MODULE,
            Self::Power(domain) => POWER + u64::from(domain),
            Self::Attached { device, timer } => {
                ATTACHED + u64::from(device) * u64::from(crate::models::attached::TIMERS) + u64::from(timer)
            }
        }
    }
}

/// Time since power-up, and running timers.
#[derive(Debug)]
pub(crate) struct Clock {
    /// Nanoseconds. Read by others without the board's lock.
    now: Arc<AtomicU64>,
    /// Running timers, each at most once.
    running: Vec<Running>,
    settings: u64,
    /// Expiry of the earliest timer, so that a register access costs one comparison; `u64::MAX` when none runs.
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    at: u64,
    /// Sequence number of the call that set it.
    setting: u64,
    timer: Timer,
}

impl Default for Clock {
    fn default() -> Self {
        Self { now: Arc::default(), running: Vec::new(), settings: 0, next: u64::MAX }
    }
}

impl Clock {
    pub(crate) fn now(&self) -> Instant {
        Instant(self.now.load(Ordering::Relaxed))
    }

    /// The current time in nanoseconds, shared with readers outside the board's lock.
    pub(crate) fn shared_now(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.now)
    }

    /// Advances time to `at`, unless it is in the past.
    pub(crate) fn advance_to(&mut self, at: u64) {
        if at > self.now().0 {
            self.now.store(at, Ordering::Release);
        }
    }

    /// Sets `timer` to expire `after` from now; replaces an earlier setting.
    pub(crate) fn set(&mut self, timer: Timer, after: Duration) {
        self.settings += 1;
        let at = (self.now() + after).0.min(u64::MAX - 1);
        self.cancel(timer);
        self.running.push(Running { at, setting: self.settings, timer });
        self.next = self.next.min(at);
    }

    pub(crate) fn cancel(&mut self, timer: Timer) {
        if let Some(place) = self.place(timer) {
            self.running.swap_remove(place);
            self.next = self.running.iter().map(|r| r.at).min().unwrap_or(u64::MAX);
        }
    }

    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.place(timer).is_some()
    }

    /// Hashes running timers by their remaining time.
    pub(crate) fn hash_state(&self, state: &mut impl Hasher) {
        let now = self.now().0;
        let mut running: Vec<_> = self.running.iter().map(|r| (r.timer.number(), r.at.saturating_sub(now))).collect();
        running.sort_unstable();
        running.hash(state);
    }

    /// Expiry of the next timer, if one runs.
    pub(crate) fn next_due(&self) -> Option<u64> {
        (self.next != u64::MAX).then_some(self.next)
    }

    /// Returns true when a timer is due.
    pub(crate) fn is_due(&self) -> bool {
        self.next <= self.now().0
    }

    /// Removes and returns one due timer.
    pub(crate) fn take_due(&mut self) -> Option<Timer> {
        if !self.is_due() {
            return None;
        }
        let timer = self.running.iter().min_by_key(|r| (r.at, r.setting))?.timer;
        self.cancel(timer);
        Some(timer)
    }

    fn place(&self, timer: Timer) -> Option<usize> {
        self.running.iter().position(|r| r.timer == timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::sysc::DOMAINS;

    const US: Duration = Duration::from_micros(1);

    #[test]
    fn timer_numbers_are_unique() {
        let sata = SataTimer::ALL.map(Timer::Sata);
        let flushes = (0..INSTANCES as u8)
            .flat_map(|instance| (0..CONTEXTS as u8).map(move |context| Timer::Flush { instance, context }));
        let power = (0..DOMAINS as u8).map(Timer::Power);
        let attached = (0..=u8::MAX).flat_map(|device| (0..8).map(move |timer| Timer::Attached { device, timer }));
        let all = sata.into_iter().chain(flushes).chain([Timer::ModuleClocks]).chain(power).chain(attached);
        let mut numbers: Vec<u64> = all.map(Timer::number).collect();
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count);
    }

    #[test]
    fn timers_expire_by_time_then_in_the_order_of_setting() {
        let mut clock = Clock::default();
        clock.set(Timer::Power(0), 2 * US);
        clock.set(Timer::ModuleClocks, US);
        clock.set(Timer::Sata(SataTimer::Link), US);
        assert_eq!(clock.take_due(), None);
        assert_eq!(clock.next_due(), Some(1000));
        clock.advance_to(5000);
        assert_eq!(clock.take_due(), Some(Timer::ModuleClocks));
        assert_eq!(clock.take_due(), Some(Timer::Sata(SataTimer::Link)));
        assert_eq!(clock.take_due(), Some(Timer::Power(0)));
        assert_eq!((clock.take_due(), clock.next_due()), (None, None));
    }

    #[test]
    fn setting_a_timer_again_replaces_it_and_cancelling_removes_it() {
        let mut clock = Clock::default();
        for _ in 0..1000 {
            clock.set(Timer::ModuleClocks, US);
        }
        clock.set(Timer::ModuleClocks, 3 * US);
        assert_eq!(clock.next_due(), Some(3000));
        clock.cancel(Timer::ModuleClocks);
        assert!(!clock.is_set(Timer::ModuleClocks));
        assert_eq!(clock.next_due(), None);
    }
}
