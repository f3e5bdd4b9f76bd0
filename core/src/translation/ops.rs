//! The face of one IOMMU towards the core.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;

use super::Gather;
use crate::addr::{DeviceAddr, PhysAddr};

/// How an IOMMU tells its masters apart: a uTLB number, a stream ID, a requester ID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct StreamId(pub u32);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

bitflags::bitflags! {
    /// What a device may do with a mapping.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Prot: u32 {
        /// The device may read.
        const READ = 1;
        /// The device may write.
        const WRITE = 2;
        /// Accesses snoop CPU caches.
        const COHERENT = 4;
        /// The target is device registers, not RAM.
        const MMIO = 8;
    }
}

/// What a domain does with the accesses of its devices.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum DomainKind {
    /// Refuses every access.
    Blocked,
    /// Passes addresses through unchanged.
    Identity,
    /// Kernel DMA; an unmap is confirmed before it returns.
    Strict,
    /// Kernel DMA; unmaps are confirmed in batches, pages and IOVA wait in quarantine until then.
    Lazy,
    /// The owner of the group maps what it likes (pass-through).
    Unmanaged,
}

impl fmt::Display for DomainKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocked => "blocked",
            Self::Identity => "identity",
            Self::Strict => "strict",
            Self::Lazy => "lazy",
            Self::Unmanaged => "unmanaged",
        })
    }
}

/// Why an IOMMU could not do something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IommuError {
    /// The firmware's specifier is not one of this IOMMU's streams.
    #[error("no such stream")]
    NoSuchStream,
    /// No translation context is free.
    #[error("no free translation context")]
    NoContext,
    /// This IOMMU cannot make a domain of that kind.
    #[error("a {0} domain is not supported")]
    Unsupported(DomainKind),
    /// No memory for page tables.
    #[error("no memory for page tables")]
    OutOfMemory,
    /// The domain was made by another IOMMU.
    #[error("the domain belongs to another IOMMU")]
    ForeignDomain,
    /// The IOMMU's registers are gone, or it did not confirm in time.
    #[error("the IOMMU does not answer")]
    Dead,
    /// The device's streams fall into groups that cannot become one, because they are in use.
    #[error("its streams fall into groups {first} and {second}, which cannot become one while they are in use")]
    Apart {
        /// One group's number.
        first: u32,
        /// Another one's.
        second: u32,
    },
    /// A range that firmware wants mapped one to one cannot be. Its device is blocked.
    #[error("its reserved region {first} to {last} cannot be kept mapped: {why}")]
    RegionNotMapped {
        /// First device address.
        first: DeviceAddr,
        /// Last one (inclusive).
        last: DeviceAddr,
        /// What the page table says.
        why: MapError,
    },
    /// A device with reserved regions has come into a group whose domain uses their addresses already. It is bound when
    /// they are free.
    #[error("its reserved region {first} to {last} is in use as device addresses of its IOMMU group; free it first")]
    RegionInUse {
        /// First device address.
        first: DeviceAddr,
        /// Last one (inclusive).
        last: DeviceAddr,
    },
    /// A device with direct regions has come into a group that a pass-through owner has. It is blocked until that one has
    /// gone.
    #[error("its reserved regions cannot be kept mapped while its IOMMU group is passed through; end that first")]
    RegionPassedThrough,
    /// A fault was injected here on purpose.
    #[error("injected fault")]
    Injected,
}

impl IommuError {
    /// Whether it is reserved regions that keep a device from being bound.
    pub(crate) const fn is_about_regions(&self) -> bool {
        matches!(self, Self::RegionNotMapped { .. } | Self::RegionInUse { .. } | Self::RegionPassedThrough)
    }
}

/// Why a range could not be mapped or unmapped. The page table is as it was before the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MapError {
    /// Something is mapped there already.
    #[error("{0} is already mapped")]
    Exists(DeviceAddr),
    /// Nothing is mapped there.
    #[error("{0} is not mapped")]
    Missing(DeviceAddr),
    /// Address or length is not a multiple of the smallest page, or the range wraps or is empty.
    #[error("{0} is not page aligned, or the range is empty or wraps")]
    Unaligned(DeviceAddr),
    /// The address does not fit the table's input or output size.
    #[error("{0} lies outside the translation's range")]
    OutOfRange(DeviceAddr),
    /// The mapping would allow neither reading nor writing.
    #[error("{0} would be mapped without any access")]
    NoAccess(DeviceAddr),
    /// No memory for a table.
    #[error("no memory for page tables")]
    OutOfMemory,
    /// Whoever owns the IOMMU took it away or refused.
    #[error("the translation was revoked")]
    Revoked,
    /// One of several IOMMUs mapped the range and another one did not; what was mapped is taken down again, and not
    /// confirmed. Memory and addresses must be kept until a flush is.
    #[error("{0} was mapped by some of the device's IOMMUs only, and it is not confirmed that they have forgotten it")]
    Unconfirmed(DeviceAddr),
}

