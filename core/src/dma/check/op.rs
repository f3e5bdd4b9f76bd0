//! Operations that the checker takes.

use alloc::sync::Arc;

use super::super::{Attrs, Direction, Kind, SegmentLimits};
use crate::addr::{DeviceAddr, PhysAddr};

/// Kind of memory that a mapping's CPU address refers to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuMemory {
    /// Contiguous pages of RAM.
    Pages,
    /// A thread's stack.
    Stack,
    /// Code or constants of the program.
    Image,
    /// Contiguous in virtual addresses only.
    Virtual,
    /// Not RAM.
    Invalid,
    /// Device registers, of a resource mapping.
    Registers,
}

/// Parameters of a map, unmap, allocation, free or sync.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Name of the device.
    pub device: Arc<str>,
    /// Name of the back-end.
    pub backend: Arc<str>,
    /// The kind of call.
    pub kind: Kind,
    /// First device address; all ones for a map call that failed.
    pub addr: DeviceAddr,
    /// Length in bytes.
    pub len: u64,
    /// First physical address.
    pub phys: PhysAddr,
    /// Kind of memory at the CPU address.
    pub memory: CpuMemory,
    /// Direction of the transfer.
    pub direction: Direction,
    /// Entries of the list in the call; 1 without a list.
    pub count: u32,
    /// Attributes of the call.
    pub attrs: Attrs,
}

/// As [`Record`], with borrowed names: what the core tells of its own calls.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) device: &'a Arc<str>,
    pub(crate) backend: &'a Arc<str>,
    pub(crate) kind: Kind,
    pub(crate) addr: DeviceAddr,
    pub(crate) len: u64,
    pub(crate) phys: PhysAddr,
    pub(crate) memory: CpuMemory,
    pub(crate) direction: Direction,
    pub(crate) count: u32,
    pub(crate) attrs: Attrs,
}

impl Record {
    pub(super) fn call(&self) -> Call<'_> {
        let Self { ref device, ref backend, kind, addr, len, phys, memory, direction, count, attrs } = *self;
        Call { device, backend, kind, addr, len, phys, memory, direction, count, attrs }
    }
}

/// One operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// A mapping or allocation was made.
    Map {
        /// Parameters of the mapping.
        record: Record,
        /// True when the caller cannot have missed an error.
        checked: bool,
    },
    /// The caller checked a result for an error.
    ErrorChecked {
        /// Name of the device.
        device: Arc<str>,
        /// The returned address.
        addr: DeviceAddr,
    },
    /// One segment of a list that was mapped.
    Segment {
        /// Name of the device.
        device: Arc<str>,
        /// First device address.
        addr: DeviceAddr,
        /// Length in bytes.
        len: u64,
    },
    /// A mapping is unmapped, or an allocation freed.
    Unmap(Record),
    /// Mappings were forgotten by the driver, and unmapped without it: all in the range.
    Forgotten {
        /// Name of the device.
        device: Arc<str>,
        /// First device address.
        addr: DeviceAddr,
        /// Length in bytes.
        len: u64,
    },
    /// Ownership of a range is transferred to the CPU or to the device.
    Sync {
        /// Parameters of the sync.
        record: Record,
        /// True for the CPU, false for the device.
        to_cpu: bool,
    },
    /// Segment limits and DMA mask of the device.
    Limits {
        /// Name of the device.
        device: Arc<str>,
        /// Limits of its segments.
        segments: SegmentLimits,
        /// Highest device address (inclusive).
        mask: DeviceAddr,
    },
    /// The device made, or tried to make, an access.
    Access {
        /// Name of the device.
        device: Arc<str>,
        /// Device address of the access.
        addr: DeviceAddr,
    },
    /// A descriptor was given to the hardware, or taken from it.
    Descriptor {
        /// Name of the device.
        device: Arc<str>,
        /// Device address that the descriptor points to.
        addr: DeviceAddr,
        /// True when the hardware owns it now.
        owned: bool,
    },
    /// An item was allocated from a pool.
    PoolAlloc {
        /// Name of the device.
        device: Arc<str>,
        /// Name of the pool.
        pool: Arc<str>,
        /// Device address of the item.
        addr: DeviceAddr,
    },
    /// An item was freed to a pool.
    PoolFree {
        /// Name of the device.
        device: Arc<str>,
        /// Name of the pool.
        pool: Arc<str>,
        /// Device address of the item.
        addr: DeviceAddr,
    },
    /// A pool was destroyed.
    PoolDestroyed {
        /// Name of the device.
        device: Arc<str>,
        /// Name of the pool.
        pool: Arc<str>,
    },
    /// An unmap is queued until its flush is confirmed.
    Queued {
        /// Name of the back-end.
        backend: Arc<str>,
        /// First device address.
        addr: DeviceAddr,
        /// Length in bytes.
        len: u64,
    },
    /// The flush of a back-end is confirmed.
    Confirmed {
        /// Name of the back-end.
        backend: Arc<str>,
        /// Device addresses (first, bytes) that are confirmed; `None` for everything that was queued.
        range: Option<(DeviceAddr, u64)>,
    },
    /// The translation of a device is torn down.
    TranslationGone {
        /// Name of the device.
        device: Arc<str>,
    },
    /// The driver has been unbound.
    Unbound {
        /// Name of the device.
        device: Arc<str>,
    },
    /// A probe failed, and its resources were released.
    ProbeFailed {
        /// Name of the device.
        device: Arc<str>,
    },
}
