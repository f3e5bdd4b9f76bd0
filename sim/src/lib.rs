//! Simulated boards: memory, clock, interrupts and register-level device models behind [`Env`](bindery::env::Env).
//!
//! A board is deterministic: one clock that only [`Env::wait`](bindery::env::Env::wait) and register accesses advance, one
//! order of events, no host time and no host randomness. Boards share nothing; a process may run hundreds.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod board;
pub mod clock;
pub mod disk;
mod events;
pub mod fault;
pub mod ftrace;
pub mod guest;
pub mod intc;
pub mod interpose;
pub mod memory;
pub mod mmu;
pub mod models;
pub mod page_cache;
pub mod power;
pub mod report;
pub mod salvator;
pub mod trace;
pub mod virt;
