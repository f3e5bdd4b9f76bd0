//! The page allocators of one machine.

use alloc::sync::Arc;
use core::fmt;

use super::outside::OutsideRuns;
use super::{BuddyAllocator, Memory, PageAllocator, RamUse};

/// The RAM of one machine, with its allocators.
#[derive(Clone)]
pub struct PhysMemory {
    memory: Arc<dyn Memory>,
    frames: Arc<dyn PageAllocator>,
    cma: Option<Arc<dyn PageAllocator>>,
    outside: Arc<OutsideRuns>,
}

impl PhysMemory {
    /// Creates the allocators over the ranges of `memory`.
    pub fn new(memory: Arc<dyn Memory>) -> Self {
        let frames: Arc<dyn PageAllocator> =
            Arc::new(BuddyAllocator::new("frames", Arc::clone(&memory), RamUse::Frames));
        let cma = BuddyAllocator::new("cma", Arc::clone(&memory), RamUse::Contiguous);
        let cma = (cma.total() != 0).then(|| Arc::new(cma) as Arc<dyn PageAllocator>);
        Self { memory, frames, cma, outside: Arc::default() }
    }

    /// The page-frame allocator.
    pub fn frames(&self) -> &Arc<dyn PageAllocator> {
        &self.frames
    }

    /// The contiguous allocator, if the machine has a CMA region.
    pub fn cma(&self) -> Option<&Arc<dyn PageAllocator>> {
        self.cma.as_ref()
    }

    /// Runs of pages that the core has from outside.
    pub(super) fn outside(&self) -> &Arc<OutsideRuns> {
        &self.outside
    }

    /// The RAM itself.
    pub fn memory(&self) -> &Arc<dyn Memory> {
        &self.memory
    }
}

impl fmt::Debug for PhysMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("PhysMemory");
        f.field("frames_in_use", &self.frames.in_use());
        f.field("cma_in_use", &self.cma.as_ref().map(|cma| cma.in_use())).finish_non_exhaustive()
    }
}
