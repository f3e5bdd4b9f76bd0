//! Physical memory: the page-frame and contiguous (CMA) allocators, and the runs of pages that they allocate.
//!
//! An allocation carries its allocator. An allocator refuses pages that it did not allocate, with an error, and never
//! passes them on to another one: Linux's silent fall-back from CMA to the page allocator turned a wrong free into a
//! crash (docs/teardown-models.md).
//! A target may bring its own page frames ([`PageSource`]).
//!
//! Pages that somebody else owns are lent run by run ([`OwnedPages`]), and go back to their owner in the same way.

pub mod access;
mod allocator;
pub(crate) mod buddy;
#[cfg(test)]
pub(crate) mod fake;
mod memory;
mod outside;
mod owned;
mod phys;
mod run;
mod source;

pub use allocator::BuddyAllocator;
pub use memory::{Barrier, CacheOp, Caching, Memory, RamRange, RamUse};
pub use outside::{BadRun, RunFault};
pub use owned::{NotAdopted, OwnedPages};
pub use phys::PhysMemory;
pub use run::{AllocError, ForeignPages, FreedRun, OutOfMemory, PageAllocator, PageRequest, PageRun};
pub use source::PageSource;
