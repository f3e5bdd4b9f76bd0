//! Leases of page-table entries: one owner maps and unmaps in them, without the lock of the table.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::slice;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{Gather, MapError, Prot};
use crate::addr::{DeviceAddr, PAGE_SIZE, PhysAddr};
use crate::mem::access::RamWindow;
use crate::mem::{Barrier, CacheOp, Caching, Memory, PageRun};

/// Number of combinations of access rights.
const KINDS: usize = 1 + Prot::all().bits() as usize;

/// Bytes of an entry.
const ENTRY_BYTES: u64 = 8;

/// Page of a page table.
pub(crate) struct TablePage {
    // Declared, and so dropped, before the page: the window must not outlive it.
    window: RamWindow,
    page: PageRun,
}

impl TablePage {
    /// Opens a page for entries. `None` when it is not RAM of `memory`.
    pub(crate) fn new(memory: &Arc<dyn Memory>, page: PageRun) -> Option<Self> {
        let window = RamWindow::new(memory, page.base(), PAGE_SIZE, Caching::Cached).ok()?;
        Some(Self { window, page })
    }

    #[inline]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        self.window.words()
    }

    pub(crate) fn base(&self) -> PhysAddr {
        self.page.base()
    }

    pub(crate) fn into_page(self) -> PageRun {
        self.page
    }

    /// Brings a run of entries from the CPU's caches to RAM, for a walker that does not snoop.
    pub(crate) fn clean(&self, first: usize, count: usize) {
        let bytes = |entries: usize| entries as u64 * ENTRY_BYTES;
        self.window.memory().cache(CacheOp::Clean, self.base() + bytes(first), bytes(count));
    }
}

/// How entries of one table are made.
#[derive(Clone, Copy)]
pub(crate) struct EntryFormat {
    /// Bits of an entry beside the physical address, by access rights.
    pub(crate) bits: [u64; KINDS],
    /// Bits of a physical address.
    pub(crate) output_bits: u32,
    /// The walker does not snoop: written entries are cleaned to RAM.
    pub(crate) clean: bool,
}

/// An entry of a table above the last level, and what it holds while the tables below it stay linked.
pub(crate) struct Step {
    pub(crate) page: Arc<TablePage>,
    pub(crate) index: usize,
    pub(crate) entry: u64,
}

/// A table of the last level, and the way on which hardware walks to it.
pub(crate) struct LeafPath {
    /// From the root on.
    pub(crate) steps: Box<[Step]>,
    pub(crate) leaf: Arc<TablePage>,
    pub(crate) format: EntryFormat,
}

impl LeafPath {
    /// True when the entries above, as hardware reads them, still lead to the table.
    #[inline]
    fn is_linked(&self) -> bool {
        self.steps.iter().all(|step| {
            let entry = step.page.words().get(step.index).map(|word| word.load(Ordering::Relaxed));
            entry == Some(step.entry)
        })
    }
}

/// Exclusive use of the page-table entries of a range of device addresses, which lie in one table of the last level.
///
/// The table stays linked, and refuses to map or unmap there for anybody else, until the lease [ends](super::Translation::end_lease).
/// Whoever has the lease maps and unmaps with the same checks as the table's own calls, and without its lock: nobody else
/// writes these entries, and the entries themselves tell what is mapped. Dropping it alone ends nothing.
pub struct Lease {
    path: Arc<LeafPath>,
    iova: DeviceAddr,
    first: u16,
    count: u16,
}

impl Lease {
    /// A lease of `count` entries from `first` on, which nobody else has.
    pub(crate) fn new(path: Arc<LeafPath>, iova: DeviceAddr, first: usize, count: usize) -> Self {
        Self { path, iova, first: first as u16, count: count as u16 }
    }

    /// First device address.
    pub fn iova(&self) -> DeviceAddr {
        self.iova
    }

