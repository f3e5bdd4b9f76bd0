//! One table, and where its page comes from.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::occupancy::Occupancy;
use super::spec::ENTRY_BYTES;
use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::env::{CacheOp, Caching, Memory};
use crate::iommu::Gather;
use crate::mem::access::RamWindow;
use crate::mem::{OutOfMemory, PageAllocator, PageRequest, PageRun};

/// Where the pages of a page table come from. A seam of its own, so that an owner can make the taking of a table fail.
pub trait TablePages: Send + Sync {
    /// One page, zero in RAM as well as in the CPU's caches.
    fn take(&self) -> Result<PageRun, OutOfMemory>;
}

/// Table pages from a page allocator, up to the highest address that the IOMMU can walk.
pub struct TableFrames {
    source: Arc<dyn PageAllocator>,
    limit: PhysAddr,
}

impl TableFrames {
    /// Pages of `source` of which no byte lies above `limit`.
    pub fn new(source: Arc<dyn PageAllocator>, limit: PhysAddr) -> Self {
        Self { source, limit }
    }
}

impl TablePages for TableFrames {
    fn take(&self) -> Result<PageRun, OutOfMemory> {
        PageRun::alloc(&self.source, &PageRequest { limit: self.limit, ..PageRequest::new(1) })
    }
}

/// A table page, its entries, and the tables below it.
///
/// # Invariants
///
/// An entry is in `used` exactly when its word is not 0. It is in `kids` exactly when it points to a table; a table of
/// the last level has no kids. Every table but the root has an entry in use.
pub(super) struct Table {
    // Before the page, so that nothing looks at it when it goes back.
    window: RamWindow,
    page: PageRun,
    used: Occupancy,
    /// By index, ascending.
    kids: Vec<(usize, Box<Table>)>,
}

impl Table {
    /// An empty table. `None` when there is no page below `1 << output_bits`.
    pub(super) fn new(pages: &dyn TablePages, memory: &Arc<dyn Memory>, output_bits: u32) -> Option<Self> {
        let page = pages.take().ok()?;
        if (page.base().0 + (PAGE_SIZE - 1)) >> output_bits != 0 {
            return None;
        }
        let window = RamWindow::new(memory, page.base(), PAGE_SIZE, Caching::Cached).ok()?;
        Some(Self { window, page, used: Occupancy::EMPTY, kids: Vec::new() })
    }

    pub(super) fn base(&self) -> PhysAddr {
        self.page.base()
    }

    pub(super) fn used(&self) -> &Occupancy {
        &self.used
    }

    pub(super) fn entry(&self, index: usize) -> u64 {
        self.window.words()[index].load(Ordering::Relaxed)
    }

    pub(super) fn kid(&self, index: usize) -> Option<&Table> {
        self.place(index).ok().map(|place| &*self.kids[place].1)
    }

    pub(super) fn kid_mut(&mut self, index: usize) -> Option<&mut Table> {
        self.place(index).ok().map(|place| &mut *self.kids[place].1)
    }

    /// Where the table under an entry is among the kids, or would be.
    fn place(&self, index: usize) -> Result<usize, usize> {
        self.kids.binary_search_by_key(&index, |(at, _)| *at)
    }

    /// Writes a run of leaf entries; `entry` is called for each, in order.
    pub(super) fn fill(&mut self, first: usize, last: usize, mut entry: impl FnMut() -> u64) {
        for word in &self.window.words()[first..=last] {
            word.store(entry(), Ordering::Relaxed);
        }
        self.used.set(first, last);
    }

    /// Writes zero to a run of leaf entries.
    pub(super) fn clear(&mut self, first: usize, last: usize) {
        for word in &self.window.words()[first..=last] {
            word.store(0, Ordering::Relaxed);
        }
        self.used.clear(first, last);
    }

    /// Publishes a table under an entry. What the table holds was made visible to the walker before.
    pub(super) fn link(&mut self, index: usize, entry: u64, kid: Table) {
        if let Err(place) = self.place(index) {
            self.kids.insert(place, (index, Box::new(kid)));
            self.window.words()[index].store(entry, Ordering::Release);
            self.used.set(index, index);
        }
    }

    /// Cuts off the table under an entry, with all below it, and hands the pages to `gather`.
    pub(super) fn cut(&mut self, index: usize, gather: &mut Gather) {
        self.clear(index, index);
        if let Ok(place) = self.place(index) {
            self.kids.remove(place).1.hand_over(gather);
        }
    }

    fn hand_over(self, gather: &mut Gather) {
        let Self { window, page, kids, .. } = self;
        drop(window);
        for (_, kid) in kids {
            kid.hand_over(gather);
        }
        gather.add_table(page);
    }

    /// Brings a run of entries from the CPU's caches to RAM, for a walker that does not snoop.
    pub(super) fn clean(&self, first: usize, last: usize) {
        let bytes = |entries: usize| entries as u64 * ENTRY_BYTES;
        self.window.memory().cache(CacheOp::Clean, self.base() + bytes(first), bytes(last - first + 1));
    }
}
