//! A digest of what decides what a machine does next.

use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use super::Machine;
use crate::device::Device;
use crate::sync::atomic::Ordering;

impl Machine {
    /// Feeds what decides what the machine does next to `state`, but for what [`hash_devices`](Self::hash_devices) says
    /// of each device: drivers, and what is in use. Two machines that hash alike, on envs in the
    /// same state, go the same ways; and a machine that hashes as it did before a binding has nothing left of it (P4).
    ///
    /// Numbers that only count what has been (events, bindings, groups) are left out, and so are addresses and the order
    /// in which bindings were made: which page is taken, and which of two that do not need each other goes first,
    /// decides nothing, except for a device that does not reach all of memory: whether a buffer of its bounces does
    /// depend on where it lies. Call it while no other thread is inside the machine.
    pub fn hash_state(&self, state: &mut impl Hasher) {
        {
            let r = self.registry.lock();
            r.autoprobe.hash(state);
            for driver in r.drivers.keys() {
                driver.hash(state);
            }
        }
        (self.memory().frames().in_use(), self.memory().cma().map(|c| c.in_use())).hash(state);
        self.claims.len().hash(state);
        (self.irqs().len(), self.providers.len(), self.supplies().in_use()).hash(state);
        (self.dma_state().mappings.load(Ordering::Relaxed), self.dma_state().bounce_bytes.load(Ordering::Relaxed))
            .hash(state);
        self.supplies().pinned().hash(state);
        self.iommus().hash_state(state);
    }

    /// Calls `each` with every device, by name, and a number for its own state: phase, ledger, links, place in the queue,
    /// group, and what is in quarantine because of it.
    ///
    /// Neither name nor node of the device itself is in the number: that of a twin in the same state is the same. Call it
    /// while no other thread is inside the machine.
    pub fn hash_devices<H: Hasher + Default>(&self, mut each: impl FnMut(&Device, u64)) {
        let devices = self.devices();
        let mut states: Vec<H> = devices.iter().map(|device| self.device_alone(device)).collect();
        {
            let r = self.registry.lock();
            for (device, state) in devices.iter().zip(&mut states) {
                let node = device.node();
                (r.queued_already(node), r.waiting.contains(&node), r.comes_short(node)).hash(state);
                for (supplier, _, link) in r.graph.list(node) {
                    (supplier, link).hash(state);
                }
            }
        }
        for (device, state) in devices.iter().zip(&states) {
            each(device, state.finish());
        }
    }

    /// What a device knows of itself.
    fn device_alone<H: Hasher + Default>(&self, device: &Device) -> H {
        let mut state = H::default();
        (device.phase(), device.driver(), device.is_removed(), device.is_gone()).hash(&mut state);
        device.driver_override().hash(&mut state);
        device.visible_driver.lock().hash(&mut state);
        let group = self.iommus().membership(device).map(|member| member.group);
        group.is_some().hash(&mut state);
        if let Some(group) = group {
            group.hash_state(&mut state);
        }
        if let Some(binding) = device.binding() {
            binding.bound().ledger.hash_kinds(&mut state);
        }
        self.quarantine_table().hash_held(device.name(), &mut state);
        state
    }
}
