//! Gathered IOTLB invalidation (Linux: `iommu_iotlb_gather`), and the proof of its completion.

use alloc::boxed::Box;
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
#[derive(Debug)]
#[must_use = "translations stay live in the IOTLB until the gather is flushed"]
pub struct Gather {
    /// First and last byte; the first lies above the last while nothing is gathered.
    first: DeviceAddr,
    last: DeviceAddr,
    /// Tables that become empty stay linked: the addresses are mapped again soon.
    keep_tables: bool,
    /// What few gathers have, apart, so that the usual one is small and has nothing to drop.
    rest: Option<Box<Rest>>,
}

/// What a gather has besides its range. Dropping it leaks the table pages.
#[derive(Debug, Default)]
struct Rest {
    tables: Vec<PageRun>,
    /// A table was unlinked, though its page is never freed.
    unlinked: bool,
    /// Pending invalidation of each IOMMU, if several translate.
    parts: Vec<(PartId, Gather)>,
}

impl Default for Gather {
    fn default() -> Self {
        Self::new()
    }
}

impl Gather {
    /// An empty gather.
    pub const fn new() -> Self {
        Self { first: DeviceAddr(u64::MAX), last: DeviceAddr(0), keep_tables: false, rest: None }
    }

    /// A gather of `len` bytes (at least 1) at `iova`.
    #[inline]
    pub(crate) const fn of(iova: DeviceAddr, len: u64) -> Self {
        Self { first: iova, last: DeviceAddr(iova.0 + (len - 1)), keep_tables: false, rest: None }
    }

    /// An empty gather of unmaps whose addresses are mapped again soon: a page table keeps what becomes empty, within a bound.
    pub(crate) const fn keeping_tables() -> Self {
        Self { first: DeviceAddr(u64::MAX), last: DeviceAddr(0), keep_tables: true, rest: None }
    }

    /// True when tables that become empty may stay linked, because their addresses are mapped again soon. A hint.
    #[inline]
    pub fn keeps_tables(&self) -> bool {
        self.keep_tables
    }

    fn rest(&mut self) -> &mut Rest {
        self.rest.get_or_insert_default()
    }

    /// Pending invalidation of IOMMU `part` of several.
    pub(crate) fn part(&mut self, part: PartId) -> &mut Self {
        let keep_tables = self.keep_tables;
        let parts = &mut self.rest().parts;
        let known = parts.iter().position(|(id, _)| *id == part);
        let at = known.unwrap_or_else(|| {
            parts.push((part, Self { keep_tables, ..Self::new() }));
            parts.len() - 1
        });
        &mut parts[at].1
    }

    /// Takes out the pending invalidation of IOMMU `part` of several; it covers the whole range.
    pub(crate) fn take_part(&mut self, part: PartId) -> Self {
        let range = self.range();
        let taken = self.rest.as_mut().and_then(|rest| {
            let at = rest.parts.iter().position(|(id, _)| *id == part)?;
            Some(rest.parts.swap_remove(at).1)
        });
        let mut gather = taken.unwrap_or_default();
        if let Some((first, last)) = range {
            gather.cover(first, last);
        }
        gather
    }

    #[inline]
    fn cover(&mut self, first: DeviceAddr, last: DeviceAddr) {
        (self.first, self.last) = (self.first.min(first), self.last.max(last));
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
        self.rest().tables.push(table);
    }

    /// Notes that a table was unlinked whose page is never freed, because something forgotten refers to it: hardware may have the way
    /// to it all the same.
    #[cold]
    pub(crate) fn add_unlinked(&mut self) {
        self.rest().unlinked = true;
    }

    /// Merges `other` into this gather.
    #[inline]
    pub fn absorb(&mut self, mut other: Self) {
        if let Some((first, last)) = other.range() {
            self.cover(first, last);
        }
        if let Some(rest) = other.rest.take() {
            self.absorb_rest(*rest);
        }
    }

    #[cold]
    fn absorb_rest(&mut self, mut rest: Rest) {
        let own = self.rest();
        own.tables.append(&mut rest.tables);
        own.unlinked |= rest.unlinked;
        for (part, gather) in core::mem::take(&mut rest.parts) {
            self.part(part).absorb(gather);
        }
    }

    /// First and last byte (inclusive) to invalidate, or `None` when there is nothing.
    #[inline]
    pub fn range(&self) -> Option<(DeviceAddr, DeviceAddr)> {
        (self.first <= self.last).then_some((self.first, self.last))
    }

    /// True when intermediate tables were unlinked, so that walk caches must be invalidated, too.
    pub fn tables_freed(&self) -> bool {
        let of_parts = |rest: &Rest| rest.parts.iter().any(|(_, part)| part.tables_freed());
        self.rest.as_ref().is_some_and(|rest| rest.unlinked || !rest.tables.is_empty() || of_parts(rest))
    }

    /// True when nothing was gathered.
    #[inline]
    pub fn is_empty(&self) -> bool {
        let no_tables = |rest: &Rest| {
            !rest.unlinked && rest.tables.is_empty() && rest.parts.iter().all(|(_, part)| part.is_empty())
        };
        self.range().is_none() && self.rest.as_deref().is_none_or(no_tables)
    }

