//! Random topologies of devices, streams, IOMMUs, groups and owners, with everything coming late, going, and failing.
//!
//! After each step the *models* of the IOMMUs are asked, and the allocator itself, and not the core's books: does any
//! stream, also one whose device has left, reach a page outside its owner's domain, or one that the allocator, another
//! owner, or a safe slice has, registers that nobody reaches any more, or a reserved region? And does a device reach what
//! it was given, and its direct regions, through each of its IOMMUs?
//!
//! Size: 1 to 3 IOMMUs (each with one group, or one per stream), 1 to 5 devices of 1 to 3 streams each, with or without a
//! reserved region, 2 guests, 2 devices whose registers others reach, another machine whose memory is offered; 40 steps out
//! of 26 kinds, of which one makes an attachment, a domain, a map or flushes fail at any one later call, and one closes a
//! session while they do. 512 topologies, 20,480 steps; as many more as `PROPTEST_CASES` says.
//!
//! Races of joining and leaving are in `races.rs`, which `cargo xtask shuttle` runs, too.

#![allow(unreachable_pub, reason = "the modules of one test")]
#![cfg_attr(shuttle, allow(dead_code, reason = "only the races are run"))]
#![allow(
    clippy::redundant_closure_for_method_calls,
    reason = "a method is not general enough over the binding's lifetime"
)]

mod drivers;
#[cfg(not(shuttle))]
mod look;
mod mmu;
mod races;
#[cfg(not(shuttle))]
mod walk;
#[cfg(not(shuttle))]
mod world;
