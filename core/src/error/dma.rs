//! Errors of DMA allocations and mappings.

use super::ResourceError;
use crate::addr::{DeviceAddr, PhysAddr};
use crate::instrument::FaultPoint;
use crate::mem::{AllocError, BadRun, OutOfMemory, RunFault};
use crate::translation::MapError;

/// Error of an allocation or a free. The space is unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IovaError {
    /// No free range of that size lies below the limit, or the size is 0.
    #[error("no free IOVA range of {pages} pages up to {limit}")]
    Exhausted {
        /// Pages asked for.
        pages: u64,
        /// Highest address allowed.
        limit: DeviceAddr,
    },
    /// The range is not exactly one live allocation.
    #[error("{pages} pages at {addr} are not one allocated IOVA range: not freed")]
    NotAllocated {
        /// First address passed to the free.
        addr: DeviceAddr,
        /// Pages passed to the free.
        pages: u64,
    },
}

/// Reason for which DMA memory or a mapping was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DmaError {
    /// Out of pages.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// The target's allocator gave pages that it must not give; none of them is used. [`BadRun`](crate::mem::BadRun) has the words.
    #[error("{}", BadRun { owner, base: *base, pages: u64::from(*pages), fault: *fault })]
    BadPages {
        /// Name of the allocator.
        owner: &'static str,
        /// First byte given.
        base: PhysAddr,
        /// Pages asked for.
        pages: u32,
        /// What is wrong with them.
        fault: RunFault,
    },
    /// Out of device addresses.
    #[error(transparent)]
    Iova(IovaError),
    /// The page table refused the mapping.
    #[error(transparent)]
    Map(MapError),
    /// Zero bytes, or more than the address space holds.
    #[error("bad size: {0} bytes")]
    BadSize(u64),
    /// Not a power of two, or a multiple that no address in the windows of the device's bus (`dma-ranges`) is.
    #[error(
        "no device address is a multiple of {0:#x} bytes: not a power of two, or the dma-ranges of the bus have none"
    )]
    BadAlignment(u64),
    /// A range outside the buffer, or, for a device that does not snoop the CPU's caches, one that does not start and end on a
    /// multiple of [`DMA_ALIGN`](crate::dma::DMA_ALIGN) (or at the buffer's end), so that it would share a cache line with its
    /// neighbour.
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
        /// The requested value.
        max_segment_size: u64,
        /// The requested value.
        segment_boundary: u64,
    },
    /// A pool cannot have items of that size, alignment or boundary.
    #[error("pool items of {size} bytes, aligned to {align}, boundary {boundary}")]
    BadPool {
        /// The requested value.
        size: u64,
        /// The requested value.
        align: u64,
        /// The requested value.
        boundary: u64,
    },
    /// The windows of the device's bus (`dma-ranges`) are malformed, so device addresses cannot be computed. The
    /// description's [`unreadable`](crate::device::DmaDesc::unreadable) says why.
    #[error("no DMA for this device: the dma-ranges of its bus cannot be read")]
    NoWindow,
    /// The memory lies above the device's DMA mask.
    #[error("the device can address up to {0} only")]
    Mask(DeviceAddr),
    /// The bounce buffers are full.
    #[error("{0} more bytes do not fit the bounce buffers")]
    BounceFull(u64),
    /// The buffer belongs to another machine.
    #[error("the buffer is memory of another machine")]
    ForeignMachine,
    /// The IOMMU has not confirmed that an earlier mapping of this memory is gone.
    #[error("the IOMMU has not confirmed the end of an earlier mapping of this memory")]
    Unconfirmed,
    /// The address does not hold registers that may be mapped for another device: it is RAM, an IOMMU, or unknown to
    /// the machine.
    #[error("{0} is not device registers that another device may reach")]
    NotRegisters(PhysAddr),
    /// A guest holds these registers, or others on the same page. The event `refused` names it, and
    /// [`System::conflict`](crate::machine::System::conflict) does while it holds them.
    #[error("the registers at {0} are held by a guest; /sys/kernel/bindery/claims says by which")]
    Held(PhysAddr),
    /// The device that these registers belong to is itself a consumer of this one, so neither could be unbound first.
    #[error("the device with the registers at {0} uses this one itself")]
    PeerCycle(PhysAddr),
    /// Memory of an earlier binding is in quarantine: the device was never shown to be quiesced. Reset it and report
    /// that with [`Bound::mark_quiesced`](crate::binding::Bound::mark_quiesced) first.
    #[error("{0} bytes of this device are in quarantine")]
    Quarantined(u64),
    /// Every slot of the arena is mapped.
    #[error("all {0} slots of the arena are mapped: unmap one, or make a larger arena")]
    ArenaFull(u32),
    /// The slot is of another arena, or was unmapped: it is not mapped any more.
    #[error(
        "slot {0} of the arena is not what this handle was given for: it was unmapped, or belongs to another arena"
    )]
    StaleSlot(u32),
    /// The slot holds a list of so many buffers.
    #[error("the slot holds a list of {0} buffers: unmap it with unmap_many")]
    SlotOfList(usize),
    /// The binding is being torn down and has no translation any more.
    #[error("the device is being unbound")]
    Unbinding,
    /// The ledger refused the entry.
    #[error("the binding could not take the memory over")]
    Ledger,
    /// A fault was injected here for a test.
    #[error("injected fault: {}", .0.name())]
    Injected(FaultPoint),
}

impl DmaError {
    /// True when memory or addresses were exhausted, so that a retry may succeed.
    pub(crate) const fn is_shortage(&self) -> bool {
        matches!(
            self,
            Self::Memory(_) | Self::Iova(_) | Self::Map(MapError::OutOfMemory) | Self::BounceFull(_) | Self::Held(_)
        )
    }
}

impl From<AllocError> for DmaError {
    fn from(e: AllocError) -> Self {
        match e {
            AllocError::OutOfMemory(e) => Self::Memory(e),
            AllocError::BadRun(BadRun { owner, base, pages, fault }) => {
                Self::BadPages { owner, base, pages: u32::try_from(pages).unwrap_or(u32::MAX), fault }
            }
        }
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
