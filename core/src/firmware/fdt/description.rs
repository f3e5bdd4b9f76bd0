//! Result of reading a device tree.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Note;
use crate::addr::PhysAddr;
use crate::description::{DeviceDesc, NodeId};

/// Contents of a device tree blob.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// The machine's name (`model` of the root).
    pub model: Option<Arc<str>>,
    /// Values of the root's `compatible`, most specific first.
    pub compatible: Vec<Arc<str>>,
    /// Platform devices: enabled nodes with a `compatible` below the root or below a bus, parents before children.
    pub devices: Vec<DeviceDesc>,
    /// All other enabled nodes with a `compatible`: nodes for which a bus driver creates devices (I2C clients),
    /// processors, memory regions, tables.
    pub others: Vec<OtherNode>,
    /// Banks of RAM: first byte and length in bytes.
    pub memory: Vec<(PhysAddr, u64)>,
    /// Reserved memory, including reusable regions.
    pub reserved: Vec<Reserved>,
    /// Short names for nodes (`/aliases`).
    pub aliases: Vec<(Arc<str>, NodeId)>,
    /// Defects that could be worked around, at most [`MAX_NOTES`](super::MAX_NOTES).
    pub notes: Vec<Note>,
    /// Number of further notes, beyond the limit.
    pub notes_left_out: usize,
}

/// An enabled node with a `compatible` that is not a platform device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OtherNode {
    /// The node.
    pub node: NodeId,
    /// The nearest ancestor that is a device or in this list.
    pub parent: Option<NodeId>,
    /// Values of `compatible`, most specific first.
    pub compatible: Vec<Arc<str>>,
}

/// Reserved memory region.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent property of the device tree")]
pub struct Reserved {
    /// Its node below `/reserved-memory`; `None` for an entry of the blob's memory reservation block.
    pub node: Option<NodeId>,
    /// First byte; `None` when the region may be placed anywhere within `within`.
    pub base: Option<PhysAddr>,
    /// Bytes.
    pub len: u64,
    /// Alignment in bytes of a region without an address; 0 when the tree does not request one.
    pub align: u64,
    /// Allowed ranges of a region without an address (`alloc-ranges`): first byte and length. Empty means anywhere.
    pub within: Vec<(PhysAddr, u64)>,
    /// The page allocator may lend it out until its owner needs it (`reusable`).
    pub reusable: bool,
    /// The CPU must not map it (`no-map`).
    pub no_map: bool,
    /// It is a region for contiguous allocation: a `shared-dma-pool` that is reusable.
    pub cma: bool,
    /// It is the region that devices without one of their own use (`linux,cma-default`).
    pub cma_default: bool,
}
