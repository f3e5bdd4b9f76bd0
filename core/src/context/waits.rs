//! Waits for somebody who is inside: a user of a driver, of a door, of a device lock. One that lasts is told.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::Context;
use crate::event::EventKind;
use crate::sync::{self, Mutex, record_wait};
use crate::time::Instant;

/// After this time a wait is told, and again each time when it has lasted twice as long.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often a waiter gives way before it lets time pass, on a target whose time passes only when somebody waits.
const TURNS: u32 = 1_000;

/// How long a waiter then waits before it looks again.
const POLL: Duration = Duration::from_millis(1);

/// The waits that go on, by number: for which device, and for whom.
#[derive(Default)]
pub(super) struct LongWaits(Mutex<Numbered>);

/// The number of the last wait, and those that go on.
type Numbered = (u64, BTreeMap<u64, (Arc<str>, Vec<Awaited>)>);

/// A wait that goes on.
struct Waiting<'m>(&'m LongWaits, u64);

impl LongWaits {
    fn begin(&self, device: &Arc<str>, on: Vec<Awaited>) -> Waiting<'_> {
        let mut all = self.0.lock();
        all.0 += 1;
        let number = all.0;
        all.1.insert(number, (Arc::clone(device), on));
        Waiting(self, number)
    }
}

impl Waiting<'_> {
    fn is_for(&self, on: Vec<Awaited>) {
        if let Some((_, known)) = self.0.0.lock().1.get_mut(&self.1) {
            *known = on;
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.0.lock().1.remove(&self.1);
    }
}

impl Context {
    /// Waits until `over`, for `who` is inside something of `device`: what each one does, and since when. After a second,
    /// and each time when it has lasted twice as long, the wait is told; [`stuck_users`](Self::stuck_users) lists it. For
    /// drivers that wait for users of their own.
    ///
    /// Interrupts and timers may run meanwhile, so the caller holds no lock but device locks.
    pub fn wait_for_users(
        &self,
        device: &str,
        mut over: impl FnMut() -> bool,
        who: impl Fn() -> Vec<(String, Instant)>,
    ) {
        if over() {
            return;
        }
        let env = self.env();
        let begun = env.now();
        let name: Arc<str> = device.into();
        let _waits =
            record_wait(|| format!("{device} waits until its users are out: {}", in_words(&who(), begun).join("; ")));
        let listed = self.waits.begin(&name, who());
        let (mut turns, mut after) = (0, PATIENCE);
        while !over() {
            if turns < TURNS || sync::is_scheduled() {
                turns += 1;
                sync::relax();
            } else {
                sync::pause();
                env.wait((begun + after).min(env.now() + POLL));
                listed.is_for(who());
            }
            let waited = env.now().since(begun);
            if waited >= after {
                let on = in_words(&who(), env.now());
                self.emit(Some(&name), || EventKind::StillWaiting { seconds: waited.as_secs(), on });
                while after <= waited {
                    after *= 2;
                }
            }
        }
    }

    /// Waits that go on: of which device, and each one who is waited for in words (a call, an operation, an interrupt, who
    /// holds the device lock), longest first.
    pub fn stuck_users(&self) -> Vec<(Arc<str>, Vec<String>)> {
        let now = self.env.now();
        let all = self.waits.0.lock();
        all.1.values().map(|(device, on)| (Arc::clone(device), in_words(on, now))).collect()
    }
}

/// One who is waited for: what is done there, and since when.
pub(crate) type Awaited = (String, Instant);

/// Those who are waited for, in words.
pub(crate) fn in_words(who: &[Awaited], now: Instant) -> Vec<String> {
    who.iter().map(|(what, since)| format!("{what}, inside for {:?}", now.since(*since))).collect()
}
