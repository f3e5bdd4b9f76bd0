//! What the core knows of one line: its users, and why it is masked. Nothing here touches hardware.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::Route;
use crate::env::{Instant, Trigger};
use crate::sync::atomic::Ordering;

/// Requests in a row that no user made before a line is masked (Linux: 99,900 of 100,000 in `kernel/irq/spurious.c`; here
/// nothing else can share the CPU meanwhile, so fewer).
pub(super) const UNCLAIMED_LIMIT: u32 = if cfg!(test) { 8 } else { 1_000 };
/// Storms that a user's unmask or wait ends, until a user comes or goes.
pub(super) const STORM_ENDS: u32 = 10;
/// How long others wait at first for a user who holds the line, and at most.
pub(super) const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// What a user said to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reply {
    /// Its device asked, and was served.
    Done,
    /// Its device asked; the line stays masked until this user says otherwise.
    Masked,
    /// Its device did not ask.
    NotMine,
    /// Nobody looked: who waits for the line is to.
    Wake,
    /// Nobody could look: the user has no data.
    Away,
}

/// One user who was asked, and how often it had unmasked the line before it was.
pub(super) struct Asked {
    pub(super) route: Arc<Route>,
    pub(super) unmasks: u32,
}

#[cfg_attr(test, derive(Clone))]
#[expect(clippy::struct_excessive_bools, reason = "four facts, in any combination")]
pub(super) struct User {
    pub(super) route: Arc<Route>,
    /// It masks the line.
    masked: bool,
    /// The line is masked until it has looked.
    holds: bool,
    /// Threads in [`Irq::wait`](super::Irq::wait).
    waiting: u32,
    /// Counts its unmasks.
    unmasks: u32,
    /// An edge came while it had no data.
    missed: bool,
    /// It was told that others waited for it.
    told: bool,
}

/// What a request, or the passing of time, came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Nothing to tell.
    Fine,
    /// Nobody made the last requests.
    Storm,
    /// Users who hold the line were waited for too long, for the first time.
    Overdue,
}

#[cfg_attr(test, derive(Clone))]
pub(super) struct Line {
    pub(super) trigger: Trigger,
    pub(super) users: Vec<User>,
    unclaimed: u32,
    storm: bool,
    /// Storms since a user came or went.
    storms: u32,
    held_since: Option<Instant>,
    pause: Duration,
    /// What the controller was told last.
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

    /// Whether the line is to deliver nothing now.
    pub(super) fn wants_mask(&self) -> bool {
        self.storm || self.users.iter().any(|u| u.masked || u.holds)
    }

    /// Whether it is masked because nobody made its last requests.
    pub(super) fn storms(&self) -> bool {
        self.storm
    }

    /// The users because of whom it is masked.
    pub(super) fn masked_by(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.users.iter().filter(|u| u.masked || u.holds).map(|u| &u.route)
    }

    /// A user comes.
    pub(super) fn join(&mut self, route: &Arc<Route>) {
        let route = Arc::clone(route);
        self.users.push(User {
            route,
            masked: false,
            holds: false,
            waiting: 0,
            unmasks: 0,
            missed: false,
            told: false,
        });
        self.end_storm();
    }

    /// A user goes, with all that it had masked. True when it was the last one.
    pub(super) fn leave(&mut self, route: &Arc<Route>) -> bool {
        self.users.retain(|u| !Arc::ptr_eq(&u.route, route));
        self.end_storm();
        self.holds_changed();
        self.users.is_empty()
    }

    /// A user has data from now on. True when an edge came before, and its handler is to look.
    pub(super) fn opened(&mut self, route: &Arc<Route>) -> bool {
        self.end_storm();
        let Some(user) = self.user(route) else { return false };
        user.holds = false;
        let missed = core::mem::take(&mut user.missed);
        self.holds_changed();
        missed && self.trigger == Trigger::EdgeRising
    }

