//! The promises at the end of a run: how often each was checked, and which were broken.

use bindery::promise::Promise;

use crate::failure::Result;
use crate::output::{DIM, ERROR, GOOD, WARNING, count};
use crate::record::Line;
use crate::reporter::Reporter;
use crate::session::{PromiseCounts, Session};

/// Most devices without a model that the text names; `--json` names all.
const NAMED: usize = 4;

/// Prints the table of promises; a broken promise and a misuse of the hardware are failures.
pub(super) fn show(session: &Session, reporter: &mut Reporter<'_>) -> Result<()> {
    let (host, step) = (PromiseCounts::of(&session.host), reporter.step());
    let mut guests = session.guests.clone();
    if let Some(guest) = &session.guest {
        guests.add(PromiseCounts::of(&guest.machine));
    }
    reporter.gap()?;
    let head = reporter.output().paint(DIM, format_args!("{:4} {:30} {:>8} {:>8}", "", "promise", "host", "guests"));
    reporter.text(head)?;
    for (at, promise) in Promise::ALL.into_iter().enumerate() {
        let broken = |counts: &PromiseCounts| -> Vec<String> {
            counts.broken.iter().filter(|(p, _)| *p == promise).map(|(_, what)| what.clone()).collect()
        };
        let (id, title) = (promise.id(), promise.title());
        for (machine, counts) in [("host", &host), ("guest", &guests)] {
            let (checked, broken) = (counts.checked[at], broken(counts));
            reporter.mark(&Line::Promise { step: &step, machine, promise: id, title, checked, broken })?;
        }
        let (on_host, on_guests) = (host.checked[at], guests.checked[at]);
        let broken = [broken(&host), broken(&guests)].concat();
        let output = reporter.output();
        let verdict = match on_host + on_guests {
            _ if !broken.is_empty() => output.paint(ERROR, "BROKEN"),
            0 => output.paint(DIM, "not exercised"),
            _ => output.paint(GOOD, "holds"),
        };
        reporter.text(format_args!("{id:4} {title:30} {on_host:>8} {on_guests:>8}   {verdict}"))?;
        broken.iter().try_for_each(|what| reporter.fail(&format!("{id} {title}: {what}")))?;
    }
    let (listed, all) = (host.broken.len() + guests.broken.len(), host.broken_count + guests.broken_count);
    if all > listed as u64 {
        reporter.fail(&format!("{} more checks did not hold", all - listed as u64))?;
    }
    model_errors(session, reporter)?;
    without_model(session, reporter)?;
    reporter.gap()?;
    let checks = host.checked.iter().chain(&guests.checked).sum::<u64>();
    let skipped = reporter.skipped().join(", ");
    let (style, text) = match reporter.failures() {
        0 => (GOOD, format!("No promise was broken, in {checks} checks.")),
        n => (ERROR, format!("{} above.", count(n as usize, "failure"))),
    };
    let text = reporter.output().paint(style, text);
    if skipped.is_empty() {
        return reporter.text(text);
    }
    let skipped = reporter.output().paint(WARNING, format_args!("Not possible here, or not as a whole: {skipped}."));
    reporter.text(format_args!("{text} {skipped}"))
}

/// The devices of the tree that the run says nothing about, because the board does not have them.
fn without_model(session: &Session, reporter: &mut Reporter<'_>) -> Result<()> {
    let names: Vec<&str> = session.without_model.iter().map(|name| &**name).collect();
    if names.is_empty() {
        return Ok(());
    }
    let step = reporter.step();
    reporter.mark(&Line::WithoutModel { step: &step, devices: names.clone() })?;
    let (shown, more) = (names.len().min(NAMED), names.len().saturating_sub(NAMED));
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let devices = count(names.len(), "device");
    reporter.row("no model", format_args!("for {devices} of the tree: {}{more}", names[..shown].join(", ")))
}

/// Misuse of the simulated hardware, each a failure.
fn model_errors(session: &Session, reporter: &mut Reporter<'_>) -> Result<()> {
    let (errors, step) = (session.board.model_errors(), reporter.step());
    for error in &errors {
        let what = error.to_string();
        reporter.mark(&Line::ModelError { step: &step, what: what.clone() })?;
        reporter.fail(&format!("the hardware was misused: {what}"))?;
    }
    if errors.is_empty() { reporter.row("hardware", "used as its manual allows, without exception") } else { Ok(()) }
}
