//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::explore::Explore;
use crate::output::Color;
use crate::session::Config;

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
    /// Run the main job on the simulated board: probe, I/O, unbind, hand-over to a guest, return, verdict
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

/// Options of `run`.
#[derive(Args, Debug, Default)]
#[command(next_line_help = false)]
pub struct Run {
    /// Translate DMA through the IOMMUs, or not (`off`: policy of untranslated DMA)
    #[arg(long, value_enum, default_value_t)]
    pub iommu: Iommu,
    /// Use this device tree blob instead of the embedded board's
    #[arg(long, value_name = "FILE")]
    pub dtb: Option<PathBuf>,
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

/// Machines of QEMU that have a device tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum QemuTree {
    /// 64-bit Arm (`qemu-system-aarch64 -machine virt`).
    Virt,
}

/// Options of `tree`.
#[derive(Args, Debug)]
pub struct Tree {
    /// Start this machine of QEMU, without a guest, and print the device tree that it makes
    #[arg(long, value_enum, value_name = "MACHINE", conflicts_with = "dtb")]
    pub qemu: Option<QemuTree>,
    /// Use this device tree blob instead of the embedded board's
    #[arg(long, value_name = "FILE")]
    pub dtb: Option<PathBuf>,
    /// Translate DMA through the IOMMUs, or not
    #[arg(long, value_enum, default_value_t)]
    pub iommu: Iommu,
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

impl Run {
    /// Configuration of the session to run in.
    pub fn config(&self) -> Config {
        let untranslated = self.iommu == Iommu::Off;
        Config { dtb: self.dtb.clone(), qemu: false, disk: self.disk.clone(), untranslated }
    }
}

impl Tree {
    /// Configuration of the session to print.
    pub fn config(&self) -> Config {
        let untranslated = self.iommu == Iommu::Off;
        Config { dtb: self.dtb.clone(), qemu: self.qemu.is_some(), disk: None, untranslated }
    }
}
