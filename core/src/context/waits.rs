//! Waits for active users of a driver, of a run-down object or of a device lock. Long waits are reported.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::Context;
use crate::event::EventKind;
use crate::sync::{self, EventToken, SpinLock, WaitQueue, Waiter, record_wait};
use crate::time::Instant;

/// Time after which a wait is reported, and again whenever it has lasted twice as long.
const REPORT_AFTER: Duration = Duration::from_secs(1);

/// Waits in progress, by number: the device, and the users waited for.
#[derive(Default)]
pub(super) struct LongWaits(SpinLock<Numbered>);

/// Number of the latest wait, and the waits in progress.
type Numbered = (u64, BTreeMap<u64, (Arc<str>, Vec<Awaited>)>);

/// Registration of a wait in progress.
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
    fn update(&self, on: Vec<Awaited>) {
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
    /// Waits until `over` returns true, because all users of an object of `device` have left: the last one wakes `queue`.
    /// `who` returns the active users: the activity of each, and its start. After a second, and whenever it has lasted twice as long, the wait is reported;
    /// [`stuck_users`](Self::stuck_users) lists it. Also for drivers that wait for users of their own.
    ///
    /// Interrupts and timers may run meanwhile, so the caller may hold device locks, but no other lock.
    pub fn wait_for_users(
        &self,
        device: &str,
        queue: &WaitQueue,
        mut over: impl FnMut() -> bool,
        who: impl Fn() -> Vec<(String, Instant)>,
    ) {
        if over() {
            return;
        }
        sync::might_sleep();
        let env = self.env();
        let begun = env.now();
        let name: Arc<str> = device.into();
        let _waits =
            record_wait(|| format!("{device} waits until its users are out: {}", describe(&who(), begun).join("; ")));
        let listed = self.waits.begin(&name, who());
        let mut after = REPORT_AFTER;
        let pause = |token: &EventToken<'_>| {
            // Under a scheduler a yield is enough: it runs the user that is waited for.
            if sync::is_scheduled() {
                sync::relax();
            } else {
                // As in a wait for a device: a deadline that becomes earlier from here on ends the wait.
                let _earlier = self.deadlines.register(token.waker());
                env.wait(token, begun + after);
                listed.update(who());
            }
            let waited = env.now().since(begun);
            if waited >= after {
                let on = describe(&who(), env.now());
                self.emit(Some(&name), || EventKind::StillWaiting { seconds: waited.as_secs(), on });
                while after <= waited {
                    after *= 2;
                }
            }
        };
        queue.wait(&Waiter::for_threads(), || over().then_some(()), pause);
    }

    /// Waits in progress, oldest first: the device, and a description of each user waited for (a call, an operation, an
    /// interrupt, the holder of the device lock).
    pub fn stuck_users(&self) -> Vec<(Arc<str>, Vec<String>)> {
        let now = self.env.now();
        let all = self.waits.0.lock();
        all.1.values().map(|(device, on)| (Arc::clone(device), describe(on, now))).collect()
    }
}

/// User that is waited for: its activity, and its start.
pub(crate) type Awaited = (String, Instant);

/// Descriptions of users that are waited for.
pub(crate) fn describe(who: &[Awaited], now: Instant) -> Vec<String> {
    who.iter().map(|(what, since)| format!("{what}, inside for {:?}", now.since(*since))).collect()
}
