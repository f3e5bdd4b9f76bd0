//! The `bindery` command as a library, so that tests can run each step of its script by itself.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod args;
pub mod audit;
mod command;
pub mod explore;
pub mod failure;
pub mod format;
pub mod load;
pub mod output;
pub mod record;
pub mod reporter;
pub mod run;
pub mod script;
pub mod session;
pub mod shell;
pub mod tree;

pub use command::main;
