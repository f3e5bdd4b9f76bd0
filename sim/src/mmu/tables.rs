//! Page tables in memory: where they are, and how hardware walks them.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Weak};

use bindery::addr::{PAGE_SIZE, PhysAddr};
use bindery::env::{Caching, Memory, RamRange, RamUse};
use bindery::iommu::IommuError;
use bindery::iommu::pgtable::{BLOCK_SIZES, Config, Lpae64, PageTable, TablePages};
use bindery::mem::access::RamWindow;
use bindery::mem::{AllocError, BuddyAllocator, ForeignPages, FreedRun, PageAllocator, PageRequest, PageRun};
use bindery::sync::SpinLock;

use super::Mmu;
use crate::memory::Ram;

/// RAM of tables. Each forgotten arena may cost a few pages of it.
const RAM: (PhysAddr, u64) = (PhysAddr(0xa000_0000), 64 * PAGE_SIZE);
/// Bits of a device address: the walk begins at level 1.
const INPUT_BITS: u32 = 32;
const OUTPUT_BITS: u32 = 40;
const FIRST_LEVEL: u32 = 1;
const LAST_LEVEL: u32 = 3;
/// Bits of an entry: it is valid, and it leads to a table, or at the last level to a page.
const VALID: u64 = 1;
const TABLE_OR_PAGE: u64 = 2;
/// The access flag, without which hardware refuses the access.
const ACCESSED: u64 = 1 << 10;
const ADDRESS: u64 = (1 << OUTPUT_BITS) - PAGE_SIZE;

/// A page table that the core writes.
pub(super) type Written = Box<PageTable<Lpae64>>;

/// Memory of the page tables of one IOMMU.
pub(super) struct Tables {
    ram: Arc<Ram>,
    pages: Arc<TableMemory>,
    /// Tables of domains that are gone, and that the hardware may walk: nobody can ask it any more.
    kept: SpinLock<Vec<Written>>,
}

impl Tables {
    pub(super) fn new(mmu: &Weak<Mmu>) -> Self {
        let ram = Arc::new(Ram::new(&[RamRange { base: RAM.0, len: RAM.1, use_for: RamUse::Frames }]));
        let memory: Arc<dyn Memory> = Arc::<Ram>::clone(&ram);
        let frames = BuddyAllocator::new("tables", memory, RamUse::Frames);
        let checked: Arc<dyn PageAllocator> = Arc::new(Checked { frames, mmu: Weak::clone(mmu) });
        Self { ram, pages: Arc::new(TableMemory(checked)), kept: SpinLock::default() }
    }

    /// A page table without entries, and how hardware walks it.
    pub(super) fn make(&self) -> Result<(Written, Walk), IommuError> {
        let config =
            Config { input_bits: INPUT_BITS, output_bits: OUTPUT_BITS, block_sizes: BLOCK_SIZES, coherent_walk: false };
        let memory: Arc<dyn Memory> = Arc::<Ram>::clone(&self.ram);
        let pages: Arc<dyn TablePages> = Arc::<TableMemory>::clone(&self.pages);
        let table = PageTable::new(pages, Arc::clone(&memory), config).map_err(|_| IommuError::OutOfMemory)?;
        let walk = Walk { memory, root: table.root() };
        Ok((Box::new(table), walk))
    }

    /// Keeps a table until the hardware is reset.
    pub(super) fn keep(&self, table: Written) {
        self.kept.lock().push(table);
    }

    /// The hardware was reset.
    pub(super) fn free_kept(&self) {
        let kept = std::mem::take(&mut *self.kept.lock());
        drop(kept);
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tables({} pages)", self.pages.0.in_use())
    }
}

struct TableMemory(Arc<dyn PageAllocator>);

impl TablePages for TableMemory {
    fn take(&self) -> Result<PageRun, AllocError> {
        PageRun::alloc(&self.0, &PageRequest::new(1))
    }
}

/// Allocator that has the hardware look at what is freed.
struct Checked {
    frames: BuddyAllocator,
    mmu: Weak<Mmu>,
}

impl PageAllocator for Checked {
    fn name(&self) -> &'static str {
        "tables"
    }

    fn alloc(&self, request: &PageRequest) -> Result<PhysAddr, AllocError> {
        self.frames.alloc(request)
    }

    fn free(&self, run: FreedRun) -> Result<(), ForeignPages> {
        if let Some(mmu) = self.mmu.upgrade() {
            mmu.table_is_freed(run.base().0);
        }
        self.frames.free(run)
    }

    fn in_use(&self) -> u64 {
        self.frames.in_use()
    }
}

impl Mmu {
    /// Remembers when the hardware can walk to the table at `base`, which is freed.
    fn table_is_freed(&self, base: u64) {
        let mut s = self.lock();
        s.access_walked();
        if s.live().any(|context| context.ways.iter().any(|way| way.table == base)) {
            s.freed_early.get_or_insert(base);
        }
    }
}

/// A table, and the addresses that it translates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Place {
    pub(super) level: u32,
    /// First device address.
    pub(super) first: u64,
    /// Where it is in memory.
    pub(super) table: u64,
}

impl Place {
    /// The last device address.
    pub(super) fn last(self) -> u64 {
        self.first + ((1 << (shift(self.level) + 9)) - 1)
    }
}

