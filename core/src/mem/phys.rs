//! The page allocators of one machine.

use alloc::sync::Arc;
use core::fmt;

use super::outside::OutsideRuns;
use super::source::SourcedFrames;
use super::{BuddyAllocator, Memory, PageAllocator, PageSource, RamUse};
use crate::addr::PhysAddr;

/// All but the page frames.
struct Parts {
    memory: Arc<dyn Memory>,
    cma: Option<Arc<dyn PageAllocator>>,
    outside: Arc<OutsideRuns>,
}

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
        let frames = BuddyAllocator::new("frames", Arc::clone(&memory), RamUse::Frames);
        Self::of(memory, |_| Arc::new(frames))
    }

    /// As [`new`](Self::new), with the page frames of `source`.
    pub fn with_source(memory: Arc<dyn Memory>, source: Arc<dyn PageSource>) -> Self {
        Self::of(memory, |phys| {
            let (memory, cma, outside) = (Arc::clone(&phys.memory), phys.cma.clone(), Arc::clone(&phys.outside));
            Arc::new(SourcedFrames::new(source, memory, cma, outside))
        })
    }

    fn of(memory: Arc<dyn Memory>, frames: impl FnOnce(&Parts) -> Arc<dyn PageAllocator>) -> Self {
        let cma = BuddyAllocator::new("cma", Arc::clone(&memory), RamUse::Contiguous);
        let cma = (cma.total() != 0).then(|| Arc::new(cma) as Arc<dyn PageAllocator>);
        let parts = Parts { memory, cma, outside: Arc::default() };
        let frames = frames(&parts);
        let Parts { memory, cma, outside } = parts;
        Self { memory, frames, cma, outside }
    }

    /// The core's own allocators, with the RAM that they manage.
    pub(super) fn managers(&self) -> impl Iterator<Item = (RamUse, &dyn PageAllocator)> {
        let cma = self.cma.as_deref().map(|cma| (RamUse::Contiguous, cma));
        [(RamUse::Frames, &*self.frames)].into_iter().chain(cma)
    }

    /// The page-frame allocator.
    pub fn frames(&self) -> &Arc<dyn PageAllocator> {
        &self.frames
    }

    /// The contiguous allocator, if the machine has a CMA region.
    pub fn cma(&self) -> Option<&Arc<dyn PageAllocator>> {
        self.cma.as_ref()
    }

    /// Withdraws the pages from `first` to `last`, which a device uses from the start, from the allocators, and from what others lend
    /// or allocate later. The error names who has some of them.
    pub(crate) fn withdraw(&self, first: PhysAddr, last: PhysAddr) -> Result<(), &'static str> {
        let outside = self.outside.withdraw(first, last);
        let allocators = [Some(&self.frames), self.cma.as_ref()].into_iter().flatten();
        // All of them, whatever one of them says.
        let in_use =
            allocators.fold(None, |in_use, one| if one.withdraw(first, last) { in_use } else { Some(one.name()) });
        outside.or(in_use).map_or(Ok(()), Err)
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
