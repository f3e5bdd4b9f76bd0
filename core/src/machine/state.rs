//! Hash of the state that determines the further behaviour of a machine.

use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use super::Machine;
use crate::device::Device;
use crate::sync::atomic::Ordering;

impl Machine {
    /// Feeds the state of the machine to `state`, apart from that of each device
    /// ([`hash_devices`](Self::hash_devices)): drivers, and resources in use. Two machines with equal hashes, on envs in
    /// the same state, behave alike; and a machine that hashes as it did before a binding has nothing left of it (P4).
    ///
    /// Counters of past events, bindings and groups are left out, and so are addresses and the order in which bindings
    /// were made: neither the choice of a page nor the order of two unrelated devices changes the further behaviour. An
    /// exception is a device that does not reach all of memory: its buffers are bounced or not according to their
    /// address. Call this while no other thread is inside the machine.
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
        (self.dma_state().mappings(), self.dma_state().bounce_bytes.load(Ordering::Relaxed)).hash(state);
        self.work().hash_state(state);
        self.supplies().pinned().hash(state);
        self.iommus().hash_state(state);
    }

    /// Calls `each` with every device, by name, and a number for its own state: phase, ledger, links, place in the queue,
    /// group, and what is in quarantine because of it.
    ///
    /// The number contains neither name nor node of the device itself, so symmetric devices in the same state have the same
    /// number. Call this while no other thread is inside the machine.
    pub fn hash_devices<H: Hasher + Default>(&self, mut each: impl FnMut(&Device, u64)) {
        let devices = self.devices();
        let mut states: Vec<H> = devices.iter().map(|device| self.hash_device(device)).collect();
        {
            let r = self.registry.lock();
            for (device, state) in devices.iter().zip(&mut states) {
                let node = device.node();
                (r.is_queued(node), r.waiting.contains(&node), r.is_short(node)).hash(state);
                for (supplier, _, link) in r.graph.list(node) {
                    (supplier, link).hash(state);
                }
            }
        }
        for (device, state) in devices.iter().zip(&states) {
            each(device, state.finish());
        }
    }

    /// Hash of the state of a device that is not in the registry.
    fn hash_device<H: Hasher + Default>(&self, device: &Device) -> H {
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
