//! The `bindery` command as a library, so that tests can call each step of its story by itself.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod args;
pub mod audit;
mod command;
pub mod explore;
pub mod failure;
pub mod load;
pub mod page;
pub mod record;
pub mod script;
pub mod shell;
pub mod story;
pub mod teller;
pub mod tree;
pub mod words;
pub mod world;

pub use command::main;