    #[inline]
    fn words(&self) -> &[AtomicU64] {
        let first = usize::from(self.first);
        self.path.leaf.words().get(first..first + usize::from(self.count)).unwrap_or_default()
    }

    /// The entries for the first `len` bytes. `None` unless they are whole pages of the lease.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
    #[inline(always)]
    fn run(&self, len: u64) -> Option<&[AtomicU64]> {
        let (first, words) = (usize::from(self.first), self.path.leaf.words());
        // The lease has an entry.
        if len == PAGE_SIZE {
            return words.get(first).map(slice::from_ref);
        }
        let count = (len / PAGE_SIZE) as usize;
        let whole = len.is_multiple_of(PAGE_SIZE) && count != 0 && count <= usize::from(self.count);
        words.get(first..first + count).filter(|_| whole)
    }

    /// True when `len` bytes at `phys` can be in entries for `prot`.
    #[inline]
    fn fits(&self, phys: PhysAddr, len: u64, prot: Prot) -> bool {
        let end = 1 << self.path.format.output_bits;
        len <= end && phys.0 <= end - len && phys.is_aligned(PAGE_SIZE) && prot.intersects(Prot::READ | Prot::WRITE)
    }

    /// The entries for the first `len` bytes, if nothing is mapped there and they can map what lies at `phys`.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
    #[inline(always)]
    pub(crate) fn free_entries(&self, phys: PhysAddr, len: u64, prot: Prot) -> Option<&[AtomicU64]> {
        let entries = self.run(len)?;
        (self.fits(phys, len, prot) && is_zero(entries)).then_some(entries)
    }

    /// Why `len` bytes at `phys` cannot be mapped `offset` bytes behind the first address, if they cannot.
    #[cold]
    fn refusal(&self, offset: u64, phys: PhysAddr, len: u64, prot: Prot) -> Option<MapError> {
        let at = DeviceAddr(self.iova.0.wrapping_add(offset));
        if len == 0 || (offset | len | phys.0) & (PAGE_SIZE - 1) != 0 {
            return Some(MapError::Unaligned(at));
        }
        let (first, count) = ((offset / PAGE_SIZE) as usize, (len / PAGE_SIZE) as usize);
        let run = first.checked_add(count).and_then(|end| self.words().get(first..end));
        let Some(run) = run.filter(|_| self.fits(phys, len, Prot::READ)) else { return Some(MapError::OutOfRange(at)) };
        if !prot.intersects(Prot::READ | Prot::WRITE) {
            return Some(MapError::NoAccess(at));
        }
        let used = run.iter().position(|word| word.load(Ordering::Relaxed) != 0)?;
        Some(MapError::Exists(at + used as u64 * PAGE_SIZE))
    }

    /// Maps `len` bytes at `phys` from the first device address on; an error changes nothing.
    pub(crate) fn map(&mut self, phys: PhysAddr, len: u64, prot: Prot) -> Result<(), MapError> {
        match self.free_entries(phys, len, prot) {
            Some(entries) => {
                self.write(entries, phys, prot);
                Ok(())
            }
            None => Err(self.refusal(0, phys, len, prot).unwrap_or(MapError::OutOfRange(self.iova))),
        }
    }

    /// Writes [free entries](Self::free_entries), from the first one of the lease on.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
    #[inline(always)]
    pub(crate) fn write(&self, entries: &[AtomicU64], phys: PhysAddr, prot: Prot) {
        store(entries, self.entry(phys, prot));
        self.written(entries.len());
    }

    #[inline]
    fn entry(&self, phys: PhysAddr, prot: Prot) -> u64 {
        phys.0 | self.path.format.bits[prot.bits() as usize % KINDS]
    }

    /// As [`free_entries`](Self::free_entries), for `runs` one behind the other.
    #[inline]
    pub(crate) fn free_run(&self, runs: &Runs, prot: Prot) -> Option<&[AtomicU64]> {
        let fits = runs.bits & (PAGE_SIZE - 1) == 0 && (runs.bits | runs.last) >> self.path.format.output_bits == 0;
        let entries = self.run(runs.bytes)?;
        (fits && prot.intersects(Prot::READ | Prot::WRITE) && is_zero(entries)).then_some(entries)
    }

