//! The figures of the DMA path and what is near it: `figures count|time [short|curves]`, `figures devices NUMBER`. `cargo xtask bench` runs
//! it, under callgrind and by the clock, and makes the table of docs/benchmarks.md.
#![allow(clippy::cast_precision_loss, reason = "figures are printed to three digits")]

mod allocator;
mod core;
mod mapping;
mod pieces;
mod session;

use std::process::ExitCode;

use session::{Length, Mode, Session};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (mode, length) = match args[..] {
        ["count"] => (Mode::Count, Length::Long),
        ["count", "short"] => (Mode::Count, Length::Short),
        ["count", "curves"] => (Mode::Count, Length::Curves),
        ["time"] => (Mode::Time, Length::Long),
        ["time", "short"] => (Mode::Time, Length::Short),
        ["time", "curves"] => (Mode::Time, Length::Curves),
        ["devices", number] if number.parse::<u32>().is_ok() => {
            core::devices(&Session::new(Mode::Time, Length::Long), number.parse().unwrap_or(0));
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("usage: figures count|time [short|curves], figures devices NUMBER");
            return ExitCode::FAILURE;
        }
    };
    let session = Session::new(mode, length);
    if length == Length::Curves {
        mapping::curves(&session);
        return ExitCode::SUCCESS;
    }
    mapping::streaming(&session);
    mapping::ring(&session);
    mapping::threads(&session);
    pieces::iova(&session);
    pieces::page_table(&session);
    pieces::frames(&session);
    core::registers_and_interrupts(&session);
    core::matching(&session);
    core::devices(&session, if session.counts() { 1_000 } else { 1_000_000 });
    ExitCode::SUCCESS
}
