//! The one who tells a run: in words, as JSON lines, and into a trace file; and who keeps count of what went wrong.

use std::fmt::Display;

use crate::failure::{BROKEN, GOOD, Result};
use crate::page::{BAD, GOOD as FINE, Page, WAIT};
use crate::record::{FtraceFile, Line, Recorded, Tape, TraceFile, json_line};
use crate::words;

/// Tells a run while it happens.
pub struct Teller<'a> {
    page: Page<'a>,
    json: bool,
    trace: Option<TraceFile>,
    ftrace: Option<FtraceFile>,
    tape: Tape,
    /// How many events of the tape were passed on.
    told: usize,
    step: &'static str,
    failures: u64,
}

impl<'a> Teller<'a> {
    /// Tells what `tape` records on `page`: as JSON lines when `json`, else in words. With `trace`, also there.
    pub fn new(page: Page<'a>, tape: &Tape, json: bool, trace: Option<TraceFile>) -> Self {
        Self { page, json, trace, ftrace: None, tape: tape.clone(), told: 0, step: "", failures: 0 }
    }

    /// The same, which also writes the host's events into `ftrace`.
    #[must_use]
    pub fn ftrace(mut self, ftrace: Option<FtraceFile>) -> Self {
        self.ftrace = ftrace;
        self
    }

    /// The page, for words that only people read.
    pub fn page(&mut self) -> &mut Page<'a> {
        &mut self.page
    }

    /// A step begins.
    pub fn begin(&mut self, step: &'static str, number: usize, title: &str) -> Result<()> {
        self.tape.step(step);
        self.step = step;
        if self.json {
            return self.page.raw(Line::Step { step, number, title }.text().as_bytes());
        }
        self.page.heading(number, title)
    }

    /// The step is over: its events are passed on and leave the tape.
    pub fn end(&mut self) -> Result<()> {
        self.pass_on()?;
        self.tape.take();
        self.told = 0;
        self.page.flush()
    }

    /// A line `label   text`.
    pub fn row(&mut self, label: &str, text: impl Display) -> Result<()> {
        if self.json { Ok(()) } else { self.page.row(label, text) }
    }

    /// An indented line without label.
    pub fn text(&mut self, text: impl Display) -> Result<()> {
        if self.json { Ok(()) } else { self.page.line(format_args!("   {text}")) }
    }

    /// An empty line.
    pub fn gap(&mut self) -> Result<()> {
        if self.json { Ok(()) } else { self.page.line("") }
    }

    /// Events in words, one line each.
    pub fn events<'e>(&mut self, events: impl IntoIterator<Item = &'e Recorded>) -> Result<()> {
        for event in events {
            let line = words::line(&self.page, event);
            if !self.json {
                self.page.line(line)?;
            }
        }
        Ok(())
    }

    /// An event in words, for [`text`](Self::text).
    pub fn words(&self, event: &Recorded) -> String {
        words::line(&self.page, event).trim_start().into()
    }

    /// Something cannot be shown on this machine, which is no failure.
    pub fn skip(&mut self, reason: &str) -> Result<()> {
        let step = self.step;
        self.mark(&Line::Skipped { step, reason })?;
        let text = self.page.paint(WAIT, format_args!("not possible here: {reason}"));
        self.text(text)
    }

    /// Something that was to be shown: `what` says it in words when it came true, `seen` what came instead.
    pub fn expect(&mut self, holds: bool, what: &str, seen: impl FnOnce() -> String) -> Result<()> {
        if holds {
            let tick = self.page.paint(FINE, "ok");
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
        let text = self.page.paint(BAD, format_args!("FAILED  {what}"));
        self.page.loud(format_args!("   {text}"))
    }

    /// A line of the story's own between the events. In words it is nothing.
    pub fn mark(&mut self, line: &Line<'_>) -> Result<()> {
        self.pass_on()?;
        if self.json { self.page.raw(line.text().as_bytes()) } else { Ok(()) }
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
        self.page.flush()?;
        Ok(exit)
    }

    /// Passes on what happened since the last time.
    fn pass_on(&mut self) -> Result<()> {
        let new = self.tape.since(self.told);
        self.told += new.len();
        for recorded in &new {
            if self.json {
                self.page.raw(json_line(recorded).as_bytes())?;
            }
            if let Some(trace) = &mut self.trace {
                trace.add(recorded)?;
            }
            if let Some(ftrace) = &mut self.ftrace {
                ftrace.add(recorded)?;
            }
        }
        Ok(())
    }
}
