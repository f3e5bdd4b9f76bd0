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

/// Most users of one line; Linux has as many threads at most on a shared line (`irqaction.thread_mask`).
pub(super) const MAX_USERS: usize = 64;

/// Result of calling a user's handler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HandlerResult {
    /// The device had requested, and was served.
    Handled,
    /// The device had requested; the line stays masked until this user unmasks it.
    HandledMasked,
    /// The device had requested; the handler's threaded part will serve it.
    Threaded,
    /// The device had not requested.
    None,
    /// No handler checked the device: wake the waiting thread.
    WakeThread,
}

impl HandlerResult {
    /// True when it changes the line's state ([`Line::answer`]).
    pub(super) fn changes_line(self) -> bool {
        !matches!(self, Self::Handled | Self::None)
    }
}

/// Results of the handlers to which one request was delivered.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Answers {
    /// Users whose handlers were called, by slot.
    called: u64,
    /// Those of them that could not check their devices.
    absent: u64,
    served: bool,
    declined: bool,
}

impl Answers {
    /// Adds the result of the user in `slot`.
    pub(super) fn add(&mut self, slot: usize, result: HandlerResult) {
        self.called |= 1 << slot;
        match result {
            HandlerResult::Handled | HandlerResult::HandledMasked | HandlerResult::Threaded => self.served = true,
            HandlerResult::None => self.declined = true,
            HandlerResult::WakeThread => self.absent |= 1 << slot,
        }
    }

    /// True when the request is complete without [`Line::complete`]: some user's device had made it.
    pub(super) fn served(&self) -> bool {
        self.served
    }
}

