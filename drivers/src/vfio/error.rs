//! Errors of the pass-through owner's users.

use alloc::boxed::Box;

use bindery::addr::DeviceAddr;
use bindery::binding::ResourceError;
use bindery::dma::IoasError;
use bindery::env::IoError;
use bindery::iommu::{GroupError, MapError};
use bindery::power::SupplyError;
use bindery::vectors::VectorKind;

/// Failure to open a device.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// The device has a user.
    #[error("the device is open already")]
    Busy,
    /// The host is taking the device back.
    #[error("the host is taking the device back")]
    Leaving,
    /// The device could not be reset after its last user, nor now.
    #[error("the device could not be reset after its last user: {0}")]
    NotReset(SupplyError),
    /// The device's interrupts cannot be requested.
    #[error("its interrupts: {0}")]
    Interrupts(Box<ResourceError>),
    /// Another owner has a device of the same IOMMU group open, or the unmap of its mappings is not confirmed.
    #[error(transparent)]
    Group(#[from] GroupError),
}

/// Failure of a user's operation.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VfioError {
    /// The host has revoked the session.
    #[error("the device was taken back")]
    Revoked,
    /// There is no such register region.
    #[error("no region {0}")]
    NoRegion(usize),
    /// There is no such interrupt.
    #[error("no interrupt {0}")]
    NoIrq(usize),
    /// The device has not as many interrupts of this kind, or none were asked for. Nothing has changed.
    #[error("{count} interrupts by {kind}: the device has {has}")]
    NoVectors {
        /// Kind of signal.
        kind: VectorKind,
        /// Number that the user asked for.
        count: usize,
        /// Number that the device has.
        has: usize,
    },
    /// The interrupts cannot be requested, for example because the target has no more messages. The device signals none until
    /// others are chosen.
    #[error("its interrupts: {0}")]
    Interrupts(Box<ResourceError>),
    /// The kind of signal cannot be changed from the handler of an interrupt, where callbacks run if the host has no thread for them.
    #[error("the handler of an interrupt cannot change how the device signals interrupts")]
    InHandler,
    /// The register access failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The range is empty, not page aligned, wraps, or is not inside the memory.
    #[error("bad range: {len:#x} bytes at {iova}")]
    BadRange {
        /// First device address.
        iova: DeviceAddr,
        /// Bytes.
        len: u64,
    },
    /// There is no map that starts there and is that long.
    #[error("no map at {0}")]
    NoMap(DeviceAddr),
    /// The user has too many maps.
    #[error("more than {0} maps")]
    TooManyMaps(usize),
    /// The IOMMU's driver refused the mapping.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The IOMMU has not confirmed the unmap of an earlier map at this address: the address is neither mapped nor free,
    /// and the memory stays pinned. Another map or unmap call asks the IOMMU again.
    #[error("the IOMMU has not confirmed the unmap of an earlier map at {0}; try again")]
    Unconfirmed(DeviceAddr),
    /// The range overlaps a reserved region of the device's IOMMU group (`reserved_regions`).
    #[error("the range at {0} overlaps a reserved region of the IOMMU group")]
    Reserved(DeviceAddr),
    /// The memory belongs to another machine.
    #[error("the memory is not this machine's")]
    ForeignMemory,
    /// The device could not be reset.
    #[error(transparent)]
    Reset(#[from] SupplyError),
}

impl From<IoasError> for VfioError {
    fn from(e: IoasError) -> Self {
        match e {
            IoasError::BadRange { iova, len } => Self::BadRange { iova, len },
            IoasError::NoMap(iova) => Self::NoMap(iova),
            IoasError::TooManyMaps(most) => Self::TooManyMaps(most),
            IoasError::ForeignMemory => Self::ForeignMemory,
            IoasError::Unconfirmed(iova) => Self::Unconfirmed(iova),
            IoasError::Reserved(iova) => Self::Reserved(iova),
            IoasError::Map(e) => Self::Map(e),
            IoasError::Closed => Self::Revoked,
        }
    }
}
