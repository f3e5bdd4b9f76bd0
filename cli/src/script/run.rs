//! Running a script, one line after the other.

use std::sync::Arc;
use std::time::Duration;

use bindery::addr::DeviceAddr;
use bindery::machine::{ProbeStats, ResourceUsage};
use bindery_sim::disk::SECTOR;

use super::{
    Action, Check, Command, Drivers, Facts, GuestCommand, Line, Script, Side, Step, Transfer, Wanted, check, promises,
    show,
};
use crate::failure::Result;
use crate::output::{HEADING, PLAIN, WARNING, count};
use crate::record::{self, LogEntry};
use crate::reporter::Reporter;
use crate::session::{Port, Session, pattern};
use crate::shell;

/// Effects of the last command.
#[derive(Default)]
pub(super) struct Last {
    /// Its events.
    pub(super) events: Vec<LogEntry>,
    /// Its output, or its error.
    pub(super) output: String,
    /// Time on the board.
    pub(super) elapsed: Duration,
    /// Probes.
    pub(super) settled: ProbeStats,
    /// The device before the last `echo`.
    pub(super) before: Option<Before>,
}

/// The device before a command.
pub(super) struct Before {
    /// Entries of its ledger, oldest first, with their back-ends.
    pub(super) ledger: Vec<(u64, String)>,
    /// Resource usage of the host.
    pub(super) usage: ResourceUsage,
    /// A client of its driver.
    pub(super) client: Option<Port>,
    /// An address at which it reaches the guest's memory.
    pub(super) guest_dma: Option<DeviceAddr>,
}

impl Before {
    fn new(session: &Session) -> Option<Self> {
        let device = session.device()?;
        let ledger = session.host.resources(&device).into_iter().map(|(entry, _, _, backend)| (entry, backend));
        let guest = session.guest.as_ref().map(|g| session.log.mapped("guest", &g.device));
        Some(Self {
            ledger: ledger.collect(),
            usage: session.host.resource_usage(),
            client: session.port(),
            guest_dma: guest.and_then(|mapped| Some(mapped.first()?.addr)),
        })
    }
}

/// Output of a command, or its error.
type Answer = std::result::Result<String, String>;

/// A script that runs in a session.
pub struct Runner<'s, 'r, 'o> {
    session: &'s mut Session,
    reporter: &'r mut Reporter<'o>,
    last: Last,
    /// Number of steps so far.
    steps: usize,
    judged: bool,
}

impl<'s, 'r, 'o> Runner<'s, 'r, 'o> {
    /// A runner that has done nothing yet.
    pub fn new(session: &'s mut Session, reporter: &'r mut Reporter<'o>) -> Self {
        Self { session, reporter, last: Last::default(), steps: 0, judged: false }
    }

    /// Runs all steps, and checks the promises at the end if the script does not. A line whose outcome is not the one it
    /// says is a failure; the lines behind it run all the same, as in a shell.
    pub fn run(&mut self, script: &Script) -> Result<()> {
        self.steps(script)?;
        if script.steps.is_empty() {
            self.reporter.begin("script", 1, "Script")?;
        }
        if self.judged {
            return Ok(());
        }
        self.reporter.gap()?;
        self.reporter.text(format_args!("{}.", count(script.commands(), "command")))?;
        promises::show(self.session, self.reporter)
    }

    /// Runs the main job on hardware with PCI: each device that a driver here does I/O with in turn.
    pub fn run_pci(&mut self) -> Result<()> {
        let (begin, end) = Script::pci(self.session)?;
        self.steps(&begin)?;
        let devices = self.session.edus();
        if devices.is_empty() {
            self.steps += 1;
            self.reporter.begin("io", self.steps, "I/O")?;
            self.reporter.skip("there is no device that a driver here does I/O with")?;
        }
        for device in devices {
            if self.session.choose(&device) {
                let script = Script::pci_device(self.session)?;
                self.steps(&script)?;
            }
        }
        self.steps(&end)
    }

    fn steps(&mut self, script: &Script) -> Result<()> {
        script.steps.iter().try_for_each(|step| self.step(step))
    }

    /// Runs one step.
    pub fn step(&mut self, step: &Step) -> Result<()> {
        self.steps += 1;
        self.reporter.begin(&step.name, self.steps, &step.title)?;
        if step.implicit {
            self.session.add_drivers();
            self.session.host.settle();
            self.session.target.check()?;
        }
        self.lines(&step.lines)?;
        self.reporter.drain()
    }

