//! Notes about defects that could be worked around.

use alloc::sync::Arc;
use core::fmt;

/// Limit of notes in a description.
pub const MAX_NOTES: usize = 1024;

/// Defect of one property, which could not be used as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// Path of the node.
    pub node: Arc<str>,
    /// Its property.
    pub property: Arc<str>,
    /// Defect, and how it was worked around.
    pub kind: NoteKind,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.node, self.property, self.kind)
    }
}

/// Defect, and how it was worked around.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoteKind {
    /// The supplier, or a node above it, is disabled. There is no link to it.
    #[error("{0} is disabled")]
    Disabled(Arc<str>),
    /// No node has this phandle. The rest of the property is ignored.
    #[error("no node has phandle {0:#x}")]
    Dangling(u32),
    /// An earlier node has this phandle; references resolve to that one.
    #[error("phandle {0:#x} belongs to another node already")]
    DuplicatePhandle(u32),
    /// 0 and 0xffffffff cannot be phandles.
    #[error("{0:#x} cannot be a phandle")]
    BadPhandle(u32),
    /// A sibling has the same name. A number was appended to this one's path.
    #[error("a sibling has the same name")]
    DuplicateNode,
    /// Another device has the same name. A number was appended to this one's.
    #[error("another device is called {0}, too")]
    DuplicateName(Arc<str>),
    /// The referenced node does not have the property with the number of its specifier cells.
    #[error("{0} does not say how many cells a reference to it has ({1})")]
    NoCells(Arc<str>, &'static str),
    /// The referenced node does not have that property. The reference is read as one without specifier cells.
    #[error("{0} has no {1}; read as 0")]
    CellsAbsent(Arc<str>, &'static str),
    /// The supplier is no device, and the device that has it, named second, is above the consumer. There is no link.
    #[error("{0} belongs to {1}, which the device is below: no link")]
    SupplierAbove(Arc<str>, Arc<str>),
    /// The controller's `interrupt-map` has no entry for the interrupt. As on Linux, the controller itself serves it.
    #[error("the interrupt map of {0} has no entry for it; {0} serves it itself")]
    NotMappedOn(Arc<str>),
    /// A number of cells outside the supported range.
    #[error("a cell count of {0} is not supported")]
    BadCellCount(u32),
    /// The value ends within an entry. The rest is ignored.
    #[error("the value ends within an entry")]
    Truncated,
    /// The address does not reach the CPU: the bus named here does not map it.
    #[error("{0} does not map the address to the CPU's")]
    NotTranslatable(Arc<str>),
    /// The region begins in a window of the bus named here and leaves it, or is not mapped contiguously. It and those
    /// after it are ignored.
    #[error("{0} maps only a part of the region, or not contiguously")]
    PartlyMapped(Arc<str>),
    /// A bus without `dma-ranges` below one that has them, named here. If all windows from there on are identity
    /// mappings, it is treated as one, as on Linux; else devices below it have no DMA.
    #[error("absent below {0}, which has dma-ranges: the bus's translation is unknown")]
    NoWindows(Arc<str>),
    /// Address plus length wraps around, or does not fit 64 bits.
    #[error("the range wraps around or does not fit 64 bits")]
    Wraps,
    /// An empty region. It and those after it are ignored.
    #[error("an empty region")]
    Empty,
    /// No interrupt controller can be found for the interrupt.
    #[error("no interrupt controller is found")]
    NoController,
    /// The interrupt parents form a cycle.
    #[error("the interrupt parents form a cycle")]
    InterruptCycle,
    /// No entry of the `interrupt-map` of the node named here matches.
    #[error("the interrupt map of {0} has no entry for it")]
    NotMapped(Arc<str>),
    /// The mask of a map has another number of cells than the map's entries have to be compared. The map is ignored.
    #[error("{0} bytes, where {1} are compared: the map is ignored")]
    MaskLength(usize, usize),
    /// A specifier that is invalid for the interrupt controller.
    #[error("the interrupt controller has no such interrupt")]
    BadInterrupt,
    /// The maps of nexus nodes form a cycle.
    #[error("the maps of nexus nodes form a cycle")]
    MapCycle,
    /// No entry of the map (the property named here) of the node matches.
    #[error("{1} of {0} has no entry for it")]
    NoMapEntry(Arc<str>, Arc<str>),
    /// `#iommu-cells` is not 1, but the entries of the map have one specifier cell.
    #[error("entries with one specifier cell for an IOMMU that has {0} cells; read as one cell")]
    OneCellMap(u32),
    /// More entries than the limit. The rest is ignored.
    #[error("more than {0} entries")]
    TooMany(usize),
    /// The range differs from the region's memory (`reg`). As on Linux, it is only reserved and nothing is mapped.
    #[error("differs from the region's own reg: the range is reserved, and nothing is mapped there")]
    NotIdentity,
    /// The device does not list the region in its `memory-region`, so the entry is ignored (as on Linux).
    #[error("{0} does not list this region in its memory-region; the entry is ignored")]
    NotListed(Arc<str>),
    /// The bus of the device has no such address.
    #[error("outside the dma-ranges of the device's bus")]
    OutsideWindows,
    /// A device uses the memory from boot on, so it is not reusable.
    #[error("a device uses the region (iommu-addresses): it is not reusable")]
    NotReusable,
    /// The value is not the path of a node.
    #[error("not the path of a node")]
    NoSuchPath,
    /// A `status` that is not in the Devicetree Specification (v0.4, 2.3.4). The node counts as disabled.
    #[error("{0:?} is not a valid status; the node counts as disabled")]
    UnknownStatus(Arc<str>),
    /// The value is not text.
    #[error("not text")]
    NotText,
}
