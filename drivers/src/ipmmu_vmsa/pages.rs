//! Where table pages come from.

use alloc::sync::Arc;

use bindery::addr::PhysAddr;
use bindery::env::{Env, FaultPoint};
use bindery::iommu::pgtable::{TableFrames, TablePages};
use bindery::mem::{OutOfMemory, PageAllocator, PageRun};

use super::regs::OUTPUT_BITS;

/// Highest address that the walker reaches.
const LIMIT: PhysAddr = PhysAddr((1 << OUTPUT_BITS) - 1);

/// Page frames, with a place for injected faults.
pub(super) struct Pages {
    frames: TableFrames,
    env: Arc<dyn Env>,
}

impl Pages {
    pub(super) fn new(frames: &Arc<dyn PageAllocator>, env: Arc<dyn Env>) -> Self {
        Self { frames: TableFrames::new(Arc::clone(frames), LIMIT), env }
    }
}

impl TablePages for Pages {
    fn take(&self) -> Result<PageRun, OutOfMemory> {
        if self.env.should_fail(FaultPoint::TableAlloc) {
            return Err(OutOfMemory {
                allocator: "table pages",
                pages: 1,
                align: bindery::addr::PAGE_SIZE,
                limit: LIMIT,
            });
        }
        self.frames.take()
    }
}
