//! The one way back (P3). A failed probe, a deferral, an unbind, a removal and a hand-over all come through here.

use alloc::boxed::Box;
use alloc::format;

use super::{AnyBinding, Entry, EntryId, HoldingKind, WayBack};
use crate::env::Landmark;
use crate::event::{EventKind, Outcome};
use crate::power;
use crate::promise::Promise;

/// Empties the ledger of `binding`: children, the driver's data, which may borrow from everything else, then the rest, newest
/// entry first. Why the binding ends makes no difference here.
pub(crate) fn unwind(binding: &dyn AnyBinding) {
    let bound = binding.bound();
    bound.ledger.close();
    let mut way = WayBack { bound, quiet: bound.evidence() };
    // Children work through this device, so they go while it works: before its data, and before it is stopped.
    while let Some((id, child)) = bound.ledger.take_newest_of_kind(HoldingKind::Child) {
        release_one(id, child, &mut way);
    }
    let data = bound.ledger.pop_first();
    let machine = bound.machine();
    if let Some((id, data)) = data {
        let twice = bound.ledger.twice_since(id);
        machine.promises.check(Promise::NothingLeft, twice.is_none(), || {
            format!("{}: the ledger has grown within one binding: {twice:?}", bound.name())
        });
        release_one(id, data, &mut way);
    } else if way.quiet.is_none() {
        // There is no data to ask: a probe failed after it had told its device an address.
        way.quiet = power::force_quiet(bound);
        if let Some(quiet) = &way.quiet {
            bound.emit(|| EventKind::Quiet { how: quiet.how().into() });
        }
    }
    machine.promises.check(Promise::NobodyInside, !binding.has_data(), || {
        format!("{}: driver data outlives what it borrows from", bound.name())
    });
    while let Some((id, entry)) = bound.ledger.pop() {
        machine.promises.check(Promise::OneWayBack, bound.ledger.newest().is_none_or(|left| left < id), || {
            format!("{}: {} goes back before what came after it", bound.name(), entry.kind().name())
        });
        release_one(id, entry, &mut way);
    }
    // What an earlier binding had to keep on, and this one's driver did not take over.
    if way.quiet.is_some() {
        machine.supplies.stopped(machine, bound.device().node());
    }
}

/// Releases one entry and tells who took it back.
pub(crate) fn release_one(id: EntryId, entry: Box<dyn Entry>, way: &mut WayBack<'_>) -> Outcome {
    let bound = way.bound;
    let kind = entry.kind();
    bound.machine().env().passes(Landmark::Released(kind));
    if !bound.machine().env().listens() {
        return entry.release(way);
    }
    let (what, backend) = (entry.what(), entry.backend());
    let outcome = entry.release(way);
    let told = outcome.clone();
    bound.emit(|| EventKind::Released { entry: id, resource: kind.name(), what, backend, outcome: told });
    outcome
}
