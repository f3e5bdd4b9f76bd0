//! The single unwind path (P3), used for failed probes, deferrals, unbinds, removals and hand-overs.

use alloc::boxed::Box;
use alloc::format;

use super::{AnyBinding, BindingState, Entry, EntryId, ResourceKind, UnwindCtx};
use crate::bus::BusError;
use crate::event::{EventKind, Outcome};
use crate::instrument::CoveragePoint;
use crate::lifecycle::Quiesced;
use crate::promise::Promise;

/// Empties the ledger of `binding`: children, then the driver data, which may borrow from everything else, then the rest,
/// newest entry first. The reason for which the binding ends makes no difference. `stop` forcibly stops a device that has no
/// driver data. Returns the proof that the device is quiesced, if there is one.
pub(crate) fn unwind(binding: &dyn AnyBinding, stop: &dyn Fn(&BindingState) -> Option<Quiesced>) -> Option<Quiesced> {
    let bound = binding.bound();
    bound.ledger.close();
    let mut ctx = UnwindCtx { bound, quiesced: bound.quiesce_proof() };
    // Children operate through this device, so they are removed while it works: before its data, and before it is stopped.
    while let Some((id, child)) = bound.ledger.take_newest_of_kind(ResourceKind::Child) {
        release_one(id, child, &mut ctx);
    }
    let data = bound.ledger.pop_first();
    let machine = bound.system();
    if let Some((id, data)) = data {
        let twice = bound.ledger.twice_since(id);
        machine.promises.check(Promise::NothingLeft, twice.is_none(), || {
            format!("{}: acquired twice within one binding: {twice:?}", bound.name())
        });
        release_one(id, data, &mut ctx);
    } else if ctx.quiesced.is_none() {
        // Without driver data there is no `quiesce` to call: a probe failed after it had published a DMA address.
        ctx.quiesced = stop(bound);
        if let Some(quiesced) = &ctx.quiesced {
            bound.emit(|| EventKind::Quiesced { how: quiesced.how().into() });
        }
    }
    // Whatever ended the binding: what goes back below, the device can no longer reach by its bus (P11).
    if bound.bus_master_off() == Some(Err(BusError::Busy)) {
        // Whoever said that it has stopped was wrong.
        ctx.quiesced = None;
        bound.set_quiesce_proof(None);
    }
    machine.promises.check(Promise::NoUseAfterRevoke, !binding.has_data(), || {
        format!("{}: driver data outlives what it borrows from", bound.name())
    });
    while let Some((id, entry)) = bound.ledger.pop() {
        machine.promises.check(Promise::SingleUnwindPath, bound.ledger.newest().is_none_or(|left| left < id), || {
            format!("{}: {} is released before entries acquired after it", bound.name(), entry.kind().name())
        });
        release_one(id, entry, &mut ctx);
    }
    ctx.quiesced
}

/// Releases one entry and emits an event with its back-end and the outcome.
pub(crate) fn release_one(id: EntryId, entry: Box<dyn Entry>, ctx: &mut UnwindCtx<'_>) -> Outcome {
    let bound = ctx.bound;
    let kind = entry.kind();
    bound.system().cover(CoveragePoint::Released(kind));
    if !bound.system().env().tracing_enabled() {
        return entry.release(ctx);
    }
    let (what, backend) = (entry.what(), entry.backend());
    let outcome = entry.release(ctx);
    let logged = outcome.clone();
    bound.emit(|| EventKind::Released { entry: id.number(), resource: kind.name(), what, backend, outcome: logged });
    outcome
}
