//! The way of a request to the drivers on its line.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::line::{Reply, Verdict};
use super::{InterruptController, IrqTable, LineKey, Route};
use crate::driver::IrqReturn;
use crate::env::{IrqControl, IrqLine, Trigger};
use crate::event::EventKind;
use crate::machine::Machine;

impl Route {
    /// Asks the driver.
    fn serve(&self) -> Reply {
        match self.device.binding().and_then(|b| b.interrupt(self.index)) {
            Some(IrqReturn::Handled) => Reply::Done,
            Some(IrqReturn::HandledMasked) => Reply::Masked,
            Some(IrqReturn::None) => Reply::NotMine,
            Some(IrqReturn::WakeThread) => Reply::Wake,
            // Probe still runs, or users are shut out.
            None => Reply::Away,
        }
    }
}

impl IrqTable {
    /// Delivers a request on `key`. False when nobody has that line.
    pub(crate) fn deliver(&self, machine: &Machine, key: LineKey) -> bool {
        let found = self.lines.lock().get(&key).map(|h| (h.line.ask(), h.line.trigger, h.controller.clone()));
        let Some((asked, trigger, controller)) = found else {
            // On its way when its last user left, or never anybody's: it does not come again.
            let _ = match key {
                (None, line) => machine.env().irq(IrqLine(line), IrqControl::Mask),
                (Some(node), line) => machine
                    .providers
                    .get::<dyn InterruptController>(node)
                    .map_or(Ok(()), |controller| controller.control(line, IrqControl::Mask)),
            };
            return false;
        };
        // An edge that comes while this one is served must be seen; a level is looked at again once it is.
        if let Some(controller) = controller.as_ref().filter(|_| trigger == Trigger::EdgeRising) {
            controller.acknowledge(key.1);
        }
        let replies: Vec<_> = asked.into_iter().map(|a| (a.route.serve(), a)).map(|(reply, a)| (a, reply)).collect();
        if let Some(controller) = controller.filter(|_| trigger == Trigger::LevelHigh) {
            controller.acknowledge(key.1);
        }
        let now = machine.env().now();
        let verdict = self.with(machine, key, |line| line.replied(&replies, now));
        if verdict == Some(Verdict::Storm) {
            machine.emit(None, || EventKind::IrqStorm {
                line: key.1,
                controller: key.0.map(|node| machine.node_name(node)),
                users: replies.iter().map(|(a, _)| a.route.user()).collect(),
            });
        }
        true
    }

    /// The user at `route` has data from now on: it takes what came before.
    pub(crate) fn opened(&self, machine: &Machine, route: &Arc<Route>) {
        if self.with(machine, route.key, |line| line.opened(route)) == Some(true) && route.serve() == Reply::Masked {
            self.with(machine, route.key, |line| line.mask(route));
            route.fired.store(true, crate::sync::atomic::Ordering::Release);
        }
    }

    /// Ends holds for which others have waited long enough.
    pub(crate) fn end_overdue(&self, machine: &Machine) {
        for ((controller, line), late, waiting) in self.overdue(machine, machine.env().now()) {
            let controller = controller.map(|node| machine.node_name(node));
            machine.emit(None, || EventKind::IrqHeld { line, controller, late, waiting });
        }
    }
}
