//! Joining of IOMMU groups by devices.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{IommuError, Joined};
use crate::device::{Device, Unmet};
use crate::event::EventKind;
use crate::system::{DeviceRegistry, System};

/// Firmware property that refers to reserved regions.
const MEMORY_REGION: &str = "memory-region";

impl System {
    /// Adds the streams of a device to its IOMMU group, as far as their IOMMUs exist.
    pub(crate) fn join(&self, device: &Arc<Device>) -> Result<(), IommuError> {
        if self.policy().untranslated_dma {
            return Ok(());
        }
        let (joined, result) = self.iommus().join(device, self.env());
        let unread = device.desc().unmet.iter().filter(|u| &*u.property == MEMORY_REGION && !joined.is_empty());
        for Unmet { reason, .. } in unread {
            self.emit(Some(&device.desc().name), || EventKind::Refused {
                what: "keeping a reserved region mapped".into(),
                reason: format!("{MEMORY_REGION}: {reason}; what the device does there is blocked"),
            });
        }
        for Joined { group, iommu, stream } in joined {
            let stream = stream.0;
            self.emit(Some(&device.desc().name), || EventKind::GroupJoined { group, iommu, stream });
        }
        result
    }
}

/// Reports devices that are in one group because another one has left, or is not in use any more, and queues them for a probe.
pub(crate) fn joined_late(system: &System, registry: &dyn DeviceRegistry, devices: Vec<Arc<Device>>) {
    for device in devices {
        let group = system.iommus().membership(&device).map_or(0, |m| m.group.id());
        system.emit(Some(&device.desc().name), || EventKind::Log {
            text: format!("its streams are in one IOMMU group now, {group}, with its reserved regions"),
        });
        registry.queue_probe(device.node());
    }
}

/// As [`System::join`], for a device that is not being bound: an error is only logged, and the next bind tries again.
pub(crate) fn try_join(system: &System, device: &Arc<Device>) {
    if let Err(e) = system.join(device) {
        system
            .emit(Some(&device.desc().name), || EventKind::Log { text: format!("could not join an IOMMU group: {e}") });
    }
}
