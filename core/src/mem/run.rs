//! Runs of pages, and the trait of their allocators.

use alloc::sync::Arc;
use core::fmt;

use super::BadRun;
use crate::addr::{PAGE_SIZE, PhysAddr};

/// Request to a page allocator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageRequest {
    /// Number of physically contiguous pages, at least 1.
    pub pages: u64,
    /// Alignment of the first page in bytes: a power of two, at least [`PAGE_SIZE`].
    pub align: u64,
    /// Highest physical address that any byte of the run may have (inclusive).
    pub limit: PhysAddr,
}

impl PageRequest {
    /// Request for `pages` contiguous pages at any address.
    pub const fn new(pages: u64) -> Self {
        Self { pages, align: PAGE_SIZE, limit: PhysAddr(u64::MAX) }
    }
}

/// No free run of pages meets the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{allocator} has no {pages} contiguous pages (align {align:#x}, limit {limit})")]
pub struct OutOfMemory {
    /// Name of the allocator.
    pub allocator: &'static str,
    /// Pages requested.
    pub pages: u64,
    /// Alignment requested, in bytes.
    pub align: u64,
    /// Highest address allowed (inclusive).
    pub limit: PhysAddr,
}

/// Reason for which an allocator gives no pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AllocError {
    /// It has none.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// The target's allocator gave pages that it must not give.
    #[error(transparent)]
    BadRun(#[from] BadRun),
}

/// Refusal to free pages that the allocator did not allocate, or not as one run of this length. Nothing was freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{allocator} did not allocate {pages} pages at {base} as one run: not freed")]
pub struct ForeignPages {
    /// Name of the allocator that refused.
    pub allocator: &'static str,
    /// First page of the refused run.
    pub base: PhysAddr,
    /// Pages of the refused run.
    pub pages: u64,
}

/// Allocator of runs of pages.
pub trait PageAllocator: Send + Sync {
    /// Short name for events and errors: `"frames"`, `"cma"`.
    fn name(&self) -> &'static str;

    /// Allocates a zeroed run of pages; returns its first page.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] when no free run meets the request, or the request is malformed; [`BadRun`] when the target's allocator gave
    /// pages that it must not give.
    fn alloc(&self, request: &PageRequest) -> Result<PhysAddr, AllocError>;

    /// Frees a run that [`alloc`](Self::alloc) returned, as a whole.
    ///
    /// # Errors
    ///
    /// [`ForeignPages`] when the run is not one that this allocator has allocated; nothing is freed then.
    fn free(&self, run: FreedRun) -> Result<(), ForeignPages>;

    /// Number of pages allocated at this moment.
    fn in_use(&self) -> u64;

    /// True when any of the `pages` pages from `base` on are this allocator's, free or not.
    fn manages(&self, base: PhysAddr, pages: u64) -> bool {
        let _ = (base, pages);
        false
    }

    /// Removes the pages that hold the bytes from `first` to `last` (inclusive) from the allocator, because a device
    /// uses them. False when some of them are allocated; those, and pages that adjoin them, stay.
    fn withdraw(&self, first: PhysAddr, last: PhysAddr) -> bool {
        let _ = (first, last);
        true
    }
}

/// Proof for an allocator: the owner of these pages no longer uses them, and no device reaches them (P2). Only the
/// destructor of a [`PageRun`] makes one.
#[derive(PartialEq, Eq, Debug)]
pub struct FreedRun {
    base: PhysAddr,
    pages: u64,
}

impl FreedRun {
    pub(crate) const fn new(base: PhysAddr, pages: u64) -> Self {
        Self { base, pages }
    }

    /// First byte.
    pub fn base(&self) -> PhysAddr {
        self.base
    }

    /// Number of pages.
    pub fn pages(&self) -> u64 {
        self.pages
    }
}

/// Owned run of pages. Owning a `PageRun` tells you: these pages are yours alone, no device can reach them, and they
/// will be freed to the allocator that they came from (P1, P2). Dropping it frees them.
///
/// # Invariants
///
/// `base` and `pages` are one run that `allocator` allocated and that was not freed since.
pub struct PageRun {
    base: PhysAddr,
    pages: u64,
    allocator: Arc<dyn PageAllocator>,
}

impl PageRun {
    /// Allocates a run from `allocator`.
    ///
    /// # Errors
    ///
    /// As [`PageAllocator::alloc`].
    pub fn alloc(allocator: &Arc<dyn PageAllocator>, request: &PageRequest) -> Result<Self, AllocError> {
        let base = allocator.alloc(request)?;
        // INVARIANT: `allocator` just allocated exactly this run.
        Ok(Self { base, pages: request.pages, allocator: Arc::clone(allocator) })
    }

    /// Run that its owner has lent: `allocator` gives it back.
    pub(super) fn lent(base: PhysAddr, pages: u64, allocator: Arc<dyn PageAllocator>) -> Self {
        // INVARIANT: the caller has made `allocator` for exactly this run.
        Self { base, pages, allocator }
    }

    /// First byte.
    pub fn base(&self) -> PhysAddr {
        self.base
    }

    /// Number of pages.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Size in bytes.
    pub fn len(&self) -> u64 {
        self.pages * PAGE_SIZE
    }

    /// Never true: a run has at least one page.
    pub fn is_empty(&self) -> bool {
        self.pages == 0
    }

    /// Name of the allocator that the run came from and will be freed to.
    pub fn allocator(&self) -> &'static str {
        self.allocator.name()
    }
}

impl Drop for PageRun {
    fn drop(&mut self) {
        let freed = self.allocator.free(FreedRun::new(self.base, self.pages));
        debug_assert!(freed.is_ok(), "{freed:?}");
    }
}

impl fmt::Debug for PageRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageRun({} pages at {} from {})", self.pages, self.base, self.allocator.name())
    }
}
