//! The figures of the DMA path and what is near it: `figures count|time [short]`. `cargo xtask bench` runs it, under callgrind and by
//! the clock, and makes the table of docs/benchmarks.md.
#![allow(clippy::cast_precision_loss, reason = "figures are printed to three digits")]

mod allocator;
mod core;
mod mapping;
mod pieces;
mod session;

use std::process::ExitCode;

use session::{Mode, Session};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (mode, short) = match args[..] {
        ["count"] => (Mode::Count, false),
        ["count", "short"] => (Mode::Count, true),
        ["time"] => (Mode::Time, false),
        ["time", "short"] => (Mode::Time, true),
        _ => {
            eprintln!("usage: figures count|time [short]");
            return ExitCode::FAILURE;
        }
    };
    let session = Session::new(mode, short);
    mapping::streaming(&session);
    mapping::ring(&session);
    mapping::threads(&session);
    pieces::iova(&session);
    pieces::page_table(&session);
    pieces::frames(&session);
    core::registers_and_interrupts(&session);
    core::matching(&session);
    core::devices(&session);
    ExitCode::SUCCESS
}
