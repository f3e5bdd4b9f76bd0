//! The `bindctl` command.

mod apply;
mod args;
mod exit;
mod give;
mod journalled;
mod list;
mod output;
mod plan;
mod run;
mod show;
mod status;

pub use exit::Exit;
pub use run::main;
