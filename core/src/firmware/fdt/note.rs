//! What was odd but tolerable.

use alloc::sync::Arc;
use core::fmt;

/// Notes that a description holds at most.
pub const MAX_NOTES: usize = 1024;

/// Something odd: one property that could not be used as it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// Path of the node.
    pub node: Arc<str>,
    /// Its property.
    pub property: Arc<str>,
    /// What was odd, and what was made of it.
    pub kind: NoteKind,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.node, self.property, self.kind)
    }
}

/// What was odd, and what was made of it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoteKind {
    /// The supplier, or a node above it, is disabled. There is no link to it.
    #[error("{0} is disabled")]
    Disabled(Arc<str>),
    /// No node has this phandle. The rest of the property is ignored.
    #[error("no node has phandle {0:#x}")]
    Dangling(u32),
    /// Another node has the phandle already; references go to that one.
    #[error("phandle {0:#x} belongs to another node already")]
    DuplicatePhandle(u32),
    /// 0 and 0xffffffff cannot be phandles.
    #[error("{0:#x} cannot be a phandle")]
    BadPhandle(u32),
    /// A sibling has the same name. This one's path got a number behind it.
    #[error("a sibling has the same name")]
    DuplicateNode,
    /// Another device has the same name. This one's got a number behind it.
    #[error("another device is called {0}, too")]
    DuplicateName(Arc<str>),
    /// The referenced node does not say how many cells its specifiers have.
    #[error("{0} does not say how many cells a reference to it has ({1})")]
    NoCells(Arc<str>, &'static str),
    /// A number of cells that nothing can have.
    #[error("{0} cells are more than anything can have")]
    BadCellCount(u32),
    /// The value ends within an entry. The rest is ignored.
    #[error("the value ends within an entry")]
    Truncated,
    /// The address does not reach the CPU: the bus named here does not map it.
    #[error("{0} does not map the address to the CPU's")]
    NotTranslatable(Arc<str>),
    /// The region begins in a window of the bus named here and goes on where the bus maps nothing, or something else. It and
    /// those after it are ignored.
    #[error("{0} maps only a part of the region, or not as one piece")]
    PartlyMapped(Arc<str>),
    /// A bus without `dma-ranges` below one that has them, named here. Addresses pass it unchanged, as on Linux, if they do
    /// so from there on to memory; else devices below get no DMA.
    #[error("absent below {0}, which has dma-ranges: nothing says what the bus does with an address")]
    NoWindows(Arc<str>),
    /// Address plus length wraps around, or does not fit 64 bits.
    #[error("the range wraps around or does not fit 64 bits")]
    Wraps,
    /// A region of no bytes. It and those after it are ignored.
    #[error("a region of no bytes")]
    Empty,
    /// No interrupt controller can be found for the interrupt.
    #[error("no interrupt controller is found")]
    NoController,
    /// The interrupt parents lead in a circle.
    #[error("the interrupt parents lead in a circle")]
    InterruptCycle,
    /// No entry of the `interrupt-map` of the node named here matches.
    #[error("the interrupt map of {0} has no entry for it")]
    NotMapped(Arc<str>),
    /// A specifier that the interrupt controller cannot have.
    #[error("the interrupt controller has no such interrupt")]
    BadInterrupt,
    /// References lead from one nexus to the next without end.
    #[error("the maps of nexus nodes lead in a circle")]
    MapCycle,
    /// No entry of the map (the property named here) of the node matches.
    #[error("{1} of {0} has no entry for it")]
    NoMapEntry(Arc<str>, Arc<str>),
    /// The IOMMU's specifiers have other than one cell, and the entries of the map are written as if they had one.
    #[error("entries for specifiers of one cell, of an IOMMU that has {0}; each is read as one cell")]
    OneCellMap(u32),
    /// More entries than are read. The rest is ignored.
    #[error("more than {0} entries")]
    TooMany(usize),
    /// Addresses in the region are not those of its memory (`reg`). As on Linux, they are kept free and nothing is mapped.
    #[error("not the addresses of the region's own reg: they are kept free, and nothing is mapped there")]
    NotIdentity,
    /// The device does not list the region in its `memory-region`, so the entry does not count (as on Linux).
    #[error("{0} does not list this region in its memory-region; the entry does not count")]
    NotListed(Arc<str>),
    /// The bus of the device carries no such address.
    #[error("outside the dma-ranges of the device's bus")]
    OutsideWindows,
    /// A device uses the memory from the beginning on, so it is not lent out.
    #[error("a device uses the region (iommu-addresses): it is not lent out")]
    NotReusable,
    /// The value is not the path of a node.
    #[error("not the path of a node")]
    NoSuchPath,
    /// A `status` that no specification knows (Devicetree Specification 0.4, 2.3.4). The node counts as disabled.
    #[error("{0:?} is no status; the node counts as disabled")]
    UnknownStatus(Arc<str>),
    /// The value is not text.
    #[error("not text")]
    NotText,
}
