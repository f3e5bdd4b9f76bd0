//! The `bindctl` command.

mod args;
mod exit;
mod list;
mod output;
mod plan;
mod run;
mod show;

pub use exit::Exit;
pub use run::main;
