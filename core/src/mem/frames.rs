//! The page-frame allocator.

use alloc::sync::Arc;
use core::fmt;

use super::pool::Pool;
use super::{ForeignPages, FreedRun, OutOfMemory, PageAllocator, PageRequest};
use crate::addr::PhysAddr;
use crate::mem::{Memory, RamUse};

/// Ordinary page frames: hands out contiguous runs of any number of pages, zeroed (P12).
///
/// A run lies at a multiple of its own size where such a place is free, above 4 GiB where the request's limit allows
/// it, and as high as possible. Taking and giving back cost the same whatever the number of runs that are out, with one
/// exception: a run for which no block of its size, rounded up to a power of two, is left is searched for among the
/// smaller blocks.
pub struct Frames(Pool);

impl Frames {
    /// Manages every range of `memory` that is for page frames.
    pub fn new(memory: Arc<dyn Memory>) -> Self {
        let ranges = memory.ranges();
        Self(Pool::new("frames", memory, ranges.into_iter().filter(|r| r.use_for == RamUse::Frames)))
    }

    /// Pages managed, free or not.
    pub fn total(&self) -> u64 {
        self.0.total()
    }
}

impl PageAllocator for Frames {
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

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frames({} of {} pages in use)", self.in_use(), self.total())
    }
}

#[cfg(test)]
mod tests;
