//! Interface of IOMMU drivers.

use alloc::string::ToString;
use alloc::sync::{Arc, Weak};
use core::fmt;

use super::group::Stream;
use super::pgtable::TableFrames;
use super::{FaultReport, InstanceEntry, Iommu, StreamId, Translation, try_join};
use crate::addr::{DeviceAddr, PhysAddr};
use crate::binding::{BindingState, Bound, ResourceError};
use crate::description::NodeId;
use crate::dma::check::Op;
use crate::event::EventKind;
use crate::instrument::{CoveragePoint, FaultPoint};
use crate::mem::PhysMemory;
use crate::system::System;

/// Bound IOMMU as its driver uses it, as [`Bound::iommu_provider`] returns it.
#[derive(Clone, Copy, Debug)]
pub struct IommuProvider<'b> {
    state: &'b BindingState,
}

impl<'b> Bound<'b> {
    /// Operations of an IOMMU driver beyond those of other drivers.
    pub fn iommu_provider(&self) -> IommuProvider<'b> {
        IommuProvider { state: self.state }
    }
}

impl IommuProvider<'_> {
    /// Registers this device as the IOMMU of its consumers. Those that are present join their groups at once, blocked.
    ///
    /// # Errors
    ///
    /// [`ResourceError::Held`] when this device is registered already, [`ResourceError::Unbinding`] when unwinding has
    /// begun.
    pub fn provide(&self, iommu: Arc<dyn Iommu>) -> Result<(), ResourceError> {
        let bound = self.state;
        bound.check(FaultPoint::Provide)?;
        let claim = bound.claim_name("service", "IOMMU translation")?;
        let node = bound.device().node();
        bound.push(0, InstanceEntry { node, name: iommu.name(), claim })?;
        bound.system().iommus().register(node, iommu);
        for consumer in bound.registry().consumers_of(node) {
            try_join(bound.system(), &consumer);
        }
        Ok(())
    }

    /// Page frames, for translation tables.
    pub fn memory(&self) -> &PhysMemory {
        self.state.system().memory()
    }

    /// Allocator of single page frames at or below `limit`, for translation tables.
    pub fn table_frames(&self, limit: PhysAddr) -> TableFrames {
        TableFrames::new(self.state.system(), Arc::clone(self.memory().frames()), limit)
    }

    /// Handle by which the threaded part of an interrupt handler reports faults.
    pub fn fault_reporter(&self) -> FaultReporter {
        let system = Arc::downgrade(self.state.system());
        FaultReporter { system, device: Arc::clone(&self.state.desc().name), node: self.state.device().node() }
    }
}

/// Handle by which an IOMMU's driver reports faults, in task context. It may outlive the binding.
#[derive(Clone, Debug)]
pub struct FaultReporter {
    system: Weak<System>,
    /// Name of the IOMMU, and its node.
    device: Arc<str>,
    node: NodeId,
}

/// Who made an access, as far as an IOMMU records it.
#[derive(Clone, Copy)]
pub enum Accessor<'a> {
    /// This stream of the IOMMU (Arm's SMMU version 3, VT-d).
    Stream(StreamId),
    /// One of those that the translation serves (Renesas' IPMMU).
    Through(&'a Arc<dyn Translation>),
}

/// Access that an IOMMU has refused.
#[derive(Clone, Copy)]
pub struct RefusedAccess<'a> {
    /// Who made it.
    pub by: Accessor<'a>,
    /// Its first byte.
    pub addr: DeviceAddr,
    /// It was a write.
    pub write: bool,
    /// What was wrong with it, in the IOMMU's words.
    pub reason: &'a str,
}

impl FaultReporter {
    /// Reports an access that this device, an IOMMU, has refused. The
    /// event names the devices that may have made it and, when known, the mapping at the address and who freed it: of those devices, or
    /// as a guess of others of their group. Of a
    /// burst of faults of one device only the first are reported, and the rest is counted ([`System::fault_counts`]).
    /// `None` once the machine is gone.
    pub fn report(&self, access: &RefusedAccess<'_>) -> Option<FaultReport> {
        let system = self.system.upgrade()?;
        system.cover(CoveragePoint::AccessRefused);
        let RefusedAccess { by, addr, write, reason } = *access;
        let (stream, report) = match by {
            Accessor::Stream(id) => (Some(id.0), system.iommus().explain_stream(Stream { iommu: self.node, id }, addr)),
            Accessor::Through(translation) => (None, system.iommus().explain(translation, addr)),
        };
        let device = report.devices.first().filter(|_| report.devices.len() == 1);
        if let Some(device) = device {
            system.check_dma(|| Op::Access { device: Arc::clone(device), addr });
        }
        if system.should_report_fault(&self.device, &report.devices) {
            system.emit(device, || EventKind::IommuFault {
                iommu: (*self.device).into(),
                stream,
                addr,
                write,
                reason: reason.into(),
                last_mapping: report.mapping.clone(),
                certain: report.certain,
            });
        }
        Some(report)
    }

    /// Emits a log event of the IOMMU.
    pub fn log(&self, text: fmt::Arguments<'_>) {
        if let Some(system) = self.system.upgrade() {
            system.emit(Some(&self.device), || EventKind::Log { text: text.to_string() });
        }
    }
}
