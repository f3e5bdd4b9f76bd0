//! RAM: its ranges, the CPU's access to it, cache maintenance and barriers.

use alloc::vec::Vec;

use crate::addr::{CpuPtr, PhysAddr};

/// Use of a range of RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RamUse {
    /// Ordinary page frames.
    Frames,
    /// Physically contiguous DMA memory (CMA).
    Contiguous,
    /// Kept by the target for uses of its own, such as a page cache or processes. The core allocates none of it; who owns pages of it
    /// may lend them ([`OwnedPages`](crate::mem::OwnedPages)).
    Kept,
}

/// Range of RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RamRange {
    /// First byte; page aligned.
    pub base: PhysAddr,
    /// Bytes; whole pages.
    pub len: u64,
    /// Use of the range.
    pub use_for: RamUse,
}

/// Memory type of a CPU mapping of RAM.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Caching {
    /// Cached. A non-coherent device sees stores only after [`CacheOp::Clean`].
    Cached,
    /// Uncached: CPU and devices see each other's stores without cache maintenance.
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
    /// All ranges of RAM, ascending and not overlapping.
    fn ranges(&self) -> Vec<RamRange>;

    /// CPU address of `len` bytes of RAM at `base`. `None` when any of them is not RAM of this machine.
    fn window(&self, base: PhysAddr, len: u64, caching: Caching) -> Option<CpuPtr>;

    /// Performs cache maintenance on `len` bytes at `base`; complete when this returns. A no-op where devices snoop.
    fn cache(&self, op: CacheOp, base: PhysAddr, len: u64);

    /// Orders the CPU's accesses as devices see them.
    fn barrier(&self, barrier: Barrier);
}
