//! The one way back (P3). A failed probe, a deferral, an unbind, a removal and a hand-over all come through here.

use alloc::boxed::Box;

use super::{AnyBinding, Entry, EntryId, WayBack};
use crate::env::Landmark;
use crate::event::EventKind;
use crate::mutant;
use crate::promise::Promise;

/// Empties the ledger of `binding`: the driver's data, which may borrow from everything else, then the rest, newest
/// entry first. Why the binding ends makes no difference here.
pub(crate) fn unwind(binding: &dyn AnyBinding) {
    let bound = binding.bound();
    bound.ledger.close();
    let mut way = WayBack { bound, quiet: bound.evidence() };
    let data = bound.ledger.pop_first();
    let failed = data.is_none();
    if let Some((id, data)) = data {
        release_one(id, data, &mut way);
    }
    for kind in mutant::ahead_of_turn(bound.machine(), failed) {
        while let Some((id, entry)) = bound.ledger.take_newest_called(kind) {
            release_one(id, entry, &mut way);
        }
    }
    let mut newer = EntryId::MAX;
    while let Some((id, entry)) = bound.ledger.pop() {
        bound.machine().promises.check(Promise::OneWayBack, id < newer, || "an entry was released out of order".into());
        newer = id;
        release_one(id, entry, &mut way);
    }
}

/// Releases one entry and tells who took it back.
pub(crate) fn release_one(id: EntryId, entry: Box<dyn Entry>, way: &mut WayBack<'_>) {
    let bound = way.bound;
    let kind = entry.kind();
    bound.machine().env().passes(Landmark::Released(kind));
    if !bound.machine().env().listens() {
        entry.release(way);
        return;
    }
    let (what, backend) = (entry.what(), entry.backend());
    let outcome = entry.release(way);
    bound.emit(|| EventKind::Released { entry: id, resource: kind.name(), what, backend, outcome });
}
