//! Refused binds with their reasons, and retries when a resource that was short is returned.
//!
//! A refusal before BIND (a group with another owner, no translation context, a device that cannot join its IOMMU, a supply
//! that does not answer, ...) is reported by an event and listed with the deferred devices. After a shortage, also one that
//! the driver met in its probe, the device is probed again when a binding has ended, when a bound driver has released a
//! resource early, when quarantined memory was recovered, or when pages have been freed.
//!
//! A failed probe releases its resources, but does not wake devices that were refused before it began; else two devices
//! that are both short of a resource would wake each other for ever.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Machine;
use super::registry::Registry;
use crate::device::{Device, NodeId};
use crate::driver::ProbeError;
use crate::event::EventKind;

/// Reason for which a device is not bound.
pub(super) struct Refusal {
    pub(super) driver: &'static str,
    pub(super) reason: String,
    /// True for a shortage: a retry may succeed once a resource is returned.
    pub(super) short: bool,
    /// Time of the refusal, in refusals and probe starts of this machine.
    at: u64,
    /// Page frames in use at that time.
    frames: u64,
}

impl Registry {
    fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }

    /// True when `node` is probed again once a resource is returned.
    pub(super) fn is_short(&self, node: NodeId) -> bool {
        self.refusals.get(&node).is_some_and(|r| r.short)
    }

    /// Queues the devices with a shortage that `which` selects.
    fn retry(&mut self, which: impl Fn(NodeId, &Refusal) -> bool) -> Vec<Arc<Device>> {
        let short: Vec<NodeId> =
            self.refusals.iter().filter(|(n, r)| r.short && which(**n, r)).map(|(n, _)| *n).collect();
        let idle = |n: &NodeId| !self.is_queued(*n);
        let again: Vec<NodeId> = short.into_iter().filter(idle).collect();
        for node in &again {
            self.enqueue(*node);
        }
        again.into_iter().filter_map(|n| self.device(n).cloned()).collect()
    }
}

impl Machine {
    /// Records the start of a probe. Returns its time.
    pub(super) fn probe_started(&self) -> u64 {
        self.registry.lock().tick()
    }

    /// Retries devices that were refused since `begun`, after a probe that started then has failed and was unwound.
    pub(super) fn probe_failed(&self, device: &Device, begun: u64) {
        let again = self.registry.lock().retry(|n, r| r.at > begun && n != device.node());
        self.report_retry(&device.desc().name, again);
    }

    /// Records that `driver` did not bind `device`, if the refusal arose before BIND or is a shortage.
    pub(super) fn record_refusal(&self, device: &Device, driver: &'static str, error: &ProbeError, before_bind: bool) {
        let short = error.is_shortage();
        if !short && !before_bind {
            return;
        }
        let frames = self.memory().frames().in_use();
        let mut r = self.registry.lock();
        let at = r.tick();
        r.refusals.insert(device.node(), Refusal { driver, reason: error.to_string(), short, at, frames });
    }

    /// Retries devices with a shortage, after the binding of `device` has ended or released a resource.
    pub(crate) fn resource_returned(&self, device: &Device) {
        let again = self.registry.lock().retry(|n, _| n != device.node());
        self.report_retry(&device.desc().name, again);
    }

    /// Retries devices with a shortage when page frames were freed, which is not reported.
    pub(super) fn retry_for_frames(&self) {
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
        self.report_retry(&"memory".into(), again);
    }

    fn report_retry(&self, by: &Arc<str>, again: Vec<Arc<Device>>) {
        let woken: Vec<_> = again.into_iter().map(|device| (device, true)).collect();
        self.report_woken(by, &woken);
    }

    /// Reports for each of `woken` that `by` is available, or has returned what they lacked.
    pub(super) fn report_woken(&self, by: &Arc<str>, woken: &[(Arc<Device>, bool)]) {
        for (device, ready) in woken {
            self.emit(Some(&device.desc().name), || EventKind::Woken { by: Arc::clone(by), ready: *ready });
        }
    }
}
