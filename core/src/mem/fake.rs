//! RAM for unit tests, on the heap: coherent, with a log of cache maintenance.

// UNSAFETY: owns raw allocations and lends pointers into them.
#![expect(unsafe_code, reason = "implements the unsafe trait `Memory` over raw allocations")]

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use alloc::collections::BTreeMap;
use core::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::vec::Vec;

use crate::addr::{CpuPtr, PhysAddr};
use crate::mem::{Barrier, CacheOp, Caching, Memory, RamRange, RamUse, access};
use crate::sync::SpinLock;

const ALIGN: usize = 4096;

/// Simulated RAM. The cached and the uncached view are the same bytes.
pub(crate) struct FakeMemory {
    banks: Vec<(RamRange, NonNull<u8>)>,
    cache_ops: SpinLock<Vec<(CacheOp, PhysAddr, u64)>>,
    /// Barriers, each with the number of cache operations before it.
    barriers: SpinLock<Vec<(Barrier, usize)>>,
    windows: AtomicUsize,
    /// Words that were written back, once RAM is kept apart from the cache.
    ram: SpinLock<Option<BTreeMap<PhysAddr, u64>>>,
}

// SAFETY: the pointers are owned, and only lent under the contract of `Memory::window`.
unsafe impl Send for FakeMemory {}
// SAFETY: as for `Send`.
unsafe impl Sync for FakeMemory {}

impl FakeMemory {
    /// RAM of the given (base, bytes, use) ranges: whole pages, ascending. Filled with
    /// 0xa5, so that a missing zeroing shows.
    pub(crate) fn new(ranges: &[(u64, u64, RamUse)]) -> Arc<Self> {
        let bank = |&(base, len, use_for): &(u64, u64, RamUse)| {
            let layout = Layout::from_size_align(len as usize, ALIGN).unwrap();
            // SAFETY: callers pass at least one page, so the layout has a size.
            let ptr = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
            (RamRange { base: PhysAddr(base), len, use_for }, ptr)
        };
        let memory = Self {
            banks: ranges.iter().map(bank).collect(),
            cache_ops: SpinLock::new(Vec::new()),
            barriers: SpinLock::new(Vec::new()),
            windows: AtomicUsize::new(0),
            ram: SpinLock::new(None),
        };
        for &(range, ptr) in &memory.banks {
            // SAFETY: the bank was just allocated with this length, and the pointer is not shared yet.
            unsafe { ptr.write_bytes(0xa5, range.len as usize) };
        }
        Arc::new(memory)
    }

    pub(crate) fn dynamic(self: Arc<Self>) -> Arc<dyn Memory> {
        self
    }

    /// Cache maintenance since the last call.
    pub(crate) fn take_cache_ops(&self) -> Vec<(CacheOp, PhysAddr, u64)> {
        core::mem::take(&mut *self.cache_ops.lock())
    }

    /// Barriers since the last call, each with the number of operations before it that [`take_cache_ops`](Self::take_cache_ops) is going to
    /// return.
    pub(crate) fn take_barriers(&self) -> Vec<(Barrier, usize)> {
        core::mem::take(&mut *self.barriers.lock())
    }

    /// From now on what is stored is in the cache, and [`ram_word`](Self::ram_word) sees it once it was cleaned.
    pub(crate) fn separate_ram(&self) {
        *self.ram.lock() = Some(BTreeMap::new());
    }

    /// Word of RAM as a device that does not snoop reads it. `None` unless RAM is kept apart.
    pub(crate) fn ram_word(&self, at: PhysAddr) -> Option<u64> {
        self.ram.lock().as_ref().map(|ram| ram.get(&at).copied().unwrap_or(0xa5a5_a5a5_a5a5_a5a5))
    }

    /// Calls of `window` since the last call of this.
    pub(crate) fn take_windows(&self) -> usize {
        self.windows.swap(0, Ordering::Relaxed)
    }
}

impl Drop for FakeMemory {
    fn drop(&mut self) {
        for (range, ptr) in &self.banks {
            // SAFETY: allocated in `new` with this layout, and windows are void once the object is gone.
            unsafe { dealloc(ptr.as_ptr(), Layout::from_size_align(range.len as usize, ALIGN).unwrap()) };
        }
    }
}

// SAFETY: banks are page aligned as their physical addresses are, live as long as `self`, and are never borrowed here.
unsafe impl Memory for FakeMemory {
    fn ranges(&self) -> Vec<RamRange> {
        self.banks.iter().map(|(range, _)| *range).collect()
    }

    fn window(&self, base: PhysAddr, len: u64, _caching: Caching) -> Option<CpuPtr> {
        self.windows.fetch_add(1, Ordering::Relaxed);
        let end = base.checked_add(len)?;
        let inside = |r: &RamRange| r.base <= base && end.0 <= r.base.0 + r.len;
        let (range, ptr) = self.banks.iter().find(|(r, _)| inside(r))?;
        // SAFETY: the offset was checked to lie inside the bank.
        Some(CpuPtr(unsafe { ptr.add((base - range.base) as usize) }))
    }

    fn cache(&self, op: CacheOp, base: PhysAddr, len: u64) {
        self.cache_ops.lock().push((op, base, len));
        if op != CacheOp::Invalidate
            && let Some(ram) = self.ram.lock().as_mut()
        {
            let words = (base.0 & !7..base.0 + len).step_by(8).map(PhysAddr);
            ram.extend(words.map(|at| (at, access::load_u64(self, at, Caching::Cached).unwrap())));
        }
    }

    fn barrier(&self, barrier: Barrier) {
        self.barriers.lock().push((barrier, self.cache_ops.lock().len()));
        core::sync::atomic::fence(Ordering::SeqCst);
    }
}