/// Bits of a device address below those that tables of `level` translate.
const fn shift(level: u32) -> u32 {
    12 + 9 * (LAST_LEVEL - level)
}

/// What a walk has found.
#[derive(Default)]
pub(super) struct Found {
    /// Device addresses and pages.
    pub(super) pages: Vec<(u64, u64)>,
    /// Tables on the way, but for the root, which the context has.
    pub(super) ways: BTreeSet<Place>,
}

/// A page table as hardware sees it: a place in memory.
pub(super) struct Walk {
    memory: Arc<dyn Memory>,
    root: PhysAddr,
}

impl Walk {
    fn root(&self) -> Place {
        Place { level: FIRST_LEVEL, first: 0, table: self.root.0 }
    }

    /// Everything that it translates.
    pub(super) fn all(&self) -> Found {
        self.below(self.root())
    }

    /// What the table at `place` translates, and those below it.
    pub(super) fn below(&self, place: Place) -> Found {
        let mut found = Found::default();
        self.add(place, &mut found);
        found
    }

    fn add(&self, place: Place, found: &mut Found) {
        let Ok(table) = RamWindow::new(&self.memory, PhysAddr(place.table), PAGE_SIZE, Caching::Uncached) else {
            return;
        };
        for (index, word) in table.words().iter().enumerate() {
            let entry = word.load(std::sync::atomic::Ordering::Relaxed);
            if entry != 0 {
                self.follow(place, index as u64, entry, found);
            }
        }
    }

    fn follow(&self, place: Place, index: u64, entry: u64, found: &mut Found) {
        let (first, to) = (place.first + (index << shift(place.level)), entry & ADDRESS);
        match leads_to(place.level, entry) {
            Leads::Nowhere => {}
            Leads::Table => {
                let below = Place { level: place.level + 1, first, table: to };
                found.ways.insert(below);
                self.add(below, found);
            }
            Leads::Pages => {
                let pages = (0..1_u64 << shift(place.level)).step_by(PAGE_SIZE as usize);
                found.pages.extend(pages.map(|at| (first + at, to + at)));
            }
        }
    }

    /// The page that the page at `at` is translated to, and the tables on the way.
    pub(super) fn page(&self, at: u64) -> Option<(u64, Vec<Place>)> {
        let (mut place, mut ways) = (self.root(), Vec::new());
        loop {
            let table = RamWindow::new(&self.memory, PhysAddr(place.table), PAGE_SIZE, Caching::Uncached).ok()?;
            let index = at >> shift(place.level) & 511;
            let entry = table.words().get(index as usize)?.load(std::sync::atomic::Ordering::Relaxed);
            let (first, to) = (place.first + (index << shift(place.level)), entry & ADDRESS);
            match leads_to(place.level, entry) {
                Leads::Nowhere => return None,
                Leads::Pages => return Some((to + (at - first), ways)),
                Leads::Table => place = Place { level: place.level + 1, first, table: to },
            }
            ways.push(place);
        }
    }
}

impl fmt::Debug for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Walk({})", self.root)
    }
}

enum Leads {
    Nowhere,
    Table,
    Pages,
}

fn leads_to(level: u32, entry: u64) -> Leads {
    match (entry & VALID != 0, entry & TABLE_OR_PAGE != 0) {
        (true, true) if level < LAST_LEVEL => Leads::Table,
        // At the last level only the page form is valid.
        (true, form) if entry & ACCESSED != 0 && form == (level == LAST_LEVEL) => Leads::Pages,
        _ => Leads::Nowhere,
    }
}

#[cfg(test)]
mod tests {
    use bindery::addr::DeviceAddr;
    use bindery::iommu::{DomainKind, Gather, Grouping, Prot, StreamId};

    use super::*;
    use crate::mmu::Reachable;

    const AT: DeviceAddr = DeviceAddr(0x20_0000);
    const TO: PhysAddr = PhysAddr(0x4800_0000);

    #[test]
    fn what_is_unmapped_is_reached_until_a_flush_and_a_table_that_is_freed_before_is_noticed() {
        for flushes in [true, false] {
            let mmu = Mmu::walking("mmu", Grouping::PerStream);
            let iommu = mmu.iommu();
            let domain = iommu.domain(DomainKind::Strict).unwrap();
            iommu.attach(StreamId(1), &domain).unwrap();
            domain.map(AT, TO, 2 * PAGE_SIZE, Prot::READ | Prot::WRITE).unwrap();
            let mapped = Reachable::Pages([(AT.0, TO.0), (AT.0 + PAGE_SIZE, TO.0 + PAGE_SIZE)].into());
            assert_eq!(mmu.reachable(1), mapped);
            let mut gather = Gather::new();
            assert_eq!(domain.remove(AT, 2 * PAGE_SIZE, &mut gather), Ok(true));
            assert_eq!(mmu.reachable(1), mapped, "the caches have it");
            if flushes {
                domain.flush(&mut gather).unwrap();
                assert_eq!(mmu.reachable(1), Reachable::nothing());
            }
            gather.free_tables();
            assert_eq!(mmu.freed_early().is_some(), !flushes);
        }
    }
}
