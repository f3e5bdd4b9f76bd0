//! Physical memory: page frames, contiguous memory (CMA), and the runs of pages that both hand out.
//!
//! An allocation carries its allocator. A page that is given back to an allocator that did not give it is refused with
//! an error and never passed on to another one: that silent fall-back is how the bug this project grew from turned a
//! wrong free into a crash.

pub mod access;
pub(crate) mod buddy;
mod cma;
#[cfg(test)]
pub(crate) mod fake;
mod frames;
mod memory;
mod phys;
mod pool;
mod run;

pub use cma::Cma;
pub use frames::Frames;
pub use memory::{Barrier, CacheOp, Caching, Memory, RamRange, RamUse};
pub use phys::PhysMemory;
pub use run::{ForeignPages, FreedRun, OutOfMemory, PageAllocator, PageRequest, PageRun};
