//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::explore::Explore;
use crate::failure::{Failure, Result};
use crate::output::Color;
use crate::session::{Config, Hardware, QemuMachine};

const EXIT_CODES: &str = "\
Exit codes:
  0  done, and every promise held
  1  a promise was broken, the simulated hardware was misused, or an operation failed
  2  bad input or bad usage; no file is left half-written";

/// A driver core, its drivers and a simulated board: bind, defer, unbind, hand over to a guest, take back.
///
/// Without a command it runs the main job, as `bindery run` does.
#[derive(Parser, Debug)]
#[command(name = "bindery", version, after_help = EXIT_CODES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of the main job.
    #[command(flatten)]
    pub run: Run,
}

/// Subcommands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the main job on a simulated board or on QEMU's devices: probe, I/O, unbind, hand-over to a guest, return, verdict
    #[command(after_help = EXIT_CODES)]
    Run(Run),
    /// Print the tree of devices with drivers, suppliers and IOMMU groups
    #[command(after_help = EXIT_CODES)]
    Tree(Tree),
    /// Explore every path through a device's lifecycle, and report which promise breaks on which one
    #[command(after_help = crate::explore::EXIT_CODES)]
    Explore(Box<Explore>),
    /// Audit ftrace text and kernel logs: did the drivers release everything?
    #[command(after_help = crate::audit::EXIT_CODES)]
    Audit(crate::audit::Audit),
    /// Print the completions of a shell
    #[command(after_help = EXIT_CODES)]
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Simulated boards.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Board {
    /// Renesas Salvator-XS: a disk controller behind an IOMMU
    #[default]
    SalvatorXs,
    /// A small board with PCI, after QEMU's `virt`: an `edu` behind a root port and a bridge
    Virt,
}

/// Hardware that the host runs on.
#[derive(Args, Debug, Default)]
#[command(next_line_help = false)]
pub struct Place {
    /// Simulate this board
    #[arg(long, value_enum, value_name = "NAME", default_value_t, conflicts_with = "qemu")]
    pub board: Board,
    /// Start this machine of QEMU, without a guest, and run on its devices
    #[arg(long, value_enum, value_name = "MACHINE", conflicts_with = "dtb")]
    pub qemu: Option<QemuMachine>,
    /// Give QEMU's machine this device, as its option `-device` takes it; repeatable
    #[arg(long = "device", value_name = "NAME[,PROPERTY=VALUE...]", requires = "qemu")]
    pub devices: Vec<String>,
    /// Use this device tree blob instead of the board's
    #[arg(long, value_name = "FILE")]
    pub dtb: Option<PathBuf>,
    /// Translate DMA through the IOMMUs, or not (`off`: policy of untranslated DMA)
    #[arg(long, value_enum, default_value_t)]
    pub iommu: Iommu,
}

/// Options of `run`.
#[derive(Args, Debug, Default)]
#[command(next_line_help = false)]
pub struct Run {
    /// The hardware.
    #[command(flatten)]
    pub place: Place,
    /// Put this image on the SATA port instead of a temporary one; it is written to
    #[arg(long, value_name = "FILE")]
    pub disk: Option<PathBuf>,
    /// Run this script instead of the main job: `echo VALUE > PATH`, `cat PATH`, `ls PATH`, `read LBA [COUNT]`,
    /// `write LBA TEXT`, `expect CHECK` and more (docs/run.md); a `!` before a command says that it must fail
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// Print one event per line as JSON, instead of text
    #[arg(long)]
    pub json: bool,
    /// Write a trace for Perfetto and Chrome's tracing page
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Write the host's events as the text of Linux's ftrace, for `bindery audit`
    #[arg(long, value_name = "FILE")]
    pub ftrace: Option<PathBuf>,
    /// Print failures only
    #[arg(short, long, conflicts_with = "json")]
    pub quiet: bool,
    /// Colour the output
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pub color: Color,
}

/// Options of `tree`.
#[derive(Args, Debug)]
pub struct Tree {
    /// The hardware.
    #[command(flatten)]
    pub place: Place,
    /// Print registers, interrupt lines, DMA windows and coherence of each device as well
    #[arg(short, long, conflicts_with = "json")]
    pub long: bool,
    /// Print one JSON object instead of text (docs/tree.md)
    #[arg(long)]
    pub json: bool,
    /// Colour the output
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pub color: Color,
}

/// Translation of DMA.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Iommu {
    /// DMA goes through the IOMMUs that the device tree names.
    #[default]
    On,
    /// IOMMUs are left alone.
    Off,
}

impl Place {
    fn config(&self) -> Config {
        let hardware = match (self.qemu, self.board) {
            (Some(machine), _) => Hardware::Qemu(machine, self.devices.clone()),
            (None, Board::SalvatorXs) => Hardware::Salvator,
            (None, Board::Virt) => Hardware::Virt,
        };
        Config { hardware, dtb: self.dtb.clone(), disk: None, untranslated: self.iommu == Iommu::Off }
    }
}

impl Run {
    /// Configuration of the session to run in. QEMU's machine has an `edu` when no device is named.
    ///
    /// # Errors
    ///
    /// A disk image for hardware without a disk controller.
    pub fn config(&self) -> Result<Config> {
        let mut config = self.place.config();
        match &mut config.hardware {
            Hardware::Virt if self.disk.is_some() => return Err(Failure::NoDisk("the board virt")),
            Hardware::Qemu(machine, _) if self.disk.is_some() => return Err(Failure::NoDisk(machine.name())),
            Hardware::Qemu(_, devices) if devices.is_empty() => devices.push("edu".into()),
            Hardware::Salvator | Hardware::Virt | Hardware::Qemu(..) => {}
        }
        Ok(Config { disk: self.disk.clone(), ..config })
    }
}

impl Tree {
    /// Configuration of the session to print.
    pub fn config(&self) -> Config {
        self.place.config()
    }
}
