//! Scripts: commands for the control tree, the disk and a guest, with the expectations that they must meet. The main job,
//! `bindery run`, is one: `lifecycle.script`. `docs/run.md` describes the language.
//!
//! A script is read as a whole before its first command runs, so that one with an error changes nothing.

mod check;
pub(crate) mod parse;
mod promises;
mod run;
mod show;

use std::path::Path;
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};

use crate::failure::Result;
use crate::load;
use crate::session::{Area, GuestKind, Session};

pub use parse::parse;
pub use run::Runner;

/// The main job.
const LIFECYCLE: &str = include_str!("lifecycle.script");
/// The main job on hardware with PCI: its beginning, what is done with each device, and its end.
const PCI: [&str; 3] =
    [include_str!("pci/begin.script"), include_str!("pci/device.script"), include_str!("pci/end.script")];

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
    implicit: bool,
    /// Its lines.
    lines: Vec<Line>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    /// Number in the file, from 1.
    number: usize,
    /// The line without surrounding blanks and without the prefixes `@` and `?`.
    text: String,
    /// Do not print its events (prefix `@`).
    quiet: bool,
    /// The outcome that its command must have.
    wanted: Wanted,
    /// The action that it asks for.
    action: Action,
}

/// Outcome that a command must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Success,
    /// An error (prefix `!`).
    Error,
    /// Either; an error skips the rest of the step (prefix `?`).
    Any,
}

/// The action of a line. These types are the grammar: `clap` reads a line as it reads a command line, but that an operand
/// called `text` or `title` is the rest of the line as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum Action {
    /// Begins a step.
    Step { name: String, title: String },
    /// Prints a text.
    Note { text: String },
    /// Prints facts.
    Show { facts: Facts },
    /// Runs a command.
    #[command(flatten)]
    Run(Command),
    /// Fails when a check does not hold.
    #[command(subcommand)]
    Expect(Check),
    /// Skips the rest of the step when a check does not hold.
    #[command(subcommand)]
    Require(Check),
    /// Begins lines that run only when a check holds.
    #[command(subcommand)]
    If(Check),
    /// Begins lines that run only when the check of `if` did not hold.
    Else,
    /// Ends the lines of `if` or `else`.
    End,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum Command {
    /// Writes a value to a file of the control tree.
    Echo { value: String, path: String },
    /// Prints a file of the control tree.
    Cat { path: String },
    /// Prints the names in a directory of the control tree.
    Ls { path: String },
    /// Accesses sectors through the host's driver.
    #[command(flatten)]
    Host(Transfer),
    /// Accesses sectors in the image file.
    #[command(subcommand)]
    Image(Transfer),
    /// Starts, uses and stops the guest.
    #[command(subcommand)]
    Guest(GuestCommand),
    /// Registers and unregisters drivers.
    #[command(subcommand)]
    Drivers(Drivers),
    /// Makes this the device that commands and checks are about.
    Device { name: String },
    /// Lets pending probes and pending work of the devices finish. Every other command ends with this.
    Settle,
}

/// A command for the guest.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum GuestCommand {
    /// Starts a guest with the disk controller, and lets it bind its driver.
    Start { guest: GuestKind },
    /// Shuts the guest down, if there is one.
    Stop,
    /// Accesses sectors through the guest's driver.
    #[command(flatten)]
    Transfer(Transfer),
}

/// A command for all drivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
enum Drivers {
    /// Registers every driver there is, without a probe.
    Add,
    /// Unregisters every driver.
    Remove,
}

