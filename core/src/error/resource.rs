//! Errors of acquiring resources.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{DmaError, GroupError, SupplyError, VectorError};
use crate::addr::DeviceAddr;
use crate::bus::BusError;
use crate::claim::Conflict;
use crate::description::NodeId;
use crate::env::EnvError;
use crate::errno::Errno;
use crate::instrument::FaultPoint;
use crate::translation::IommuError;

/// Error of acquiring a resource.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ResourceError {
    /// Firmware describes no such resource for the device.
    #[error("the device has no {kind} {index}")]
    Absent {
        /// `"registers"`, `"interrupt"` or `"vector"`.
        kind: &'static str,
        /// Requested index, from 0.
        index: usize,
    },
    /// The device's registers do not hold the window that the driver opens, or the window is not aligned.
    #[error(
        "{bytes:#x} bytes of registers at {offset:#x}, of {len:#x}: they end before, or are not aligned; see `reg` in firmware"
    )]
    OutsideWindow {
        /// First byte of the window.
        offset: u64,
        /// Its bytes.
        bytes: u64,
        /// Bytes of registers that firmware describes.
        len: u64,
    },
    /// Another user holds it.
    #[error(transparent)]
    Held(#[from] Box<Conflict>),
    /// The interrupt belongs to this controller, which is bound, but whose driver delivers no interrupts.
    #[error("nobody delivers the interrupt lines of {0}")]
    NotDelivered(Arc<str>),
    /// The interrupt belongs to the controller at this node, which is not bound yet. A probe that returns this error is
    /// deferred until it is.
    #[error("waits for an interrupt controller")]
    NotYet(NodeId),
    /// The interrupt controller has no line that this specifier names.
    #[error("{controller} has no interrupt line {specifier:?}")]
    NoSuchLine {
        /// Label or path of the controller.
        controller: Arc<str>,
        /// The specifier cells, as firmware has them.
        specifier: Vec<u32>,
    },
    /// The interrupt line has as many users as a line can have.
    #[error("interrupt line {0} has 64 users already")]
    TooManyUsers(u32),
    /// Unwinding has begun; nothing can be acquired any more.
    #[error("the device is being unbound")]
    Unbinding,
    /// The devres group was released; nothing can be acquired for it any more.
    #[error("the devres group was released")]
    GroupReleased,
    /// The type of driver that was named is not the one that the device is bound to.
    #[error("the device is bound to {0}, not to the driver that was named")]
    OtherDriver(&'static str),
    /// The target refused.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// The device's bus does not do what is needed for it.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// There are not the interrupt vectors that the driver needs.
    #[error(transparent)]
    Vectors(Box<VectorError>),
    /// The page to which the device writes its messages cannot be mapped.
    #[error("the doorbell of its messages: {0}")]
    Doorbell(Box<DmaError>),
    /// A clock, power domain or reset line could not be switched.
    #[error(transparent)]
    Supply(#[from] SupplyError),
    /// The IOMMU group could not be claimed.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The translation could not be set up.
    #[error(transparent)]
    Iommu(#[from] IommuError),
    /// The device could not be reset after its latest pass-through owner.
    #[error("the device is as its last pass-through user left it, and cannot be reset: {0}")]
    NotReset(SupplyError),
    /// The bus of a device requested for pass-through has malformed `dma-ranges`.
    #[error("no DMA for this device: the dma-ranges of its bus cannot be read")]
    NoWindow,
    /// The device addresses that the IOMMU translates do not overlap those that the bus carries (`dma-ranges`).
    #[error("the IOMMU translates {first} to {last}, and the dma-ranges of the device's bus carry none of that")]
    NoCommonWindow {
        /// Lowest address that the IOMMU translates.
        first: DeviceAddr,
        /// Highest one (inclusive).
        last: DeviceAddr,
    },
    /// The supplier is bound but does not provide the requested service.
    #[error("the supplier does not provide this")]
    NotProvided,
    /// The supplier depends on this device, directly or through others.
    #[error("the supplier uses this device itself")]
    SupplierCycle,
    /// Firmware has no such property for the device.
    #[error("the device has no {0}")]
    AbsentSupply(Box<str>),
    /// A device of the child's name or for its node exists already.
    #[error("there is a device of the child's name, or for its node, already")]
    ChildExists,
    /// The child's name is not a valid file name in the control tree.
    #[error("the child's name cannot be that of a file beside its siblings; the event says why")]
    ChildName,
    /// The driver's directory in the control tree has a file of the device's name, where the device's link is created.
    #[error("the directory of {driver} has a file called {name}, as the device is: give the device another name")]
    NameTaken {
        /// The driver.
        driver: &'static str,
        /// Name of the device.
        name: Arc<str>,
    },
    /// A fault was injected here for a test.
    #[error("injected fault: {}", .0.name())]
    Injected(FaultPoint),
}

impl ResourceError {
    /// Returns true when other users hold the requested resource, or all of it, and may release it.
    pub(crate) const fn is_shortage(&self) -> bool {
        if let Self::Doorbell(error) = self {
            return error.is_shortage();
        }
        matches!(
            self,
            Self::Held(_)
                | Self::TooManyUsers(_)
                | Self::Supply(SupplyError::Held(_))
                | Self::Group(GroupError::Owned { .. } | GroupError::Bus(_))
                | Self::Iommu(
                    IommuError::NoContext
                        | IommuError::OutOfMemory
                        | IommuError::RegionInUse { .. }
                        | IommuError::RegionPassedThrough
                )
        )
    }

    pub(crate) const fn errno(&self) -> Errno {
        match self {
            Self::Vectors(_)
            | Self::Absent { .. }
            | Self::AbsentSupply(_)
            | Self::NotProvided
            | Self::NotDelivered(_) => Errno::ENODEV,
            Self::NotYet(_) => Errno::EAGAIN,
            Self::Held(_)
            | Self::TooManyUsers(_)
            | Self::Unbinding
            | Self::GroupReleased
            | Self::Group(_)
            | Self::ChildExists
            | Self::Supply(SupplyError::Held(_))
            | Self::NotReset(SupplyError::Held(_)) => Errno::EBUSY,
            Self::SupplierCycle
            | Self::ChildName
            | Self::NoWindow
            | Self::OtherDriver(_)
            | Self::OutsideWindow { .. }
            | Self::NoCommonWindow { .. }
            | Self::NoSuchLine { .. } => Errno::EINVAL,
            Self::NameTaken { .. } => Errno::EEXIST,
            Self::Env(_) | Self::Bus(BusError::Gone) => Errno::ENXIO,
            Self::Supply(_) | Self::NotReset(_) | Self::Bus(_) => Errno::EIO,
            Self::Iommu(_) | Self::Doorbell(_) | Self::Injected(_) => Errno::ENOMEM,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translation::MapError;

    #[test]
    fn a_doorbell_is_short_of_what_its_mapping_is_short_of() {
        let doorbell = |error| ResourceError::Doorbell(Box::new(error));
        assert!(doorbell(DmaError::Map(MapError::OutOfMemory)).is_shortage());
        assert!(!doorbell(DmaError::Unbinding).is_shortage());
    }
}
