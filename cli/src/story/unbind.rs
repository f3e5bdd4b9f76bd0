//! Step 4: the unbind of commit 376991db4b64, and the tear-down.

use bindery::driver::Driver;
use bindery::event::{EventKind, Outcome};
use bindery_drivers::sata_rcar::SataRcar;

use super::shell::{driver_file, must};
use crate::failure::Result;
use crate::output::{NAME, PLAIN, WARNING, count};
use crate::record::LogEntry;
use crate::reporter::Reporter;
use crate::session::{Session, capacity};

pub(super) fn run(session: &mut Session, reporter: &mut Reporter<'_>) -> Result<()> {
    let Some(sata) = session.sata().filter(|_| session.port().is_some()) else {
        return reporter.skip("nothing to unbind: the disk controller is not bound");
    };
    let ledger = session.host.resources(&sata);
    let before = (session.host.memory().frames().in_use(), session.host.memory().cma().map_or(0, |c| c.in_use()));
    let client = session.port();
    let mark = session.log.mark();
    if !must(session, reporter, sata.name(), &driver_file(SataRcar::NAME, "unbind"))? {
        return Ok(());
    }
    let events = session.log.since(mark);
    way_back(reporter, &events, sata.name())?;

    let released: Vec<u64> = events
        .iter()
        .filter_map(|r| match r.event.kind {
            EventKind::Released { entry, outcome: Outcome::Returned, .. } => Some(entry),
            _ => None,
        })
        .collect();
    let acquired: Vec<u64> = ledger.iter().rev().map(|(entry, ..)| *entry).collect();
    reporter.gap()?;
    let what =
        format!("all {} of the ledger went back, newest first, each to the back-end that gave it", acquired.len());
    reporter.expect(released == acquired, &what, || format!("{released:?} instead of {acquired:?}"))?;
    let after = (session.host.memory().frames().in_use(), session.host.memory().cma().map_or(0, |c| c.in_use()));
    reporter.row(
        "memory",
        format_args!("page frames in use {} -> {}, contiguous pages {} -> {}", before.0, after.0, before.1, after.1),
    )?;
    let quarantine = session.host.quarantine();
    reporter.row("quarantine", if quarantine.is_empty() { "empty".into() } else { count(quarantine.len(), "run") })?;
    let late = client.as_ref().map(capacity);
    reporter.expect(matches!(late, Some(Err(_))), "a handle that was open gets an error, not memory", || {
        format!("{late:?}")
    })
}

/// The way back in words: each line of the ledger with the resource and the back-end that took it.
pub(super) fn way_back(reporter: &mut Reporter<'_>, events: &[LogEntry], device: &str) -> Result<()> {
    for entry in events.iter().filter(|r| r.event.device.as_deref() == Some(device)) {
        match &entry.event.kind {
            EventKind::Released { entry, resource, what, backend, outcome } => {
                let output = reporter.output();
                let style = if *outcome == Outcome::Returned { PLAIN } else { WARNING };
                let how = if *outcome == Outcome::Returned { "back to" } else { "quarantined, not back to" };
                let line = format!(
                    "   {entry:>3}  {} {} {how} {backend}",
                    output.column(NAME, resource, 14),
                    output.column(style, what, 46),
                );
                reporter.text(line)?;
            }
            EventKind::Unbind { .. }
            | EventKind::Unbound { .. }
            | EventKind::Quiesced { .. }
            | EventKind::QuiesceFailed { .. }
            | EventKind::PassThrough { .. }
            | EventKind::Quarantined { .. }
            | EventKind::Log { .. } => {
                let line = reporter.words(entry);
                reporter.text(line)?;
            }
            _ => {}
        }
    }
    Ok(())
}
