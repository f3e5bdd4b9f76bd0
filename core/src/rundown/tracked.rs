//! Doors whose users are known: who is inside, what they do there, and since when.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::panic::Location;

use super::{Rundown, RundownGuard};
use crate::context::Context;
use crate::sync::Mutex;
use crate::time::Instant;

/// What a user does inside.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Activity {
    /// A client's call, and where it was made.
    Call(&'static Location<'static>),
    /// An operation by its name, and where it was asked for.
    Operation(&'static str, &'static Location<'static>),
    /// An interrupt, by its index.
    Interrupt(usize),
    /// The driver asks its own users to leave.
    ReleaseRequest,
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(at) => write!(f, "a call from {at}"),
            Self::Operation(what, at) => write!(f, "{what} from {at}"),
            Self::Interrupt(index) => write!(f, "interrupt {index}"),
            Self::ReleaseRequest => f.write_str("its own release request"),
        }
    }
}

/// The users that are inside at this moment.
#[derive(Default, Debug)]
struct Activities(Mutex<Active>);

#[derive(Default, Debug)]
struct Active {
    /// The number of the last one that came in.
    last: u64,
    /// Number, what it does, and since when; longest first.
    users: Vec<(u64, Activity, Instant)>,
}

/// A [`Rundown`] that knows who is inside, so that a wait for the last one can be told.
#[derive(Debug)]
pub struct TrackedRundown {
    rundown: Rundown,
    activities: Activities,
}

/// Holding a `TrackedGuard` tells you: what the door protects stays until you drop this.
#[derive(Debug)]
pub struct TrackedGuard<'a> {
    activities: &'a Activities,
    number: u64,
    // Dropped last: who is not inside any more is not named.
    _inside: RundownGuard<'a>,
}

impl TrackedRundown {
    /// An open door; nobody is inside.
    pub fn open() -> Self {
        Self { rundown: Rundown::open(), activities: Activities::default() }
    }

    /// A closed door; nobody is inside.
    pub(crate) fn closed() -> Self {
        Self { rundown: Rundown::closed(), activities: Activities::default() }
    }

    pub(crate) fn reopen(&self) {
        self.rundown.reopen();
    }

    pub(crate) fn close(&self) {
        self.rundown.close();
    }

    pub(crate) fn drained(&self) -> bool {
        self.rundown.drained()
    }

    /// Goes in to do `what` ("a map"), unless the door is closed. Where it is asked for is noted, too.
    #[track_caller]
    pub fn enter(&self, context: &Context, what: &'static str) -> Option<TrackedGuard<'_>> {
        self.enter_as(Activity::Operation(what, Location::caller()), context.env().now())
    }

    /// Goes in without a note, for what is done often and over at once.
    pub(crate) fn enter_untracked(&self) -> Option<RundownGuard<'_>> {
        self.rundown.enter()
    }

    pub(crate) fn enter_as(&self, activity: Activity, now: Instant) -> Option<TrackedGuard<'_>> {
        let inside = self.rundown.enter()?;
        // The models under loom are about the door; each lock here would multiply their interleavings.
        let number = if cfg!(loom) {
            0
        } else {
            let mut list = self.activities.0.lock();
            list.last += 1;
            let number = list.last;
            list.users.push((number, activity, now));
            number
        };
        Some(TrackedGuard { activities: &self.activities, number, _inside: inside })
    }

    /// Whether nobody gets in any more.
    pub fn is_closed(&self) -> bool {
        self.rundown.is_closed()
    }

    /// Closes the door and waits until everybody has left. A wait that lasts is told of `device`, with everybody inside.
    /// Must not be called from inside.
    pub fn close_and_drain(&self, context: &Context, device: &str) {
        self.drain(context, device, String::new);
    }

    /// The same. Those who [passed](Self::enter_untracked) are called `unnamed`.
    pub(crate) fn drain(&self, context: &Context, device: &str, unnamed: impl Fn() -> String) {
        self.close();
        if self.drained() {
            return;
        }
        let begun = context.env().now();
        let who = || {
            let mut inside: Vec<_> = self
                .activities
                .0
                .lock()
                .users
                .iter()
                .map(|(_, activity, since)| (activity.to_string(), *since))
                .collect();
            let others = self.rundown.inside().saturating_sub(inside.len());
            if others > 0 {
                let times = if others == 1 { String::new() } else { format!("{others} times ") };
                inside.push((format!("{times}{}", unnamed()), begun));
            }
            inside
        };
        context.wait_for_users(device, || self.drained(), who);
    }

    /// Closes the door and waits, without a word.
    pub(crate) fn drain_unreported(&self) {
        self.rundown.close_and_drain();
    }
}

impl Drop for TrackedGuard<'_> {
    fn drop(&mut self) {
        if self.number != 0 {
            self.activities.0.lock().users.retain(|(number, ..)| *number != self.number);
        }
    }
}
