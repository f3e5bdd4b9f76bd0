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
pub(crate) enum Visit {
    /// A client's call, and where it was made.
    Call(&'static Location<'static>),
    /// An operation by its name, and where it was asked for.
    Operation(&'static str, &'static Location<'static>),
    /// An interrupt, by its index.
    Interrupt(usize),
    /// The driver asks its own users to leave.
    WindDown,
}

impl fmt::Display for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(at) => write!(f, "a call from {at}"),
            Self::Operation(what, at) => write!(f, "{what} from {at}"),
            Self::Interrupt(index) => write!(f, "interrupt {index}"),
            Self::WindDown => f.write_str("its own wind-down"),
        }
    }
}

/// The users that are inside at this moment.
#[derive(Default, Debug)]
struct Visits(Mutex<Inside>);

#[derive(Default, Debug)]
struct Inside {
    /// The number of the last one that came in.
    last: u64,
    /// Number, what it does, and since when; longest first.
    users: Vec<(u64, Visit, Instant)>,
}

/// A [`Rundown`] that knows who is inside, so that a wait for the last one can be told.
#[derive(Debug)]
pub struct Door {
    rundown: Rundown,
    visits: Visits,
}

/// Holding a `DoorGuard` tells you: what the door protects stays until you drop this.
#[derive(Debug)]
pub struct DoorGuard<'a> {
    visits: &'a Visits,
    number: u64,
    // Dropped last: who is not inside any more is not named.
    _inside: RundownGuard<'a>,
}

impl Door {
    /// An open door; nobody is inside.
    pub fn open() -> Self {
        Self { rundown: Rundown::open(), visits: Visits::default() }
    }

    /// A closed door; nobody is inside.
    pub(crate) fn closed() -> Self {
        Self { rundown: Rundown::closed(), visits: Visits::default() }
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
    pub fn enter(&self, context: &Context, what: &'static str) -> Option<DoorGuard<'_>> {
        self.visit(Visit::Operation(what, Location::caller()), context.env().now())
    }

    /// Goes in without a note, for what is done often and over at once.
    pub(crate) fn pass(&self) -> Option<RundownGuard<'_>> {
        self.rundown.enter()
    }

    pub(crate) fn visit(&self, visit: Visit, now: Instant) -> Option<DoorGuard<'_>> {
        let inside = self.rundown.enter()?;
        // The models under loom are about the door; each lock here would multiply their interleavings.
        let number = if cfg!(loom) {
            0
        } else {
            let mut list = self.visits.0.lock();
            list.last += 1;
            let number = list.last;
            list.users.push((number, visit, now));
            number
        };
        Some(DoorGuard { visits: &self.visits, number, _inside: inside })
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

    /// The same. Those who [passed](Self::pass) are called `unnamed`.
    pub(crate) fn drain(&self, context: &Context, device: &str, unnamed: impl Fn() -> String) {
        self.close();
        if self.drained() {
            return;
        }
        let begun = context.env().now();
        let who = || {
            let mut inside: Vec<_> =
                self.visits.0.lock().users.iter().map(|(_, visit, since)| (visit.to_string(), *since)).collect();
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
    pub(crate) fn drain_silently(&self) {
        self.rundown.close_and_drain();
    }
}

impl Drop for DoorGuard<'_> {
    fn drop(&mut self) {
        if self.number != 0 {
            self.visits.0.lock().users.retain(|(number, ..)| *number != self.number);
        }
    }
}
