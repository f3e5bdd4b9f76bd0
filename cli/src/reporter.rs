//! The reporter: prints a run as text or JSON lines, writes its traces, and counts its failures.

use std::fmt::Display;
use std::sync::Arc;

use crate::failure::{BROKEN, GOOD, Result};
use crate::format;
use crate::output::{ERROR, GOOD as OK, Output, WARNING};
use crate::record::{EventLog, FtraceFile, Line, LogEntry, TraceFile, json_line};
use anstyle::Style;

/// Reporter of a run, over the event log.
pub struct Reporter<'a> {
    output: Output<'a>,
    json: bool,
    trace: Option<TraceFile>,
    ftrace: Option<FtraceFile>,
    log: EventLog,
    /// Number of the log's entries that were passed on.
    passed_on: usize,
    step: Arc<str>,
    failures: u64,
    /// Names of the steps that were not possible, or not as a whole.
    skipped: Vec<Arc<str>>,
}

impl<'a> Reporter<'a> {
    /// Reports what `log` holds on `output`: as JSON lines when `json`, else as text. With `trace`, also there.
    pub fn new(output: Output<'a>, log: &EventLog, json: bool, trace: Option<TraceFile>) -> Self {
        // With `--json` only JSON lines, which are raw, are to be seen.
        let output = if json { output.quiet(true) } else { output };
        let (log, skipped) = (log.clone(), Vec::new());
        Self { output, json, trace, ftrace: None, log, passed_on: 0, step: "".into(), failures: 0, skipped }
    }

    /// The same, which also writes the host's events into `ftrace`.
    #[must_use]
    pub fn ftrace(mut self, ftrace: Option<FtraceFile>) -> Self {
        self.ftrace = ftrace;
        self
    }

    /// The output, for styles.
    pub fn output(&mut self) -> &mut Output<'a> {
        &mut self.output
    }

    /// A step begins.
    pub fn begin(&mut self, step: &str, number: usize, title: &str) -> Result<()> {
        self.log.step(step);
        self.step = step.into();
        if self.json {
            self.output.raw(Line::Step { number, title }.text(step).as_bytes())?;
        }
        self.output.heading(number, title)
    }

    /// Passes the events so far on, and takes them out of the log.
    pub fn drain(&mut self) -> Result<()> {
        self.pass_on()?;
        self.log.drain();
        self.passed_on = 0;
        self.output.flush()
    }

    /// A line `label   text`.
    pub fn row(&mut self, label: &str, text: impl Display) -> Result<()> {
        self.output.row(label, text)
    }

    /// An indented line without label.
    pub fn text(&mut self, text: impl Display) -> Result<()> {
        self.output.line(format_args!("   {text}"))
    }

    /// The same, in `style`.
    pub fn styled(&mut self, style: Style, text: impl Display) -> Result<()> {
        let text = self.output.paint(style, text);
        self.text(text)
    }

    /// An empty line.
    pub fn gap(&mut self) -> Result<()> {
        self.output.line("")
    }

    /// The notable ones of `events`, one line each.
    pub fn events(&mut self, events: &[LogEntry]) -> Result<()> {
        format::print(&mut self.output, events)
    }

    /// The rest of a step is skipped, which is no failure.
    pub fn skip(&mut self, reason: &str) -> Result<()> {
        let step = Arc::clone(&self.step);
        self.mark(&Line::Skipped { reason })?;
        if !self.skipped.contains(&step) {
            self.skipped.push(step);
        }
        self.styled(WARNING, format_args!("not possible here: {reason}"))
    }

    /// An expectation that held.
    pub fn ok(&mut self, what: impl Display) -> Result<()> {
        let tick = self.output.paint(OK, "ok");
        self.text(format_args!("{tick}  {what}"))
    }

    /// A failure: printed in every mode, and the exit code is [`BROKEN`] from now on.
    pub fn fail(&mut self, what: &str) -> Result<()> {
        self.failures += 1;
        self.mark(&Line::Failed { what })?;
        if self.json {
            return Ok(());
        }
        let text = self.output.paint(ERROR, format_args!("FAILED  {what}"));
        self.output.always(format_args!("   {text}"))
    }

    /// A line of the run between the events. As text it is nothing.
    pub fn mark(&mut self, line: &Line<'_>) -> Result<()> {
        self.pass_on()?;
        if self.json { self.output.raw(line.text(&self.step).as_bytes()) } else { Ok(()) }
    }

    /// Number of failures so far.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// Names of the steps that were not possible on this machine, or not as a whole, so far.
    pub fn skipped(&self) -> &[Arc<str>] {
        &self.skipped
    }

    /// Puts the traces under their names; the exit code.
    pub fn finish(mut self) -> Result<u8> {
        self.drain()?;
        if let Some(trace) = self.trace.take() {
            trace.finish()?;
        }
        if let Some(ftrace) = self.ftrace.take() {
            ftrace.finish()?;
        }
        let exit = if self.failures == 0 { GOOD } else { BROKEN };
        let skipped: Vec<Arc<str>> = std::mem::take(&mut self.skipped);
        self.mark(&Line::End { exit, skipped: skipped.iter().map(|name| &**name).collect() })?;
        self.output.flush()?;
        Ok(exit)
    }

    /// Passes on the events since the last time.
    fn pass_on(&mut self) -> Result<()> {
        let new = self.log.since(self.passed_on);
        self.passed_on += new.len();
        for entry in &new {
            if self.json {
                self.output.raw(json_line(entry).as_bytes())?;
            }
            if let Some(trace) = &mut self.trace {
                trace.add(entry)?;
            }
            if let Some(ftrace) = &mut self.ftrace {
                ftrace.add(entry)?;
            }
        }
        Ok(())
    }
}