#[cfg_attr(test, derive(Clone))]
#[expect(clippy::struct_excessive_bools, reason = "facts that hold in any combination")]
pub(super) struct User {
    pub(super) route: Arc<Route>,
    /// Place of its handler.
    slot: usize,
    /// Masks the line.
    masked: bool,
    /// Holds the line: masked until this user has checked its device.
    holds: bool,
    /// Masks the line until its threaded part has run.
    threaded: bool,
    /// Its handler could not check the device, and the user has not since: a request may hold the line for it. A request is
    /// completed some time after its handlers were called, and the user may have been faster.
    asked: bool,
    /// Is being removed: its handler is not called any more.
    leaving: bool,
    /// Threads in [`Irq::wait`](super::Irq::wait).
    waiting: u32,
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

impl User {
    fn masks(&self) -> bool {
        self.masked || self.holds || self.threaded
    }
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
    /// Enabled at the controller.
    pub(super) enabled: bool,
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
            enabled: false,
            masked: false,
        }
    }

    fn user(&mut self, route: &Arc<Route>) -> Option<&mut User> {
        self.users.iter_mut().find(|u| Arc::ptr_eq(&u.route, route))
    }

    /// A slot without a user; `None` when there are too many users.
    pub(super) fn free_slot(&self) -> Option<usize> {
        (0..MAX_USERS).find(|slot| self.users.iter().all(|u| u.slot != *slot))
    }

    /// True when the line should be masked now.
    pub(super) fn wants_mask(&self) -> bool {
        self.storm || self.users.iter().any(User::masks)
    }

    /// True when it is masked by a storm.
    pub(super) fn storms(&self) -> bool {
        self.storm
    }

    /// Users that mask or hold the line.
    pub(super) fn masked_by(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.users.iter().filter(|u| u.masks()).map(|u| &u.route)
    }

    /// Adds a user, whose handler is in `slot`.
    pub(super) fn join(&mut self, route: &Arc<Route>, slot: usize) {
        self.users.push(User {
            route: Arc::clone(route),
            slot,
            masked: false,
            holds: false,
            threaded: false,
            asked: false,
            leaving: false,
            waiting: 0,
            reported: false,
        });
        self.end_storm();
    }

    /// Begins the removal of a user. A request that nobody else serves holds the line until [`leave`](Self::leave).
    pub(super) fn leaving(&mut self, route: &Arc<Route>) {
        if let Some(user) = self.user(route) {
            user.leaving = true;
        }
    }

    /// Records that no handler of the user is called any more. What it has masked holds the line from now on: nobody is left who
    /// would unmask it, and others on the line are not to wait until the user is removed.
    pub(super) fn silenced(&mut self, route: &Arc<Route>, now: Instant) {
        let level = self.trigger == Trigger::LevelHigh;
        let Some(user) = self.user(route) else { return };
        let masked = core::mem::take(&mut user.masked) | core::mem::take(&mut user.threaded);
        if masked && level {
            let slot = user.slot;
            self.hold(1 << slot, now);
        }
    }

    /// Removes a user with its mask and hold. True when it was the last one.
    pub(super) fn leave(&mut self, route: &Arc<Route>) -> bool {
        self.users.retain(|u| !Arc::ptr_eq(&u.route, route));
        self.end_storm();
        self.holds_changed();
        self.users.is_empty()
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
        user.asked = false;
        // Release: pairs with the acquire before a handler's call, whose result is older than this.
        user.route.unmasks.fetch_add(1, Ordering::Release);
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

    /// Records that the threaded part of the user has run.
    pub(super) fn thread_done(&mut self, route: &Arc<Route>) {
        if let Some(user) = self.user(route) {
            user.threaded = false;
        }
    }

    /// Records that the threaded part of the user has panicked: nobody has checked the device, so that its level holds the line,
    /// as for a user that is absent.
    pub(super) fn thread_failed(&mut self, route: &Arc<Route>, now: Instant) {
        let Some(user) = self.user(route) else { return };
        if core::mem::take(&mut user.threaded) {
            let slot = user.slot;
            self.hold(1 << slot, now);
        }
    }

    /// Records the result of the handler in `slot`, called when the user had unmasked `unmasks` times.
    pub(super) fn answer(&mut self, slot: usize, result: HandlerResult, unmasks: u32) {
        let level = self.trigger == Trigger::LevelHigh;
        let Some(user) = self.users.iter_mut().find(|u| u.slot == slot) else { return };
        match result {
            // Ignored if the user has unmasked since the call: the thread that its handler woke was faster.
            HandlerResult::HandledMasked => user.masked |= user.route.unmasks.load(Ordering::Acquire) == unmasks,
            // A level would repeat until the threaded part has served the device. Before the request, which ends with the
            // mask.
            HandlerResult::Threaded => {
                user.threaded |= level;
                user.route.thread.request();
                return;
            }
            HandlerResult::WakeThread => user.asked = true,
            HandlerResult::Handled | HandlerResult::None => {}
        }
        user.route.fire();
    }

    /// Completes a request with the results of the handlers. `served_since`: another one was served since the last one that
    /// was completed here.
    pub(super) fn complete(&mut self, answers: &Answers, served_since: bool, now: Instant) -> DeliveryStatus {
        let Answers { called, served, declined: open, .. } = *answers;
        // A slot may have another user by now, who was not asked.
        let slots = |of: fn(&User) -> bool| self.users.iter().filter(|u| of(u)).fold(0, |all, u| all | 1 << u.slot);
        let leaving = slots(|u| u.leaving) & !called;
        let to_hold = answers.absent & slots(|u| u.asked) | leaving;
        let absent = answers.absent | leaving != 0;
        if served_since || served || absent {
            self.unclaimed = 0;
        }
        if served {
            return DeliveryStatus::Normal;
        }
        if absent {
            // An edge does not repeat by itself, so it must not block users whose handlers have checked their devices.
            if self.trigger == Trigger::LevelHigh || !open {
                self.hold(to_hold, now);
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

    /// Holds the line for the users in the slots `absent` that wait for it; if none waits, for all of them.
    fn hold(&mut self, absent: u64, now: Instant) {
        let absent = |u: &User| absent & 1 << u.slot != 0;
        let anybody_waits = self.users.iter().any(|u| u.waiting > 0 && absent(u));
        for user in &mut self.users {
            user.holds |= absent(user) && (user.waiting > 0 || !anybody_waits);
        }
        self.held_since = self.held_since.or(Some(now));
        self.holds_changed();
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
