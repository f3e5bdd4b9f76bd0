//! The usual map and unmap: one buffer, in a slot that has mapped as much before and has a lease of its page-table entries.
//!
//! [`Slots::unmap_again`] and [`Arena::map_again`] do what the general calls do, with every check of theirs. A map that is not the usual
//! one, or that a check refuses, changes nothing and is left to the general call, which says why.

use alloc::format;
use alloc::sync::Arc;

use super::element::{Element, How};
use super::shared::{Shared, Span};
use super::slots::{BARE, MAX_KEPT, Record, Slots};
use super::{Arena, ArenaSlot, DmaContext};
use crate::addr::{PAGE_SHIFT, PAGE_SIZE};
use crate::dma::backend::Backend;
use crate::dma::{DmaBuffer, DmaMemory};
use crate::iommu::{Domain, DomainKind, Flushed, Gather, Lease, MapError, Range, UnmapError};
use crate::promise::{CheckTally, Checks, Promise};

/// The domain of arenas that may take the short way: a strict or lazy one, in a machine without instruments, and if it is lazy without a DMA
/// checker, which is told of each batch. None of them changes while a machine lives.
pub(super) fn usual_domain(context: &DmaContext) -> Option<Arc<Domain>> {
    let Backend::Translated(domain) = &context.backend else { return None };
    let usual = match domain.kind() {
        DomainKind::Strict => true,
        DomainKind::Lazy => !context.has_checker(),
        _ => false,
    };
    (usual && context.machine.instrument.is_none()).then(|| Arc::clone(domain))
}

impl Arena<'_> {
    /// Maps a whole buffer in a free slot that has a lease for it. The error is the buffer: nothing has changed, and the general call
    /// maps it or refuses.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
    #[inline(always)]
    pub(super) fn map_again(&mut self, buffer: DmaBuffer, how: How) -> Result<ArenaSlot, DmaBuffer> {
        if !self.is_open() {
            return Err(buffer);
        }
        let (Some(slots), shared) = (&mut self.slots, &*self.shared) else { return Err(buffer) };
        let (context, Some(domain)) = (&*shared.context, &slots.usual) else { return Err(buffer) };
        let (machine, memory) = (&context.machine, buffer.memory());
        if !may_map(context, domain, slots.wanted) || !is_free(context, memory) {
            return Err(buffer);
        }
        let (len, phys) = (memory.len(), memory.phys());
        let bytes = len.next_multiple_of(PAGE_SIZE);
        let (count, class) = Slots::class(bytes >> PAGE_SHIFT);
        if slots.waiting.is_some() {
            slots.refill_in_time(shared, class);
        }
        let index = slots.free[class];
        // There is no slot of the index that says "none".
        let (Some(record), Some(span)) = (slots.records.get_mut(index as usize), shared.spans.get(index as usize))
        else {
            return Err(buffer);
        };
        let Some(lease) = &record.lease else { return Err(buffer) };
        let iova = lease.iova();
        // The mask may have shrunk below the addresses.
        if span.pages() != count || iova.0 + (count * PAGE_SIZE - 1) > context.limit().0 {
            return Err(buffer);
        }
        let prot = context.prot(how.direction);
        let Some(entries) = lease.free_entries(phys, bytes, prot) else { return Err(buffer) };
        slots.free[class] = record.next;
        slots.kept -= count;
        shared.set_kept(slots.kept);
        // Recorded before the page table changes: what the unwinder does not know of it does not unmap.
        slots.last_number += 1;
        span.begin(slots.last_number, Range { iova, len: bytes });
        lease.write(entries, phys, prot);
        record.how = how;
        let generation = record.generation;
        // A free slot has nothing that would be dropped.
        let element = Element::new(buffer.into_device_owned(), 0..len, iova, None);
        core::mem::forget(record.first.replace(element));
        let Some(element) = &record.first else { return Ok(ArenaSlot { arena: slots.arena, index, generation }) };
        element.lend(context, how);
        // P1: the device address is one that its back-end gave.
        let given = span.mapped();
        let given = element.addr >= given.iova && element.addr - given.iova < given.len;
        machine.promises.check_set(&mut slots.tally, Checks::Map, given, Promise::MatchingBackend, || {
            format!("{}: the device address was not allocated by its IOMMU: not in {span:?}", context.device)
        });
        if context.is_watched() {
            slots.report_again(context, index, span.mapped());
        }
        Ok(ArenaSlot { arena: slots.arena, index, generation })
    }
}

