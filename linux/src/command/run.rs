//! From the command line to the exit code.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;

use clap::{CommandFactory, Parser};

use super::args::{Cli, Command, OtherFace};
use super::output::{self, print_text};
use super::{Exit, apply, early, give, list, plan, report, show, status, watch};
use crate::desired::DesiredError;
use crate::engine::NotBegun;
use crate::face::{self, Directory, Face, FaceError, helper};
use crate::inventory::{Device, Inventory};
use crate::path::printable;
use crate::select::{SelectError, select};
use crate::state::{Store, StoreError};
use crate::system::System;
use crate::usage::Scene;

/// Reason why the command ended early.
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
    /// The desired state.
    #[error(transparent)]
    Desired(#[from] DesiredError),
    /// The state directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A plan was not begun.
    #[error(transparent)]
    NotBegun(#[from] NotBegun),
    /// A rule.
    #[error("{0}")]
    Policy(String),
    /// The kernel said no.
    #[error(transparent)]
    Kernel(FaceError),
    /// This user may not.
    #[error("{0}: run it with sudo")]
    Denied(FaceError),
    /// Writes need root.
    #[error("only root can move devices: run it with sudo")]
    NeedsRoot,
    /// Nothing can be printed.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Store(StoreError::Lock(_)) | Self::Policy(_) => Exit::Policy,
            Self::NotBegun(NotBegun::Store(StoreError::Lock(_)) | NotBegun::Unfinished { .. } | NotBegun::Changed) => {
                Exit::Policy
            }
            Self::Desired(error) if error.identity => Exit::Policy,
            Self::Usage(_)
            | Self::Select(_)
            | Self::Root { .. }
            | Self::Store(_)
            | Self::NotBegun(_)
            | Self::Desired(_) => Exit::Usage,
            Self::NeedsRoot | Self::Denied(_) => Exit::NeedsRoot,
            Self::Output(_) | Self::Kernel(_) => Exit::Kernel,
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
        Ok(Self::of(face(cli)?))
    }

    /// Reads what is behind a face.
    pub(super) fn of(face: Box<dyn Face>) -> Self {
        let inventory = Inventory::scan(face.as_ref());
        let system = System::read(face.as_ref());
        Self { face, inventory, system }
    }

    /// Input of the searches.
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

/// The way to the host, or to the directory that stands for it.
pub(super) fn face(cli: &Cli) -> Result<Box<dyn Face>, Failure> {
    let face = open(cli)?;
    if !face.exists("/sys/bus") {
        let path = cli.root.as_deref().unwrap_or("/".as_ref());
        let what = format!("{}: there is no sys/bus below it; a host has sys, proc and dev", path.display());
        return Err(Failure::Usage(what));
    }
    Ok(face)
}

/// The same without a look whether there is a host: images are made where nothing of one is mounted.
fn open(cli: &Cli) -> Result<Box<dyn Face>, Failure> {
    if let Some(other) = &cli.face {
        return Ok((other.0)());
    }
    let (path, face): (_, io::Result<Box<dyn Face>>) = match &cli.root {
        Some(path) => (path.as_path(), Directory::open(path).map(|d| Box::new(d) as Box<dyn Face>)),
        None => ("/".as_ref(), face::Host::open().map(|host| Box::new(with_helper(host)) as Box<dyn Face>)),
    };
    let face = face.map_err(|error| Failure::Root { path: path.display().to_string(), error })?;
    Ok(face)
}

/// The host, with this program for calls that may hang. Who is not root keeps the notes of those left behind apart.
fn with_helper(host: face::Host) -> face::Host {
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(|folder| Path::new(&folder).join("bindctl/late"));
    let notes = [Some("/run/bindctl/late".into()), own].into_iter().flatten().collect();
    host.with_noted_helper("/proc/self/exe", notes)
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

/// Runs the command on what stands behind another face, each time it looks at the host: the exit code, and the text that it
/// would have printed. `arguments` are those behind the program's name; `--state` keeps journals apart from the host's.
pub fn run_on<'a>(
    arguments: impl IntoIterator<Item = &'a str>,
    face: impl Fn() -> Box<dyn Face> + 'static,
) -> (Exit, String) {
    let words = std::iter::once("bindctl").chain(arguments);
    let mut cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => return (Exit::Usage, error.to_string()),
    };
    cli.face = Some(OtherFace(Rc::new(face)));
    let (ended, text) = output::keep(|| run(&cli));
    match ended {
        Ok(exit) => (exit, text),
        Err(failure) => (failure.exit(), format!("{text}bindctl: {}\n", printable(&failure.to_string()))),
    }
}

