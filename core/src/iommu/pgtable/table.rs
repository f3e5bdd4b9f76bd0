//! One table of a page table, and the source of its page.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use super::Format;
use super::occupancy::Occupancy;
use super::spec::{self, ENTRIES, Level};
use crate::addr::{DeviceAddr, PAGE_SIZE, PhysAddr};
use crate::context::Context;
use crate::env::Memory;
use crate::instrument::{FaultPoint, Instrument};
use crate::iommu::{Gather, MapError, Prot};
use crate::mem::{AllocError, OutOfMemory, PageAllocator, PageRequest, PageRun};
use crate::translation::{LeafPath, TablePage, zero};

/// Allocator of the pages of a page table.
pub trait TablePages: Send + Sync {
    /// Takes one page, zeroed in RAM and in the CPU's caches.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] when no page is left that the IOMMU can walk; otherwise as [`PageRun::alloc`].
    fn take(&self) -> Result<PageRun, AllocError>;
}

/// Table pages from a page allocator, up to the highest address that the IOMMU can access. Each page is a
/// [fault point](FaultPoint::TableAlloc).
pub struct TableFrames {
    source: Arc<dyn PageAllocator>,
    limit: PhysAddr,
    instrument: Option<Arc<dyn Instrument>>,
}

impl TableFrames {
    /// Pages of `source` of which no byte lies above `limit`, for tables of the machine of `context`.
    pub fn new(context: &Context, source: Arc<dyn PageAllocator>, limit: PhysAddr) -> Self {
        Self { source, limit, instrument: context.instrument().cloned() }
    }
}

impl TablePages for TableFrames {
    fn take(&self) -> Result<PageRun, AllocError> {
        if self.instrument.should_fail(FaultPoint::TableAlloc) {
            return Err(OutOfMemory { allocator: "table pages", pages: 1, align: PAGE_SIZE, limit: self.limit }.into());
        }
        PageRun::alloc(&self.source, &PageRequest { limit: self.limit, ..PageRequest::new(1) })
    }
}

type Children = [Option<Box<Table>>; ENTRIES];

/// A table page, its entries, and the tables below it.
///
/// # Invariants
///
/// An entry is in `used` exactly when its word is not 0, or when it is leased. It is in `children` exactly when it points to a table; a table of
/// the last level has no children. Every table but the root has an entry in use, except tables of the last level that are kept empty.
pub(super) struct Table {
    page: Arc<TablePage>,
    used: Occupancy,
    /// Entries that a [`Lease`](crate::iommu::Lease) has. Only a table of the last level has any.
    leased: Occupancy,
    /// The way to it, once one of its entries was leased.
    path: Option<Arc<LeafPath>>,
    /// By index: a walk is one load a level. `None` until there is one; a table of the last level never has any.
    children: Option<Box<Children>>,
}

impl Table {
    /// An empty table. `None` when there is no page below `1 << output_bits`.
    pub(super) fn new(pages: &dyn TablePages, memory: &Arc<dyn Memory>, output_bits: u32) -> Option<Self> {
        let page = pages.take().ok()?;
        if (page.base().0 + (PAGE_SIZE - 1)) >> output_bits != 0 {
            return None;
        }
        let page = Arc::new(TablePage::new(memory, page)?);
        Some(Self { page, used: Occupancy::EMPTY, leased: Occupancy::EMPTY, path: None, children: None })
    }

    pub(super) fn page(&self) -> &Arc<TablePage> {
        &self.page
    }

    pub(super) fn base(&self) -> PhysAddr {
        self.page.base()
    }

    pub(super) fn used(&self) -> &Occupancy {
        &self.used
    }

    pub(super) fn leased(&self) -> &Occupancy {
        &self.leased
    }

    /// The lowest entry of the range that is leased.
    #[inline]
    pub(super) fn first_leased(&self, first: usize, last: usize) -> Option<usize> {
        if self.leased.is_empty() { None } else { self.leased.first_used(first, last) }
    }

    /// Marks free entries as leased. `None` when one of them is in use.
    pub(super) fn lease(&mut self, first: usize, last: usize) -> Option<()> {
        self.used.claim(first, last).ok()?;
        self.leased.set(first, last);
        Some(())
    }

    /// Ends the lease of entries, and clears them. True when one of them mapped something; `None`, with which nothing changes, when
    /// one of them is not leased.
    pub(super) fn end_lease(&mut self, first: usize, last: usize, clean: bool) -> Option<bool> {
        self.leased.release(first, last).ok()?;
        let mapped = (first..=last).any(|index| self.entry(index) != 0);
        self.clear(first, last);
        if clean && mapped {
            self.clean(first, last);
        }
        Some(mapped)
    }

    pub(super) fn path(&self) -> Option<&Arc<LeafPath>> {
        self.path.as_ref()
    }

    pub(super) fn set_path(&mut self, path: Arc<LeafPath>) {
        self.path = Some(path);
    }

    /// True when an entry maps something.
    #[inline]
    pub(super) fn maps(&self, index: usize) -> bool {
        (self.used.contains(index) && !self.leased.contains(index)) || self.entry(index) != 0
    }

