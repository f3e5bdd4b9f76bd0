//! The traits [`Iommu`] and [`Translation`], with their types and errors.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;

use super::{Gather, Lease};
use crate::addr::{DeviceAddr, PhysAddr};

/// Number by which an IOMMU identifies a bus master: a uTLB number, a stream ID, a requester ID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct StreamId(pub u32);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

bitflags::bitflags! {
    /// Access rights and attributes of a mapping.
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

/// Type of a domain (Linux: `IOMMU_DOMAIN_*`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum DomainKind {
    /// Refuses every access.
    Blocked,
    /// Passes addresses through unchanged.
    Identity,
    /// Kernel DMA; an unmap is confirmed before it returns (Linux: `DMA`).
    Strict,
    /// Kernel DMA; unmaps are confirmed in batches, pages and IOVAs stay reserved until then (Linux: `DMA-FQ`).
    Lazy,
    /// The owner of the group makes the mappings (pass-through).
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

/// Failure of an IOMMU operation.
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
    /// The device's streams belong to groups that cannot be merged, because they are in use.
    #[error("its streams belong to groups {first} and {second}, which cannot be merged while they are in use")]
    Apart {
        /// One group's number.
        first: u32,
        /// Another one's.
        second: u32,
    },
    /// A direct reserved region cannot be kept mapped. Its device is blocked.
    #[error("its reserved region {first} to {last} cannot be kept mapped: {why}")]
    RegionNotMapped {
        /// First device address.
        first: DeviceAddr,
        /// Last one (inclusive).
        last: DeviceAddr,
        /// Error of the page table.
        why: MapError,
    },
    /// A device with reserved regions joined a group whose domain already uses their addresses. It is bound once they
    /// are free.
    #[error("its reserved region {first} to {last} is in use as device addresses of its IOMMU group; free it first")]
    RegionInUse {
        /// First device address.
        first: DeviceAddr,
        /// Last one (inclusive).
        last: DeviceAddr,
    },
    /// A device with direct regions joined a group that a pass-through owner holds. It is blocked until the owner
    /// releases the group.
    #[error("its reserved regions cannot be kept mapped while its IOMMU group is passed through; end that first")]
    RegionPassedThrough,
    /// Injected fault, in tests and explorations.
    #[error("injected fault")]
    Injected,
}

impl IommuError {
    /// True when reserved regions keep a device from being bound.
    pub(crate) const fn is_about_regions(&self) -> bool {
        matches!(self, Self::RegionNotMapped { .. } | Self::RegionInUse { .. } | Self::RegionPassedThrough)
    }
}

/// Failure to map or unmap a range. The page table is unchanged, unless the variant says otherwise.
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
    /// The owner of the IOMMU revoked the translation, or refused.
    #[error("the translation was revoked")]
    Revoked,
    /// Only some of the device's IOMMUs could map the range; it was unmapped again, without confirmation. Memory and
    /// addresses must be kept until a flush is confirmed.
    #[error("{0} was mapped by some of the device's IOMMUs only, and their invalidation is not confirmed")]
    Unconfirmed(DeviceAddr),
}

/// Granularity of the groups of one IOMMU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grouping {
    /// One group for all masters: the IOMMU cannot isolate them from each other.
    PerInstance,
    /// One group for each stream.
    PerStream,
}