    /// Writer of [free entries](Self::free_run). [`written`](Self::written) follows.
    #[inline]
    pub(crate) fn writer<'a>(&self, entries: &'a [AtomicU64], prot: Prot) -> RunWriter<'a> {
        RunWriter { rest: entries.iter(), bits: self.entry(PhysAddr(0), prot) }
    }

    /// Maps `runs` one behind the other from the first device address on; an error changes nothing.
    pub(crate) fn map_runs(
        &mut self,
        runs: impl Iterator<Item = (PhysAddr, u64)> + Clone,
        prot: Prot,
    ) -> Result<(), MapError> {
        let (mut all, mut empty) = (Runs::default(), false);
        for (phys, len) in runs.clone() {
            empty |= len == 0;
            all.add(phys, len);
        }
        match self.free_run(&all, prot).filter(|_| !empty) {
            Some(entries) => {
                let mut writer = self.writer(entries, prot);
                runs.for_each(|(phys, len)| writer.put(phys, len));
                self.written(entries.len());
                Ok(())
            }
            None => Err(self.refusal_of(runs, prot)),
        }
    }

    /// Why [`map_runs`](Self::map_runs) cannot map `runs`.
    #[cold]
    fn refusal_of(&self, runs: impl Iterator<Item = (PhysAddr, u64)>, prot: Prot) -> MapError {
        let mut at = 0_u64;
        for (phys, len) in runs {
            if let Some(refusal) = self.refusal(at, phys, len, prot) {
                return refusal;
            }
            at += len;
        }
        MapError::OutOfRange(self.iova)
    }

    /// Unmaps the first `len` bytes, all of which are mapped, and adds them to `gather`; an error changes nothing. True when
    /// hardware that walks the table from its root finds the first page not mapped any more.
    pub(crate) fn unmap(&mut self, len: u64, gather: &mut Gather) -> Result<bool, MapError> {
        let gone = self.clear(len)?;
        gather.add(self.iova, len);
        Ok(gone)
    }

    /// As [`unmap`](Self::unmap), of what the caller gathers.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
    #[inline(always)]
    pub(crate) fn clear(&mut self, len: u64) -> Result<bool, MapError> {
        let Some(entries) = self.run(len) else { return Err(self.not_mapped(len)) };
        if !is_full(entries) {
            return Err(self.not_mapped(len));
        }
        zero(entries);
        self.written(entries.len());
        // Read anew, from the root on.
        Ok(self.path.is_linked() && entries.first().is_some_and(|word| word.load(Ordering::Relaxed) == 0))
    }

    /// Why the first `len` bytes cannot be unmapped.
    #[cold]
    fn not_mapped(&self, len: u64) -> MapError {
        let pages = (len / PAGE_SIZE) as usize;
        let hole = self.words().iter().take(pages).position(|word| word.load(Ordering::Relaxed) == 0);
        MapError::Missing(self.iova + hole.unwrap_or(0) as u64 * PAGE_SIZE)
    }

    /// Makes the first `count` entries visible to the walker.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
    #[inline(always)]
    pub(crate) fn written(&self, count: usize) {
        let leaf = &self.path.leaf;
        if self.path.format.clean {
            leaf.clean(usize::from(self.first), count);
        }
        leaf.window.memory().barrier(Barrier::Write);
    }
}

/// Runs of pages, as far as it matters to entries that are to map them: checked all at once.
#[derive(Clone, Copy, Default)]
pub(crate) struct Runs {
    /// Bytes in all; `u64::MAX` when they are more. A lease is short, so that no length is beyond what is added here.
    bytes: u64,
    /// Bits of all first addresses and lengths.
    bits: u64,
    /// Bits of all last addresses. Physical addresses are below a power of two: one is too high when any has a bit above.
    last: u64,
}

