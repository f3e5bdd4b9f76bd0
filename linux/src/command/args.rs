//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::exit::HELP;

/// Hand devices from their kernel driver to VFIO and back.
///
/// DEV is an address (0000:02:00.0), a path in /sys, BUS/NAME, vendor:device when only one fits, or serial=, mac=, wwn=
/// or slot= with a value.
#[derive(Parser, Debug)]
#[command(name = "bindctl", version, after_help = HELP)]
pub(super) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,
    /// Look at this directory, with sys, proc, dev and run/udev below it, instead of the host
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) root: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
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
    },
    /// Print the steps of a hand-over; nothing is done
    #[command(after_help = HELP)]
    Plan(PlanArgs),
}

/// Options of `plan`.
#[derive(Args, Debug)]
pub(super) struct PlanArgs {
    /// The devices
    #[arg(value_name = "DEV", required = true)]
    pub(super) devices: Vec<String>,
    /// Where they are to go
    #[arg(long, value_name = "vfio|host|none|DRIVER")]
    pub(super) to: String,
    #[command(flatten)]
    pub(super) how: How,
}

/// How a device is to be handed over.
#[derive(Args, Debug, Default)]
pub(super) struct How {
    /// Unbind devices of the same IOMMU group that are on a driver of the host's, for as long
    #[arg(long)]
    pub(super) hold_siblings: bool,
    /// Hand this device over although it is in use
    #[arg(long, value_name = "DEV")]
    pub(super) force_in_use: Vec<String>,
    /// Give the device without an IOMMU: whoever drives it reads and writes all memory
    #[arg(long)]
    pub(super) noiommu: bool,
}
