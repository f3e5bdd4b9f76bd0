//! Pages that somebody outside the core owns, and lends to it.

// UNSAFETY: whoever lends pages vouches that nobody else uses them meanwhile.
#![expect(unsafe_code, reason = "declares the unsafe function by which pages are lent")]

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

use super::access::RamWindow;
use super::outside::{Contested, GiveBack, OutsideRuns};
use super::{
    AllocError, BadRun, ForeignPages, FreedRun, OutOfMemory, PageAllocator, PageRequest, PageRun, PhysMemory, RunFault,
};
use crate::addr::PhysAddr;
use crate::sync::SpinLock;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Physically contiguous pages that a caller owns, such as pages of a page cache or of a user's process, and what gives them back.
///
/// Holding one tells you: nobody but the holder uses these pages, and their owner gets them back exactly once. Whoever drops it gives
/// them back. [`System::adopt`](crate::system::System::adopt) makes a [`DmaBuffer`](crate::dma::DmaBuffer) of them, which gives them
/// back when it is dropped and no device can reach them any more, whichever is later.
pub struct OwnedPages {
    owner: &'static str,
    base: PhysAddr,
    pages: u64,
    /// `None` once they were given back, or lent on.
    give_back: Option<GiveBack>,
}

impl OwnedPages {
    /// Pages from `base` on that `owner` (a name for events and errors) lends. `give_back` is called exactly once, when nobody uses
    /// them any more and no device can reach them (P2), on any thread that ends the last use, without a lock of the core that spins.
    /// It must not panic, wait for a device, or call the machine. If the core cannot show that the device is off them, they are in
    /// quarantine, and it is not called as long as they are.
    ///
    /// # Safety
    ///
    /// From now on until `give_back` is called, nobody else reads, writes, frees or lends these pages, by any mapping of them, and no
    /// reference to them exists; except through [`Memory`](super::Memory), by those who use what the core makes of them.
    pub unsafe fn new(
        owner: &'static str,
        base: PhysAddr,
        pages: u64,
        give_back: impl FnOnce(FreedRun) + Send + 'static,
    ) -> Self {
        Self { owner, base, pages, give_back: Some(Box::new(give_back)) }
    }

    /// First byte.
    pub fn base(&self) -> PhysAddr {
        self.base
    }

    /// Number of pages.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Name of the owner.
    pub fn owner(&self) -> &'static str {
        self.owner
    }
}

impl Drop for OwnedPages {
    fn drop(&mut self) {
        if let Some(give_back) = self.give_back.take() {
            give_back(FreedRun::new(self.base, self.pages));
        }
    }
}

impl fmt::Debug for OwnedPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnedPages({} pages at {} of {})", self.pages, self.base, self.owner)
    }
}

/// Pages that were not adopted, with the reason. Dropping it gives them back to their owner.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct NotAdopted {
    /// Reason of the refusal.
    pub error: BadRun,
    /// The pages, as they were passed in. `None` when the core still has some of them ([`RunFault::Overlaps`]): a device may reach
    /// them (P2). If another party gave those, these pages are given back once the core has none of them any more; if the same owner
    /// has lent them before, that lending gives them back in its time, and this one nothing.
    pub returned: Option<OwnedPages>,
}

/// Allocator of one run, which its owner has lent: it can only be freed.
struct Lent {
    owner: &'static str,
    outside: Arc<OutsideRuns>,
    give_back: SpinLock<Option<GiveBack>>,
    pages: AtomicU64,
}

impl PageAllocator for Lent {
    fn name(&self) -> &'static str {
        self.owner
    }

    fn alloc(&self, request: &PageRequest) -> Result<PhysAddr, AllocError> {
        let PageRequest { pages, align, limit } = *request;
        Err(OutOfMemory { allocator: self.owner, pages, align, limit }.into())
    }

    fn free(&self, run: FreedRun) -> Result<(), ForeignPages> {
        let (base, pages) = (run.base(), run.pages());
        // Forgotten first: the owner may lend them again at once.
        let contested = self.outside.remove(base, pages);
        let give_back = self.give_back.lock().take();
        match give_back.zip(contested) {
            Some((give_back, contested)) => {
                self.pages.store(0, Ordering::Relaxed);
                give_back(run);
                contested.into_iter().for_each(Contested::give_back);
                Ok(())
            }
            None => Err(ForeignPages { allocator: self.owner, base, pages }),
        }
    }

    fn in_use(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }
}

impl PhysMemory {
    /// Takes over pages that their owner lends. Returns them with the window of all of them.
    pub(crate) fn adopt(&self, mut pages: OwnedPages) -> Result<(PageRun, RamWindow), NotAdopted> {
        let (owner, base, count) = (pages.owner, pages.base, pages.pages);
        let managers = self.managers();
        let window = match self.outside().add(self.memory(), managers, owner, base, count) {
            Ok(window) => window,
            Err(error) => {
                let overlaps = matches!(error.fault, RunFault::Overlaps { .. });
                if overlaps && let Some(give_back) = pages.give_back.take() {
                    let free = self.outside().contest(owner, base, count, give_back);
                    free.into_iter().for_each(Contested::give_back);
                }
                return Err(NotAdopted { error, returned: (!overlaps).then_some(pages) });
            }
        };
        let lent = Lent {
            owner,
            outside: Arc::clone(self.outside()),
            give_back: SpinLock::new(pages.give_back.take()),
            pages: AtomicU64::new(count),
        };
        Ok((PageRun::lent(base, count, Arc::new(lent)), window))
    }
}
