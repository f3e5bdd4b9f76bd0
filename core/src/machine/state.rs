//! A digest of what decides what a machine does next.

use core::hash::{Hash, Hasher};

use super::Machine;
use crate::sync::atomic::Ordering;

impl Machine {
    /// Feeds what decides what the machine does next to `state`: devices with their phases, links, queue, ledgers, groups,
    /// and what is in use. Two machines that hash alike, on envs in the same state, go the same ways; and a machine that
    /// hashes as it did before a binding has nothing left of it (P4).
    ///
    /// Numbers that only count what has been (events, bindings, groups) are left out, and so are addresses and the order
    /// in which bindings were made: which page is taken, and which of two that do not need each other goes first,
    /// decides nothing, except for a device that does not reach all of memory: whether a buffer of its bounces does
    /// depend on where it lies. Call it while no other thread is inside the machine.
    pub fn hash_state(&self, state: &mut impl Hasher) {
        let devices = self.devices();
        devices.len().hash(state);
        for device in &devices {
            (device.node(), device.phase(), device.driver(), device.is_removed(), device.is_gone()).hash(state);
            device.driver_override().hash(state);
            device.visible_driver.lock().hash(state);
            device.group.lock().is_some().hash(state);
            if let Some(binding) = device.binding() {
                binding.bound().ledger.hash_kinds(state);
            }
        }
        {
            let r = self.registry.lock();
            (r.autoprobe, r.waiting.len(), &r.waiting).hash(state);
            for driver in r.drivers.keys() {
                driver.hash(state);
            }
            for device in &devices {
                let node = device.node();
                r.queued.get(node.0 as usize).copied().unwrap_or(false).hash(state);
                for (supplier, _, link) in r.graph.list(node) {
                    (supplier, link).hash(state);
                }
            }
        }
        (self.memory.frames().in_use(), self.memory.cma().map(|c| c.in_use())).hash(state);
        (self.irqs.len(), self.providers.len(), self.supplies.in_use()).hash(state);
        (self.dma.live.load(Ordering::Relaxed), self.dma.bounce_bytes.load(Ordering::Relaxed)).hash(state);
        self.quarantine.hash_state(state);
        self.supplies.kept().hash(state);
        self.iommus.hash_state(state);
    }
}
