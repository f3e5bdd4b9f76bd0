//! From the command line to the exit code.

use std::io;
use std::process::ExitCode;

use clap::Parser;

use super::args::{Cli, Command};
use super::{Exit, give, list, plan, show, status};
use crate::face::{self, Directory, Face, helper};
use crate::inventory::{Device, Inventory};
use crate::path::printable;
use crate::select::{SelectError, select};
use crate::state::{Store, StoreError};
use crate::system::System;
use crate::usage::Scene;

/// Why the command ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A word does not name one device.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The root cannot be opened.
    #[error("cannot open {path}: {error}")]
    Root {
        /// The directory.
        path: String,
        /// The host's answer.
        error: io::Error,
    },
    /// The state directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A rule.
    #[error("{0}")]
    Policy(String),
    /// Writes need root.
    #[error("only root can move devices: run it with sudo")]
    NeedsRoot,
    /// Nothing can be printed.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    fn exit(&self) -> Exit {
        match self {
            Self::Store(StoreError::Lock(_)) | Self::Policy(_) => Exit::Policy,
            Self::Usage(_) | Self::Select(_) | Self::Root { .. } | Self::Store(_) => Exit::Usage,
            Self::NeedsRoot => Exit::NeedsRoot,
            Self::Output(_) => Exit::Kernel,
        }
    }
}

/// The host, read once.
pub(super) struct Host {
    face: Box<dyn Face>,
    inventory: Inventory,
    system: System,
}

impl Host {
    /// Reads the host, or the directory that stands for it.
    pub(super) fn open(cli: &Cli) -> Result<Self, Failure> {
        let (path, face): (_, io::Result<Box<dyn Face>>) = match &cli.root {
            Some(path) => (path.as_path(), Directory::open(path).map(|d| Box::new(d) as Box<dyn Face>)),
            None => {
                ("/".as_ref(), face::Host::open().map(|h| Box::new(h.with_helper("/proc/self/exe")) as Box<dyn Face>))
            }
        };
        let face = face.map_err(|error| Failure::Root { path: path.display().to_string(), error })?;
        if !face.exists("/sys/bus") {
            let what = format!("{}: there is no sys/bus below it; a host has sys, proc and dev", path.display());
            return Err(Failure::Usage(what));
        }
        let inventory = Inventory::scan(face.as_ref());
        let system = System::read(face.as_ref());
        Ok(Self { face, inventory, system })
    }

    /// What the searches look at.
    pub(super) fn scene(&self) -> Scene<'_> {
        Scene { face: self.face.as_ref(), inventory: &self.inventory, system: &self.system }
    }

    pub(super) fn face(&self) -> &dyn Face {
        self.face.as_ref()
    }

    /// The device that a word names.
    pub(super) fn select(&self, word: &str) -> Result<&Device, Failure> {
        Ok(select(self.face.as_ref(), &self.inventory, word)?)
    }
}

/// Runs the command.
pub fn main() -> ExitCode {
    if let Some(code) = helper::intercept() {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = error.exit_code();
            // Help into a pipe whose reader has left is no error.
            let _ = error.print();
            return ExitCode::from(u8::try_from(code).unwrap_or(2));
        }
    };
    match run(&cli) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => {
            eprintln!("bindctl: {}", printable(&failure.to_string()));
            ExitCode::from(failure.exit() as u8)
        }
    }
}

fn run(cli: &Cli) -> Result<Exit, Failure> {
    let host = Host::open(cli)?;
    match &cli.command {
        Command::List { all } => list::run(&host, *all, cli.json),
        Command::Show { device } => show::run(&host, device, cli.json),
        Command::Plan(args) => plan::run(&host, args, cli.json),
        Command::Give(args) => give::give(cli, &host, args),
        Command::Take(args) => give::take(cli, &host, args),
        Command::Status => status::status(cli, &host),
        Command::Recover { timeout } => status::recover(cli, &host, *timeout),
    }
}

/// Where journals, records and locks are.
pub(super) fn store(cli: &Cli) -> Store {
    let below =
        |path: &str| cli.root.as_ref().map_or_else(|| path.into(), |root| root.join(path.trim_start_matches('/')));
    let state = cli.state.clone().unwrap_or_else(|| below("/var/lib/bindctl"));
    Store::at(state, below("/run/bindctl"))
}

/// Refuses whoever may not write to sysfs.
pub(super) fn needs_root() -> Result<(), Failure> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(Failure::NeedsRoot) }
}
