//! The one way back (P3). A failed probe, a deferral, an unbind, a removal and a hand-over all come through here.

use alloc::boxed::Box;
use alloc::format;

use super::{AnyBinding, Bound, Entry, EntryId, ResourceKind, UnwindCtx};
use crate::event::{EventKind, Outcome};
use crate::instrument::CoveragePoint;
use crate::lifecycle::Quiesced;
use crate::promise::Promise;

/// Empties the ledger of `binding`: children, the driver's data, which may borrow from everything else, then the rest, newest
/// entry first. Why the binding ends makes no difference here. `stop` stops a device by force that has no driver data to ask.
/// Returns the proof that the device is quiesced, if there is one.
pub(crate) fn unwind(binding: &dyn AnyBinding, stop: &dyn Fn(&Bound) -> Option<Quiesced>) -> Option<Quiesced> {
    let bound = binding.bound();
    bound.ledger.close();
    let mut ctx = UnwindCtx { bound, quiesced: bound.quiesce_proof() };
    // Children work through this device, so they go while it works: before its data, and before it is stopped.
    while let Some((id, child)) = bound.ledger.take_newest_of_kind(ResourceKind::Child) {
        release_one(id, child, &mut ctx);
    }
    let data = bound.ledger.pop_first();
    let machine = bound.system();
    if let Some((id, data)) = data {
        let twice = bound.ledger.twice_since(id);
        machine.promises.check(Promise::NothingLeft, twice.is_none(), || {
            format!("{}: the ledger has grown within one binding: {twice:?}", bound.name())
        });
        release_one(id, data, &mut ctx);
    } else if ctx.quiesced.is_none() {
        // There is no data to ask: a probe failed after it had told its device an address.
        ctx.quiesced = stop(bound);
        if let Some(quiesced) = &ctx.quiesced {
            bound.emit(|| EventKind::Quiesced { how: quiesced.how().into() });
        }
    }
    machine.promises.check(Promise::NoUseAfterRevoke, !binding.has_data(), || {
        format!("{}: driver data outlives what it borrows from", bound.name())
    });
    while let Some((id, entry)) = bound.ledger.pop() {
        machine.promises.check(Promise::SingleUnwindPath, bound.ledger.newest().is_none_or(|left| left < id), || {
            format!("{}: {} goes back before what came after it", bound.name(), entry.kind().name())
        });
        release_one(id, entry, &mut ctx);
    }
    ctx.quiesced
}

/// Releases one entry and tells who took it back.
pub(crate) fn release_one(id: EntryId, entry: Box<dyn Entry>, ctx: &mut UnwindCtx<'_>) -> Outcome {
    let bound = ctx.bound;
    let kind = entry.kind();
    bound.system().cover(CoveragePoint::Released(kind));
    if !bound.system().env().tracing_enabled() {
        return entry.release(ctx);
    }
    let (what, backend) = (entry.what(), entry.backend());
    let outcome = entry.release(ctx);
    let told = outcome.clone();
    bound.emit(|| EventKind::Released { entry: id, resource: kind.name(), what, backend, outcome: told });
    outcome
}