    fn lines(&mut self, lines: &[Line]) -> Result<()> {
        let mut enabled = true;
        for line in lines {
            match &line.action {
                Action::If(check) => enabled = self.evaluate(check).is_ok(),
                Action::Else => enabled = !enabled,
                Action::End => enabled = true,
                _ if !enabled => {}
                Action::Note { text } => {
                    self.reporter.gap()?;
                    self.reporter.styled(HEADING, text)?;
                }
                Action::Show { facts } => {
                    self.judged |= *facts == Facts::Promises;
                    show::show(*facts, self.session, &self.last, self.reporter)?;
                }
                Action::Run(command) => {
                    if !self.command(line, command)? {
                        return self.reporter.skip(&self.last.output);
                    }
                }
                Action::Expect(check) => match self.evaluate(check) {
                    Ok(what) => self.reporter.ok(what)?,
                    Err(unmet) => self.fail(line, &unmet.to_string())?,
                },
                Action::Require(check) => {
                    if let Err(unmet) = self.evaluate(check) {
                        return self.reporter.skip(&unmet.seen);
                    }
                }
                Action::Step { .. } => {}
            }
        }
        Ok(())
    }

    fn evaluate(&self, check: &Check) -> check::Checked {
        check::evaluate(check, self.session, &self.last)
    }

    fn fail(&mut self, line: &Line, what: &str) -> Result<()> {
        self.reporter.fail(&format!("line {}: {what}", line.number))
    }

    /// Runs a command; false when it failed so that the rest of the step is not possible.
    fn command(&mut self, line: &Line, command: &Command) -> Result<bool> {
        self.reporter.styled(HEADING, format_args!("$ {}", line.text))?;
        // The log holds the events of one command, and those of the checks after it.
        self.reporter.drain()?;
        if matches!(command, Command::Echo { .. }) {
            self.last.before = Before::new(self.session);
        }
        let began = self.session.host.env().now();
        let done = self.execute(command)?;
        // Drivers are added without a probe, so that a script can show the machine before. What any other command set in
        // motion comes to rest before the next one.
        if *command != Command::Drivers(Drivers::Add) {
            self.last.settled = self.session.host.settle();
            self.session.target.run_pending();
        }
        self.session.target.check()?;
        self.last.elapsed = self.session.host.env().now().since(began);
        self.last.events = self.session.log.since(0);
        let ok = done.is_ok();
        let output = done.unwrap_or_else(|error| error);
        self.last.output.clone_from(&output);
        let (number, text) = (line.number, &*line.text);
        self.reporter.mark(&record::Line::Command { line: number, command: text, ok, output: &output })?;
        if !line.quiet {
            self.reporter.events(&self.last.events)?;
        }
        if !ok && line.wanted == Wanted::Any {
            return Ok(false);
        }
        let style = if ok { PLAIN } else { WARNING };
        output.lines().try_for_each(|text| self.reporter.styled(style, text))?;
        match (ok, line.wanted) {
            (true, Wanted::Error) => self.fail(line, &format!("{text} was to be refused"))?,
            (false, Wanted::Success) => self.fail(line, &output)?,
            _ => {}
        }
        Ok(true)
    }

    /// Output of a command, or its error.
    fn execute(&mut self, command: &Command) -> Result<Answer> {
        let session = &mut *self.session;
        Ok(match command {
            Command::Echo { value, path } => shell::echo(&session.control, value, path),
            Command::Cat { path } => shell::cat(&session.control, path),
            Command::Ls { path } => shell::ls(&session.control, path),
            Command::Host(what) => transfer(session, Side::Host, what)?,
            Command::Image(what) => transfer(session, Side::Image, what)?,
            Command::Guest(GuestCommand::Transfer(what)) => transfer(session, Side::Guest, what)?,
            Command::Guest(GuestCommand::Start { guest }) => session.start_guest(*guest),
            Command::Guest(GuestCommand::Stop) => {
                session.end_guest();
                Ok(String::new())
            }
            Command::Drivers(Drivers::Add) => {
                session.add_drivers();
                Ok(String::new())
            }
            Command::Drivers(Drivers::Remove) => {
                let bound = session.host.resource_usage().bindings.len();
                for driver in session.host.drivers() {
                    session.host.unregister(driver);
                }
                Ok(format!("{} ended", count(bound, "binding")))
            }
            Command::Device { name } if session.choose(name) => Ok(String::new()),
            Command::Device { name } => Err(format!("there is no device {name:?}")),
            Command::Settle => Ok(String::new()),
        })
    }
}

fn transfer(session: &Session, side: Side, what: &Transfer) -> Result<Answer> {
    let (lba, bytes) = match what {
        Transfer::Read(area) => return Ok(session.read(side, *area).map(|bytes| shell::dump(*area, &bytes))),
        Transfer::Write { lba, text } => (*lba, Arc::clone(text)),
        Transfer::Fill { area, name } => (area.lba, pattern(name, *area).into()),
    };
    let written = session.write(side, lba, &bytes);
    if written.is_err() {
        session.check_host_io()?;
    }
    let flushed = if side == Side::Image { "" } else { " and flushed" };
    let sectors = count(bytes.len() / SECTOR as usize, "sector");
    Ok(written.map(|()| format!("{sectors} written{flushed}")))
}
