//! `bindery explore`: explores every path through a lifecycle, replays one path, or merges the reports of shards.

mod args;
mod bound;
mod diagram;
mod interrupt;
mod lifecycle;
mod merge;
mod origin;
mod panics;
mod progress;
mod refusal;
mod replay;
mod report;
mod subject;
mod trace;

pub use args::{EXIT_CODES, Explore};
pub use bound::Limit;
pub use diagram::DiagramTarget;
pub use refusal::Refusal;

use bindery_explore::engine::Mode;
use bindery_explore::{Report, scenarios};

use crate::failure::{BROKEN, GOOD, INTERRUPTED, Result};
use crate::output::{HEADING, Output};
use crate::record::TraceFile;
use diagram::DiagramFile;
use interrupt::Interrupt;
use subject::Subject;

/// Runs `bindery explore`; the exit code.
pub fn command(args: &Explore) -> Result<u8> {
    if args.json && args.diagram == Some(DiagramTarget::Stdout) {
        return Err(Box::new(Refusal::StdoutConflict).into());
    }
    if args.list {
        list(args)?;
        return Ok(GOOD);
    }
    if !args.merge.is_empty() {
        let report = merge::merge(&args.merge)?;
        let canvas = args.diagram.as_ref().map(DiagramFile::create).transpose()?;
        print(args, &report, canvas)?;
        return Ok(verdict(&report));
    }
    let subject = Subject::from_args(args)?;
    if let Some(path) = &args.replay {
        return replay::command(args, &subject, path);
    }
    let canvas = args.diagram.as_ref().map(DiagramFile::create).transpose()?;
    let trace = args.trace.as_deref().map(TraceFile::create).transpose()?;
    let interrupt = Interrupt::install()?;
    let (engine, line) = progress::with_progress(args.configure(subject.engine()).cancelled_by(interrupt.flag()), args);
    let report = panics::without_panic_output(|| subject.run(&engine));
    line.erase();
    let report = report?;
    if let (Some(trace), Some(finding)) = (trace, report::sorted_findings(&report).first()) {
        trace::write(trace, &panics::without_panic_output(|| subject.replay(&finding.path))?)?;
    }
    print(args, &report, canvas)?;
    let cut_off = interrupt.received() && matches!(report.mode, Mode::Partial { .. });
    Ok(if cut_off { INTERRUPTED } else { verdict(&report) })
}

/// Prints the scenarios.
fn list(args: &Explore) -> Result<()> {
    let mut output = Output::stdout(args.color);
    for scenario in scenarios::names().filter_map(scenarios::named) {
        output.line(format_args!("{}", output.paint(HEADING, scenario.name())))?;
        output.line(format_args!("   {}; paths of {} steps", scenario.title(), scenario.bound()))?;
    }
    output.flush()
}

/// Shows what a run found, and draws it.
fn print(args: &Explore, report: &Report, canvas: Option<DiagramFile>) -> Result<()> {
    let mut output = Output::stdout(args.color).quiet(args.quiet);
    if args.json {
        let text = serde_json::to_string(report).unwrap_or_else(|e| e.to_string());
        output.raw(text.as_bytes())?;
        output.raw(b"\n")?;
    } else {
        report::report(report, args.trace.as_deref(), &mut output)?;
    }
    if let Some(canvas) = canvas {
        canvas.draw(report, &mut output)?;
    }
    output.flush()
}

/// The exit code of a run that was not cut off.
fn verdict(report: &Report) -> u8 {
    if report.passed() { GOOD } else { BROKEN }
}
