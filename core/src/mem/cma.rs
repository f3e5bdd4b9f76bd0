//! The contiguous memory allocator (CMA).

use alloc::sync::Arc;
use core::fmt;

use super::pool::Pool;
use super::{ForeignPages, FreedRun, OutOfMemory, PageAllocator, PageRequest};
use crate::addr::PhysAddr;
use crate::mem::{Memory, RamUse};

/// Allocator of physically contiguous memory for DMA: like [`Frames`](super::Frames), over the ranges that the env
/// reserves for it.
///
/// Pages that are not from its region are refused with [`ForeignPages`]; neither allocator falls back to the other.
pub struct Cma(Pool);

impl Cma {
    /// Allocator over every contiguous range of `memory`, or `None` when there is none.
    pub fn new(memory: Arc<dyn Memory>) -> Option<Self> {
        let ranges = memory.ranges();
        let pool = Pool::new("cma", memory, ranges.into_iter().filter(|r| r.use_for == RamUse::Contiguous));
        (pool.total() != 0).then_some(Self(pool))
    }

    /// Number of pages managed, free or not.
    pub fn total(&self) -> u64 {
        self.0.total()
    }
}

impl PageAllocator for Cma {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn alloc(&self, request: &PageRequest) -> Result<PhysAddr, OutOfMemory> {
        self.0.alloc(request)
    }

    fn free(&self, run: FreedRun) -> Result<(), ForeignPages> {
        self.0.free(run.base(), run.pages())
    }

    fn in_use(&self) -> u64 {
        self.0.in_use()
    }

    fn withdraw(&self, first: PhysAddr, last: PhysAddr) -> bool {
        self.0.withdraw(first, last)
    }
}

impl fmt::Debug for Cma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cma({} of {} pages in use)", self.in_use(), self.total())
    }
}
