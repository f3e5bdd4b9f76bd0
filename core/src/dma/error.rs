//! Why DMA memory could not be had.

use core::fmt;

use crate::addr::{DeviceAddr, PhysAddr};
use crate::binding::ResourceError;
use crate::driver::ProbeError;
use crate::env::FaultPoint;
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
    /// Part of a buffer that does not lie inside it, or does not start and end on a multiple of
    /// [`DMA_ALIGN`](super::DMA_ALIGN) (or at the buffer's end): it would share a cache line with its neighbour.
    #[error("bytes {start} to {end} of a buffer of {len}: outside, or not aligned to cache lines")]
    BadRange {
        /// First byte asked for.
        start: u64,
        /// One past the last byte asked for.
        end: u64,
        /// Bytes in the buffer.
        len: u64,
    },
    /// Segments of no bytes, or a boundary that is not a power of two.
    #[error("segments of at most {max_segment_size:#x} bytes with boundary {segment_boundary:#x}")]
    BadLimits {
        /// As asked for.
        max_segment_size: u64,
        /// As asked for.
        segment_boundary: u64,
    },
    /// A pool cannot have items of that size, alignment or boundary.
    #[error("pool items of {size} bytes, aligned to {align}, boundary {boundary}")]
    BadPool {
        /// As asked for.
        size: u64,
        /// As asked for.
        align: u64,
        /// As asked for.
        boundary: u64,
    },
    /// The windows of the device's bus (`dma-ranges`) cannot be read: no address is known to lead where it should. The
    /// description's [`unreadable`](crate::device::DmaDesc::unreadable) says why.
    #[error("no DMA for this device: the dma-ranges of its bus cannot be read")]
    NoWindow,
    /// The memory lies above what the device can address.
    #[error("the device reaches addresses up to {0} only")]
    Mask(DeviceAddr),
    /// Bounce buffers hold as many bytes as they may.
    #[error("{0} more bytes do not fit the bounce buffers")]
    BounceFull(u64),
    /// The buffer belongs to another machine.
    #[error("the buffer is memory of another machine")]
    ForeignMachine,
    /// The IOMMU did not confirm that an earlier mapping of this memory is gone.
    #[error("the IOMMU has not confirmed the end of an earlier mapping of this memory")]
    Unconfirmed,
    /// What is at this address is not the registers of a device that may be given to another one: RAM, an IOMMU, or
    /// nothing that the machine knows.
    #[error("{0} is not device registers that another device may reach")]
    NotRegisters(PhysAddr),
    /// A guest has these registers, or what lies on the same page. The event `refused` names it, and
    /// [`Machine::conflict`](crate::machine::Machine::conflict) does as long as it has them.
    #[error("the registers at {0} are held by a guest; /sys/kernel/bindery/claims says by which")]
    Held(PhysAddr),
    /// The device that these registers belong to uses this one itself, so that neither can be unbound first.
    #[error("the device with the registers at {0} uses this one itself")]
    PeerCycle(PhysAddr),
    /// Memory of an earlier binding is in quarantine: the device was never shown to be quiesced. Reset it and say so with
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
    Injected(FaultPoint),
}

impl DmaError {
    /// Whether memory or addresses were lacking, which may come back.
    pub(crate) const fn is_shortage(&self) -> bool {
        matches!(
            self,
            Self::Memory(_) | Self::Iova(_) | Self::Map(MapError::OutOfMemory) | Self::BounceFull(_) | Self::Held(_)
        )
    }
}

impl From<ResourceError> for DmaError {
    fn from(e: ResourceError) -> Self {
        match e {
            ResourceError::Injected(point) => Self::Injected(point),
            ResourceError::Unbinding => Self::Unbinding,
            _ => Self::Ledger,
        }
    }
}

/// A mapping was not made, and this is what was to be mapped.
///
/// `?` keeps the error and lets the memory go.
pub struct Refused<T> {
    /// Why.
    pub error: DmaError,
    /// What was not taken.
    pub back: T,
}

impl<T> fmt::Debug for Refused<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refused({:?})", self.error)
    }
}

impl<T> fmt::Display for Refused<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> core::error::Error for Refused<T> {}

impl<T> From<Refused<T>> for DmaError {
    fn from(refused: Refused<T>) -> Self {
        refused.error
    }
}

impl<T> From<Refused<T>> for ProbeError {
    fn from(refused: Refused<T>) -> Self {
        Self::Dma(refused.error)
    }
}
