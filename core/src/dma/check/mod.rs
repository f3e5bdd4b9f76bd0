//! The checker of DMA use: what Linux's DMA-API debugging looks for (`kernel/dma/debug.c`), and what it does not see.
//!
//! It is a state machine without I/O. [`Checker::feed`] takes one operation and returns what was wrong with it. A
//! machine whose policy asks for it feeds its own and tells each misuse as an event; operations that were recorded
//! somewhere else can be fed as well. Most misuses cannot be written down against this crate's own DMA face, and the
//! note of each check says why. They are here for records of other systems, and for faults of the core itself.
//!
//! Memory is bounded: see [`Checker`].

mod kinds;
mod live;
mod op;
mod pools;
mod state;

#[cfg(all(test, not(loom)))]
mod tests;

pub use kinds::{Check, Misuse};
pub use op::{CpuMemory, Op, Record};
pub use state::Checker;
