//! Who is inside a driver's data, and the wait until the last one is out.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::panic::Location;
use core::time::Duration;

use super::Rundown;
use crate::device::Device;
use crate::env::Instant;
use crate::event::EventKind;
use crate::machine::Machine;
use crate::sync::{self, Mutex, waits};

/// After this time a wait is told, and again each time when it has lasted twice as long.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often a waiter gives way before it lets time pass, on a target whose time passes only when somebody waits.
const TURNS: u32 = 1_000;

/// How long a waiter then waits before it looks again.
const POLL: Duration = Duration::from_millis(1);

/// What a user does inside the driver's data.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Visit {
    /// A client's call, and where it was made.
    Call(&'static Location<'static>),
    /// An interrupt, by its index.
    Interrupt(usize),
    /// The driver asks its own users to leave.
    WindDown,
}

impl fmt::Display for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(at) => write!(f, "a call from {at}"),
            Self::Interrupt(index) => write!(f, "interrupt {index}"),
            Self::WindDown => f.write_str("its own wind-down"),
        }
    }
}

/// The users that are inside at this moment.
#[derive(Default)]
pub(crate) struct Visits(Mutex<Inside>);

#[derive(Default)]
struct Inside {
    /// The number of the last one that came in.
    last: u64,
    /// Number, what it does, and since when; longest first.
    users: Vec<(u64, Visit, Instant)>,
}

impl Visits {
    /// Notes that a user is inside from `now` on, until the answer is dropped.
    pub(crate) fn enter(&self, visit: Visit, now: Instant) -> Visiting<'_> {
        // The models under loom are about the door; each lock here would multiply their interleavings.
        if cfg!(loom) {
            return Visiting { visits: self, number: 0 };
        }
        let mut inside = self.0.lock();
        inside.last += 1;
        let number = inside.last;
        inside.users.push((number, visit, now));
        Visiting { visits: self, number }
    }

    /// Each one in words, longest first.
    pub(crate) fn list(&self, now: Instant) -> Vec<String> {
        let inside = self.0.lock();
        let line = |(_, visit, since): &(u64, Visit, Instant)| format!("{visit}, inside for {:?}", now.since(*since));
        inside.users.iter().map(line).collect()
    }
}

/// A user inside.
pub(crate) struct Visiting<'a> {
    visits: &'a Visits,
    number: u64,
}

impl Drop for Visiting<'_> {
    fn drop(&mut self) {
        if self.number != 0 {
            self.visits.0.lock().users.retain(|(number, ..)| *number != self.number);
        }
    }
}

/// Closes `door` and waits until everybody has left. A wait that lasts is told, with `who` is inside.
pub(crate) fn drain(door: &Rundown, machine: &Machine, device: &Device, who: impl Fn(Instant) -> Vec<String>) {
    door.close();
    if door.drained() {
        return;
    }
    let env = machine.env();
    let begun = env.now();
    let (mut turns, mut after) = (0, PATIENCE);
    let _waits = waits(|| format!("{} waits until its users are out: {}", device.name(), who(env.now()).join("; ")));
    while !door.drained() {
        if turns < TURNS || sync::is_scheduled() {
            turns += 1;
            sync::relax();
        } else {
            sync::pause();
            env.wait((begun + after).min(env.now() + POLL));
        }
        let waited = env.now().since(begun);
        if waited >= after {
            let on = who(env.now());
            machine.emit(Some(&device.desc().name), || EventKind::StillWaiting { seconds: waited.as_secs(), on });
            while after <= waited {
                after *= 2;
            }
        }
    }
}
