//! The options of `bindery explore`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use bindery_explore::boards::{self, BoardSpec};
use bindery_explore::engine::{Bounds, Engine, Shard};
use bindery_explore::orders::Order;
use bindery_explore::{Life, Path};
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::bound::Limit;
use super::diagram::Drawing;
use crate::page::Color;

/// What the exit codes of `bindery explore` mean.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  no promise was broken, and everything that had to be reached was
  1  a promise was broken, something was never reached, or the run was not deterministic
  2  bad input or bad usage
  130  ended early by Ctrl-C (or SIGTERM), after a report of what was known; a second Ctrl-C gives no report";

/// The device that is explored when none is named.
pub(super) const DEVICE: &str = "ee300000.sata";

/// Options of `explore`.
#[derive(Args, Debug)]
#[command(next_line_help = false)]
pub struct Explore {
    /// The board
    #[arg(long, value_name = "NAME", value_parser = named_boards(), default_value = "salvator-xs")]
    pub board: BoardSpec,
    /// Use this device tree blob instead of the board's
    #[arg(long, value_name = "FILE")]
    pub dtb: Option<PathBuf>,
    /// The device whose life is walked
    #[arg(long, value_name = "DEV", default_value = DEVICE)]
    pub device: String,
    /// Walk one of Linux's orders of tear-down, as a model, instead of the core
    #[arg(long, value_name = "NAME", value_parser = orders(), conflicts_with_all = ["board", "dtb", "device"])]
    pub order: Option<Order>,
    /// Most faults on one path
    #[arg(long, value_name = "K", default_value_t = Bounds::default().faults)]
    pub faults: u32,
    /// Most interruptions on one path: an unbind, a removal, a claim
    #[arg(long, value_name = "K", default_value_t = Bounds::default().interrupts)]
    pub interrupts: u32,
    /// Further bounds: `paths=N` and `time=SECONDS` end the walk over every path; `states=N` bounds memory (32 bytes a
    /// state; 0 remembers none); `depth=N` and `deviations=N` cut each path
    #[arg(long, value_name = "KEY=N,...", value_delimiter = ',')]
    pub bound: Vec<Limit>,
    /// Do not ask for this place to be reached, as the report names it: `error EIO`. Some devices cannot reach every one
    #[arg(long, value_name = "PLACE", value_parser = place, conflicts_with_all = ["order", "replay", "merge"])]
    pub without: Vec<String>,
    /// Draw N random paths when a bound ended the walk over every path
    #[arg(long, value_name = "N")]
    pub paths: Option<u64>,
    /// Seed of the random paths: the same seed draws the same paths
    #[arg(long, value_name = "S", default_value_t = Bounds::default().seed, requires = "paths")]
    pub seed: u64,
    /// Walk on N threads instead of one per core
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Walk only the K-th of N parts, from 1
    #[arg(long, value_name = "K/N")]
    pub shard: Option<Shard>,
    /// Walk only this path, as a report names it, and tell everything that happens on it
    #[arg(long, value_name = "PATH", conflicts_with_all = ["shard", "bound", "paths", "seed", "threads"])]
    pub replay: Option<Path>,
    /// Bring the JSON reports of all shards together instead; a file may hold several, one after another
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = [
        "board", "dtb", "device", "order", "faults", "interrupts", "bound", "paths", "seed", "threads", "shard",
        "replay", "trace",
    ])]
    pub merge: Vec<PathBuf>,
    /// Draw the phases of a binding, with how often each transition was taken: FILE.svg, FILE.txt, or - for text
    #[arg(long, value_name = "FILE", conflicts_with_all = ["order", "replay"])]
    pub diagram: Option<Drawing>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
    /// Write the path of --replay, or the plainest one that breaks a promise, as a trace for Perfetto and Chrome's
    /// tracing page
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Print only what is wrong
    #[arg(short, long, conflicts_with = "json")]
    pub quiet: bool,
    /// When to colour
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pub color: Color,
}

impl Explore {
    /// How far to go.
    pub fn bounds(&self) -> Bounds {
        let mut bounds = Bounds {
            faults: self.faults,
            interrupts: self.interrupts,
            samples: self.paths.unwrap_or(0),
            seed: self.seed,
            ..Bounds::default()
        };
        self.bound.iter().for_each(|limit| limit.apply(&mut bounds));
        bounds
    }

    /// `engine`, within the bounds and on the threads that were asked for.
    pub(super) fn configure(&self, engine: Engine) -> Engine {
        let engine = engine.bounds(self.bounds()).shard(self.shard);
        match self.threads {
            Some(threads) => engine.threads(threads.get()),
            None => engine,
        }
    }
}

/// A place that there is.
fn place(name: &str) -> Result<String, &'static str> {
    let known = Life::places().any(|place| place == name);
    known
        .then(|| name.to_owned())
        .ok_or("there is no such place; after NEVER REACHED the report names those that are missing")
}

/// The names of the boards.
fn named_boards() -> impl TypedValueParser<Value = BoardSpec> {
    PossibleValuesParser::new(boards::NAMES).try_map(|name| boards::named(&name).ok_or("no such board"))
}

/// The names of the orders, with what they are.
fn orders() -> impl TypedValueParser<Value = Order> {
    let names = Order::ALL.iter().map(|order| PossibleValue::new(order.name()).help(order.title()));
    PossibleValuesParser::new(names).try_map(|name| name.parse::<Order>())
}