fn run(cli: &Cli) -> Result<Exit, Failure> {
    match &cli.command {
        Command::Completions { shell } => return completions(*shell),
        Command::Man => return man(),
        // It reads the devices itself, after it has begun to listen.
        Command::Watch { devices } => return watch::watch(cli, devices),
        Command::Initramfs { what, file, kernel } => {
            return early::initramfs(cli, open(cli)?.as_ref(), *what, file.as_ref(), kernel.as_deref());
        }
        _ => {}
    }
    let host = Host::open(cli)?;
    match &cli.command {
        Command::List { all } => list::run(&host, *all, cli.json),
        Command::Show { device, guest_memory } => show::run(&host, device, *guest_memory, cli.json),
        Command::Plan(args) => plan::run(&host, args, cli.json),
        Command::Give(args) => give::give(cli, &host, args),
        Command::Take(args) => give::take(cli, &host, args),
        Command::Apply(args) if args.early => early::apply(cli, host, args),
        Command::Apply(args) => apply::apply(cli, &host, args),
        Command::Status { file } => status::status(cli, &host, file.as_ref()),
        Command::Recover { timeout } => status::recover(cli, &host, *timeout),
        Command::Report { device, output } => report::run(cli, &host, device, output.as_deref()),
        // Answered above.
        Command::Completions { .. } | Command::Man | Command::Watch { .. } | Command::Initramfs { .. } => {
            Ok(Exit::Done)
        }
    }
}

/// Store of journals, records and locks.
pub(super) fn store(cli: &Cli) -> Store {
    let below =
        |path: &str| cli.root.as_ref().map_or_else(|| path.into(), |root| root.join(path.trim_start_matches('/')));
    // What is done in an initramfs ends with it: the running system looks at its own desired state again.
    let early = matches!(&cli.command, Command::Apply(args) if args.early);
    let usual = if early { "/run/bindctl/early" } else { "/var/lib/bindctl" };
    let state = cli.state.clone().unwrap_or_else(|| below(usual));
    // Locks are about devices: those of another face are not the host's.
    let locks = if cli.face.is_some() { state.join("locks") } else { below("/run/bindctl") };
    Store::at(state, locks)
}

/// Refuses a caller who may not write to sysfs.
pub(super) fn needs_root(face: &dyn Face) -> Result<(), Failure> {
    if face.may_write() { Ok(()) } else { Err(Failure::NeedsRoot) }
}

fn completions(shell: clap_complete::Shell) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "bindctl", &mut text);
    print_text(&String::from_utf8_lossy(&text))?;
    Ok(Exit::Done)
}

/// One page for the command and all of its verbs, made from what `--help` is made from.
fn man() -> Result<Exit, Failure> {
    let mut text = Vec::new();
    let mut command = Cli::command();
    command.build();
    let page = clap_mangen::Man::new(command.clone());
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let name = verb.get_name().to_uppercase();
        text.extend(format!(".SH \"{name}\"\n").bytes());
        // A verb's own sections become parts of the one page.
        let mut part = Vec::new();
        let page = clap_mangen::Man::new(verb.clone());
        page.render_synopsis_section(&mut part)?;
        page.render_description_section(&mut part)?;
        page.render_options_section(&mut part)?;
        text.extend(String::from_utf8_lossy(&part).replace(".SH ", ".SS ").bytes());
    }
    page.render_extra_section(&mut text)?;
    print_text(&String::from_utf8_lossy(&text))?;
    Ok(Exit::Done)
}
