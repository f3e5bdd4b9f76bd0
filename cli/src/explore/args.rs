//! The options of `bindery explore`.

use std::path::PathBuf;

use bindery_explore::boards::{self, BoardSpec};
use bindery_explore::engine::{Bounded, Bounds, Engine, Shard};
use bindery_explore::models::Model;
use bindery_explore::scenarios::{self, NamedScenario};
use bindery_explore::{Lifecycle, Path};
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::bound::Limit;
use super::diagram::DiagramTarget;
use crate::output::Color;
use crate::session::QemuMachine;

/// Exit codes of `bindery explore`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  no promise was broken, and every required coverage point was reached, or a bound ended the exploration before
  1  a promise was broken, a coverage point was never reached, or the scenario was nondeterministic
  2  bad input or bad usage
  130  ended early by Ctrl-C (or SIGTERM), after a report of what was known; a second Ctrl-C gives no report";

/// The device that is explored when none is named.
pub(super) const DEVICE: &str = "ee300000.sata";

/// Options of `explore`.
#[derive(Args, Debug)]
#[command(next_line_help = false)]
pub struct Explore {
    /// Board to explore
    #[arg(long, value_name = "NAME", value_parser = named_boards(), default_value = "salvator-xs")]
    pub board: BoardSpec,
    /// Use this device tree blob instead of the board's
    #[arg(long, value_name = "FILE")]
    pub dtb: Option<PathBuf>,
    /// Device whose lifecycle is explored
    #[arg(long, value_name = "DEV", default_value = DEVICE)]
    pub device: String,
    /// Explore this small system instead of a device's lifecycle: two devices on a line, two guests in a group, ... (`--list`
    /// names them). A number behind a colon, as in `two-streams:7`, is the seed that it is made from
    #[arg(long, value_name = "NAME", value_parser = scenario, conflicts_with_all = ["board", "dtb", "device", "model"])]
    pub scenario: Option<NamedScenario>,
    /// Steps of a path of the scenario, in place of its own number
    #[arg(long, value_name = "N", requires = "scenario", value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: Option<u32>,
    /// List the scenarios
    #[arg(long, exclusive = true)]
    pub list: bool,
    /// Explore QEMU's `edu` on this machine of QEMU instead, every path to its end and without preemptions
    #[arg(long, value_enum, value_name = "MACHINE", conflicts_with_all = [
        "board", "dtb", "device", "model", "scenario", "preemptions", "allow_unreached",
    ])]
    pub qemu: Option<QemuMachine>,
    /// Explore a model of the tear-down of a Linux release instead of the core
    #[arg(long, value_name = "NAME", value_parser = models(), conflicts_with_all = ["board", "dtb", "device"])]
    pub model: Option<Model>,
    /// Maximum number of faults on one path
    #[arg(long, value_name = "K", default_value_t = Bounds::default().faults)]
    pub faults: u32,
    /// Maximum number of preemptions on one path by concurrent operations: an unbind, a removal, a claim
    #[arg(long, value_name = "K", default_value_t = Bounds::default().preemptions)]
    pub preemptions: u32,
    /// Further bounds: `paths=N` and `time=SECONDS` end the exhaustive exploration; `states=N` bounds memory (32 bytes a
    /// state; 0 remembers none); `depth=N` bounds the choice points and `non-default=N` the non-default choices of a path
    #[arg(long, value_name = "KEY=N,...", value_delimiter = ',')]
    pub bound: Vec<Limit>,
    /// Allow this coverage point to stay unreached, as the report names it: `error EIO`. Some devices cannot reach all
    #[arg(long, value_name = "POINT", value_parser = coverage_point, conflicts_with_all = ["model", "scenario", "replay", "merge"])]
    pub allow_unreached: Vec<String>,
    /// Sample N random paths when a bound ended the exhaustive exploration
    #[arg(long, value_name = "N")]
    pub paths: Option<u64>,
    /// Seed of the random paths: the same seed draws the same paths
    #[arg(long, value_name = "S", default_value_t = Bounds::default().seed, requires = "paths")]
    pub seed: u64,
    /// Explore on N threads (1 to 1024) instead of one per core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Explore only the K-th of N parts, from 1
    #[arg(long, value_name = "K/N")]
    pub shard: Option<Shard>,
    /// Execute only this path, as a report names it, and print its trace
    #[arg(long, value_name = "PATH", conflicts_with_all = ["shard", "bound", "paths", "seed", "threads"])]
    pub replay: Option<Path>,
    /// Merge the JSON reports of all shards instead; a file may hold several, one after another
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = [
        "board", "dtb", "device", "model", "scenario", "qemu", "faults", "preemptions", "bound", "paths", "seed", "threads", "shard",
        "replay", "trace",
    ])]
    pub merge: Vec<PathBuf>,
    /// Draw the states of a binding with a count for each transition: FILE.svg, FILE.txt, or - for text
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "scenario", "replay"])]
    pub diagram: Option<DiagramTarget>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
    /// Write the path of --replay, or that of the first finding, as a trace for Perfetto and Chrome's tracing page
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Print failures only
    #[arg(short, long, conflicts_with = "json")]
    pub quiet: bool,
    /// Colour the output
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pub color: Color,
}

impl Explore {
    /// Bounds of the exploration.
    pub fn bounds(&self) -> Bounds {
        let mut bounds = Bounds {
            faults: self.faults,
            preemptions: if self.qemu.is_some() { 0 } else { self.preemptions },
            samples: self.paths.unwrap_or(0),
            seed: self.seed,
            ..Bounds::default()
        };
        self.bound.iter().for_each(|limit| limit.apply(&mut bounds));
        bounds
    }

    /// Configures `engine` with the bounds, shard and threads of the options.
    pub(super) fn configure(&self, engine: Engine) -> Engine {
        let engine = engine.bounds(self.bounds()).shard(self.shard);
        match self.threads {
            Some(threads) => engine.threads(threads.into()),
            None => engine,
        }
    }
}

/// Parses the name of a coverage point.
fn coverage_point(name: &str) -> Result<String, &'static str> {
    let known = Lifecycle::coverage_points().any(|point| point == name);
    known
        .then(|| name.to_owned())
        .ok_or("there is no such coverage point; after NEVER REACHED the report names those that are missing")
}

/// Parses the name of a scenario.
fn scenario(name: &str) -> Result<NamedScenario, String> {
    scenarios::named(name).ok_or_else(|| {
        format!("there are {}; a seed is a number behind a colon", scenarios::names().collect::<Vec<_>>().join(", "))
    })
}

/// The names of the boards.
fn named_boards() -> impl TypedValueParser<Value = BoardSpec> {
    PossibleValuesParser::new(boards::NAMES).try_map(|name| boards::named(&name).ok_or("no such board"))
}

/// The names of the models, with what they are.
fn models() -> impl TypedValueParser<Value = Model> {
    let names = Model::ALL.iter().map(|model| PossibleValue::new(model.name()).help(model.title()));
    PossibleValuesParser::new(names).try_map(|name| name.parse::<Model>())
}
