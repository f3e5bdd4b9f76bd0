//! The auditor: reads what a stock kernel records (ftrace text and kernel logs), follows each device from probe to tear-down,
//! and judges by numbered rules whether its driver gave everything back.
//!
//! - [`input`]: files and standard input as cleaned lines, in bounded memory;
//! - [`shape`]: the shapes that lines come in, and records made of wrapped or interleaved ones;
//! - [`event`]: the kernel's events and messages, typed;
//! - [`model`]: the life of each device, and what is judged in it;
//! - [`rules`]: the rules, each with its reason;
//! - [`report`]: the result as text, JSON and `JUnit`;
//! - [`record`]: the recorder, which prepares tracefs, runs a command, and puts everything back;
//! - [`command`]: the command line.
#![forbid(unsafe_code)]
#![expect(clippy::struct_excessive_bools, reason = "flags of what was heard and seen, each by itself")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod command;
pub mod event;
pub mod host;
pub mod input;
pub mod model;
pub mod pattern;
pub mod record;
pub mod report;
pub mod rules;
pub mod shape;

mod audit;
mod find;

pub use audit::{Auditor, Options, Progress};
