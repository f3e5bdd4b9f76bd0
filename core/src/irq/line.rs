//! State of one interrupt line: its users, and the reasons for its mask. Accesses no hardware.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::Route;
use crate::env::{Instant, Trigger};
use crate::sync::atomic::Ordering;

/// Consecutive requests that no handler claims before a line is masked (Linux: 99,900 of 100,000 in
/// `kernel/irq/spurious.c`; here fewer, because nothing else can run on the CPU meanwhile).
pub(super) const UNCLAIMED_LIMIT: u32 = if cfg!(test) { 8 } else { 1_000 };
/// Number of storms that an unmask or a wait ends, until a user joins or leaves.
pub(super) const STORM_ENDS: u32 = 10;
/// Initial and maximum duration of a hold while other users share the line.
pub(super) const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// Result of calling a user's handler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HandlerResult {
    /// The device had requested, and was served.
    Handled,
    /// The device had requested; the line stays masked until this user unmasks it.
    HandledMasked,
    /// The device had not requested.
    None,
    /// No handler checked the device: wake the waiting thread.
    WakeThread,
    /// No handler could run: the user has no driver data.
    Absent,
}

/// Call of a user's handler, with the user's unmask count before it.
pub(super) struct HandlerCall {
    pub(super) route: Arc<Route>,
    pub(super) unmasks: u32,
}

#[cfg_attr(test, derive(Clone))]
#[expect(clippy::struct_excessive_bools, reason = "four facts, in any combination")]
pub(super) struct User {
    pub(super) route: Arc<Route>,
    /// Masks the line.
    masked: bool,
    /// Holds the line: masked until this user has checked its device.
    holds: bool,
    /// Threads in [`Irq::wait`](super::Irq::wait).
    waiting: u32,
    /// Number of its unmasks.
    unmasks: u32,
    /// An edge arrived while it had no driver data.
    missed: bool,
    /// An overdue hold was reported.
    reported: bool,
}

/// Result of a delivery, or of an expired hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DeliveryStatus {
    /// Nothing to report.
    Normal,
    /// No handler claimed the last requests.
    Storm,
    /// A user's hold is overdue, for the first time.
    Overdue,
}

#[cfg_attr(test, derive(Clone))]
pub(super) struct Line {
    pub(super) trigger: Trigger,
    pub(super) users: Vec<User>,
    unclaimed: u32,
    storm: bool,
    /// Storms since a user joined or left.
    storms: u32,
    held_since: Option<Instant>,
    pause: Duration,
    /// Mask state last set at the controller.
    pub(super) masked: bool,
}

impl Line {
    pub(super) fn new(trigger: Trigger) -> Self {
        Self {
            trigger,
            users: Vec::new(),
            unclaimed: 0,
            storm: false,
            storms: 0,
            held_since: None,
            pause: PAUSE.0,
            masked: false,
        }
    }

    fn user(&mut self, route: &Arc<Route>) -> Option<&mut User> {
        self.users.iter_mut().find(|u| Arc::ptr_eq(&u.route, route))
    }

    /// True when the line should be masked now.
    pub(super) fn wants_mask(&self) -> bool {
        self.storm || self.users.iter().any(|u| u.masked || u.holds)
    }

    /// True when it is masked by a storm.
    pub(super) fn storms(&self) -> bool {
        self.storm
    }

    /// Users that mask or hold the line.
    pub(super) fn masked_by(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.users.iter().filter(|u| u.masked || u.holds).map(|u| &u.route)
    }

    /// Adds a user.
    pub(super) fn join(&mut self, route: &Arc<Route>) {
        let route = Arc::clone(route);
        self.users.push(User {
            route,
            masked: false,
            holds: false,
            waiting: 0,
            unmasks: 0,
            missed: false,
            reported: false,
        });
        self.end_storm();
    }

    /// Removes a user with its mask and hold. True when it was the last one.
    pub(super) fn leave(&mut self, route: &Arc<Route>) -> bool {
        self.users.retain(|u| !Arc::ptr_eq(&u.route, route));
        self.end_storm();
        self.holds_changed();
        self.users.is_empty()
    }

    /// Opens a user, which has driver data from now on. True when its handler must be called for a missed edge.
    pub(super) fn opened(&mut self, route: &Arc<Route>) -> bool {
        self.end_storm();
        let Some(user) = self.user(route) else { return false };
        user.holds = false;
        let missed = core::mem::take(&mut user.missed);
        self.holds_changed();
        missed && self.trigger == Trigger::EdgeRising
    }

    /// Masks the line for a user.
    pub(super) fn mask(&mut self, route: &Arc<Route>) {
        if let Some(user) = self.user(route) {
            user.masked = true;
        }
    }

