//! Page frames of a target's own allocator.

#[cfg(all(test, not(loom)))]
mod tests;

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::access;
use super::outside::{Contested, OutsideRuns};
use super::{
    AllocError, BadRun, BuddyAllocator, CacheOp, ForeignPages, FreedRun, Memory, OutOfMemory, PageAllocator,
    PageRequest, RamUse, RunFault,
};
use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::sync::atomic::{AtomicU64, Ordering};

/// Allocator of page frames that a target brings, such as the one of a kernel: the core then takes all its page frames from it and
/// manages none itself.
///
/// The core looks at what it is given: whole pages of RAM in one piece, as they were asked for, none of them given before and not taken back. What is
/// not so is refused with a [`BadRun`] that names it, and not used. The core zeroes what it uses (P12).
///
/// Calls come from any thread, also with interrupts disabled, and must not call the machine.
pub trait PageSource: Send + Sync {
    /// Short name for events and errors.
    fn name(&self) -> &'static str;

    /// Allocates a run of pages as `request` says, with any contents. `None` when no such run is free.
    fn take(&self, request: &PageRequest) -> Option<PhysAddr>;

    /// Takes back a run that [`take`](Self::take) returned, as a whole. No device reaches it any more (P2).
    fn give_back(&self, run: FreedRun);

    /// As [`PageAllocator::withdraw`]: never allocates the pages that hold the bytes from `first` to `last` from now on, since a device uses
    /// them. False when it cannot.
    fn withdraw(&self, first: PhysAddr, last: PhysAddr) -> bool;
}

/// The core's own allocator, as any other source.
impl PageSource for BuddyAllocator {
    fn name(&self) -> &'static str {
        PageAllocator::name(self)
    }

    fn take(&self, request: &PageRequest) -> Option<PhysAddr> {
        self.take_run(request)
    }

    fn give_back(&self, run: FreedRun) {
        let freed = self.free(run);
        debug_assert!(freed.is_ok(), "{freed:?}");
    }

    fn withdraw(&self, first: PhysAddr, last: PhysAddr) -> bool {
        PageAllocator::withdraw(self, first, last)
    }
}

/// Front of a source: looks at what it gives, zeroes it, and knows what it has given.
pub(super) struct SourcedFrames {
    source: Arc<dyn PageSource>,
    memory: Arc<dyn Memory>,
    /// The other allocator of the core, whose pages the source must not give.
    cma: Option<Arc<dyn PageAllocator>>,
    outside: Arc<OutsideRuns>,
    /// Pages given and not taken back. A counter only: relaxed ordering suffices.
    in_use: AtomicU64,
}

impl SourcedFrames {
    pub(super) fn new(
        source: Arc<dyn PageSource>,
        memory: Arc<dyn Memory>,
        cma: Option<Arc<dyn PageAllocator>>,
        outside: Arc<OutsideRuns>,
    ) -> Self {
        Self { source, memory, cma, outside, in_use: AtomicU64::new(0) }
    }

    /// Forgets a run that was just recorded.
    fn forget(&self, base: PhysAddr, pages: u64) {
        self.outside.remove(base, pages).into_iter().flatten().for_each(Contested::give_back);
    }

    /// What is wrong with a run that was given for `request`, beyond what any run must be.
    fn fault(base: PhysAddr, request: &PageRequest) -> Option<RunFault> {
        let last = base.0 + (request.pages * PAGE_SIZE - 1);
        if last > request.limit.0 {
            Some(RunFault::AboveLimit(request.limit))
        } else {
            (!base.is_aligned(request.align)).then_some(RunFault::Unaligned(request.align))
        }
    }
}

impl PageAllocator for SourcedFrames {
    fn name(&self) -> &'static str {
        self.source.name()
    }

    fn alloc(&self, request: &PageRequest) -> Result<PhysAddr, AllocError> {
        let PageRequest { pages, align, limit } = *request;
        let owner = self.source.name();
        let none = OutOfMemory { allocator: owner, pages, align, limit };
        if pages == 0 || !align.is_power_of_two() {
            return Err(none.into());
        }
        let base = self.source.take(request).ok_or(none)?;
        let cma = self.cma.as_deref().map(|cma| (RamUse::Contiguous, cma));
        if let Err(error) = self.outside.add(&self.memory, cma, owner, base, pages) {
            if let RunFault::Overlaps { .. } = error.fault {
                let source = Arc::clone(&self.source);
                let give_back = move |run| source.give_back(run);
                let free = self.outside.contest(owner, base, pages, Box::new(give_back));
                free.into_iter().for_each(Contested::give_back);
            }
            // Another one that is refused here is not given back: it is not RAM, or somebody else's.
            return Err(error.into());
        }
        if let Some(fault) = Self::fault(base, request) {
            self.forget(base, pages);
            self.source.give_back(FreedRun::new(base, pages));
            return Err(BadRun { owner, base, pages, fault }.into());
        }
        let len = pages * PAGE_SIZE;
        if access::zero_unowned(&*self.memory, base, len).is_err() {
            self.forget(base, pages);
            return Err(BadRun { owner, base, pages, fault: RunFault::NotRam }.into());
        }
        self.memory.cache(CacheOp::Clean, base, len);
        self.in_use.fetch_add(pages, Ordering::Relaxed);
        Ok(base)
    }

    fn free(&self, run: FreedRun) -> Result<(), ForeignPages> {
        let (base, pages) = (run.base(), run.pages());
        // Forgotten first: the source may give them again at once.
        let Some(contested) = self.outside.remove(base, pages) else {
            return Err(ForeignPages { allocator: self.source.name(), base, pages });
        };
        self.in_use.fetch_sub(pages, Ordering::Relaxed);
        self.source.give_back(run);
        contested.into_iter().for_each(Contested::give_back);
        Ok(())
    }

    fn in_use(&self) -> u64 {
        self.in_use.load(Ordering::Relaxed)
    }

    fn withdraw(&self, first: PhysAddr, last: PhysAddr) -> bool {
        self.source.withdraw(first, last)
    }
}
