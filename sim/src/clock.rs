//! Board time and what is scheduled in it.
//!
//! Every model has a fixed number of timers, so the schedule never grows. Two timers due at the same moment run in the
//! order in which they were set. Nothing here knows the host's clock.

#![forbid(unsafe_code)]

use std::hash::{Hash, Hasher};
use std::time::Duration;

use bindery::env::Instant;

use crate::models::ipmmu::{CONTEXTS, INSTANCES};
use crate::models::sata::SataTimer;
use crate::models::sysc::DOMAINS;

/// One of the board's timers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timer {
    /// A timer of the disk controller.
    Sata(SataTimer),
    /// The end of an IOTLB flush in one context of one IPMMU instance.
    Flush {
        /// Instance, 0 to [`INSTANCES`] - 1.
        instance: u8,
        /// Context, 0 to [`CONTEXTS`] - 1.
        context: u8,
    },
    /// Module clocks that were switched on begin to run.
    ModuleClocks,
    /// A power domain arrives at its new state.
    Power(u8),
}

const FLUSH: usize = SataTimer::COUNT;
const MODULE: usize = FLUSH + INSTANCES * CONTEXTS;
const POWER: usize = MODULE + 1;
const COUNT: usize = POWER + DOMAINS;

impl Timer {
    /// A number that no other timer has.
    pub(crate) fn number(self) -> u64 {
        self.index() as u64
    }

    fn index(self) -> usize {
        match self {
            Self::Sata(t) => t as usize,
            Self::Flush { instance, context } => FLUSH + instance as usize * CONTEXTS + context as usize,
            Self::ModuleClocks => MODULE,
            Self::Power(domain) => POWER + domain as usize,
        }
    }

    fn from_index(index: usize) -> Self {
        if index < FLUSH {
            Self::Sata(SataTimer::ALL[index])
        } else if index < MODULE {
            let n = index - FLUSH;
            Self::Flush { instance: (n / CONTEXTS) as u8, context: (n % CONTEXTS) as u8 }
        } else if index == MODULE {
            Self::ModuleClocks
        } else {
            Self::Power((index - POWER) as u8)
        }
    }
}

/// Time since the board was switched on, and the timers that run.
#[derive(Debug)]
pub(crate) struct Clock {
    now: u64,
    /// Per timer: when it is due and which setting of a timer this was; `u64::MAX` when it does not run.
    due: [(u64, u64); COUNT],
    settings: u64,
    /// The smallest `due`, so that a register access costs one comparison.
    next: u64,
}

impl Default for Clock {
    fn default() -> Self {
        Self { now: 0, due: [(u64::MAX, 0); COUNT], settings: 0, next: u64::MAX }
    }
}

impl Clock {
    pub(crate) fn now(&self) -> Instant {
        Instant(self.now)
    }

    /// Moves time forward to `at`; never back.
    pub(crate) fn advance_to(&mut self, at: u64) {
        self.now = self.now.max(at);
    }

    /// Sets `timer` to go off `after` from now, in place of what it was set to.
    pub(crate) fn set(&mut self, timer: Timer, after: Duration) {
        self.settings += 1;
        let at = (Instant(self.now) + after).0.min(u64::MAX - 1);
        self.due[timer.index()] = (at, self.settings);
        self.find_next();
    }

    pub(crate) fn cancel(&mut self, timer: Timer) {
        self.due[timer.index()].0 = u64::MAX;
        self.find_next();
    }

    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.due[timer.index()].0 != u64::MAX
    }

    /// Feeds the timers that run to `state`, by how long they still run.
    pub(crate) fn hash_state(&self, state: &mut impl Hasher) {
        for (index, (at, _)) in self.due.iter().enumerate().filter(|(_, (at, _))| *at != u64::MAX) {
            (index, at.saturating_sub(self.now)).hash(state);
        }
    }

    /// When the next timer goes off, if one runs.
    pub(crate) fn next_due(&self) -> Option<u64> {
        (self.next != u64::MAX).then_some(self.next)
    }

    /// Takes one timer that is due by now.
    pub(crate) fn take_due(&mut self) -> Option<Timer> {
        if self.next > self.now {
            return None;
        }
        let (index, _) = self.due.iter().enumerate().min_by_key(|(_, due)| **due)?;
        let timer = Timer::from_index(index);
        self.cancel(timer);
        Some(timer)
    }

    fn find_next(&mut self) {
        self.next = self.due.iter().map(|(at, _)| *at).min().unwrap_or(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    #[test]
    fn every_timer_has_its_own_place() {
        for index in 0..COUNT {
            assert_eq!(Timer::from_index(index).index(), index);
        }
    }

    #[test]
    fn timers_go_off_by_time_then_by_the_order_of_setting() {
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