    /// Unmasks the line for a user, which has checked its device.
    pub(super) fn unmask(&mut self, route: &Arc<Route>) {
        let Some(user) = self.user(route) else { return };
        user.masked = false;
        user.holds = false;
        user.unmasks = user.unmasks.wrapping_add(1);
        self.holds_changed();
        if self.storms <= STORM_ENDS {
            self.storm = false;
            self.unclaimed = 0;
        }
    }

    /// Begins a wait by a thread of the user, which unmasks the line unless a request is pending for it.
    pub(super) fn begin_wait(&mut self, route: &Arc<Route>) {
        // A request that is pending for this wait keeps its mask until the thread has checked the device.
        if !route.fired.load(Ordering::Acquire) {
            self.unmask(route);
        }
        if let Some(user) = self.user(route) {
            user.waiting += 1;
        }
    }

    /// Ends a wait by a thread of the user.
    pub(super) fn end_wait(&mut self, route: &Arc<Route>) {
        if let Some(user) = self.user(route) {
            user.waiting -= 1;
        }
    }

    /// Handlers to call for a request.
    pub(super) fn calls(&self) -> Vec<HandlerCall> {
        self.users.iter().map(|u| HandlerCall { route: Arc::clone(&u.route), unmasks: u.unmasks }).collect()
    }

    /// Completes a request with the results of the handlers.
    pub(super) fn complete(&mut self, results: &[(HandlerCall, HandlerResult)], now: Instant) -> DeliveryStatus {
        let said = |wanted: &[HandlerResult]| results.iter().any(|(_, r)| wanted.contains(r));
        let (served, open, absent) = (
            said(&[HandlerResult::Handled, HandlerResult::HandledMasked]),
            said(&[HandlerResult::None]),
            said(&[HandlerResult::WakeThread, HandlerResult::Absent]),
        );
        for (call, result) in results {
            let Some(user) = self.user(&call.route) else { continue };
            match result {
                // Ignored if the user has unmasked since the call: the thread that its handler woke was faster.
                HandlerResult::HandledMasked if user.unmasks == call.unmasks => user.masked = true,
                HandlerResult::Absent => user.missed = true,
                _ => {}
            }
            if !matches!(result, HandlerResult::Handled | HandlerResult::None) {
                user.route.fire();
            }
        }
        if served || absent {
            self.unclaimed = 0;
        }
        if served {
            return DeliveryStatus::Normal;
        }
        if absent {
            // An edge does not repeat by itself, so it must not block users whose handlers have checked their devices.
            if self.trigger == Trigger::LevelHigh || !open {
                self.hold(results, now);
            }
            return DeliveryStatus::Normal;
        }
        self.unclaimed += 1;
        if self.unclaimed < UNCLAIMED_LIMIT || self.storm {
            return DeliveryStatus::Normal;
        }
        self.storm = true;
        self.storms += 1;
        self.unclaimed = 0;
        DeliveryStatus::Storm
    }

    /// Holds the line for the absent users that wait for it; if none waits, for all absent users.
    fn hold(&mut self, results: &[(HandlerCall, HandlerResult)], now: Instant) {
        let absent = |u: &User| {
            results.iter().any(|(a, r)| {
                Arc::ptr_eq(&a.route, &u.route) && matches!(r, HandlerResult::WakeThread | HandlerResult::Absent)
            })
        };
        let anybody_waits = self.users.iter().any(|u| u.waiting > 0 && absent(u));
        for user in &mut self.users {
            user.holds |= absent(user) && (user.waiting > 0 || !anybody_waits);
        }
        self.held_since = self.held_since.or(Some(now));
    }

    /// Resets the hold timer when no hold is left.
    fn holds_changed(&mut self) {
        if !self.users.iter().any(|u| u.holds) {
            self.held_since = None;
            self.pause = PAUSE.0;
        }
    }

    fn end_storm(&mut self) {
        self.storm = false;
        self.storms = 0;
        self.unclaimed = 0;
    }

    /// Time at which the current holds end because other users share the line.
    pub(super) fn due(&self) -> Option<Instant> {
        let others = self.users.iter().any(|u| !u.holds);
        self.held_since.filter(|_| others).map(|since| since + self.pause)
    }

    /// Ends holds that are overdue. The next request can hold the line again.
    pub(super) fn end_overdue(&mut self, now: Instant) -> DeliveryStatus {
        if self.due().is_none_or(|due| now < due) {
            return DeliveryStatus::Normal;
        }
        let mut first = false;
        for user in self.users.iter_mut().filter(|u| u.holds) {
            user.holds = false;
            first |= !core::mem::replace(&mut user.reported, true);
        }
        self.held_since = None;
        self.pause = (self.pause * 2).min(PAUSE.1);
        if first { DeliveryStatus::Overdue } else { DeliveryStatus::Normal }
    }
}
