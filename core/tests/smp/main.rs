//! Interrupts that really preempt: threads of the host are CPUs, and a signal to a CPU's own thread is a trap, at any point of
//! the interrupted code. A lock that is taken in both contexts deadlocks there, and an allocation in a trap is counted.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, unreachable_pub, reason = "modules of a test")]

mod affinity;
mod both_contexts;
mod counted;
mod cpu;
#[path = "../doc/example.rs"]
#[allow(dead_code, unsafe_code, missing_docs, reason = "shared with the documentation's examples")]
mod example;
mod lives;
mod target;
mod toys;
