//! Fixture: RAM, a limited supply of table pages, and a table walk that reads only RAM, not the tree.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::addr::{DeviceAddr, PhysAddr};
use crate::context::Context;
use crate::env::fake::FakeEnv;
use crate::env::{Caching, RamUse};
use crate::iommu::Prot;
use crate::iommu::pgtable::{Config, Format, PageTable, TableFrames, TablePages};
use crate::mem::fake::FakeMemory;
use crate::mem::{OutOfMemory, PageAllocator, PageRun, PhysMemory, access};

pub(super) const RAM: u64 = 0x4800_0000;
pub(super) const K4: u64 = 0x1000;
pub(super) const M2: u64 = 0x20_0000;
pub(super) const G1: u64 = 0x4000_0000;
pub(super) const RW: Prot = Prot::READ.union(Prot::WRITE);

pub(super) struct Board {
    pub(super) memory: Arc<FakeMemory>,
    pub(super) frames: Arc<dyn PageAllocator>,
    pub(super) pages: Arc<LimitedPages>,
}

/// Allocator with a limited number of table pages.
pub(super) struct LimitedPages {
    from: TableFrames,
    left: AtomicUsize,
}

impl LimitedPages {
    pub(super) fn allow(&self, count: usize) {
        self.left.store(count, Ordering::Relaxed);
    }
}

impl TablePages for LimitedPages {
    fn take(&self) -> Result<PageRun, OutOfMemory> {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
        if left == 0 {
            return Err(OutOfMemory { allocator: "ration", pages: 1, align: 4096, limit: PhysAddr(0) });
        }
        self.from.take()
    }
}

impl Board {
    pub(super) fn new() -> Self {
        let memory = FakeMemory::new(&[(RAM, 256 * K4, RamUse::Frames)]);
        let frames = Arc::clone(PhysMemory::new(memory.clone()).frames());
        let from = TableFrames::new(
            &Context::new(FakeEnv::with_memory(memory.clone()), None),
            Arc::clone(&frames),
            PhysAddr(u64::MAX),
        );
        Self { memory, frames, pages: Arc::new(LimitedPages { from, left: AtomicUsize::new(usize::MAX) }) }
    }

    pub(super) fn table<F: Format>(&self, input_bits: u32, coherent_walk: bool) -> PageTable<F> {
        let config = Config { input_bits, output_bits: 40, coherent_walk };
        PageTable::new(self.pages.clone(), self.memory.clone(), config).unwrap()
    }

    pub(super) fn word(&self, table: PhysAddr, index: u64) -> u64 {
        let at = table + index * 8;
        self.memory.ram_word(at).unwrap_or_else(|| access::load_u64(&*self.memory, at, Caching::Uncached).unwrap())
    }

    /// Table walk by the manual. Returns the leaf entry, its level, and the output address.
    pub(super) fn walk<F: Format>(&self, table: &PageTable<F>, iova: DeviceAddr) -> Option<(u64, u64, PhysAddr)> {
        let bits = u64::from(table.config().input_bits);
        let mut level = u64::from(bits <= 39);
        let mut base = table.root();
        loop {
            let low = 39 - 9 * level;
            let word = self.word(base, (iova.0 >> low) % 512);
            match (word & 3, level) {
                (3, 3) | (1, 1 | 2) => {
                    let address = word & 0xffff_ffff_f000 & !((1 << low) - 1);
                    return Some((word, level, PhysAddr(address | (iova.0 % (1 << low)))));
                }
                (3, 0..=2) => base = PhysAddr(word & 0xffff_ffff_f000),
                (0, _) => {
                    assert_eq!(word, 0);
                    return None;
                }
                _ => panic!("reserved entry {word:#x} at level {level}"),
            }
            level += 1;
        }
    }
}