impl Arena<'_> {
    /// True while it is not taken away and its binding is not torn down.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        !self.shared.is_revoked() && !self.dev.state.ledger.is_closed()
    }
}

/// As `admit`, of an arena with a usual domain, which has seen so often that addresses are [wanted](crate::iommu::IovaSpace::wanted).
#[inline]
pub(super) fn may_map(context: &DmaContext, domain: &Domain, wanted: usize) -> bool {
    context.is_admitted() && domain.space().wanted() == wanted && domain.can_map_by_lease()
}

/// As `check_buffer`, of a whole buffer.
#[inline]
fn is_free(context: &DmaContext, memory: &DmaMemory) -> bool {
    memory.is_of(context.machine.memory().memory()) && memory.record().is_free_for(&context.pin_owner)
}

impl Slots {
    /// Reports a mapping to whoever looks: the history of the domain, the event stream and the checker.
    #[cold]
    pub(super) fn report_again(&self, context: &DmaContext, index: u32, range: Range) {
        if let Some(domain) = self.usual.as_ref().filter(|_| context.machine.tracks_mappings()) {
            domain.record_mapped(range, &context.device, self.records[index as usize].how.kind.name());
        }
        self.report_begin(context, index);
    }

    /// True when [`unmap_again`](Self::unmap_again) unmaps this slot.
    #[inline]
    pub(super) fn is_usual(&self, index: usize) -> bool {
        self.usual.is_some() && self.records[index].lease.is_some()
    }

    /// Unmaps mapped slot `index` of one buffer, which [is usual](Self::is_usual). The error is the number of bytes in quarantine.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
    #[inline(always)]
    pub(super) fn unmap_again(&mut self, shared: &Shared, index: usize) -> Result<DmaBuffer, u64> {
        let context = &*shared.context;
        let (record, span) = (self.records.get_mut(index), shared.spans.get(index));
        // Usual, so it has all of them.
        let (Some(domain), Some(record), Some(span)) = (&self.usual, record, span) else { return Err(0) };
        record.outdate();
        let range = span.mapped();
        if let Err(e) = remove_again(context, domain, range.len, record) {
            return Err(self.hold_removed(shared, index, UnmapError::Map(e), Gather::new()));
        }
        let mut gather = Gather::of(range.iova, range.len);
        let flushed = match domain.invalidate_in_place(&context.machine, &mut gather) {
            Ok(flushed) => flushed,
            Err(e) => return Err(self.hold_removed(shared, index, UnmapError::Unconfirmed(e), gather)),
        };
        check_again(&mut self.tally, context, domain, record, &flushed);
        let buffer = take_again(context, record);
        if !link_again(&mut self.free, &mut self.kept, shared, index, record, span) {
            self.put(shared, index as u32);
        }
        buffer.ok_or(0)
    }

    /// As [`unmap_again`](Self::unmap_again) in a lazy domain, whose queue has the memory until the flush.
    pub(super) fn queue_again(
        &mut self,
        shared: &Shared,
        domain: &Arc<Domain>,
        index: usize,
    ) -> Result<DmaBuffer, u64> {
        let Some(room) = self.room(shared, domain) else { return self.unmap_again(shared, index) };
        let context = &*shared.context;
        let (span, record, machine) = (&shared.spans[index], &mut self.records[index], &context.machine);
        record.outdate();
        let Some(lease) = &mut record.lease else { return Err(0) };
        let range = span.mapped();
        let gone = match lease.clear(range.len) {
            Ok(gone) => gone || is_gone(domain, lease),
            Err(e) => return Err(self.hold_removed(shared, index, UnmapError::Map(e), Gather::new())),
        };
        let set_up = context.is_set_up();
        machine.promises.check_set(&mut self.tally, Checks::Queue, gone, Promise::UnreachableBeforeFree, || {
            format!("{}: {} still translates after it was unmapped", domain.label(), lease.iova())
        });
        if !set_up {
            report_broken(context, domain, lease, true, set_up);
        }
        if machine.env().tracing_enabled() {
            super::unmap::report_end(context, record);
        }
        // Pinned by the queue before the slot's own pin ends.
        let full = self.wait(shared, domain, index as u32, room, Gather::of(range.iova, range.len));
        let buffer = take_again(context, &mut self.records[index]);
        self.end(shared, index as u32);
        if full {
            domain.confirm_queue(machine);
        }
        buffer.ok_or(0)
    }

