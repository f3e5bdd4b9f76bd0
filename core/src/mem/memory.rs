//! RAM: where it lies, how the CPU reaches it, and how caches are kept in step with devices.

use alloc::vec::Vec;

use crate::addr::{CpuPtr, PhysAddr};

/// What a range of RAM is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RamUse {
    /// Ordinary page frames.
    Frames,
    /// Set aside for physically contiguous DMA memory (CMA).
    Contiguous,
}

/// One range of RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RamRange {
    /// First byte; page aligned.
    pub base: PhysAddr,
    /// Bytes; whole pages.
    pub len: u64,
    /// What it is for.
    pub use_for: RamUse,
}

/// How the CPU reaches a window of RAM.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Caching {
    /// Through its data cache. A non-coherent device sees stores only after [`CacheOp::Clean`].
    Cached,
    /// Past its caches: what the CPU stores, every device sees, and the other way round.
    Uncached,
}

/// Cache maintenance by address range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CacheOp {
    /// Writes dirty lines back to RAM, before a device reads.
    Clean,
    /// Drops lines, so that the next load sees what a device wrote. Partial lines at the edges are written back first.
    Invalidate,
    /// [`Clean`](Self::Clean), then [`Invalidate`](Self::Invalidate).
    CleanInvalidate,
}

/// Ordering of memory accesses as devices observe them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Barrier {
    /// Earlier stores are visible to devices before later stores (`dma_wmb`).
    Write,
    /// Earlier loads are done before later loads (`dma_rmb`).
    Read,
    /// Both, and also against register accesses (`mb`).
    Full,
}

/// The RAM of one machine.
///
/// # Implementation safety
///
/// [`window`](Self::window) must return a pointer that is valid for reads and writes of `len` bytes for as long as the
/// `Memory` object lives, aligned as the physical address is, and to bytes that no Rust reference outside this object
/// aliases.
#[expect(unsafe_code, reason = "the implementer vouches for the pointers that windows return")]
// SAFETY: obligations are listed above, under "Implementation safety".
pub unsafe trait Memory: Send + Sync {
    /// All RAM, in ascending order, ranges not overlapping.
    fn ranges(&self) -> Vec<RamRange>;

    /// Where the CPU reaches `len` bytes of RAM at `base`. `None` when any of them is not RAM of this machine.
    fn window(&self, base: PhysAddr, len: u64, caching: Caching) -> Option<CpuPtr>;

    /// Cache maintenance over `len` bytes at `base`, complete when this returns. A no-op where devices snoop.
    fn cache(&self, op: CacheOp, base: PhysAddr, len: u64);

    /// Orders the CPU's accesses as devices see them.
    fn barrier(&self, barrier: Barrier);
}
