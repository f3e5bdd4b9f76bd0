//! Timers of a machine, which run without a call of a user.
//!
//! The env keeps the time: it asks [`IrqSink::next_deadline`](crate::env::IrqSink) before it waits or idles, and calls
//! [`IrqSink::timer`](crate::env::IrqSink) when that time is reached, as it delivers an interrupt.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use super::Machine;
use crate::env::{Instant, IrqSink};
use crate::sync::{Delivering, SpinLock};
use crate::system::DeviceRegistry;

/// Machines of guests, whose timers this machine's env runs as well: a guest that is not running has nothing that waits
/// for its deadlines.
#[derive(Default)]
pub struct GuestTimers(SpinLock<Vec<Weak<dyn IrqSink>>>);

impl GuestTimers {
    /// Adds a guest, for as long as it exists.
    pub fn add(&self, guest: Weak<dyn IrqSink>) {
        let mut guests = self.0.lock();
        guests.retain(|g| g.strong_count() > 0);
        guests.push(guest);
    }

    /// The guests that exist. They are asked without the lock: a guest has guests of its own, and the last reference to one
    /// may be dropped with this one.
    fn present(&self) -> Vec<Arc<dyn IrqSink>> {
        self.0.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// Guests, if one of them has a deadline at `now` or before.
    fn due(&self, now: Instant) -> Vec<Arc<dyn IrqSink>> {
        let guests = self.present();
        if guests.iter().filter_map(|g| g.next_deadline()).any(|at| at <= now) { guests } else { Vec::new() }
    }

    fn next(&self) -> Option<Instant> {
        self.present().iter().filter_map(|g| g.next_deadline()).min()
    }
}

impl core::fmt::Debug for GuestTimers {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "GuestTimers({})", self.0.lock().len())
    }
}

impl Machine {
    /// Registry in which the env of a guest enters its machine, so that its timers run.
    pub fn guest_timers(&self) -> &Arc<GuestTimers> {
        &self.guests
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers()
            .next()
            .into_iter()
            .chain(self.guests.next())
            .chain(self.irqs().next_due())
            .chain(self.work().next())
            .min()
    }

    /// Starts the work items that are due, each on a thread of the env; without such threads they run here.
    pub(super) fn start_work(&self) {
        let due = self.work().take_due(self.env.now());
        for item in due {
            let Some(machine) = self.me.upgrade() else { return };
            let run = move || {
                let inside = machine.enter();
                // Before this thread leaves: it then starts the item again that was scheduled while it ran.
                machine.work().run(&item, machine.env.now(), &|| machine.work_scheduled());
                machine.left_driver(inside);
            };
            if let Err(run) = self.env.spawn(Box::new(run)) {
                // Inside, so that what the item requests, or an item that schedules itself, is not carried out in here, but by
                // the next call: items that schedule themselves would nest without end.
                let _inside = self.enter();
                run();
            }
        }
    }

    /// See [`DeviceRegistry::work_scheduled`](crate::system::DeviceRegistry::work_scheduled).
    pub(super) fn work_scheduled(&self) {
        // Driver code may hold locks, and a handler may have interrupted anything: it is started when the thread leaves the driver, by
        // whoever does what handlers leave, or in the next wait.
        if Delivering::is_active() {
            self.requests.defer_from_handler();
            self.irqs().defer();
        } else if self.is_inside() {
            self.requests.inside.defer();
        } else {
            self.start_work();
        }
        self.deadline_changed();
    }

    /// Runs the timers that are due.
    pub(super) fn run_timers(&self) {
        if self.irqs().has_deferred() {
            self.run_deferred();
        }
        self.irqs().end_overdue(self);
        self.timers().run(self, || self.quarantine_table().retry(self));
        self.start_work();
        for guest in self.guests.due(self.env.now()) {
            guest.timer();
        }
    }
}
