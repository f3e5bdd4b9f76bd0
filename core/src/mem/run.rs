//! A run of pages and the face of whoever hands it out.

use alloc::sync::Arc;
use core::fmt;

use crate::addr::{PAGE_SIZE, PhysAddr};

/// What is asked of a page allocator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageRequest {
    /// Pages, at least 1, physically contiguous.
    pub pages: u64,
    /// Alignment of the first page in bytes: a power of two, at least [`PAGE_SIZE`].
    pub align: u64,
    /// Highest physical address that any byte of the run may have (inclusive).
    pub limit: PhysAddr,
}

impl PageRequest {
    /// `pages` contiguous pages anywhere, naturally page aligned.
    pub const fn new(pages: u64) -> Self {
        Self { pages, align: PAGE_SIZE, limit: PhysAddr(u64::MAX) }
    }
}

/// No run of pages meets the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{allocator} has no {pages} contiguous pages (align {align:#x}, limit {limit})")]
pub struct OutOfMemory {
    /// Name of the allocator that was asked.
    pub allocator: &'static str,
    /// Pages asked for.
    pub pages: u64,
    /// Alignment asked for, in bytes.
    pub align: u64,
    /// Highest address allowed.
    pub limit: PhysAddr,
}

/// Pages were given back to an allocator that did not hand them out, or not as one run of this length.
/// The allocator keeps its state; nothing was freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{allocator} did not hand out {pages} pages at {base}: not freed")]
pub struct ForeignPages {
    /// Name of the allocator that refused.
    pub allocator: &'static str,
    /// First page given back.
    pub base: PhysAddr,
    /// Pages given back.
    pub pages: u64,
}

/// Somebody who hands out runs of pages and takes them back.
pub trait PageAllocator: Send + Sync {
    /// Short name for events and errors: `"frames"`, `"cma"`.
    fn name(&self) -> &'static str;

    /// Takes a run; returns its first page. The contents are zero.
    fn alloc(&self, request: &PageRequest) -> Result<PhysAddr, OutOfMemory>;

    /// Takes back a run that [`take`](Self::alloc) returned, whole.
    fn free(&self, run: FreedRun) -> Result<(), ForeignPages>;

    /// Pages handed out now.
    fn in_use(&self) -> u64;

    /// Never hands out the pages that hold the bytes from `first` to `last` (inclusive) from now on: a device uses them.
    /// False when some of them are out; those, and what adjoins them, stay as they are.
    fn withdraw(&self, first: PhysAddr, last: PhysAddr) -> bool {
        let _ = (first, last);
        true
    }
}

/// Being given a `FreedRun` tells an allocator: the owner of these pages is done with them, and no device reaches them
/// (P2). Only the end of a [`PageRun`] makes one.
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

/// Owning a `PageRun` tells you: these pages are yours alone, no device can reach them, and they will go back to the
/// allocator that they came from (P1, P2). Dropping it gives them back.
///
/// # Invariants
///
/// `base` and `pages` are one run that `allocator` handed out and has not taken back.
pub struct PageRun {
    base: PhysAddr,
    pages: u64,
    allocator: Arc<dyn PageAllocator>,
}

impl PageRun {
    /// Takes a run from `allocator`.
    pub fn alloc(allocator: &Arc<dyn PageAllocator>, request: &PageRequest) -> Result<Self, OutOfMemory> {
        let base = allocator.alloc(request)?;
        // INVARIANT: `allocator` just handed out exactly this run.
        Ok(Self { base, pages: request.pages, allocator: Arc::clone(allocator) })
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

    /// Name of the allocator that the run came from and will go back to.
    pub fn allocator(&self) -> &'static str {
        self.allocator.name()
    }
}

impl Drop for PageRun {
    fn drop(&mut self) {
        let back = self.allocator.free(FreedRun::new(self.base, self.pages));
        debug_assert!(back.is_ok(), "{back:?}");
    }
}

impl fmt::Debug for PageRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageRun({} pages at {} from {})", self.pages, self.base, self.allocator.name())
    }
}
