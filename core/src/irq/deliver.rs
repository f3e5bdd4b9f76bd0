//! Delivery of interrupt requests, and what it leaves for task context.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{IrqTable, Route};
use crate::env::{IrqControl, IrqLine};
use crate::event::EventKind;
use crate::sync::Delivering;
use crate::sync::atomic::Ordering;
use crate::system::System;

/// Most runs of a threaded part by one call of [`IrqTable::run_deferred`], so that a device that requests without end leaves the
/// env its thread: the rest is due at once ([`IrqSink::next_deadline`](crate::env::IrqSink::next_deadline)).
const ROUNDS: usize = 16;

/// Round over the threaded parts. One that a panic ends is due again, for the parts behind the one that panicked.
struct Round<'a> {
    table: &'a IrqTable,
    machine: &'a System,
    complete: bool,
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        if !self.complete {
            self.table.defer();
            self.machine.deadline_changed();
        }
    }
}

impl IrqTable {
    /// Delivers a request on `line` of the machine's own controller. Callable in hard interrupt context. False when the line
    /// has no user.
    pub(crate) fn deliver(&self, machine: &System, line: u32) -> bool {
        let _delivering = Delivering::enter();
        if let Some(descriptor) = self.own.find(line) {
            return descriptor.deliver(machine);
        }
        // Spurious: mask it, so that it does not repeat.
        let _ = machine.env().irq(IrqLine(line), IrqControl::Mask);
        false
    }

    /// Requests that [`run_deferred`](Self::run_deferred) is called in task context.
    pub(crate) fn defer(&self) {
        // Release: pairs with the acquire of the thread that runs what was put off.
        self.deferred.store(true, Ordering::Release);
    }

    /// True when something was put off.
    pub(crate) fn has_deferred(&self) -> bool {
        self.deferred.load(Ordering::Relaxed)
    }

    /// Runs what deliveries have put off, in task context: threaded parts of handlers, and reports.
    pub(crate) fn run_deferred(&self, machine: &System) {
        for _ in 0..ROUNDS {
            if !self.has_deferred() || !self.deferred.swap(false, Ordering::Acquire) {
                return;
            }
            self.run_once(machine);
        }
        if self.has_deferred() {
            machine.deadline_changed();
        }
    }

    fn run_once(&self, machine: &System) {
        let mut round = Round { table: self, machine, complete: false };
        let routes: Vec<Arc<Route>> = self.routes.lock().values().flatten().cloned().collect();
        for route in routes {
            if route.line.take_storm() {
                let (controller, line) = route.key;
                let users = route.line.read(|line| line.users.iter().map(|u| u.route.user()).collect());
                let controller = controller.map(|node| machine.node_name(node));
                machine.emit(None, || EventKind::IrqStorm { line, controller, users: users.unwrap_or_default() });
            }
            route.run_thread(machine);
        }
        round.complete = true;
    }

    /// Ends holds that are overdue.
    pub(crate) fn end_overdue(&self, machine: &System) {
        for ((controller, line), overdue, waiting) in self.overdue(machine, machine.env().now()) {
            let controller = controller.map(|node| machine.node_name(node));
            machine.emit(None, || EventKind::IrqHeld { line, controller, overdue, waiting });
        }
    }
}
