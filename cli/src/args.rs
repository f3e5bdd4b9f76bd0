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
  2  bad input or bad usage; nothing is left half-written";

/// A driver core, its drivers and a simulated board: bind, defer, unbind, hand over, come back.
///
/// Without a command it runs the main job, as `bindery run` does.
#[derive(Parser, Debug)]
#[command(name = "bindery", version, after_help = EXIT_CODES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of the main job.
    #[command(flatten)]
    pub run: Run,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Tell the whole story on the simulated board: probe, I/O, unbind, hand-over to a guest, return, verdict
    #[command(after_help = EXIT_CODES)]
    Run(Run),
    /// Draw devices, drivers, suppliers and IOMMU groups as text
    #[command(after_help = EXIT_CODES)]
    Tree(Tree),
    /// Explore every path through a device's lifecycle, and report which promise breaks on which one
    #[command(after_help = crate::explore::EXIT_CODES)]
    Explore(Box<Explore>),
    /// Judge from ftrace text and kernel logs whether drivers gave everything back
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
    /// Whether DMA is translated; `off` is the written policy of untranslated DMA
    #[arg(long, value_enum, default_value_t)]
    pub iommu: Iommu,
    /// Use this device tree blob instead of the embedded board's
    #[arg(long, value_name = "FILE")]
    pub dtb: Option<PathBuf>,
    /// Put this image on the SATA port instead of a temporary one; it is written to
    #[arg(long, value_name = "FILE")]
    pub disk: Option<PathBuf>,
    /// Run these commands instead of the story: `echo VALUE > PATH`, `cat PATH`, `ls PATH`, `read LBA [COUNT]`,
    /// `write LBA TEXT`, `write LBA 0xBYTES`; a `!` before one says that it must fail
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// Print one event per line as JSON, instead of text
    #[arg(long)]
    pub json: bool,
    /// Write a trace that Perfetto and Chrome's tracing page read
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Write the host's events as the text of Linux's ftrace, for `bindery audit`
    #[arg(long, value_name = "FILE")]
    pub ftrace: Option<PathBuf>,
    /// Print only what is wrong
    #[arg(short, long, conflicts_with = "json")]
    pub quiet: bool,
    /// When to colour
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pub color: Color,
}

/// Options of `tree`.
#[derive(Args, Debug)]
pub struct Tree {
    /// Use this device tree blob instead of the embedded board's
    #[arg(long, value_name = "FILE")]
    pub dtb: Option<PathBuf>,
    /// Whether DMA is translated
    #[arg(long, value_enum, default_value_t)]
    pub iommu: Iommu,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
    /// When to colour
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pub color: Color,
}

/// Whether DMA is translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Iommu {
    /// By the IOMMUs that the device tree names.
    #[default]
    On,
    /// Not at all: IOMMUs are left alone.
    Off,
}

impl Run {
    /// The session to run in.
    pub fn config(&self) -> Config {
        Config { dtb: self.dtb.clone(), disk: self.disk.clone(), untranslated: self.iommu == Iommu::Off }
    }
}

impl Tree {
    /// The session to draw.
    pub fn config(&self) -> Config {
        Config { dtb: self.dtb.clone(), disk: None, untranslated: self.iommu == Iommu::Off }
    }
}
