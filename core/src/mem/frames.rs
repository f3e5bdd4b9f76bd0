//! The page-frame allocator.

use alloc::sync::Arc;
use core::fmt;

use super::pool::Pool;
use super::{ForeignPages, FreedRun, OutOfMemory, PageAllocator, PageRequest};
use crate::addr::PhysAddr;
use crate::mem::{Memory, RamUse};

/// Allocator of ordinary page frames, in contiguous, zeroed runs of any number of pages (P12).
///
/// A run is aligned to its own size where such a place is free, above 4 GiB where the request's limit allows it, and as
/// high as possible. The cost of allocating and freeing does not depend on the number of allocated runs, with one
/// exception: when no block of the run's size, rounded up to a power of two, is free, smaller adjoining blocks are
/// searched.
///
/// ```
/// use bindery::mem::{PageRequest, PageRun, PhysMemory};
///
/// fn two_pages(memory: &PhysMemory) -> Result<PageRun, bindery::mem::OutOfMemory> {
///     let run = PageRun::alloc(memory.frames(), &PageRequest::new(2))?;
///     assert_eq!((run.len(), run.allocator()), (8192, "frames"));
///     Ok(run) // dropping it frees the pages
/// }
/// ```
pub struct Frames(Pool);

impl Frames {
    /// Allocator over every range of `memory` that is for page frames.
    pub fn new(memory: Arc<dyn Memory>) -> Self {
        let ranges = memory.ranges();
        Self(Pool::new("frames", memory, ranges.into_iter().filter(|r| r.use_for == RamUse::Frames)))
    }

    /// Number of pages managed, free or not.
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
