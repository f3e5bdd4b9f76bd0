//! `bindery explore`: explores every path through a lifecycle, replays one path, or merges the reports of shards.

mod args;
mod bound;
mod diagram;
mod hush;
mod interrupt;
mod merge;
mod origin;
mod progress;
mod real;
mod refusal;
mod replay;
mod show;
mod subject;
mod trace;

pub use args::{EXIT_CODES, Explore};
pub use bound::Limit;
pub use diagram::Drawing;
pub use refusal::Refusal;

use bindery_explore::Report;
use bindery_explore::engine::Mode;

use crate::failure::{BROKEN, GOOD, INTERRUPTED, Result};
use crate::page::Page;
use crate::record::TraceFile;
use diagram::Canvas;
use interrupt::Interrupt;
use subject::Subject;

/// Runs `bindery explore`; the exit code.
pub fn command(args: &Explore) -> Result<u8> {
    if args.json && args.diagram == Some(Drawing::Page) {
        return Err(Box::new(Refusal::TwoOutputs).into());
    }
    if !args.merge.is_empty() {
        let report = merge::merge(&args.merge)?;
        let canvas = args.diagram.as_ref().map(Canvas::take).transpose()?;
        print(args, &report, canvas)?;
        return Ok(verdict(&report));
    }
    let subject = Subject::asked(args)?;
    if let Some(path) = &args.replay {
        return replay::command(args, &subject, path);
    }
    let canvas = args.diagram.as_ref().map(Canvas::take).transpose()?;
    let trace = args.trace.as_deref().map(TraceFile::create).transpose()?;
    let interrupt = Interrupt::catch()?;
    let (engine, line) = progress::with_progress(args.configure(subject.engine()).cancelled_by(interrupt.flag()), args);
    let report = hush::hushed(|| subject.run(&engine));
    line.erase();
    let report = report?;
    if let (Some(trace), Some(finding)) = (trace, show::plainest_first(&report).first()) {
        trace::write(trace, &hush::hushed(|| subject.replay(&finding.path))?)?;
    }
    print(args, &report, canvas)?;
    let cut_off = interrupt.came() && matches!(report.mode, Mode::Partial { .. });
    Ok(if cut_off { INTERRUPTED } else { verdict(&report) })
}

/// Shows what a run found, and draws it.
fn print(args: &Explore, report: &Report, canvas: Option<Canvas>) -> Result<()> {
    let mut page = Page::stdout(args.color).quiet(args.quiet);
    if args.json {
        let text = serde_json::to_string(report).unwrap_or_else(|e| e.to_string());
        page.raw(text.as_bytes())?;
        page.raw(b"\n")?;
    } else {
        show::report(report, args.trace.as_deref(), &mut page)?;
    }
    if let Some(canvas) = canvas {
        canvas.draw(report, &mut page)?;
    }
    page.flush()
}

/// The exit code of a run that was not cut off.
fn verdict(report: &Report) -> u8 {
    if report.passed() { GOOD } else { BROKEN }
}