    /// Frees the table pages, without making a proof. Call it when the hardware has confirmed: after flushing a
    /// translation directly, as the owner of an unmanaged domain does, or in an IOMMU driver that kept a gather because
    /// its hardware did not confirm in time.
    #[inline]
    pub fn free_tables(mut self) {
        if let Some(mut rest) = self.rest.take() {
            rest.free();
        }
    }

    /// As [`confirm`](Self::confirm), of what was gathered until now.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does")]
    #[inline(always)]
    pub(crate) fn confirm_in_place(&mut self) -> Flushed {
        if self.rest.is_some() {
            core::mem::take(self).free_tables();
        }
        Flushed(())
    }

    /// Frees the table pages and makes the proof. The caller has the hardware's confirmation.
    #[inline]
    pub(crate) fn confirm(self) -> Flushed {
        self.free_tables();
        Flushed(())
    }
}

impl Rest {
    #[cold]
    fn free(&mut self) {
        self.tables.clear();
        for (_, part) in self.parts.drain(..) {
            part.free_tables();
        }
    }
}

impl Drop for Rest {
    #[cold]
    fn drop(&mut self) {
        core::mem::take(&mut self.tables).into_iter().for_each(core::mem::forget);
    }
}

/// Proof of a confirmed invalidation. Holding a `Flushed` tells you: every translation that the gather covered is gone
/// from the page table and, as the hardware has confirmed, from the IOTLB (P2). Private to the core.
#[derive(Debug)]
#[must_use = "the proof is what allows pages to be freed"]
pub(crate) struct Flushed(());

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::env::RamUse;
    use crate::mem::fake::FakeMemory;
    use crate::mem::{PageRequest, PhysMemory};

    const A: PartId = PartId(1);
    const B: PartId = PartId(2);

    fn range(gather: &Gather) -> Option<(u64, u64)> {
        gather.range().map(|(first, last)| (first.0, last.0))
    }

    #[test]
    fn the_range_covers_what_was_added_and_nothing_more() {
        let mut gather = Gather::new();
        gather.add(DeviceAddr(0x5000), 0);
        assert!(gather.is_empty() && range(&gather).is_none());
        gather.add(DeviceAddr(0x5000), 1);
        assert_eq!((gather.is_empty(), range(&gather)), (false, Some((0x5000, 0x5000))));
        gather.add(DeviceAddr(0x3000), 0x1000);
        assert_eq!(range(&gather), Some((0x3000, 0x5000)));
        let mut other = Gather::new();
        other.add(DeviceAddr(0x8000), 0x1000);
        gather.absorb(other);
        gather.absorb(Gather::new());
        assert_eq!(range(&gather), Some((0x3000, 0x8fff)));
    }

    #[test]
    fn parts_are_apart_keep_tables_as_the_whole_does_and_are_taken_with_the_whole_range() {
        for (mut gather, keeps) in [(Gather::new(), false), (Gather::keeping_tables(), true)] {
            gather.part(A).add(DeviceAddr(0x1000), 0x1000);
            gather.part(B).add(DeviceAddr(0x9000), 0x1000);
            gather.part(A).add(DeviceAddr(0x2000), 0x1000);
            assert_eq!((gather.keeps_tables(), gather.part(A).keeps_tables()), (keeps, keeps));
            assert_eq!(
                (range(gather.part(A)), range(gather.part(B))),
                (Some((0x1000, 0x2fff)), Some((0x9000, 0x9fff)))
            );
            assert!(range(&gather).is_none() && !gather.is_empty(), "a part is something");
            gather.add(DeviceAddr(0x4000), 0x1000);
            assert_eq!(range(&gather.take_part(A)), Some((0x1000, 0x4fff)));
            assert_eq!(range(&gather.take_part(A)), Some((0x4000, 0x4fff)), "it was taken");
            let mut other = Gather::new();
            other.part(B).add(DeviceAddr(0xa000), 0x1000);
            gather.absorb(other);
            assert_eq!(range(&gather.take_part(B)), Some((0x4000, 0xafff)));
        }
    }

    /// P2: a table is free when its flush is confirmed, wherever in the gather it is, and not before.
    #[test]
    fn tables_are_freed_by_a_confirmation_only() {
        let memory = PhysMemory::new(FakeMemory::new(&[(0x4000_0000, 16 << 12, RamUse::Frames)]).dynamic());
        let table = || PageRun::alloc(memory.frames(), &PageRequest::new(1)).unwrap();
        let in_use = || memory.frames().in_use();
        let before = in_use();
        for confirmed in [true, false] {
            let (mut gather, mut absorbed) = (Gather::new(), Gather::new());
            assert!(!gather.tables_freed());
            gather.part(A).add_table(table());
            assert!(gather.tables_freed() && !gather.is_empty() && gather.range().is_none());
            absorbed.add_table(table());
            absorbed.part(B).add_table(table());
            gather.absorb(absorbed);
            assert_eq!(in_use(), before + 3);
            if confirmed {
                gather.free_tables();
            } else {
                drop(gather);
            }
            assert_eq!(in_use(), before + if confirmed { 0 } else { 3 });
        }
    }
}
