//! Gathered IOTLB invalidation (Linux: `iommu_iotlb_gather`), and the proof of its completion.

use alloc::vec::Vec;

use crate::addr::DeviceAddr;
use crate::mem::PageRun;

/// Number of an IOMMU within a domain that several IOMMUs translate. An IOMMU that is bound again gets a new number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct PartId(pub(crate) u32);

/// IOTLB invalidation that is pending: one range, and the page-table pages that were unlinked. Pages behind it may be
/// reused only once it is confirmed.
///
/// A gather is filled by any number of unmaps and confirmed once, by the core, when
/// [`Translation::flush`](super::Translation::flush) reports success. Dropping one unconfirmed leaks the table pages in
/// it: hardware may still walk them.
#[derive(Debug, Default)]
#[must_use = "translations stay live in the IOTLB until the gather is flushed"]
pub struct Gather {
    range: Option<(DeviceAddr, DeviceAddr)>,
    tables: Vec<PageRun>,
    /// Tables that become empty stay linked: the addresses are mapped again soon.
    keep_tables: bool,
    /// Pending invalidation of each IOMMU, if several translate.
    parts: Vec<(PartId, Self)>,
}

impl Gather {
    /// An empty gather.
    pub const fn new() -> Self {
        Self { range: None, tables: Vec::new(), keep_tables: false, parts: Vec::new() }
    }

    /// An empty gather of unmaps whose addresses are mapped again soon: a page table keeps what becomes empty, within a bound.
    pub(crate) const fn keeping_tables() -> Self {
        Self { range: None, tables: Vec::new(), keep_tables: true, parts: Vec::new() }
    }

    /// True when tables that become empty may stay linked, because their addresses are mapped again soon. A hint.
    pub fn keeps_tables(&self) -> bool {
        self.keep_tables
    }

    /// Pending invalidation of IOMMU `part` of several.
    pub(crate) fn part(&mut self, part: PartId) -> &mut Self {
        let known = self.parts.iter().position(|(id, _)| *id == part);
        let at = known.unwrap_or_else(|| {
            self.parts.push((part, if self.keep_tables { Self::keeping_tables() } else { Self::new() }));
            self.parts.len() - 1
        });
        &mut self.parts[at].1
    }

    /// Takes out the pending invalidation of IOMMU `part` of several; it covers the whole range.
    pub(crate) fn take_part(&mut self, part: PartId) -> Self {
        let known = self.parts.iter().position(|(id, _)| *id == part);
        let mut gather = known.map(|at| self.parts.swap_remove(at).1).unwrap_or_default();
        if let Some((first, last)) = self.range {
            gather.cover(first, last);
        }
        gather
    }

    #[inline]
    fn cover(&mut self, first: DeviceAddr, last: DeviceAddr) {
        self.range = Some(self.range.map_or((first, last), |(a, b)| (a.min(first), b.max(last))));
    }

    /// Adds `len` bytes at `iova`; the gathered range grows to cover them.
    #[inline]
    pub fn add(&mut self, iova: DeviceAddr, len: u64) {
        if len == 0 {
            return;
        }
        self.cover(iova, DeviceAddr(iova.0 + (len - 1)));
    }

    /// Adds a page-table page that was unlinked from the table; it is freed when the flush is confirmed.
    pub fn add_table(&mut self, table: PageRun) {
        self.tables.push(table);
    }

    /// Merges `other` into this gather.
    pub fn absorb(&mut self, mut other: Self) {
        if let Some((first, last)) = other.range.take() {
            self.cover(first, last);
        }
        self.tables.append(&mut other.tables);
        for (part, gather) in core::mem::take(&mut other.parts) {
            self.part(part).absorb(gather);
        }
    }

    /// First and last byte (inclusive) to invalidate, or `None` when there is nothing.
    pub fn range(&self) -> Option<(DeviceAddr, DeviceAddr)> {
        self.range
    }

    /// True when intermediate tables were unlinked, so that walk caches must be invalidated, too.
    pub fn tables_freed(&self) -> bool {
        !self.tables.is_empty() || self.parts.iter().any(|(_, part)| part.tables_freed())
    }

    /// True when nothing was gathered.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.range.is_none() && self.tables.is_empty() && self.parts.iter().all(|(_, part)| part.is_empty())
    }

    /// Frees the table pages, without making a proof. Call it when the hardware has confirmed: after flushing a
    /// translation directly, as the owner of an unmanaged domain does, or in an IOMMU driver that kept a gather because
    /// its hardware did not confirm in time.
    #[inline]
    pub fn free_tables(mut self) {
        if self.tables.is_empty() && self.parts.is_empty() {
            return;
        }
        self.tables.clear();
        for (_, part) in self.parts.drain(..) {
            part.free_tables();
        }
    }

    /// Frees the table pages and makes the proof. The caller has the hardware's confirmation.
    pub(crate) fn confirm(self) -> Flushed {
        self.free_tables();
        Flushed(())
    }
}

impl Drop for Gather {
    #[inline]
    fn drop(&mut self) {
        if !self.tables.is_empty() {
            core::mem::take(&mut self.tables).into_iter().for_each(core::mem::forget);
        }
    }
}

/// Proof of a confirmed invalidation. Holding a `Flushed` tells you: every translation that the gather covered is gone
/// from the page table and, as the hardware has confirmed, from the IOTLB (P2). Private to the core.
#[derive(Debug)]
#[must_use = "the proof is what allows pages to be freed"]
pub(crate) struct Flushed(());
