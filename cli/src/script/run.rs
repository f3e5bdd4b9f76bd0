//! Running a script, one line after the other.

use std::sync::Arc;
use std::time::Duration;

use bindery::addr::DeviceAddr;
use bindery::driver::Client;
use bindery::driver::Driver;
use bindery::machine::ProbeStats;
use bindery_drivers::sata_rcar::SataRcar;

use super::{Action, Check, Command, Line, Outcome, Script, Side, Step, check, promises, sectors_of, show};
use crate::failure::Result;
use crate::output::{HEADING, PLAIN, WARNING, count};
use crate::record::{self, LogEntry};
use crate::reporter::Reporter;
use crate::session::{Guest, Session};
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
    /// The disk controller before the last `echo`.
    pub(super) before: Option<Before>,
}

/// The disk controller before a command.
#[derive(Default)]
pub(super) struct Before {
    /// Its name.
    pub(super) device: Arc<str>,
    /// Entries of its ledger, oldest first, with their back-ends.
    pub(super) ledger: Vec<(u64, String)>,
    /// Page frames and contiguous pages in use on the host.
    pub(super) memory: (u64, u64),
    /// A client of its driver.
    pub(super) client: Option<Client<SataRcar>>,
    /// An address at which it reaches the guest's memory.
    pub(super) guest_dma: Option<DeviceAddr>,
}

impl Before {
    fn new(session: &Session) -> Option<Self> {
        let sata = session.sata()?;
        let ledger = session.host.resources(&sata).into_iter().map(|(entry, _, _, backend)| (entry, backend));
        let guest = session.guest.as_ref().map(|g| session.log.mapped("guest", &g.device));
        Some(Self {
            device: sata.name().into(),
            ledger: ledger.collect(),
            memory: session.memory_in_use(),
            client: session.port(),
            guest_dma: guest.and_then(|mapped| Some(mapped.first()?.addr)),
        })
    }
}

/// The next line is run, or the rest of the step is skipped.
#[derive(PartialEq, Eq)]
enum Flow {
    Next,
    Skip,
}

/// A script that runs in a session.
pub struct Runner<'s, 'r, 'o> {
    session: &'s mut Session,
    reporter: &'r mut Reporter<'o>,
    last: Last,
    judged: bool,
}

impl<'s, 'r, 'o> Runner<'s, 'r, 'o> {
    /// A runner that has done nothing yet.
    pub fn new(session: &'s mut Session, reporter: &'r mut Reporter<'o>) -> Self {
        Self { session, reporter, last: Last::default(), judged: false }
    }

