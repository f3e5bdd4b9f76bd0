//! The `bindctl` command.

mod apply;
mod args;
mod early;
mod exit;
mod give;
#[cfg(test)]
mod hang;
mod journalled;
mod list;
mod output;
mod plan;
mod report;
mod run;
mod show;
mod status;
mod watch;

pub use exit::Exit;
pub use run::{main, run_on};
