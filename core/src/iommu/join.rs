//! Devices join their groups, as soon as both are there.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{IommuError, Joined};
use crate::binding::Bound;
use crate::device::{Device, Unmet};
use crate::event::EventKind;
use crate::system::System;

/// The property that names reserved regions.
const MEMORY_REGION: &str = "memory-region";

impl System {
    /// Puts the streams of a device into its IOMMU group, as far as their IOMMUs are there.
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

/// Reports that devices which were between groups in use are in one group from now on, and queues them to be probed.
/// `bound` has freed a group.
pub(crate) fn joined_late(bound: &Bound, devices: Vec<Arc<Device>>) {
    let system = bound.system();
    for device in devices {
        let group = system.iommus().membership(&device).map_or(0, |m| m.group.id());
        system.emit(Some(&device.desc().name), || EventKind::Log {
            text: format!("its streams are in one IOMMU group now, {group}, with its reserved regions"),
        });
        bound.registry().queue_probe(device.node());
    }
}

/// As [`System::join`], for a device that is not being bound; it gets another try when it is.
pub(crate) fn try_join(system: &System, device: &Arc<Device>) {
    if let Err(e) = system.join(device) {
        system
            .emit(Some(&device.desc().name), || EventKind::Log { text: format!("could not join an IOMMU group: {e}") });
    }
}