    /// Runs all steps, and checks the promises at the end if the script does not. A line whose outcome is not the one it
    /// says is a failure; the lines behind it run all the same, as in a shell.
    pub fn run(&mut self, script: &Script) -> Result<()> {
        for (at, step) in script.steps.iter().enumerate() {
            self.step(step, at + 1)?;
        }
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

    /// Runs one step, the `number`-th.
    pub fn step(&mut self, step: &Step, number: usize) -> Result<()> {
        self.reporter.begin(&step.name, number, &step.title)?;
        if step.implicit {
            self.session.register_drivers();
            self.session.host.settle();
        }
        self.lines(&step.lines)?;
        self.reporter.drain()
    }

    fn lines(&mut self, lines: &[Line]) -> Result<()> {
        let mut enabled = true;
        for line in lines {
            match &line.action {
                Action::If(check) => enabled = self.evaluate(check).seen.is_none(),
                Action::Else => enabled = !enabled,
                Action::End => enabled = true,
                _ if enabled && self.line(line)? == Flow::Skip => break,
                _ => {}
            }
        }
        Ok(())
    }

    fn evaluate(&self, check: &Check) -> check::Checked {
        check::evaluate(check, self.session, &self.last)
    }

    fn line(&mut self, line: &Line) -> Result<Flow> {
        match &line.action {
            Action::Note(text) => {
                self.reporter.gap()?;
                let text = self.reporter.output().paint(HEADING, text);
                self.reporter.text(text)?;
            }
            Action::Show(facts) => {
                self.judged |= *facts == super::Facts::Promises;
                show::show(*facts, self.session, &self.last, self.reporter)?;
            }
            Action::Run { command, outcome, quiet } => return self.command(line, command, *outcome, *quiet),
            Action::Expect(check) => {
                let checked = self.evaluate(check);
                match checked.seen {
                    None => self.reporter.ok(checked.what)?,
                    Some(seen) => self.fail(line, &format!("{}: {seen}", checked.what))?,
                }
            }
            Action::Require(check) => {
                if let Some(seen) = self.evaluate(check).seen {
                    self.reporter.skip(&seen)?;
                    return Ok(Flow::Skip);
                }
            }
            Action::If(_) | Action::Else | Action::End => {}
        }
        Ok(Flow::Next)
    }

    fn fail(&mut self, line: &Line, what: &str) -> Result<()> {
        self.reporter.fail(&format!("line {}: {what}", line.number))
    }

    fn command(&mut self, line: &Line, command: &Command, outcome: Outcome, quiet: bool) -> Result<Flow> {
        let prompt = self.reporter.output().paint(HEADING, format_args!("$ {}", line.text));
        self.reporter.text(prompt)?;
        // The log holds the events of one command, and those of the checks after it.
        self.reporter.drain()?;
        if matches!(command, Command::Echo { .. }) {
            self.last.before = Before::new(self.session);
        }
        let began = self.session.now();
        let done = self.execute(command);
        // Drivers are added without a probe, so that a script can show the machine before. What any other command set in
        // motion comes to rest before the next one.
        if *command != Command::AddDrivers {
            self.last.settled = self.session.settle();
        }
        self.last.elapsed = self.session.now().since(began);
        self.last.events = self.session.log.since(0);
        if let (Err(_), Command::Write(_, lba, bytes)) = (&done, command) {
            self.session.check_host_io(*lba, bytes)?;
        }
        let (ok, output) = match &done {
            Ok(output) => (true, output),
            Err(error) => (false, error),
        };
        self.last.output.clone_from(output);
        let step = self.reporter.step();
        let (number, text) = (line.number, &*line.text);
        self.reporter.mark(&record::Line::Command { step: &step, line: number, command: text, ok, output })?;
        if !quiet {
            self.reporter.events(&self.last.events)?;
        }
        if !ok && outcome == Outcome::Any {
            self.reporter.skip(output)?;
            return Ok(Flow::Skip);
        }
        for text in output.lines() {
            let text = self.reporter.output().paint(if ok { PLAIN } else { WARNING }, text);
            self.reporter.text(text)?;
        }
        match (ok, outcome) {
            (true, Outcome::Error) => self.fail(line, &format!("{} was to be refused", line.text))?,
            (false, Outcome::Success) => self.fail(line, output)?,
            _ => {}
        }
        Ok(Flow::Next)
    }

    /// Runs a command: its output, or its error.
    fn execute(&mut self, command: &Command) -> std::result::Result<String, String> {
        let session = &mut *self.session;
        match command {
            Command::Echo { value, path } => shell::echo(&session.control, value, path).map(|()| String::new()),
            Command::Cat(path) => shell::cat(&session.control, path),
            Command::Ls(path) => shell::ls(&session.control, path),
            Command::Read(side, area) => return session.read(*side, *area).map(|bytes| shell::dump(*area, &bytes)),
            Command::Write(side, lba, bytes) => {
                session.write(*side, *lba, bytes)?;
                let sectors = sectors_of(*lba, bytes).sectors;
                let flushed = if *side == Side::Image { "" } else { " and flushed" };
                return Ok(format!("{} written{flushed}", count(sectors as usize, "sector")));
            }
            Command::AddDrivers => {
                session.register_drivers();
                Ok(String::new())
            }
            Command::RemoveDrivers => {
                let bound = session.host.resource_usage().bindings.len();
                session.host.drivers().into_iter().for_each(|driver| {
                    session.host.unregister(driver);
                });
                Ok(format!("{} ended", count(bound, "binding")))
            }
            Command::Settle => Ok(String::new()),
            Command::StartGuest(kind) => return start_guest(session, *kind),
            Command::StopGuest => {
                session.end_guest();
                Ok(String::new())
            }
        }
        .map_err(|refused: shell::Refused| refused.to_string())
    }
}

fn start_guest(session: &mut Session, kind: crate::session::GuestKind) -> std::result::Result<String, String> {
    let Some(sata) = session.sata() else { return Err("the machine has no disk controller".into()) };
    let guest = Guest::start(session, sata.name(), kind)?;
    let settled = guest.machine.settle();
    let waits = guest.machine.waiting().into_iter().map(|w| format!("{} waits for {}", w.device, w.on.join(", ")));
    let answer = match guest.port() {
        Some(_) => Ok(format!(
            "the guest has {} and bound {} of them",
            count(guest.machine.devices().len(), "device"),
            settled.bound
        )),
        None => Err(format!("the guest has not bound {} ({settled:?}) {}", SataRcar::NAME, waits.collect::<String>())),
    };
    session.guest = Some(guest);
    answer
}
