//! The promises at the end of a run: how often each was checked, and which were broken.

use bindery::promise::Promise;

use crate::failure::Result;
use crate::output::{DIM, ERROR, GOOD, WARNING, count};
use crate::record::Line;
use crate::reporter::Reporter;
use crate::session::{PromiseCounts, Session, Target};

/// Most devices without a model that the text names; `--json` names all.
const NAMED: usize = 4;

/// Prints the table of promises; a broken promise and a misuse of the hardware are failures.
pub(super) fn show(session: &Session, reporter: &mut Reporter<'_>) -> Result<()> {
    let (mut host, mut guests) = (PromiseCounts::default(), session.guests.clone());
    host.add(&session.host);
    session.guest.iter().for_each(|guest| guests.add(&guest.machine));
    reporter.gap()?;
    reporter.styled(DIM, format_args!("{:4} {:30} {:>8} {:>8}", "", "promise", "host", "guests"))?;
    for (at, promise) in Promise::ALL.into_iter().enumerate() {
        let (id, title) = (promise.id(), promise.title());
        for (machine, counts) in [("host", &host), ("guest", &guests)] {
            let (checked, broken) = (counts.checked[at], &*counts.broken[at]);
            reporter.mark(&Line::Promise { machine, promise: id, title, checked, broken })?;
        }
        let (on_host, on_guests) = (host.checked[at], guests.checked[at]);
        let broken = [&*host.broken[at], &guests.broken[at]].concat();
        let (style, verdict) = match on_host + on_guests {
            _ if !broken.is_empty() => (ERROR, "BROKEN"),
            0 => (DIM, "not exercised"),
            _ => (GOOD, "holds"),
        };
        let verdict = reporter.output().paint(style, verdict);
        reporter.text(format_args!("{id:4} {title:30} {on_host:>8} {on_guests:>8}   {verdict}"))?;
        broken.iter().try_for_each(|what| reporter.fail(&format!("{id} {title}: {what}")))?;
    }
    let more = host.more_broken + guests.more_broken;
    if more > 0 {
        reporter.fail(&format!("{more} more checks did not hold"))?;
    }
    model_errors(session, reporter)?;
    without_model(session, reporter)?;
    reporter.gap()?;
    let checks = host.checked.iter().chain(&guests.checked).sum::<u64>();
    let (style, text) = match reporter.failures() {
        0 => (GOOD, format!("No promise was broken, in {checks} checks.")),
        n => (ERROR, format!("{} above.", count(n as usize, "failure"))),
    };
    let text = reporter.output().paint(style, text);
    let skipped = reporter.skipped().join(", ");
    if skipped.is_empty() {
        return reporter.text(text);
    }
    let skipped = reporter.output().paint(WARNING, format_args!("Not possible here, or not as a whole: {skipped}."));
    reporter.text(format_args!("{text} {skipped}"))
}

/// The devices of the tree that the run says nothing about, because the board does not have them.
fn without_model(session: &Session, reporter: &mut Reporter<'_>) -> Result<()> {
    let names = &session.without_model;
    if names.is_empty() {
        return Ok(());
    }
    reporter.mark(&Line::WithoutModel { devices: names.iter().map(|name| &**name).collect() })?;
    let (named, more) = names.split_at(names.len().min(NAMED));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    let devices = count(names.len(), "device");
    reporter.row("no model", format_args!("for {devices} of the tree: {}{more}", named.join(", ")))
}

/// Misuse of the simulated hardware, each a failure.
fn model_errors(session: &Session, reporter: &mut Reporter<'_>) -> Result<()> {
    let errors = session.target.model_errors();
    for what in &errors {
        reporter.mark(&Line::ModelError { what })?;
        reporter.fail(&format!("the hardware was misused: {what}"))?;
    }
    match &session.target {
        Target::Qemu(env) => reporter.row("hardware", format_args!("QEMU's, {} register accesses", env.accesses())),
        Target::Board(_) if errors.is_empty() => {
            reporter.row("hardware", "used as its manual allows, without exception")
        }
        Target::Board(_) => Ok(()),
    }
}
