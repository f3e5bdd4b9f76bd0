//! The engine behind page frames, CMA and IOVA space: which of up to 2^52 numbered pages are free.
//!
//! Free pages are kept as naturally aligned blocks of a power of two, one set of bits per order, so that finding,
//! splitting and joining cost a few words whatever the number of holes or live runs. Sets allocate their words when first
//! touched, so that a 48-bit space costs what is used of it.

mod bits;
mod blocks;
mod space;

pub(crate) use space::{Buddy, Request};
