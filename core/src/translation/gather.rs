//! Gathered invalidation, and the proof that it happened.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::addr::DeviceAddr;
use crate::mem::PageRun;

/// Which one of the IOMMUs that translate for one domain, counted from its beginning: one that comes again is another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct PartId(pub(crate) u32);

/// What must be invalidated before pages behind it may be used again: one range, and page-table pages that were cut off.
///
/// A gather is filled by any number of unmaps and confirmed once, by the core, when
/// [`Translation::flush`](super::Translation::flush) says that the hardware has. Dropping one unconfirmed leaks the table
/// pages in it: hardware may still walk them.
#[derive(Debug, Default)]
#[must_use = "translations stay live in the IOTLB until the gather is flushed"]
pub struct Gather {
    range: Option<(DeviceAddr, DeviceAddr)>,
    tables: Vec<PageRun>,
    /// Of a translation by several IOMMUs: what each of them must confirm by itself.
    parts: BTreeMap<PartId, Self>,
}

impl Gather {
    /// Nothing to invalidate yet.
    pub const fn new() -> Self {
        Self { range: None, tables: Vec::new(), parts: BTreeMap::new() }
    }

    /// What IOMMU `part` of several must confirm.
    pub(crate) fn part(&mut self, part: PartId) -> &mut Self {
        self.parts.entry(part).or_default()
    }

    /// Takes out what IOMMU `part` of several must confirm: at least the whole range.
    pub(crate) fn take_part(&mut self, part: PartId) -> Self {
        let mut gather = self.parts.remove(&part).unwrap_or_default();
        if let Some((first, last)) = self.range {
            gather.cover(first, last);
        }
        gather
    }

    fn cover(&mut self, first: DeviceAddr, last: DeviceAddr) {
        self.range = Some(self.range.map_or((first, last), |(a, b)| (a.min(first), b.max(last))));
    }

    /// Adds `len` bytes at `iova`; the gathered range grows to cover them.
    pub fn add(&mut self, iova: DeviceAddr, len: u64) {
        if len == 0 {
            return;
        }
        self.cover(iova, DeviceAddr(iova.0 + (len - 1)));
    }

    /// Adds a page-table page that was cut out of the tree; it returns to its allocator when the flush is confirmed.
    pub fn add_table(&mut self, table: PageRun) {
        self.tables.push(table);
    }

    /// Takes over all that `other` has gathered.
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

    /// Whether intermediate tables were cut off, so that walk caches must go, too.
    pub fn tables_freed(&self) -> bool {
        !self.tables.is_empty() || self.parts.values().any(Self::tables_freed)
    }

    /// True when nothing was gathered.
    pub fn is_empty(&self) -> bool {
        self.range.is_none() && self.tables.is_empty() && self.parts.values().all(Self::is_empty)
    }

    /// Gives the table pages back, without a proof, to be called when the hardware has confirmed. For those who flush a
    /// translation themselves, as the owner of an unmanaged domain does, and for an IOMMU driver that kept a gather because
    /// its hardware did not confirm in time.
    pub fn free_tables(mut self) {
        self.tables.clear();
        core::mem::take(&mut self.parts).into_values().for_each(Self::free_tables);
    }

    /// The hardware has confirmed the invalidation: gives the table pages back and makes the proof.
    pub(crate) fn confirm(self) -> Flushed {
        self.free_tables();
        Flushed(())
    }
}

impl Drop for Gather {
    fn drop(&mut self) {
        for table in self.tables.drain(..) {
            core::mem::forget(table);
        }
    }
}

/// Holding a `Flushed` tells you: every translation that the gather covered is gone from the page table and from the
/// IOTLB, and the hardware has said so (P2). Only the core makes one, and nobody else gets to see it.
#[derive(Debug)]
#[must_use = "the proof is what lets pages go back"]
pub(crate) struct Flushed(());