    pub(super) fn entry(&self, index: usize) -> u64 {
        self.page.words()[index].load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn child(&self, index: usize) -> Option<&Table> {
        self.children.as_deref()?.get(index)?.as_deref()
    }

    #[inline]
    pub(super) fn child_mut(&mut self, index: usize) -> Option<&mut Table> {
        self.children.as_deref_mut()?.get_mut(index)?.as_deref_mut()
    }

    /// Writes a run of leaf entries of `level`, which map what lies at `phys` and behind it.
    pub(super) fn fill<F: Format>(&mut self, entries: (usize, usize), level: Level, phys: PhysAddr, prot: Prot) {
        self.write_leaves::<F>(entries, level, phys, prot);
        self.used.set(entries.0, entries.1);
    }

    /// As [`fill`](Self::fill), of entries of the last level that are all free. The error, with which nothing changes, is the lowest
    /// one that is in use.
    #[inline]
    pub(super) fn fill_free<F: Format>(
        &mut self,
        entries: (usize, usize),
        phys: PhysAddr,
        prot: Prot,
    ) -> Result<(), usize> {
        self.used.claim(entries.0, entries.1)?;
        self.write_leaves::<F>(entries, spec::LAST_LEVEL, phys, prot);
        Ok(())
    }

    /// As [`fill_free`](Self::fill_free), of entries for `iova` on. `clean`: for a walker that does not snoop.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
    #[inline(always)]
    pub(super) fn map_free<F: Format>(
        &mut self,
        iova: DeviceAddr,
        entries: (usize, usize),
        phys: PhysAddr,
        prot: Prot,
        clean: bool,
    ) -> Result<(), MapError> {
        if let Err(index) = self.fill_free::<F>(entries, phys, prot) {
            return Err(MapError::Exists(iova + (index - entries.0) as u64 * PAGE_SIZE));
        }
        if clean {
            self.clean(entries.0, entries.1);
        }
        Ok(())
    }

    #[inline]
    fn write_leaves<F: Format>(&self, (first, last): (usize, usize), level: Level, phys: PhysAddr, prot: Prot) {
        if first == last {
            return self.page.words()[first].store(F::leaf(phys, level, prot), Ordering::Relaxed);
        }
        self.write_run::<F>((first, last), level, phys, prot);
    }

    fn write_run<F: Format>(&self, (first, last): (usize, usize), level: Level, phys: PhysAddr, prot: Prot) {
        let words = &self.page.words()[first..=last];
        // With a constant level for pages, which are the longest runs.
        if level == spec::LAST_LEVEL {
            store_leaves::<F>(words, spec::LAST_LEVEL, phys, prot);
        } else {
            store_leaves::<F>(words, level, phys, prot);
        }
    }

    /// Writes zero to a run of leaf entries.
    pub(super) fn clear(&mut self, first: usize, last: usize) {
        self.write_zero(first, last);
        self.used.clear(first, last);
    }

    /// As [`clear`](Self::clear), of entries that are all in use. The error, with which nothing changes, is the lowest one that is
    /// free, or leased.
    #[inline]
    pub(super) fn clear_used(&mut self, first: usize, last: usize) -> Result<(), usize> {
        if let Some(index) = self.first_leased(first, last) {
            return Err(index);
        }
        self.used.release(first, last)?;
        self.write_zero(first, last);
        Ok(())
    }

    #[inline]
    fn write_zero(&self, first: usize, last: usize) {
        zero(&self.page.words()[first..=last]);
    }

    /// Links a table under an entry. Its own entries were made visible to the walker before.
    pub(super) fn link(&mut self, index: usize, entry: u64, child: Table) {
        let children = self.children.get_or_insert_with(no_children);
        if children[index].is_none() {
            children[index] = Some(Box::new(child));
            // For other CPUs; the barrier before this call orders the stores for the hardware walker.
            self.page.words()[index].store(entry, Ordering::Release);
            self.used.set(index, index);
        }
    }

    /// Unlinks the table under an entry, with all below it, and moves the pages to `gather`.
    pub(super) fn unlink(&mut self, index: usize, gather: &mut Gather) {
        self.clear(index, index);
        if let Some(child) = self.children.as_mut().and_then(|children| children[index].take()) {
            child.move_pages(gather);
        }
    }

    fn move_pages(self, gather: &mut Gather) {
        let Self { page, path, children, .. } = self;
        // The ways to tables below refer to this page, and go first.
        for child in children.into_iter().flat_map(|children| *children).flatten() {
            child.move_pages(gather);
        }
        drop(path);
        match Arc::try_unwrap(page) {
            Ok(page) => gather.add_table(page.into_page()),
            // A lease that was forgotten still refers to it: it is never freed (P9).
            Err(page) => {
                gather.add_unlinked();
                core::mem::forget(page);
            }
        }
    }

    /// Number of tables below this one that are empty.
    #[cfg(all(test, not(loom)))]
    pub(super) fn empty_below(&self) -> usize {
        let each = |child: &Table| usize::from(child.used.is_empty()) + child.empty_below();
        self.children.iter().flat_map(|children| children.iter()).flatten().map(|child| each(child)).sum()
    }

    /// Brings a run of entries from the CPU's caches to RAM, for a walker that does not snoop.
    pub(super) fn clean(&self, first: usize, last: usize) {
        self.page.clean(first, last - first + 1);
    }
}

#[inline]
fn store_leaves<F: Format>(words: &[AtomicU64], level: Level, phys: PhysAddr, prot: Prot) {
    let mut at = phys;
    let mut next = || {
        let entry = F::leaf(at, level, prot);
        at = PhysAddr(at.0.wrapping_add(spec::size(level)));
        entry
    };
    let (groups, rest) = words.as_chunks::<8>();
    // By eight, for long runs.
    for group in groups {
        for word in group {
            word.store(next(), Ordering::Relaxed);
        }
    }
    for word in rest {
        word.store(next(), Ordering::Relaxed);
    }
}

/// Made on the heap: the array is a page.
fn no_children() -> Box<Children> {
    let none: Box<[Option<Box<Table>>]> = (0..ENTRIES).map(|_| None).collect();
    none.try_into().unwrap_or_else(|_| unreachable!("it has that many"))
}
