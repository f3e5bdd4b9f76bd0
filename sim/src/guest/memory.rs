//! The guest's RAM: pinned memory of the host, at the guest's own addresses.

// UNSAFETY: implements the unsafe trait `Memory` on top of the host's.
#![expect(unsafe_code, reason = "the guest's windows are windows of the host's RAM")]

use std::sync::Arc;

use bindery::addr::{CpuPtr, PhysAddr};
use bindery::dma::DmaMemory;
use bindery::env::{Barrier, CacheOp, Caching, Memory, RamRange, RamUse};

/// One range of RAM.
pub(super) struct GuestRam {
    backing: Arc<DmaMemory>,
    host: Arc<dyn Memory>,
    base: PhysAddr,
}

impl GuestRam {
    pub(super) fn new(backing: Arc<DmaMemory>, host: Arc<dyn Memory>, base: PhysAddr) -> Self {
        Self { backing, host, base }
    }

    /// Offset of `len` bytes at guest address `at` in the backing memory.
    pub(super) fn offset(&self, at: PhysAddr, len: u64) -> Option<u64> {
        let offset = at.0.checked_sub(self.base.0)?;
        (offset.checked_add(len)? <= self.backing.allocated()).then_some(offset)
    }

    pub(super) fn backing(&self) -> &Arc<DmaMemory> {
        &self.backing
    }

    /// The host's address of `len` bytes at guest address `at`.
    fn host_addr(&self, at: PhysAddr, len: u64) -> Option<PhysAddr> {
        Some(self.backing.phys() + self.offset(at, len)?)
    }
}

// SAFETY: a window is a window of the host's memory, which vouches for it while `self.host` lives; it lies inside
// `self.backing`, which nobody but this guest reaches through Rust and which `self` keeps allocated.
unsafe impl Memory for GuestRam {
    fn ranges(&self) -> Vec<RamRange> {
        vec![RamRange { base: self.base, len: self.backing.allocated(), use_for: RamUse::Frames }]
    }

    fn window(&self, base: PhysAddr, len: u64, caching: Caching) -> Option<CpuPtr> {
        self.host.window(self.host_addr(base, len)?, len, caching)
    }

    fn cache(&self, op: CacheOp, base: PhysAddr, len: u64) {
        if let Some(at) = self.host_addr(base, len) {
            self.host.cache(op, at, len);
        }
    }

    fn barrier(&self, barrier: Barrier) {
        self.host.barrier(barrier);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::salvator::Salvator;
    use bindery::env::Env as _;
    use bindery::machine::Policy;

    const BASE: PhysAddr = PhysAddr(0x4000_0000);
    const PAGE: u64 = 4096;

    #[test]
    fn a_window_is_one_of_the_hosts_memory_and_ends_where_that_does() {
        let board = Salvator::new().frames(16 * PAGE).contiguous(PAGE).build();
        let machine = board.machine(Policy::default());
        let [_before, backing, _behind] = [(); 3].map(|()| DmaMemory::allocate(machine.memory(), 2 * PAGE).unwrap());
        let at = backing.phys();
        let ram = GuestRam::new(backing, board.memory(), BASE);
        let window = ram.window(BASE + PAGE, PAGE, Caching::Uncached).unwrap().0.as_ptr();
        // SAFETY: `window` vouches for the bytes, and nobody else touches this board's RAM.
        unsafe { window.add(PAGE as usize - 1).write(7) };
        let mut byte = [0];
        board.ram().dma_read(at + (2 * PAGE - 1), &mut byte, false).unwrap();
        assert_eq!(byte, [7]);
        let below = PhysAddr(BASE.0 - 1);
        for (base, len) in [(below, 1), (BASE + PAGE, PAGE + 1), (BASE + 2 * PAGE, 1), (BASE + PAGE, u64::MAX)] {
            assert_eq!(ram.window(base, len, Caching::Cached), None, "{base} {len}");
        }
    }
}
