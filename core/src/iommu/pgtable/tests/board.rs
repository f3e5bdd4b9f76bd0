//! Fixture: RAM, a limited supply of table pages, and a table walk that reads only RAM, not the tree.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::addr::{DeviceAddr, PhysAddr};
use crate::context::Context;
use crate::env::fake::FakeEnv;
use crate::env::{Caching, RamUse};
use crate::iommu::Prot;
use crate::iommu::pgtable::{BLOCK_SIZES, Config, Format, PageTable, TableFrames, TablePages, VtdSecondStage};
use crate::mem::fake::FakeMemory;
use crate::mem::{AllocError, OutOfMemory, PageAllocator, PageRun, PhysMemory, access};

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
    fn take(&self) -> Result<PageRun, AllocError> {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
        if left == 0 {
            return Err(OutOfMemory { allocator: "ration", pages: 1, align: 4096, limit: PhysAddr(0) }.into());
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
        self.table_of(input_bits, BLOCK_SIZES, coherent_walk)
    }

    pub(super) fn table_of<F: Format>(&self, input_bits: u32, block_sizes: u64, coherent_walk: bool) -> PageTable<F> {
        let config = Config { input_bits, output_bits: 40, block_sizes, coherent_walk };
        PageTable::new(self.pages.clone(), self.memory.clone(), config).unwrap()
    }

    pub(super) fn word(&self, table: PhysAddr, index: u64) -> u64 {
        let at = table + index * 8;
        self.memory.ram_word(at).unwrap_or_else(|| access::load_u64(&*self.memory, at, Caching::Uncached).unwrap())
    }

    /// Table walk by the manual. Returns the leaf entry, its level (3 for a page), and the output address.
    pub(super) fn walk<F: Format>(&self, table: &PageTable<F>, iova: DeviceAddr) -> Option<(u64, u64, PhysAddr)> {
        if F::NAME == VtdSecondStage::NAME {
            return self.walk_vtd(table.root(), table.config().input_bits, iova);
        }
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

    /// As [`walk`](Self::walk), by Intel's manual: 3.6 and 9.8. Levels count down to 1 there, and up to 3 in what this returns.
    fn walk_vtd(&self, root: PhysAddr, bits: u32, iova: DeviceAddr) -> Option<(u64, u64, PhysAddr)> {
        const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
        let mut level = if bits <= 39 {
            3
        } else if bits <= 48 {
            4
        } else {
            5
        };
        let mut base = root;
        loop {
            let low = 12 + 9 * (level - 1);
            let word = self.word(base, (iova.0 >> low) % 512);
            // Present when it can be read or written; bits 2 and 8 to 11, 52 to 63 are not used here, or are reserved.
            if !matches!(word & 3, 1..=3) {
                assert_eq!(word, 0);
                return None;
            }
            assert_eq!(word & !(ADDRESS | 0x83), 0, "{word:#x}");
            let block = word & 0x80 != 0;
            assert!(!block || matches!(level, 2 | 3), "bit 7 at level {level}");
            if level == 1 || block {
                let mask = (1 << low) - 1;
                assert_eq!(word & ADDRESS & mask, 0, "a block that is not aligned");
                return Some((word, 4 - level, PhysAddr(word & ADDRESS | (iova.0 & mask))));
            }
            assert_eq!(word & 3, 3, "rights are those of the leaf");
            base = PhysAddr(word & ADDRESS);
            level -= 1;
        }
    }
}
