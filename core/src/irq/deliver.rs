//! Delivery of interrupt requests to the handlers on a line.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::line::{DeliveryStatus, HandlerResult};
use super::{InterruptController, IrqTable, LineKey, Route};
use crate::driver::IrqReturn;
use crate::env::{IrqControl, IrqLine, Trigger};
use crate::event::EventKind;
use crate::system::System;

impl Route {
    /// Calls the driver's handler.
    fn serve(&self) -> HandlerResult {
        match self.device.binding().and_then(|b| b.interrupt(self.index)) {
            Some(IrqReturn::Handled) => HandlerResult::Handled,
            Some(IrqReturn::HandledMasked) => HandlerResult::HandledMasked,
            Some(IrqReturn::None) => HandlerResult::None,
            Some(IrqReturn::WakeThread) => HandlerResult::WakeThread,
            // Probe is still running, or the binding is being torn down.
            None => HandlerResult::Absent,
        }
    }
}

impl IrqTable {
    /// Delivers a request on `key`. False when the line has no user.
    pub(crate) fn deliver(&self, machine: &System, key: LineKey) -> bool {
        let found = self.lines.lock().get(&key).map(|h| (h.line.calls(), h.line.trigger, h.controller.clone()));
        let Some((calls, trigger, controller)) = found else {
            // Raced with the release of its last user, or spurious: mask it, so that it does not repeat.
            let _ = match key {
                (None, line) => machine.env().irq(IrqLine(line), IrqControl::Mask),
                (Some(node), line) => machine
                    .providers
                    .get::<dyn InterruptController>(node)
                    .map_or(Ok(()), |controller| controller.control(line, IrqControl::Mask)),
            };
            return false;
        };
        // An edge is acknowledged first, so that one that arrives during the handlers is latched; a level after them,
        // when it is deasserted.
        if let Some(controller) = controller.as_ref().filter(|_| trigger == Trigger::EdgeRising) {
            controller.acknowledge(key.1);
        }
        let results: Vec<_> = calls.into_iter().map(|a| (a.route.serve(), a)).map(|(result, a)| (a, result)).collect();
        if let Some(controller) = controller.filter(|_| trigger == Trigger::LevelHigh) {
            controller.acknowledge(key.1);
        }
        let now = machine.env().now();
        let status = self.with(machine, key, |line| line.complete(&results, now));
        if status == Some(DeliveryStatus::Storm) {
            machine.emit(None, || EventKind::IrqStorm {
                line: key.1,
                controller: key.0.map(|node| machine.node_name(node)),
                users: results.iter().map(|(a, _)| a.route.user()).collect(),
            });
        }
        true
    }

    /// Opens the user at `route`, which has driver data from now on: its handler is called for an edge that was missed.
    pub(crate) fn opened(&self, machine: &System, route: &Arc<Route>) {
        if self.with(machine, route.key, |line| line.opened(route)) != Some(true) {
            return;
        }
        if route.serve() == HandlerResult::HandledMasked {
            self.with(machine, route.key, |line| line.mask(route));
            // After the mask: a waiting thread that takes the flag finds the line masked.
            route.fire();
        }
        machine.event_happened();
    }

    /// Ends holds that are overdue.
    pub(crate) fn end_overdue(&self, machine: &System) {
        for ((controller, line), overdue, waiting) in self.overdue(machine, machine.env().now()) {
            let controller = controller.map(|node| machine.node_name(node));
            machine.emit(None, || EventKind::IrqHeld { line, controller, overdue, waiting });
        }
    }
}