/// Addresses and page sizes that an IOMMU can translate.
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
    /// Intersection with `other`.
    pub(crate) fn meet(mut self, other: &Self) -> Self {
        self.first = self.first.max(other.first);
        self.last = self.last.min(other.last);
        // The larger granule counts; above it each IOMMU uses the sizes that it has.
        let granule = lowest(self.page_sizes).max(lowest(other.page_sizes)).max(1);
        self.page_sizes = (self.page_sizes | other.page_sizes) & !(granule - 1);
        let more: Vec<_> = other.reserved.iter().copied().filter(|r| !self.reserved.contains(r)).collect();
        self.reserved.extend(more);
        self
    }

    /// True when every mapping that is possible with `other` is possible with this one.
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

    /// Converts the firmware's specifier cells into a stream.
    ///
    /// # Errors
    ///
    /// [`IommuError::NoSuchStream`] when the specifier is malformed or out of range.
    fn stream(&self, cells: &[u32]) -> Result<StreamId, IommuError>;

    /// Granularity of its groups.
    fn grouping(&self) -> Grouping;

    /// Addresses and page sizes that it can translate.
    fn geometry(&self) -> Geometry;

    /// True when page-table walks and `COHERENT` mappings snoop CPU caches (VFIO requires it).
    fn cache_coherent(&self) -> bool;

    /// Creates a domain.
    ///
    /// # Errors
    ///
    /// [`IommuError::Unsupported`] for a kind that it does not have; [`IommuError::NoContext`] or
    /// [`IommuError::OutOfMemory`] when its resources are exhausted.
    fn domain(&self, kind: DomainKind) -> Result<Arc<dyn Translation>, IommuError>;

    /// Translates the accesses of `stream` through `domain` from now on.
    ///
    /// # Errors
    ///
    /// [`IommuError::ForeignDomain`] for a domain of another IOMMU, [`IommuError::Dead`] when the hardware does not
    /// answer. The stream keeps its old domain then.
    fn attach(&self, stream: StreamId, domain: &Arc<dyn Translation>) -> Result<(), IommuError>;
}

