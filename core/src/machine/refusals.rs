//! Devices that a driver could not have, with the reason, and another try when what was short comes back.
//!
//! A refusal before BIND (a group that somebody owns, no translation context, a device that its IOMMU does not take in, a
//! supply that does not answer, ...) is told by an event and listed with the devices that wait. When it was a shortage, also
//! one that the driver met in its probe, the device is probed again when a binding has ended, when a bound driver has given
//! something back early, when kept memory was recovered, or when pages have come back to their allocator.
//!
//! A failed probe gives back what it had, but that is no news to those that were refused before it began; else two devices
//! that both come short would wake each other for ever.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Machine;
use super::registry::Registry;
use crate::device::{Device, NodeId};
use crate::driver::ProbeError;
use crate::event::EventKind;

/// Why a device is not bound.
pub(super) struct Refusal {
    pub(super) driver: &'static str,
    pub(super) reason: String,
    /// It may be otherwise when somebody gives something back.
    pub(super) short: bool,
    /// When, in refusals and beginnings of probes of this machine.
    at: u64,
    /// Page frames in use at that time.
    frames: u64,
}

impl Registry {
    fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }

    /// Whether `node` is probed again when something comes back.
    pub(super) fn comes_short(&self, node: NodeId) -> bool {
        self.refusals.get(&node).is_some_and(|r| r.short)
    }

    /// Queues those that came short and that `which` picks.
    fn retry(&mut self, which: impl Fn(NodeId, &Refusal) -> bool) -> Vec<Arc<Device>> {
        let again: Vec<NodeId> =
            self.refusals.iter().filter(|(n, r)| r.short && which(**n, r)).map(|(n, _)| *n).collect();
        let waits = |n: &NodeId| !self.queued_already(*n);
        let again: Vec<NodeId> = again.into_iter().filter(waits).collect();
        for node in &again {
            self.enqueue(*node);
        }
        again.into_iter().filter_map(|n| self.device(n).cloned()).collect()
    }
}

impl Machine {
    /// A probe begins. Returns when.
    pub(super) fn probe_started(&self) -> u64 {
        self.registry.lock().tick()
    }

    /// A probe that began at `begun` has failed, and everything was given back.
    pub(super) fn probe_failed(&self, device: &Device, begun: u64) {
        let again = self.registry.lock().retry(|n, r| r.at > begun && n != device.node());
        self.tell_retry(&device.desc().name, again);
    }

    /// `driver` did not get `device`, of itself or because of something that it lacked.
    pub(super) fn refused(&self, device: &Device, driver: &'static str, error: &ProbeError, before_bind: bool) {
        let short = error.is_shortage();
        if !short && !before_bind {
            return;
        }
        let frames = self.memory().frames().in_use();
        let mut r = self.registry.lock();
        let at = r.tick();
        r.refusals.insert(device.node(), Refusal { driver, reason: error.to_string(), short, at, frames });
    }

    /// The binding of `device` has ended, or given something back: whoever came short is probed again.
    pub(crate) fn resource_returned(&self, device: &Device) {
        let again = self.registry.lock().retry(|n, _| n != device.node());
        self.tell_retry(&device.desc().name, again);
    }

    /// The same for page frames, which go back without a word.
    pub(super) fn look_for_frames(&self) {
        if self.registry.lock().refusals.is_empty() {
            return;
        }
        let in_use = self.memory().frames().in_use();
        let again = {
            let mut r = self.registry.lock();
            let again = r.retry(|_, refusal| in_use < refusal.frames);
            for device in &again {
                if let Some(refusal) = r.refusals.get_mut(&device.node()) {
                    refusal.frames = in_use;
                }
            }
            again
        };
        self.tell_retry(&"memory".into(), again);
    }

    fn tell_retry(&self, by: &Arc<str>, again: Vec<Arc<Device>>) {
        let woken: Vec<_> = again.into_iter().map(|device| (device, true)).collect();
        self.tell_woken(by, &woken);
    }

    /// Tells each of `woken` that `by` is there, or has given back what they lacked.
    pub(super) fn tell_woken(&self, by: &Arc<str>, woken: &[(Arc<Device>, bool)]) {
        for (device, ready) in woken {
            self.emit(Some(&device.desc().name), || EventKind::Woken { by: Arc::clone(by), ready: *ready });
        }
    }
}
