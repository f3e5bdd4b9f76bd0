//! Checker of DMA API use: the checks of Linux's DMA-API debugging (`kernel/dma/debug.c`), and some that it lacks.
//!
//! It is a state machine without I/O. [`Checker::feed`] takes one operation and returns the misuses that it reveals. A
//! machine whose policy enables it feeds its own operations and emits an event for each misuse; operations recorded
//! elsewhere can be fed as well. Most misuses are impossible through this crate's own DMA API, as the note of each
//! check explains. They exist for records of other systems, and for bugs of the core itself.
//!
//! Memory is bounded: see [`Checker`].

mod active;
mod devices;
mod found;
mod kinds;
mod lines;
mod op;
mod pools;
mod state;

#[cfg(all(test, not(loom)))]
mod tests;

pub use kinds::{Check, Misuse};
pub(crate) use op::Call;
pub use op::{CpuMemory, Op, Record};
pub use state::Checker;
