//! Step 4: the unbind of commit 376991db4b64, and the tear-down.

use bindery::driver::Driver;
use bindery::event::{EventKind, Outcome};
use bindery_drivers::sata_rcar::SataRcar;

use super::shell::{driver_file, must};
use crate::failure::Result;
use crate::page::{NAME, PLAIN, WAIT, count};
use crate::record::Recorded;
use crate::teller::Teller;
use crate::world::{World, capacity};

pub(super) fn run(world: &mut World, teller: &mut Teller<'_>) -> Result<()> {
    let Some(sata) = world.sata().filter(|_| world.port().is_some()) else {
        return teller.skip("nothing to unbind: the disk controller is not bound");
    };
    let ledger = world.host.holdings(&sata);
    let before = (world.host.memory().frames().in_use(), world.host.memory().cma().map_or(0, |c| c.in_use()));
    let client = world.port();
    let mark = world.tape.mark();
    if !must(world, teller, sata.name(), &driver_file(SataRcar::NAME, "unbind"))? {
        return Ok(());
    }
    let events = world.tape.since(mark);
    way_back(teller, &events, sata.name())?;

    let released: Vec<u64> = events
        .iter()
        .filter_map(|r| match r.event.kind {
            EventKind::Released { entry, outcome: Outcome::Returned, .. } => Some(entry),
            _ => None,
        })
        .collect();
    let acquired: Vec<u64> = ledger.iter().rev().map(|(entry, ..)| *entry).collect();
    teller.gap()?;
    let what =
        format!("all {} of the ledger went back, newest first, each to the back-end that gave it", acquired.len());
    teller.expect(released == acquired, &what, || format!("{released:?} instead of {acquired:?}"))?;
    let after = (world.host.memory().frames().in_use(), world.host.memory().cma().map_or(0, |c| c.in_use()));
    teller.row(
        "memory",
        format_args!("page frames in use {} -> {}, contiguous pages {} -> {}", before.0, after.0, before.1, after.1),
    )?;
    let quarantine = world.host.quarantine();
    teller.row("quarantine", if quarantine.is_empty() { "empty".into() } else { count(quarantine.len(), "run") })?;
    let late = client.as_ref().map(capacity);
    teller.expect(matches!(late, Some(Err(_))), "a handle that was open gets an error, not memory", || {
        format!("{late:?}")
    })
}

/// The way back in words: each line of the ledger with the resource and the back-end that took it.
pub(super) fn way_back(teller: &mut Teller<'_>, events: &[Recorded], device: &str) -> Result<()> {
    for recorded in events.iter().filter(|r| r.event.device.as_deref() == Some(device)) {
        match &recorded.event.kind {
            EventKind::Released { entry, resource, what, backend, outcome } => {
                let page = teller.page();
                let style = if *outcome == Outcome::Returned { PLAIN } else { WAIT };
                let how = if *outcome == Outcome::Returned { "back to" } else { "quarantined, not back to" };
                let line = format!(
                    "   {entry:>3}  {} {} {how} {backend}",
                    page.column(NAME, resource, 14),
                    page.column(style, what, 46),
                );
                teller.text(line)?;
            }
            EventKind::Unbind { .. }
            | EventKind::Unbound { .. }
            | EventKind::Quiet { .. }
            | EventKind::QuiesceFailed { .. }
            | EventKind::PassThrough { .. }
            | EventKind::Quarantined { .. }
            | EventKind::Log { .. } => {
                let line = teller.words(recorded);
                teller.text(line)?;
            }
            _ => {}
        }
    }
    Ok(())
}
