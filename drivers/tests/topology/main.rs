//! Random topologies of devices, streams, IOMMUs, groups and owners, under random arrivals, removals and faults.
//!
//! After each step the *models* of the IOMMUs and the allocator are checked, not the core's own records: no stream, not
//! even one of a removed device, may reach a page outside its owner's domain, a page that is free, belongs to another
//! owner or is borrowed as a slice, registers that are not mapped any more, or a reserved region. And each device must
//! reach its mappings and its direct regions through each of its IOMMUs.
//!
//! Size: 1 to 3 IOMMUs (each with one group, or one per stream), 1 to 5 devices of 1 to 3 streams each, with or without
//! a reserved region, 2 guests, 2 peers whose registers are mapped, and a second machine whose memory must be refused;
//! 40 steps of 26 kinds, of which one makes a later attachment, domain, map or flush fail, and one closes a session
//! while flushes fail. 512 topologies, 20,480 steps; `PROPTEST_CASES` sets a higher number.
//!
//! Races of joining and leaving are in `races.rs`, those of flushes in `joined.rs`; `cargo xtask shuttle` also runs both.

#![allow(unreachable_pub, reason = "the modules of one test")]
#![cfg_attr(shuttle, allow(dead_code, reason = "only the races are run"))]
#![allow(
    clippy::redundant_closure_for_method_calls,
    reason = "a method is not general enough over the binding's lifetime"
)]

#[cfg(not(shuttle))]
mod checks;
#[cfg(not(shuttle))]
mod drivers;
#[cfg(not(shuttle))]
mod fixture;
#[cfg(not(shuttle))]
mod groups;
mod joined;
mod races;
#[cfg(not(shuttle))]
mod walk;
