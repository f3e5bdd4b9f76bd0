//! `cargo xtask floors`: whether the core's top-level modules import downwards only.

mod graph;
mod imports;
mod table;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::outcome::{Outcome, Trouble};
use crate::tool::root;
use graph::Graph;
use table::Table;

/// Root of the crate that is looked at.
const SOURCE: &str = "core/src";
/// Its floors.
const TABLE: &str = "core/floors.toml";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object, with every import between modules
    #[arg(long)]
    json: bool,
}

/// Prints circles and imports upwards, and checks both.
pub(crate) fn run(args: &Args) -> Outcome {
    let (graph, table) = read()?;
    if args.json {
        println!("{:#}", graph.json(&table));
    } else {
        print!("{}", graph.text(&table));
    }
    judge(&graph, &table)
}

/// Checks that imports are as the table allows.
pub(crate) fn check() -> Outcome {
    let (graph, table) = read()?;
    judge(&graph, &table)
}

fn read() -> Result<(Graph, Table), Trouble> {
    // Paths in messages are relative to the repository, as compilers print them.
    let source = imports::read(&root().join(SOURCE)).map_err(Trouble::Broken)?;
    let table = Table::read(&root().join(TABLE)).map_err(Trouble::Broken)?;
    Ok((Graph::new(source, Path::new(SOURCE)), table))
}

fn judge(graph: &Graph, table: &Table) -> Outcome {
    let problems = graph.problems(table);
    for problem in &problems {
        eprintln!("{problem}");
    }
    match problems.len() {
        0 => Ok(()),
        n => Err(Trouble::Failed(format!("{n} problems with the floors in {TABLE}"))),
    }
}
