//! What the checker is told.

use alloc::sync::Arc;

use super::super::{Attrs, Direction, Kind, SegmentLimits};
use crate::addr::{DeviceAddr, PhysAddr};

/// Where the CPU's side of a mapping lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuMemory {
    /// Pages of RAM, one after the other.
    Pages,
    /// A thread's stack.
    Stack,
    /// Code or constants of the program.
    Image,
    /// Contiguous for the CPU only.
    Virtual,
    /// Not RAM.
    Invalid,
    /// Device registers, of a resource mapping.
    Registers,
}

/// One map, unmap, allocation or free, or one sync.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The device.
    pub device: Arc<str>,
    /// Name of the back-end that did it.
    pub backend: Arc<str>,
    /// The kind of call.
    pub kind: Kind,
    /// First device address; all ones for a map call that failed.
    pub addr: DeviceAddr,
    /// Bytes.
    pub len: u64,
    /// First physical address.
    pub phys: PhysAddr,
    /// Where the CPU's side lies.
    pub memory: CpuMemory,
    /// Which way the data goes.
    pub direction: Direction,
    /// Entries of the list that the call was given; 1 for what is no list.
    pub count: u32,
    /// What was asked for besides.
    pub attrs: Attrs,
}

/// One operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// A mapping or allocation was made. `checked` when the caller cannot have missed an error.
    Map {
        /// What was mapped.
        record: Record,
        /// Whether the caller has looked at the result already.
        checked: bool,
    },
    /// The caller compared a result with "error".
    ErrorSeen {
        /// The device.
        device: Arc<str>,
        /// The result.
        addr: DeviceAddr,
    },
    /// One segment of a list that was mapped.
    Segment {
        /// The device.
        device: Arc<str>,
        /// First device address.
        addr: DeviceAddr,
        /// Bytes.
        len: u64,
    },
    /// A mapping is ended, or an allocation freed.
    Unmap(Record),
    /// A range is given to the CPU or to the device.
    Sync {
        /// What is synced.
        record: Record,
        /// To the CPU, else to the device.
        to_cpu: bool,
    },
    /// What the device can take as a segment, and the highest address that it reaches.
    Limits {
        /// The device.
        device: Arc<str>,
        /// Its segments.
        segments: SegmentLimits,
        /// Highest device address (inclusive).
        mask: DeviceAddr,
    },
    /// The device did, or tried, an access.
    Access {
        /// The device.
        device: Arc<str>,
        /// Where.
        addr: DeviceAddr,
    },
    /// A descriptor that points here was given to the hardware, or taken from it.
    Descriptor {
        /// The device.
        device: Arc<str>,
        /// Where the descriptor points.
        addr: DeviceAddr,
        /// Whether the hardware has it now.
        owned: bool,
    },
    /// An item was taken from a pool.
    PoolAlloc {
        /// The device.
        device: Arc<str>,
        /// The pool's name.
        pool: Arc<str>,
        /// The item.
        addr: DeviceAddr,
    },
    /// An item was given to a pool.
    PoolFree {
        /// The device.
        device: Arc<str>,
        /// The pool's name.
        pool: Arc<str>,
        /// The item.
        addr: DeviceAddr,
    },
    /// A pool was destroyed.
    PoolDestroyed {
        /// The device.
        device: Arc<str>,
        /// The pool's name.
        pool: Arc<str>,
    },
    /// An unmap of a back-end waits for its confirmation.
    Queued {
        /// The back-end.
        backend: Arc<str>,
        /// First device address.
        addr: DeviceAddr,
        /// Bytes.
        len: u64,
    },
    /// Everything that was queued at a back-end is confirmed.
    Confirmed {
        /// The back-end.
        backend: Arc<str>,
        /// Only what was queued at these device addresses (first, bytes); `None` for everything.
        range: Option<(DeviceAddr, u64)>,
    },
    /// The translation of a device goes away.
    TranslationGone {
        /// The device.
        device: Arc<str>,
    },
    /// The driver has been unbound.
    Unbound {
        /// The device.
        device: Arc<str>,
    },
    /// A probe failed, and what it had acquired was given back.
    ProbeFailed {
        /// The device.
        device: Arc<str>,
    },
}
