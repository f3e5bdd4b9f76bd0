//! The one who tells a run: in words, as JSON lines, and into a trace file; and who keeps count of what went wrong.

use std::fmt::Display;

use crate::failure::{BROKEN, GOOD, Result};
use crate::format;
use crate::output::{ERROR, GOOD as FINE, Output, WARNING};
use crate::record::{EventLog, FtraceFile, Line, LogEntry, TraceFile, json_line};

/// Tells a run while it happens.
pub struct Reporter<'a> {
    output: Output<'a>,
    json: bool,
    trace: Option<TraceFile>,
    ftrace: Option<FtraceFile>,
    log: EventLog,
    /// How many events of the log were passed on.
    told: usize,
    step: &'static str,
    failures: u64,
}

impl<'a> Reporter<'a> {
    /// Tells what `log` records on `output`: as JSON lines when `json`, else in words. With `trace`, also there.
    pub fn new(output: Output<'a>, log: &EventLog, json: bool, trace: Option<TraceFile>) -> Self {
        Self { output, json, trace, ftrace: None, log: log.clone(), told: 0, step: "", failures: 0 }
    }

    /// The same, which also writes the host's events into `ftrace`.
    #[must_use]
    pub fn ftrace(mut self, ftrace: Option<FtraceFile>) -> Self {
        self.ftrace = ftrace;
        self
    }

    /// The output, for words that only people read.
    pub fn output(&mut self) -> &mut Output<'a> {
        &mut self.output
    }

    /// A step begins.
    pub fn begin(&mut self, step: &'static str, number: usize, title: &str) -> Result<()> {
        self.log.step(step);
        self.step = step;
        if self.json {
            return self.output.raw(Line::Step { step, number, title }.text().as_bytes());
        }
        self.output.heading(number, title)
    }

    /// The step is over: its events are passed on and leave the log.
    pub fn end(&mut self) -> Result<()> {
        self.pass_on()?;
        self.log.take();
        self.told = 0;
        self.output.flush()
    }

    /// A line `label   text`.
    pub fn row(&mut self, label: &str, text: impl Display) -> Result<()> {
        if self.json { Ok(()) } else { self.output.row(label, text) }
    }

    /// An indented line without label.
    pub fn text(&mut self, text: impl Display) -> Result<()> {
        if self.json { Ok(()) } else { self.output.line(format_args!("   {text}")) }
    }

    /// An empty line.
    pub fn gap(&mut self) -> Result<()> {
        if self.json { Ok(()) } else { self.output.line("") }
    }

    /// Events in words, one line each.
    pub fn events<'e>(&mut self, events: impl IntoIterator<Item = &'e LogEntry>) -> Result<()> {
        for event in events {
            let line = format::line(&self.output, event);
            if !self.json {
                self.output.line(line)?;
            }
        }
        Ok(())
    }

    /// An event in words, for [`text`](Self::text).
    pub fn words(&self, event: &LogEntry) -> String {
        format::line(&self.output, event).trim_start().into()
    }

    /// Something cannot be shown on this machine, which is no failure.
    pub fn skip(&mut self, reason: &str) -> Result<()> {
        let step = self.step;
        self.mark(&Line::Skipped { step, reason })?;
        let text = self.output.paint(WARNING, format_args!("not possible here: {reason}"));
        self.text(text)
    }

    /// Something that was to be shown: `what` says it in words when it came true, `seen` what came instead.
    pub fn expect(&mut self, holds: bool, what: &str, seen: impl FnOnce() -> String) -> Result<()> {
        if holds {
            let tick = self.output.paint(FINE, "ok");
            return self.text(format_args!("{tick}  {what}"));
        }
        self.fail(&format!("{what}: {}", seen()))
    }

    /// Something went wrong: told in every mode, and the exit code is [`BROKEN`] from now on.
    pub fn fail(&mut self, what: &str) -> Result<()> {
        self.failures += 1;
        let step = self.step;
        self.mark(&Line::Failed { step, what })?;
        if self.json {
            return Ok(());
        }
        let text = self.output.paint(ERROR, format_args!("FAILED  {what}"));
        self.output.always(format_args!("   {text}"))
    }

    /// A line of the story's own between the events. In words it is nothing.
    pub fn mark(&mut self, line: &Line<'_>) -> Result<()> {
        self.pass_on()?;
        if self.json { self.output.raw(line.text().as_bytes()) } else { Ok(()) }
    }

    /// How many things went wrong so far.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// Puts the traces under their names, and says how the run went.
    pub fn finish(mut self) -> Result<u8> {
        self.end()?;
        if let Some(trace) = self.trace.take() {
            trace.finish()?;
        }
        if let Some(ftrace) = self.ftrace.take() {
            ftrace.finish()?;
        }
        let exit = if self.failures == 0 { GOOD } else { BROKEN };
        let step = self.step;
        self.mark(&Line::End { step, exit })?;
        self.output.flush()?;
        Ok(exit)
    }

    /// Passes on what happened since the last time.
    fn pass_on(&mut self) -> Result<()> {
        let new = self.log.since(self.told);
        self.told += new.len();
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