/// The translation of one domain. Calls may be concurrent; the implementer locks.
///
/// Dropping it removes it from the hardware. Streams that [`Iommu::attach`] failed to detach may still use it: the
/// implementer makes sure that they translate nothing any more, and does not free the tables before the hardware has
/// confirmed that (P2).
///
/// One whose table is a map of 4 KiB pages, and whose hardware caches nothing:
///
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::Mutex;
///
/// use bindery::addr::{DeviceAddr, PhysAddr};
/// use bindery::iommu::{Gather, IommuError, MapError, Prot, Translation};
///
/// struct Table(Mutex<BTreeMap<u64, PhysAddr>>);
///
/// fn pages(iova: DeviceAddr, len: u64) -> std::ops::Range<u64> {
///     iova.0 >> 12..(iova.0 + len) >> 12
/// }
///
/// impl Translation for Table {
///     fn map(&self, iova: DeviceAddr, phys: PhysAddr, len: u64, _: Prot) -> Result<(), MapError> {
///         let mut table = self.0.lock().unwrap();
///         if let Some((page, _)) = table.range(pages(iova, len)).next() {
///             return Err(MapError::Exists(DeviceAddr(page << 12)));
///         }
///         table.extend(pages(iova, len).zip((0..).map(|page| phys + (page << 12))));
///         Ok(())
///     }
///
///     fn unmap(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<(), MapError> {
///         let mut table = self.0.lock().unwrap();
///         if let Some(page) = pages(iova, len).find(|page| !table.contains_key(page)) {
///             return Err(MapError::Missing(DeviceAddr(page << 12)));
///         }
///         table.retain(|page, _| !pages(iova, len).contains(page));
///         gather.add(iova, len);
///         Ok(())
///     }
///
///     fn flush(&self, _: &mut Gather) -> Result<(), IommuError> {
///         // A driver invalidates the gathered range in the IOTLB here, and waits until the hardware confirms it.
///         Ok(())
///     }
///
///     fn resolve(&self, iova: DeviceAddr) -> Option<PhysAddr> {
///         self.0.lock().unwrap().get(&(iova.0 >> 12)).map(|page| *page + (iova.0 & 0xfff))
///     }
///
///     fn label(&self) -> String {
///         "table".into()
///     }
/// }
///
/// let (table, iova) = (Table(Mutex::default()), DeviceAddr(0x1_0000));
/// table.map(iova, PhysAddr(0x4000_0000), 8192, Prot::READ | Prot::WRITE)?;
/// assert_eq!(table.resolve(iova + 4104), Some(PhysAddr(0x4000_1008)));
/// assert!(table.map(iova + 4096, PhysAddr(0x4800_0000), 4096, Prot::READ).is_err());
/// let mut gather = Gather::new();
/// table.unmap(iova, 8192, &mut gather)?;
/// table.flush(&mut gather)?;
/// gather.free_tables();
/// assert_eq!(table.resolve(iova), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Translation: Send + Sync + Any {
    /// Maps `len` bytes at `iova` to `phys`, all or nothing.
    ///
    /// # Errors
    ///
    /// See [`MapError`]; nothing of the range is mapped then.
    fn map(&self, iova: DeviceAddr, phys: PhysAddr, len: u64, prot: Prot) -> Result<(), MapError>;

    /// Maps `runs` (address and bytes of each) one behind the other from `iova` on. An implementer with a lock overrides it, to
    /// take the lock once.
    ///
    /// # Errors
    ///
    /// Bytes that were mapped before the run that failed, and its error. They stay mapped.
    fn map_runs(
        &self,
        iova: DeviceAddr,
        runs: &mut dyn Iterator<Item = (PhysAddr, u64)>,
        prot: Prot,
    ) -> Result<(), (u64, MapError)> {
        map_each_run(iova, runs, |at, phys, len| self.map(at, phys, len, prot))
    }

    /// Removes `len` bytes at `iova` from the page table and adds them to `gather`; the IOTLB may still hold them.
    ///
    /// # Errors
    ///
    /// See [`MapError`]; the page table is unchanged then.
    fn unmap(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<(), MapError>;

    /// Removes a range as [`unmap`](Self::unmap) does, and looks its first page up again. False when that is still translated,
    /// which the core reports as a broken promise (P2). An implementer with a lock overrides it, to take the lock once; the look
    /// is a walk of its own, which believes nothing of the removal.
    ///
    /// # Errors
    ///
    /// As [`unmap`](Self::unmap).
    fn remove(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<bool, MapError> {
        self.unmap(iova, len, gather)?;
        Ok(self.resolve(iova).is_none())
    }

    /// Leases the entries of `len` bytes at `iova` to the caller, who maps and unmaps there without the lock of the table from then on.
    /// `None` from an implementer whose entries nobody else can write, or when the range does not lie in one table of the last
    /// level, is in use, or needs a table that cannot be made: the caller maps as usual then.
    /// [`PageTable::lease`](crate::iommu::pgtable::PageTable::lease) does it.
    fn lease(&self, iova: DeviceAddr, len: u64) -> Option<Lease> {
        let _ = (iova, len);
        None
    }

    /// Ends the [lease](Self::lease) of `len` bytes at `iova`, which the caller does not use any more. What is mapped there is unmapped
    /// and added to `gather`, as are tables that become empty. False when the first page is still translated (P2).
    ///
    /// # Errors
    ///
    /// [`MapError::Missing`] when that range is not leased.
    fn end_lease(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<bool, MapError> {
        let _ = (len, gather);
        Err(MapError::Missing(iova))
    }

    /// Invalidates what was gathered and waits for the hardware to confirm. `Ok` is the hardware's confirmation of this
    /// gather and of every earlier one that was not confirmed: the core then frees the pages, the device addresses and
    /// the tables in `gather` (P2).
    ///
    /// # Errors
    ///
    /// [`IommuError::Dead`] when the hardware did not confirm. The core passes the contents of `gather` again with the
    /// next flush. An implementer that learns of the completion otherwise takes the gather ([`core::mem::take`]) and
    /// [frees its tables](Gather::free_tables) then.
    fn flush(&self, gather: &mut Gather) -> Result<(), IommuError>;

    /// Releases scarce resources (a hardware context, table pages) because the last device was detached, even while
    /// this object is still referenced: a forgotten handle may cost memory only (P9). Nothing can be mapped afterwards;
    /// a [`flush`](Self::flush) reports whether the hardware has confirmed the removal. Dropping does the same.
    fn retire(&self) {}

    /// Physical address that `iova` translates to, by the page table.
    fn resolve(&self, iova: DeviceAddr) -> Option<PhysAddr>;

    /// Name for messages: `"context 1"`.
    fn label(&self) -> String;
}

/// Calls `map` for each of `runs`, one behind the other from `iova` on: what [`Translation::map_runs`] does, for an implementer that
/// has taken its lock.
///
/// # Errors
///
/// Bytes that were mapped before the run that failed, and its error.
pub fn map_each_run(
    iova: DeviceAddr,
    runs: &mut dyn Iterator<Item = (PhysAddr, u64)>,
    mut map: impl FnMut(DeviceAddr, PhysAddr, u64) -> Result<(), MapError>,
) -> Result<(), (u64, MapError)> {
    let mut done = 0;
    for (phys, len) in runs {
        map(iova + done, phys, len).map_err(|e| (done, e))?;
        done += len;
    }
    Ok(())
}
