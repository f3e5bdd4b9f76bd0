//! `bindery explore`: walks every path through a life, one path again, or brings the reports of shards together.

mod args;
mod bound;
mod interrupt;
mod merge;
mod refusal;
mod replay;
mod show;
mod subject;
mod watch;

pub use args::{EXIT_CODES, Explore};
pub use bound::Limit;
pub use refusal::Refusal;

use bindery_explore::Report;
use bindery_explore::engine::Mode;

use crate::failure::{BROKEN, GOOD, INTERRUPTED, Result};
use crate::page::Page;
use interrupt::Interrupt;
use subject::Subject;

/// Runs `bindery explore`; the exit code.
pub fn command(args: &Explore) -> Result<u8> {
    if !args.merge.is_empty() {
        let report = merge::merge(&args.merge)?;
        return print(args, Subject::of_report(&report).as_ref(), &report, false);
    }
    let subject = Subject::asked(args);
    if let Some(path) = &args.replay {
        return replay::command(args, &subject, path);
    }
    let interrupt = Interrupt::catch()?;
    let (engine, watch) = watch::watched(args.configure(subject.engine()).cancelled_by(interrupt.flag()), args);
    let report = subject.run(&engine);
    watch.erase();
    print(args, Some(&subject), &report, interrupt.came() && matches!(report.mode, Mode::Partial { .. }))
}

/// Shows what a run found; the exit code.
fn print(args: &Explore, subject: Option<&Subject>, report: &Report, interrupted: bool) -> Result<u8> {
    let mut page = Page::stdout(args.color).quiet(args.quiet);
    if args.json {
        let text = serde_json::to_string(report).unwrap_or_else(|e| e.to_string());
        page.raw(text.as_bytes())?;
        page.raw(b"\n")?;
    } else {
        show::report(report, subject, &mut page)?;
    }
    page.flush()?;
    Ok(match (interrupted, report.passed()) {
        (true, _) => INTERRUPTED,
        (false, true) => GOOD,
        (false, false) => BROKEN,
    })
}
