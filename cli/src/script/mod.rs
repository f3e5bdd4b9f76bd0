//! Scripts: commands for the control tree, the disk and a guest, with the expectations that they must meet. The main job,
//! `bindery run`, is one: `lifecycle.script`. `docs/run.md` describes the language.
//!
//! A script is read as a whole before its first command runs, so that one with an error changes nothing.

mod check;
mod parse;
mod promises;
mod run;
mod show;

use std::path::Path;
use std::sync::Arc;

use bindery_sim::disk::SECTOR;
use clap::ValueEnum;

use crate::failure::Result;
use crate::load;
use crate::session::{Area, GuestKind, Session};

pub use parse::parse;
pub use run::Runner;

/// The main job.
const LIFECYCLE: &str = include_str!("lifecycle.script");

/// A parsed script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Its steps, in order.
    pub steps: Vec<Step>,
}

/// A step: the lines from one `step` line to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Name, as the `step` of JSON lines has it.
    pub name: Arc<str>,
    /// Heading.
    pub title: String,
    /// Lines before the first `step` line: the drivers are registered and devices probed before them.
    pub implicit: bool,
    /// Its lines.
    pub lines: Vec<Line>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Number in the file, from 1.
    pub number: usize,
    /// The line without surrounding blanks and without the prefixes `@` and `?`.
    pub text: String,
    /// The action that it asks for.
    pub action: Action,
}

/// The action of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Prints a text.
    Note(String),
    /// Prints facts.
    Show(Facts),
    /// Runs a command.
    Run {
        /// The command.
        command: Command,
        /// The outcome that it must have.
        outcome: Outcome,
        /// Do not print its events.
        quiet: bool,
    },
    /// Fails when a check does not hold.
    Expect(Check),
    /// Skips the rest of the step when a check does not hold.
    Require(Check),
    /// Begins lines that run only when a check holds.
    If(Check),
    /// Begins lines that run only when the check of `if` did not hold.
    Else,
    /// Ends the lines of `if` or `else`.
    End,
}

/// The outcome that a command must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Success; an error is a failure of the run.
    Success,
    /// An error (prefix `!`).
    Error,
    /// Either; an error skips the rest of the step (prefix `?`).
    Any,
}

/// A command. Those without operands are written as `value` says, or like their names.
#[derive(Clone, Debug, PartialEq, Eq, ValueEnum)]
pub enum Command {
    /// Writes a value to a file of the control tree.
    #[value(skip)]
    Echo {
        /// The value, without newline.
        value: String,
        /// The file.
        path: String,
    },
    /// Prints a file of the control tree.
    #[value(skip)]
    Cat(String),
    /// Prints the names in a directory of the control tree.
    #[value(skip)]
    Ls(String),
    /// Prints sectors.
    #[value(skip)]
    Read(Side, Area),
    /// Writes whole sectors.
    #[value(skip)]
    Write(Side, u64, Vec<u8>),
    /// Registers every driver there is, without a probe.
    #[value(name = "drivers add")]
    AddDrivers,
    /// Unregisters every driver.
    #[value(name = "drivers remove")]
    RemoveDrivers,
    /// Lets pending probes and pending work of the devices finish. Every other command ends with this.
    Settle,
    /// Starts a guest with the disk controller, and lets it bind its driver.
    #[value(skip)]
    StartGuest(GuestKind),
    /// Shuts the guest down, if there is one.
    #[value(name = "guest stop")]
    StopGuest,
}

/// The way by which sectors are accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The host's driver.
    Host,
    /// The guest's driver.
    Guest,
    /// The image file itself.
    Image,
}

/// Facts that `show` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Facts {
    /// Board, devices, drivers, and the suppliers of each device with a driver.
    Machine,
    /// Statistics of the last command's probes, and the devices that still wait.
    Probes,
    /// Translation, DMA memory, link and disk of the disk controller.
    Controller,
    /// Pages in use before and after the last `echo`, and the quarantine.
    Memory,
    /// Owner of the disk controller's IOMMU group.
    Group,
    /// Time on the board that the last command took.
    Elapsed,
    /// Each promise with the number of its checks. A broken one is a failure.
    Promises,
}

/// A check that `expect`, `require` and `if` make.
#[derive(Clone, Debug, PartialEq, Eq, ValueEnum)]
pub enum Check {
    /// `driver NAME`: the disk controller is bound to this driver; for `none`, to no driver.
    #[value(skip)]
    Driver(Option<String>),
    /// `was-bound NAME`: it has been bound to this driver at some time.
    #[value(skip)]
    WasBound(String),
    /// `guest`: a guest runs.
    Guest,
    /// `guest asked`: it was asked to release the device.
    #[value(name = "guest asked")]
    GuestAsked,
    /// `guest released`: it no longer has the device.
    #[value(name = "guest released")]
    GuestReleased,
    /// `wake-ups`: during the last command each supplier that arrived woke its waiting consumers, and no others (P8).
    WakeUps,
    /// `translation`: the IOMMU's page walk leads each DMA address of the controller to the right memory.
    Translation,
    /// `unmapped`: what the last command mapped for streaming DMA is unmapped.
    Unmapped,
    /// `reads LBA COUNT [NAME]`: the sectors hold a test pattern or, without a name, what the image holds.
    #[value(skip)]
    Reads {
        /// The way by which they are read.
        side: Side,
        /// The sectors.
        area: Area,
        /// Name of the pattern.
        pattern: Option<String>,
    },
    /// `ledger`: the last `echo` returned the whole ledger, newest entry first, each to its back-end.
    Ledger,
    /// `stale`: a client of the driver that was opened before the last `echo` gets an error.
    Stale,
    /// `dma-blocked`: the controller no longer reaches the guest's memory.
    DmaBlocked,
    /// `pristine`: the machine uses what it used before the first probe.
    Pristine,
    /// `event NAME`: the last command caused such an event.
    #[value(skip)]
    Event(String),
    /// `output TEXT`: the last command printed this text.
    #[value(skip)]
    Output(String),
}

impl Step {
    fn new(name: &str, title: &str) -> Self {
        Self { name: name.into(), title: title.into(), implicit: false, lines: Vec::new() }
    }
}

impl Script {
    /// The main job, on the board and disk of `session`.
    pub fn lifecycle(session: &Session) -> Result<Self> {
        parse("lifecycle.script", &expand(LIFECYCLE, session))
    }

    /// The script in the file at `path`.
    pub fn open(path: &Path, session: &Session) -> Result<Self> {
        parse(&path.display().to_string(), &expand(&load::script(path)?, session))
    }

    /// Number of its commands.
    pub fn commands(&self) -> usize {
        self.steps.iter().flat_map(|s| &s.lines).filter(|line| matches!(line.action, Action::Run { .. })).count()
    }
}

/// Replaces the variables of a script; other words that begin with `$` stay.
fn expand(text: &str, session: &Session) -> String {
    let end = session.board.with_disk(|disk| disk.sectors()).unwrap_or(0);
    let (host, guest) = Area::of(end.max(1));
    let controller = session.sata().map_or_else(|| "none".into(), |sata| sata.name().to_string());
    let area = |a: Area| format!("{} {}", a.lba, a.sectors);
    let mut text = text.to_string();
    for (name, value) in [
        ("$controller", controller),
        ("$host_sectors", area(host)),
        ("$guest_sectors", area(guest)),
        ("$end", end.to_string()),
    ] {
        text = text.replace(name, &value);
    }
    text
}

/// Sectors that `bytes` fill.
fn sectors_of(lba: u64, bytes: &[u8]) -> Area {
    Area { lba, sectors: bytes.len() as u64 / SECTOR }
}
