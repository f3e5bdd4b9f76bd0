//! The command line.

use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;

use clap::{Args, Parser, Subcommand};

use super::exit::HELP;
use crate::face::Face;

/// Hand devices from their kernel driver to VFIO and back.
///
/// DEV is an address (0000:02:00.0), a path in /sys, BUS/NAME, vendor:device when only one fits, or serial=, mac=, wwn=,
/// slot= or path= with a value. path= is the way through the bridges that `show` prints.
#[derive(Parser, Debug)]
#[command(name = "bindctl", version, after_help = HELP)]
pub(super) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,
    /// Look at this directory, with sys, proc, dev and run/udev below it, instead of the host; nothing is written
    /// there: give, take and apply print their plans
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) root: Option<PathBuf>,
    /// Keep journals and records in this directory [default: /var/lib/bindctl]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) state: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Replacement of the host, for a program that runs the command itself.
    #[arg(skip)]
    pub(super) face: Option<OtherFace>,
}

/// Opens a face.
#[derive(Clone)]
pub(super) struct OtherFace(pub(super) Rc<dyn Fn() -> Box<dyn Face>>);

impl fmt::Debug for OtherFace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OtherFace")
    }
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// List devices with driver, IOMMU group, users, and whether they can be given
    #[command(after_help = HELP)]
    List {
        /// Bridges and devices without a group, too
        #[arg(long)]
        all: bool,
    },
    /// Show everything that matters for a hand-over of a device
    #[command(after_help = HELP)]
    Show {
        /// The device
        #[arg(value_name = "DEV")]
        device: String,
        /// Compare the memory of a guest with what a process of this user may lock: 16G, 512M
        #[arg(long, value_name = "SIZE", value_parser = size)]
        guest_memory: Option<u64>,
    },
    /// Print the steps of a hand-over; nothing is done
    #[command(after_help = HELP)]
    Plan(PlanArgs),
    /// Give devices to VFIO
    #[command(after_help = HELP)]
    Give(GiveArgs),
    /// Take devices back to the driver, override and virtual functions that they had
    #[command(after_help = HELP)]
    Take(TakeArgs),
    /// Bring the host to its desired state, a TOML file; devices that are as desired are left alone
    #[command(after_help = HELP)]
    Apply(ApplyArgs),
    /// Compare the devices that were given, and the desired state, with what is
    #[command(after_help = HELP)]
    Status {
        /// The desired state [default: /etc/bindctl.toml, when it is there]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Print each change to devices as it happens: drivers that come and go, disks, interfaces, nodes of VFIO
    #[command(after_help = HELP)]
    Watch {
        /// Only these devices [default: all]
        #[arg(value_name = "DEV")]
        devices: Vec<String>,
    },
    /// Print one file for a bug report about a device: the device, its group, the journal, lines of the kernel's log
    ///
    /// User names, host names, serial numbers, hardware and network addresses, names of volumes and guests, and
    /// identifiers of file systems are replaced, each by the same word everywhere. Read the file before you send it.
    #[command(after_help = HELP)]
    Report {
        /// The device
        #[arg(value_name = "DEV")]
        device: String,
        /// Write it into this new file, which only its owner can read [default: standard output]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print what an initramfs needs to give devices before their own drivers are there
    #[command(after_help = HELP)]
    Initramfs {
        /// Document to print
        #[arg(value_enum)]
        what: InitramfsPart,
        /// The desired state [default: /etc/bindctl.toml]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// The release of the kernel that the image is for [default: the one that runs]
        #[arg(long, value_name = "RELEASE")]
        kernel: Option<String>,
    },
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
    /// Finish or undo what a crash or a time-out has left
    #[command(after_help = HELP)]
    Recover {
        /// Seconds that one step may take
        #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
        timeout: u64,
    },
}

/// A part of what an initramfs needs.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InitramfsPart {
    /// The names of the modules, one a line
    Modules,
    /// The desired state for `apply --early`
    State,
}

/// Options of `plan`.
#[derive(Args, Debug)]
pub(super) struct PlanArgs {
    /// The devices
    #[arg(value_name = "DEV", required = true)]
    pub(super) devices: Vec<String>,
    /// Target
    #[arg(long, value_name = "vfio|host|none|DRIVER")]
    pub(super) to: String,
    #[command(flatten)]
    pub(super) how: How,
}

/// Options of a hand-over.
#[derive(Args, Debug, Default)]
pub(super) struct How {
    /// Unbind devices of the same IOMMU group that are on a driver of the host's, for as long
    #[arg(long)]
    pub(super) hold_siblings: bool,
    /// Hand this device over although it is in use
    #[arg(long, value_name = "DEV")]
    pub(super) force_in_use: Vec<String>,
    /// Give the device without an IOMMU: its driver can then read and write all memory
    #[arg(long)]
    pub(super) noiommu: bool,
    /// Compare the memory of a guest with what its process may lock: 16G, 512M
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(super) guest_memory: Option<u64>,
}

/// Bytes, or with K, M, G or T behind a number the units of 1024.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" | "KIB" => 10,
        "M" | "MIB" => 20,
        "G" | "GIB" => 30,
        "T" | "TIB" => 40,
        unit => return Err(format!("{unit} is not K, M, G or T")),
    };
    let number: u64 = digits.parse().map_err(|_| "a number with K, M, G or T behind it".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".into())
}

/// Options of `give`.
#[derive(Args, Debug)]
pub(super) struct GiveArgs {
    /// The devices
    #[arg(value_name = "DEV", required = true)]
    pub(super) devices: Vec<String>,
    /// Make this user the owner of the nodes in /dev/vfio
    #[arg(long, value_name = "USER")]
    pub(super) owner: Option<String>,
    #[command(flatten)]
    pub(super) how: How,
    #[command(flatten)]
    pub(super) run: Run,
}

/// Options of `take`.
#[derive(Args, Debug)]
pub(super) struct TakeArgs {
    /// The devices
    #[arg(value_name = "DEV", required = true)]
    pub(super) devices: Vec<String>,
    /// Take this device although a process holds it
    #[arg(long, value_name = "DEV")]
    pub(super) force_in_use: Vec<String>,
    #[command(flatten)]
    pub(super) run: Run,
}

/// Options of the execution.
#[derive(Args, Debug)]
pub(super) struct Run {
    /// Print the steps and do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Seconds that one step may take
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(super) timeout: u64,
}

/// Options of `apply`.
#[derive(Args, Debug)]
pub(super) struct ApplyArgs {
    /// The desired state [default: /etc/bindctl.toml]
    #[arg(value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// For an initramfs: each device by itself; one that is missing or cannot be identified yet is left for later
    #[arg(long)]
    pub(super) early: bool,
    #[command(flatten)]
    pub(super) run: Run,
}