    /// A user masks the line.
    pub(super) fn mask(&mut self, route: &Arc<Route>) {
        if let Some(user) = self.user(route) {
            user.masked = true;
        }
    }

    /// A user masks it no longer, and has looked at its device.
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

    /// A thread of the user begins to wait: it has looked, unless a request is there that it has not seen yet.
    pub(super) fn begin_wait(&mut self, route: &Arc<Route>) {
        if !route.fired.load(Ordering::Acquire) {
            self.unmask(route);
        }
        if let Some(user) = self.user(route) {
            user.waiting += 1;
        }
    }

    /// A thread of the user waits no longer.
    pub(super) fn end_wait(&mut self, route: &Arc<Route>) {
        if let Some(user) = self.user(route) {
            user.waiting -= 1;
        }
    }

    /// Whom to ask about a request.
    pub(super) fn ask(&self) -> Vec<Asked> {
        self.users.iter().map(|u| Asked { route: Arc::clone(&u.route), unmasks: u.unmasks }).collect()
    }

    /// What the users said to a request.
    pub(super) fn replied(&mut self, replies: &[(Asked, Reply)], now: Instant) -> Verdict {
        let said = |wanted: &[Reply]| replies.iter().any(|(_, r)| wanted.contains(r));
        let (served, open, absent) =
            (said(&[Reply::Done, Reply::Masked]), said(&[Reply::NotMine]), said(&[Reply::Wake, Reply::Away]));
        for (asked, reply) in replies {
            let Some(user) = self.user(&asked.route) else { continue };
            match reply {
                // Unmasked since it was asked: by the thread that its handler woke.
                Reply::Masked if user.unmasks == asked.unmasks => user.masked = true,
                Reply::Away => user.missed = true,
                _ => {}
            }
            if !matches!(reply, Reply::Done | Reply::NotMine) {
                user.route.fired.store(true, Ordering::Release);
            }
        }
        if served || absent {
            self.unclaimed = 0;
        }
        if served {
            return Verdict::Fine;
        }
        if absent {
            // An edge does not come again by itself: it is no reason to keep those who looked from theirs.
            if self.trigger == Trigger::LevelHigh || !open {
                self.hold(replies, now);
            }
            return Verdict::Fine;
        }
        self.unclaimed += 1;
        if self.unclaimed < UNCLAIMED_LIMIT || self.storm {
            return Verdict::Fine;
        }
        self.storm = true;
        self.storms += 1;
        self.unclaimed = 0;
        Verdict::Storm
    }

    /// Holds the line for those who wait for it; when there is nobody, for all who did not look.
    fn hold(&mut self, replies: &[(Asked, Reply)], now: Instant) {
        let absent = |u: &User| {
            replies.iter().any(|(a, r)| Arc::ptr_eq(&a.route, &u.route) && matches!(r, Reply::Wake | Reply::Away))
        };
        let anybody_waits = self.users.iter().any(|u| u.waiting > 0 && absent(u));
        for user in &mut self.users {
            user.holds |= absent(user) && (user.waiting > 0 || !anybody_waits);
        }
        self.held_since = self.held_since.or(Some(now));
    }

    /// Some hold has ended by itself.
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

    /// When those who do not hold the line have waited long enough for those who do.
    pub(super) fn due(&self) -> Option<Instant> {
        let others = self.users.iter().any(|u| !u.holds);
        self.held_since.filter(|_| others).map(|since| since + self.pause)
    }

    /// Ends holds whose time is over. Their users are looked for again at the next request.
    pub(super) fn end_overdue(&mut self, now: Instant) -> Verdict {
        if self.due().is_none_or(|due| now < due) {
            return Verdict::Fine;
        }
        let mut first = false;
        for user in self.users.iter_mut().filter(|u| u.holds) {
            user.holds = false;
            first |= !core::mem::replace(&mut user.told, true);
        }
        self.held_since = None;
        self.pause = (self.pause * 2).min(PAUSE.1);
        if first { Verdict::Overdue } else { Verdict::Fine }
    }
}
