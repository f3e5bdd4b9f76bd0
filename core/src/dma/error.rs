//! Why DMA memory could not be had.

use crate::addr::DeviceAddr;
use crate::binding::ResourceError;
use crate::env::Site;
use crate::iommu::{IovaError, MapError};
use crate::mem::OutOfMemory;

/// Why DMA memory or a mapping could not be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DmaError {
    /// No pages.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// No device addresses.
    #[error(transparent)]
    Iova(IovaError),
    /// The translation refused.
    #[error(transparent)]
    Map(MapError),
    /// Zero bytes, or more than the address space holds.
    #[error("bad size: {0} bytes")]
    BadSize(u64),
    /// The memory lies above what the device can address.
    #[error("the device reaches addresses up to {0} only")]
    Mask(DeviceAddr),
    /// Memory of an earlier binding is in quarantine: the device was never shown to be quiet. Reset it and say so with
    /// [`Bound::quiet`](crate::binding::Bound::quiet) first.
    #[error("{0} bytes of this device are in quarantine")]
    Quarantined(u64),
    /// The binding has no translation set up: the way back has begun.
    #[error("the device is being unbound")]
    Unbinding,
    /// The ledger did not take the entry.
    #[error("the binding could not take the memory over")]
    Ledger,
    /// A fault was injected here on purpose.
    #[error("injected fault: {}", .0.name())]
    Injected(Site),
}

impl From<ResourceError> for DmaError {
    fn from(e: ResourceError) -> Self {
        match e {
            ResourceError::Injected(site) => Self::Injected(site),
            ResourceError::Unbinding => Self::Unbinding,
            _ => Self::Ledger,
        }
    }
}