/// How devices behind one IOMMU fall into groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grouping {
    /// All masters of the instance share one group: they cannot be isolated from each other.
    PerInstance,
    /// Each stream is its own group.
    PerStream,
}

/// What addresses an IOMMU can translate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Lowest device address.
    pub first: DeviceAddr,
    /// Highest device address (inclusive).
    pub last: DeviceAddr,
    /// One bit per page size that a mapping can use; the lowest is the granule.
    pub page_sizes: u64,
    /// Ranges (first, last inclusive) that must not be used as IOVA.
    pub reserved: Vec<(DeviceAddr, DeviceAddr)>,
}

impl Geometry {
    /// What both can translate.
    pub(crate) fn meet(mut self, other: &Self) -> Self {
        self.first = self.first.max(other.first);
        self.last = self.last.min(other.last);
        // The granule is the larger one of both; above it a mapping is made of what each has.
        let granule = lowest(self.page_sizes).max(lowest(other.page_sizes)).max(1);
        self.page_sizes = (self.page_sizes | other.page_sizes) & !(granule - 1);
        let more: Vec<_> = other.reserved.iter().copied().filter(|r| !self.reserved.contains(r)).collect();
        self.reserved.extend(more);
        self
    }

    /// Whether all that `other` translates is translated by this one, too.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.first <= other.first
            && self.last >= other.last
            && lowest(self.page_sizes) <= lowest(other.page_sizes)
            && self.reserved.iter().all(|r| other.reserved.contains(r))
    }
}

/// The lowest bit of `sizes`.
const fn lowest(sizes: u64) -> u64 {
    sizes & sizes.wrapping_neg()
}

/// One IOMMU instance.
pub trait Iommu: Send + Sync {
    /// Name of the instance: its device's name.
    fn name(&self) -> String;

    /// Turns the firmware's specifier cells into a stream.
    fn stream(&self, cells: &[u32]) -> Result<StreamId, IommuError>;

    /// How its masters fall into groups.
    fn grouping(&self) -> Grouping;

    /// What it can translate.
    fn geometry(&self) -> Geometry;

    /// Whether page-table walks and `COHERENT` mappings snoop CPU caches (VFIO demands it).
    fn cache_coherent(&self) -> bool;

    /// Makes a domain.
    fn domain(&self, kind: DomainKind) -> Result<Arc<dyn Translation>, IommuError>;

    /// Sends the accesses of `stream` through `domain` from now on. On failure the stream keeps its old domain.
    fn attach(&self, stream: StreamId, domain: &Arc<dyn Translation>) -> Result<(), IommuError>;
}

/// The translation of one domain. All calls may race; the implementer locks.
///
/// Dropping it takes it off the hardware. Streams that [`Iommu::attach`] could not take off may still go through it: the
/// implementer makes sure that they translate nothing any more, and keeps the tables from their allocator for as long
/// as the hardware does not say so (P2).
pub trait Translation: Send + Sync + Any {
    /// Maps `len` bytes at `iova` to `phys`. All or nothing.
    fn map(&self, iova: DeviceAddr, phys: PhysAddr, len: u64, prot: Prot) -> Result<(), MapError>;

    /// Removes `len` bytes at `iova` from the page table and adds them to `gather`; the IOTLB may still hold them.
    fn unmap(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<(), MapError>;

    /// Invalidates what was gathered and waits for the hardware to confirm. `Ok` is the hardware's word, for this gather
    /// and for every earlier one that it did not confirm: on it the core lets pages and device addresses go (P2), those of
    /// tables in `gather` too.
    ///
    /// On an error, what is in `gather` comes again with the next flush. An implementer who may hear from the hardware
    /// without one takes the gather ([`core::mem::take`]), and [frees its tables](Gather::free_tables) then.
    fn flush(&self, gather: &mut Gather) -> Result<(), IommuError>;

    /// The last device has left: whatever is scarce (a hardware context, table pages) goes back now, even when somebody
    /// still holds this object, because a forgotten handle may cost memory only (P9). Nothing can be mapped afterwards;
    /// a [`flush`](Self::flush) says whether the hardware has confirmed that all is gone. Dropping does the same.
    fn retire(&self) {}

    /// What `iova` translates to now, by the page table.
    fn resolve(&self, iova: DeviceAddr) -> Option<PhysAddr>;

    /// How reports name it: `"context 1"`.
    fn label(&self) -> String;
}