impl Runs {
    /// Adds a run of at least one byte.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does")]
    #[inline(always)]
    pub(crate) fn add(&mut self, phys: PhysAddr, len: u64) {
        self.bits |= phys.0 | len;
        self.last |= phys.0.wrapping_add(len).wrapping_sub(1);
        self.bytes = self.bytes.saturating_add(len);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Writes entries for runs one behind the other.
pub(crate) struct RunWriter<'a> {
    rest: slice::Iter<'a, AtomicU64>,
    bits: u64,
}

impl RunWriter<'_> {
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
    #[inline(always)]
    pub(crate) fn put(&mut self, phys: PhysAddr, len: u64) {
        let entry = phys.0 | self.bits;
        if len != PAGE_SIZE {
            self.rest = store_first(self.rest.as_slice(), entry, (len / PAGE_SIZE) as usize).iter();
        } else if let Some(word) = self.rest.next() {
            word.store(entry, Ordering::Relaxed);
        }
    }
}

/// Writes the first `count` entries. Returns the others.
#[inline(never)]
fn store_first(entries: &[AtomicU64], entry: u64, count: usize) -> &[AtomicU64] {
    let Some((run, behind)) = entries.split_at_checked(count) else { return entries };
    store(run, entry);
    behind
}

/// True when nothing is mapped.
#[inline]
fn is_zero(entries: &[AtomicU64]) -> bool {
    match entries {
        [word] => word.load(Ordering::Relaxed) == 0,
        entries => is_zero_run(entries),
    }
}

fn is_zero_run(entries: &[AtomicU64]) -> bool {
    let (groups, rest) = entries.as_chunks::<8>();
    let mut all = 0;
    for group in groups {
        for word in group {
            all |= word.load(Ordering::Relaxed);
        }
    }
    for word in rest {
        all |= word.load(Ordering::Relaxed);
    }
    all == 0
}

/// True when everything is mapped.
#[inline]
fn is_full(entries: &[AtomicU64]) -> bool {
    match entries {
        [word] => word.load(Ordering::Relaxed) != 0,
        entries => is_full_run(entries),
    }
}

fn is_full_run(entries: &[AtomicU64]) -> bool {
    let (groups, rest) = entries.as_chunks::<8>();
    for group in groups {
        for word in group {
            if word.load(Ordering::Relaxed) == 0 {
                return false;
            }
        }
    }
    rest.iter().all(|word| word.load(Ordering::Relaxed) != 0)
}

/// Writes `entry`, and those of the pages behind it.
#[inline]
fn store(entries: &[AtomicU64], entry: u64) {
    match entries {
        [word] => word.store(entry, Ordering::Relaxed),
        entries => store_run(entries, entry),
    }
}

fn store_run(entries: &[AtomicU64], entry: u64) {
    let (groups, rest) = entries.as_chunks::<8>();
    let mut at = entry;
    for group in groups {
        for (n, word) in group.iter().enumerate() {
            word.store(at.wrapping_add(n as u64 * PAGE_SIZE), Ordering::Relaxed);
        }
        at = at.wrapping_add(8 * PAGE_SIZE);
    }
    for word in rest {
        word.store(at, Ordering::Relaxed);
        at = at.wrapping_add(PAGE_SIZE);
    }
}

/// Writes zero to entries.
#[inline]
pub(crate) fn zero(words: &[AtomicU64]) {
    match words {
        [word] => word.store(0, Ordering::Relaxed),
        words => zero_run(words),
    }
}

fn zero_run(words: &[AtomicU64]) {
    let (groups, rest) = words.as_chunks::<8>();
    for group in groups {
        for word in group {
            word.store(0, Ordering::Relaxed);
        }
    }
    for word in rest {
        word.store(0, Ordering::Relaxed);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({} pages at {})", self.count, self.iova)
    }
}
