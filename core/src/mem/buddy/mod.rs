//! Buddy allocator of numbered pages (up to 2^52), behind page frames, CMA and IOVA space.
//!
//! Free pages are kept as naturally aligned blocks of a power of two, one set of bits per order, so that finding,
//! splitting and merging cost a few words whatever the number of holes or allocated runs. Sets allocate their words on
//! first use, so that a 48-bit space costs only as much as is used of it.

mod bits;
mod blocks;
mod runs;
mod space;
mod tree;

pub(crate) use space::{Buddy, Request};
