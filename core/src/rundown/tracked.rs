//! Run-down protection that can name its active users.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::panic::Location;

use super::{Rundown, RundownGuard};
use crate::context::Context;
use crate::sync::SpinLock;
use crate::time::Instant;

/// Activity of a user.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Activity {
    /// A client's call, and its source location.
    Call(&'static Location<'static>),
    /// An operation by name, and the source location of its call.
    Operation(&'static str, &'static Location<'static>),
    /// A work item, by its name.
    Work(&'static str),
    /// The driver's [`request_release`](crate::driver::Driver::request_release).
    ReleaseRequest,
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(at) => write!(f, "a call from {at}"),
            Self::Operation(what, at) => write!(f, "{what} from {at}"),
            Self::Work(what) => write!(f, "work item {what}"),
            Self::ReleaseRequest => f.write_str("its own release request"),
        }
    }
}

/// The active users.
#[derive(Default, Debug)]
struct Activities(SpinLock<Active>);

#[derive(Default, Debug)]
struct Active {
    /// Number of the last user that entered.
    last: u64,
    /// Number, activity and start; longest first.
    users: Vec<(u64, Activity, Instant)>,
}

/// [`Rundown`] that records its active users, so that a long wait for them is reported by name (event `still-waiting`).
#[derive(Debug)]
pub struct TrackedRundown {
    rundown: Rundown,
    activities: Activities,
}

/// Active use of a [`TrackedRundown`]. Holding a `TrackedGuard` tells you: what the run-down protects stays until you
/// drop this.
#[derive(Debug)]
pub struct TrackedGuard<'a> {
    activities: &'a Activities,
    number: u64,
    // Field order: dropped after the record was removed in `drop`, so that no user is listed that is not active any
    // more.
    _inside: RundownGuard<'a>,
}

impl TrackedRundown {
    /// An open run-down without users.
    pub fn open() -> Self {
        Self { rundown: Rundown::open(), activities: Activities::default() }
    }

    /// A closed run-down without users.
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

    /// Starts the operation `what` ("a map"); `None` when it is closed. The caller's source location is recorded.
    #[track_caller]
    pub fn enter(&self, context: &Context, what: &'static str) -> Option<TrackedGuard<'_>> {
        self.enter_as(Activity::Operation(what, Location::caller()), context.env().now())
    }

    /// Starts a use without a record, for frequent and short operations.
    pub(crate) fn enter_untracked(&self) -> Option<RundownGuard<'_>> {
        self.rundown.enter()
    }

    pub(crate) fn enter_as(&self, activity: Activity, now: Instant) -> Option<TrackedGuard<'_>> {
        let inside = self.rundown.enter()?;
        // The loom models are about the run-down itself; a lock here would multiply their interleavings.
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

    /// True when it is closed.
    pub fn is_closed(&self) -> bool {
        self.rundown.is_closed()
    }

    /// Closes it and waits until no user is active. A wait of more than a second is reported for `device`, with its
    /// active users. Must not be called by an active user, which would wait for itself.
    pub fn close_and_drain(&self, context: &Context, device: &str) {
        self.drain(context, device, String::new);
    }

    /// As [`close_and_drain`](Self::close_and_drain); `unnamed` describes users that are [not
    /// recorded](Self::enter_untracked).
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
        context.wait_for_users(device, self.rundown.drained_queue(), || self.drained(), who);
    }

    /// Closes it and waits, without reports.
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
