//! What a device tree says, in the core's words.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Note;
use crate::addr::PhysAddr;
use crate::description::{DeviceDesc, NodeId};

/// What a device tree blob describes.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// The machine's name (`model` of the root).
    pub model: Option<Arc<str>>,
    /// What the machine is, most specific first (`compatible` of the root).
    pub compatible: Vec<Arc<str>>,
    /// Platform devices: enabled nodes with a `compatible` below the root or below a bus, parents before children.
    pub devices: Vec<DeviceDesc>,
    /// Every other enabled node with a `compatible`: what a device's own driver makes devices of (clients of an I2C
    /// bus), processors, memory regions, tables.
    pub others: Vec<OtherNode>,
    /// Banks of RAM: first byte and length in bytes.
    pub memory: Vec<(PhysAddr, u64)>,
    /// Memory that is not for general use, or not for that alone.
    pub reserved: Vec<Reserved>,
    /// Short names for nodes (`/aliases`).
    pub aliases: Vec<(Arc<str>, NodeId)>,
    /// What was odd but could be worked around, at most [`MAX_NOTES`](super::MAX_NOTES).
    pub notes: Vec<Note>,
    /// How many more notes there would have been.
    pub notes_left_out: usize,
}

/// An enabled node with a `compatible` that is not a platform device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OtherNode {
    /// The node.
    pub node: NodeId,
    /// The nearest node above it that is a device or listed here, too.
    pub parent: Option<NodeId>,
    /// What it is, most specific first.
    pub compatible: Vec<Arc<str>>,
}

/// A region of memory that is set aside.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a property of its own that the tree may give or not")]
pub struct Reserved {
    /// Its node below `/reserved-memory`; `None` for an entry of the blob's memory reservation block.
    pub node: Option<NodeId>,
    /// First byte; `None` when the region may be placed anywhere within `within`.
    pub base: Option<PhysAddr>,
    /// Bytes.
    pub len: u64,
    /// Alignment in bytes of a region without a place; 0 when the tree does not ask for one.
    pub align: u64,
    /// Where a region without a place may lie (`alloc-ranges`): first byte and length. Empty means anywhere.
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