/// Access to whole sectors.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum Transfer {
    /// Prints them; one, unless it is told how many.
    #[command(mut_arg("sectors", |count| count.required(false).default_value("1")))]
    Read(Area),
    /// Writes text, or bytes as `0x` and hexadecimal digits, filled up with zeros.
    Write {
        #[arg(value_parser = parse::lba)]
        lba: u64,
        #[arg(value_parser = parse::bytes)]
        text: Arc<[u8]>,
    },
    /// Writes the test pattern of a name.
    Fill {
        #[command(flatten)]
        area: Area,
        name: String,
    },
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
enum Facts {
    /// Board, devices, drivers, and the suppliers of each device with a driver.
    Machine,
    /// Statistics of the last command's probes, and the devices that still wait.
    Probes,
    /// Translation and DMA memory of the device, and its link and disk or its buffer.
    Controller,
    /// Pages in use before and after the last `echo`, and the quarantine.
    Memory,
    /// Owner of the device's IOMMU group.
    Group,
    /// Time on the board that the last command took.
    Elapsed,
    /// Each promise with the number of its checks. A broken one is a failure.
    Promises,
}

/// A check that `expect`, `require` and `if` make.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum Check {
    /// The device is bound to this driver; for `none`, to no driver.
    Driver { name: String },
    /// It has been bound to this driver at some time.
    WasBound { name: String },
    /// A guest runs, and more.
    Guest {
        #[command(subcommand)]
        check: Option<GuestCheck>,
    },
    /// During the last command each supplier that arrived woke its waiting consumers, and no others (P8).
    WakeUps,
    /// The IOMMU's page walk leads each DMA address of the device to the right memory.
    Translation,
    /// What the last command mapped for streaming DMA is unmapped.
    Unmapped,
    /// The host reads a test pattern or, without a name, what the image holds.
    Reads(Reads),
    /// The image holds a test pattern.
    #[command(subcommand)]
    Image(ImageCheck),
    /// The last `echo` returned the whole ledger, newest entry first, each to its back-end.
    Ledger,
    /// A client of the driver that was opened before the last `echo` gets an error.
    Stale,
    /// The controller no longer reaches the guest's memory.
    DmaBlocked,
    /// The machine uses what it used before the first probe.
    Pristine,
    /// The last command caused such an event.
    Event { name: String },
    /// The last command printed this text.
    Output { text: String },
}

/// A check of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum GuestCheck {
    /// It was asked to release the device.
    Asked,
    /// It no longer has the device.
    Released,
    /// It reads a test pattern or, without a name, what the image holds.
    Reads(Reads),
}

/// A check of the image.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum ImageCheck {
    /// It holds a test pattern; without a name it would be compared with itself.
    #[command(mut_arg("name", |name| name.required(true)))]
    Reads(Reads),
}

/// Operands of `reads`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
struct Reads {
    #[command(flatten)]
    area: Area,
    name: Option<String>,
}

impl Script {
    /// The main job, on the board and disk of `session`.
    pub fn lifecycle(session: &Session) -> Result<Self> {
        parse("lifecycle.script", &expand(LIFECYCLE, session))
    }

    /// The beginning and the end of the main job on hardware with PCI.
    pub fn pci(session: &Session) -> Result<(Self, Self)> {
        let part = |name, text| parse(name, &expand(text, session));
        Ok((part("begin.script", PCI[0])?, part("end.script", PCI[2])?))
    }

    /// The part of that job that is about one device, the chosen one.
    pub fn pci_device(session: &Session) -> Result<Self> {
        parse("device.script", &expand(PCI[1], session))
    }

    /// The script in the file at `path`.
    pub fn open(path: &Path, session: &Session) -> Result<Self> {
        parse(&path.display().to_string(), &expand(&load::script(path)?, session))
    }

    /// Number of its commands.
    pub fn commands(&self) -> usize {
        self.steps.iter().flat_map(|s| &s.lines).filter(|line| matches!(line.action, Action::Run(_))).count()
    }
}

/// Replaces the variables of a script; other words that begin with `$` stay.
fn expand(text: &str, session: &Session) -> String {
    let end = session.sectors().unwrap_or(0);
    let (host, guest) = Area::of(end.max(1));
    let controller = session.device().map_or("none".into(), |device| device.name().to_string());
    let area = |a: Area| format!("{} {}", a.lba, a.sectors);
    let text = text.replace("$controller", &controller).replace("$end", &end.to_string());
    text.replace("$host_sectors", &area(host)).replace("$guest_sectors", &area(guest))
}
