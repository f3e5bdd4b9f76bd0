//! `cargo xtask bench`: the table of docs/benchmarks.md, its gate, and the benchmarks of criterion.

mod curves;
mod figures;
mod gate;
pub(crate) mod mixed;
mod rows;
mod table;

use crate::cargo::Cargo;
use crate::outcome::Outcome;
use figures::Figures;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Instead of the table: the benchmarks of criterion whose name contains this ("" for all)
    filter: Option<String>,
    /// Counts instructions, atomic operations and allocations only, and compares them with bench/gate.txt
    #[arg(long, conflicts_with = "filter")]
    gate: bool,
    /// Writes bench/gate.txt anew
    #[arg(long, conflicts_with_all = ["filter", "gate"])]
    update: bool,
    /// Measures by the number of live mappings, threads and devices, and writes the pictures of docs/benchmarks
    #[arg(long, conflicts_with_all = ["filter", "gate", "update"])]
    curves: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    if let Some(filter) = &args.filter {
        return Cargo::new("bench -p bindery-bench -p bindery-linux --benches --").args(&[filter]).run();
    }
    if args.gate {
        return gate();
    }
    if args.update {
        return gate::update(&Figures::counted("short")?);
    }
    if args.curves {
        return curves::run();
    }
    let mut figures = Figures::counted("long")?;
    figures.timed(&["time"])?;
    table::print(&figures);
    Ok(())
}

/// The part of `cargo xtask test`.
pub(crate) fn gate() -> Outcome {
    gate::compare(&Figures::counted("short")?)
}
