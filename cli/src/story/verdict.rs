//! Step 7: everything is taken back, and each promise is counted.

use bindery::promise::Promise;

use crate::failure::Result;
use crate::output::{DIM, ERROR, GOOD, count};
use crate::record::Line;
use crate::reporter::Reporter;
use crate::session::{PromiseCounts, Session};

pub(super) fn run(session: &mut Session, reporter: &mut Reporter<'_>) -> Result<()> {
    session.end_guest();
    let bound = session.host.resource_usage().bindings.len();
    for driver in session.host.drivers() {
        session.host.unregister(driver);
    }
    let now = session.host.resource_usage();
    if let Some(fresh) = &session.fresh {
        let what = format!(
            "all drivers removed, {} taken back: the machine is as it was before the first probe",
            count(bound, "binding")
        );
        reporter.expect(now == *fresh, &what, || format!("{now:?} instead of {fresh:?}"))?;
    }
    promises(session, reporter)?;
    model_errors(session, reporter)?;
    reporter.gap()?;
    match reporter.failures() {
        0 => {
            let checks = PromiseCounts::of(&session.host).checked.iter().chain(&session.guests.checked).sum::<u64>();
            let text = reporter.output().paint(GOOD, format_args!("No promise was broken, in {checks} checks."));
            reporter.text(text)
        }
        n => {
            let text = reporter.output().paint(ERROR, format_args!("{} above.", count(n as usize, "failure")));
            reporter.text(text)
        }
    }
}

/// The table of promises, and a failure for each that was broken.
pub fn promises(session: &Session, reporter: &mut Reporter<'_>) -> Result<()> {
    let host = PromiseCounts::of(&session.host);
    reporter.gap()?;
    let head = reporter.output().paint(DIM, format_args!("{:4} {:30} {:>8} {:>8}", "", "promise", "host", "guests"));
    reporter.text(head)?;
    for (at, promise) in Promise::ALL.into_iter().enumerate() {
        let broken: Vec<&String> = host
            .broken
            .iter()
            .chain(&session.guests.broken)
            .filter(|(p, _)| *p == promise)
            .map(|(_, what)| what)
            .collect();
        for (machine, tally) in [("host", &host), ("guest", &session.guests)] {
            reporter.mark(&Line::Promise {
                step: "verdict",
                machine,
                promise: promise.id(),
                title: promise.title(),
                checked: tally.checked[at],
                broken: tally.broken.iter().filter(|(p, _)| *p == promise).map(|(_, what)| what.clone()).collect(),
            })?;
        }
        let (on_host, on_guests) = (host.checked[at], session.guests.checked[at]);
        let output = reporter.output();
        let verdict = if !broken.is_empty() {
            output.paint(ERROR, "BROKEN")
        } else if on_host + on_guests == 0 {
            output.paint(DIM, "not exercised")
        } else {
            output.paint(GOOD, "holds")
        };
        reporter.text(format_args!(
            "{:4} {:30} {on_host:>8} {on_guests:>8}   {verdict}",
            promise.id(),
            promise.title()
        ))?;
        for what in broken {
            reporter.fail(&format!("{} {}: {what}", promise.id(), promise.title()))?;
        }
    }
    let told = host.broken.len() + session.guests.broken.len();
    let all = host.broken_count + session.guests.broken_count;
    if all > told as u64 {
        reporter.fail(&format!("{} more checks did not hold", all - told as u64))?;
    }
    Ok(())
}

/// What was done to the simulated hardware that real hardware does not forgive.
pub fn model_errors(session: &Session, reporter: &mut Reporter<'_>) -> Result<()> {
    let errors = session.board.model_errors();
    for error in &errors {
        let what = error.to_string();
        reporter.mark(&Line::ModelError { step: "verdict", what: what.clone() })?;
        reporter.fail(&format!("the hardware was misused: {what}"))?;
    }
    if errors.is_empty() { reporter.row("hardware", "used as its manual allows, without exception") } else { Ok(()) }
}

/// The verdict in one line, and a failure for each promise that was broken: for runs that are not the story.
pub fn run_quietly(session: &Session, reporter: &mut Reporter<'_>) -> Result<()> {
    let tally = PromiseCounts::of(&session.host);
    for (promise, what) in &tally.broken {
        reporter.fail(&format!("{} {}: {what}", promise.id(), promise.title()))?;
    }
    let checks = tally.checked.iter().sum::<u64>();
    let kept = Promise::ALL.iter().zip(tally.checked).filter(|(_, n)| *n > 0).count();
    let verdict =
        format!("{} on {}, {} broken", count(checks as usize, "check"), count(kept, "promise"), tally.broken_count);
    reporter.row("promises", verdict)?;
    model_errors(session, reporter)
}