    /// As [`hold_one`](Self::hold_one), of a slot that `gather` has.
    #[cold]
    fn hold_removed(&mut self, shared: &Shared, index: usize, error: UnmapError, gather: Gather) -> u64 {
        let Backend::Translated(domain) = &shared.context.backend else { return 0 };
        self.hold_one(shared, domain, index as u32, error, gather)
    }
}

/// Tells the checker of the unmap of a slot, which [is usual](Slots::is_usual), and removes its mapped `len` bytes from the page table. The
/// caller gathers them.
#[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
#[inline(always)]
pub(super) fn remove_again(
    context: &DmaContext,
    domain: &Domain,
    len: u64,
    record: &mut Record,
) -> Result<(), MapError> {
    if context.has_checker() {
        super::unmap::report_unmap(context, record);
    }
    // Usual, so it has one.
    let Some(lease) = &mut record.lease else { return Ok(()) };
    let gone = lease.clear(len)? || is_gone(domain, lease);
    let set_up = context.is_set_up();
    if !(gone && set_up) {
        report_broken(context, domain, lease, gone, set_up);
    }
    Ok(())
}

/// Checks and reports the end of a mapping, which was [removed](remove_again) and flushed.
#[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
#[inline(always)]
pub(super) fn check_again(
    tally: &mut CheckTally,
    context: &DmaContext,
    domain: &Arc<Domain>,
    record: &Record,
    flushed: &Flushed,
) {
    // P2: the proof is about the device of the slot.
    let (machine, covered) = (&context.machine, context.pin_owner.is_covered(flushed, domain));
    machine.promises.check_set(tally, Checks::Unmap, covered, Promise::UnreachableBeforeFree, || {
        format!("{}: the proof is about another device", context.device)
    });
    if context.is_watched() {
        report_end_again(context, domain, record);
    }
}

/// Reports the end of a mapping to whoever looks, but for the checker, which is told before.
#[cold]
fn report_end_again(context: &DmaContext, domain: &Domain, record: &Record) {
    if let Some(lease) = &record.lease {
        domain.record_unmapped(&context.machine, lease.iova());
    }
    if context.machine.env().tracing_enabled() {
        super::unmap::report_end(context, record);
    }
}

/// Takes the buffer of a slot of one back from the device.
#[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
#[inline(always)]
pub(super) fn take_again(context: &DmaContext, record: &mut Record) -> Option<DmaBuffer> {
    let how = record.how;
    let buffer = record.first.as_mut()?.reclaim(context, how);
    // The element has nothing any more: not dropped, and not looked at again.
    core::mem::forget(record.first.take());
    buffer
}

/// Ends the use of a slot, which keeps its device addresses, and puts it onto their list: as [`Slots::end`]. False when they must not be kept,
/// or it has none.
#[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
#[inline(always)]
pub(super) fn link_again(
    free: &mut [u32; BARE + 1],
    kept: &mut u64,
    shared: &Shared,
    index: usize,
    record: &mut Record,
    span: &Span,
) -> bool {
    span.end();
    let pages = span.pages();
    let all = *kept + pages;
    if pages == 0 || all > MAX_KEPT {
        return false;
    }
    let list = Slots::class(pages).1;
    (record.next, free[list], *kept) = (free[list], index as u32, all);
    shared.set_kept(all);
    true
}

/// What the table itself says, when a lease is not sure that nothing is translated.
#[cold]
fn is_gone(domain: &Domain, lease: &Lease) -> bool {
    domain.translation().resolve(lease.iova()).is_none()
}

/// Reports broken promises of an unmap.
#[cold]
fn report_broken(context: &DmaContext, domain: &Domain, lease: &Lease, gone: bool, set_up: bool) {
    let promises = &context.machine.promises;
    if !gone {
        promises.report(Promise::UnreachableBeforeFree, || {
            format!("{}: {} still translates after it was unmapped", domain.label(), lease.iova())
        });
    }
    if !set_up {
        promises.report(Promise::MatchingBackend, || {
            format!("{}: unmapped after the back-end that mapped it was torn down", context.device)
        });
    }
}
