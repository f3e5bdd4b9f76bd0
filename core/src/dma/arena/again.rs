//! The usual map and unmap: one buffer, in a slot that has mapped as much before and has a lease of its page-table entries.
//!
//! [`Slots::unmap_again`] and [`Arena::map_again`] do what the general calls do, with every check of theirs. A map that is not the usual
//! one, or that a check refuses, changes nothing and is left to the general call, which says why.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::element::{Element, How};
use super::shared::Shared;
use super::slots::Slots;
use super::{Arena, ArenaSlot, DmaContext};
use crate::addr::{PAGE_SHIFT, PAGE_SIZE};
use crate::dma::backend::Backend;
use crate::dma::{Attrs, Direction, DmaBuffer, DmaMemory, Kind};
use crate::iommu::{Domain, DomainKind, Gather, Lease, Range, UnmapError};
use crate::promise::{Checks, Promise};

/// The domain of arenas that may take the short way: a strict or lazy one, in a machine without instruments and without a DMA checker. Neither
/// changes while a machine lives.
pub(super) fn usual_domain(context: &DmaContext) -> Option<Arc<Domain>> {
    let Backend::Translated(domain) = &context.backend else { return None };
    let machine = &context.machine;
    let plain = machine.instrument.is_none() && !machine.policy().check_dma;
    (plain && matches!(domain.kind(), DomainKind::Strict | DomainKind::Lazy)).then(|| Arc::clone(domain))
}

impl Arena<'_> {
    /// Maps a whole buffer in a free slot that has a lease for it. The error is the buffer: nothing has changed, and the general call
    /// maps it or refuses.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
    #[inline(always)]
    pub(super) fn map_again(&mut self, buffer: DmaBuffer, direction: Direction) -> Result<ArenaSlot, DmaBuffer> {
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
        let (index, how) = (slots.free[class], How { kind: Kind::Single, direction, attrs: Attrs::empty() });
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
        let prot = context.prot(direction);
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
        record.first = Some(Element::new(buffer.into_device_owned(), 0..len, iova, None));
        let Some(element) = &record.first else { return Ok(ArenaSlot { arena: slots.arena, index, generation }) };
        element.lend(context, how);
        // P1: the device address is one that its back-end gave.
        let given = span.mapped();
        let given = element.addr >= given.iova && element.addr - given.iova < given.len;
        machine.promises.check_set(&mut slots.tally, Checks::Map, given, Promise::MatchingBackend, || {
            format!("{}: the device address was not allocated by its IOMMU: not in {span:?}", context.device)
        });
        if machine.env().tracing_enabled() {
            slots.report_begin(context, index);
        }
        Ok(ArenaSlot { arena: slots.arena, index, generation })
    }
}

impl Arena<'_> {
    /// True while it is not taken away and its binding is not torn down.
    #[inline]
    fn is_open(&self) -> bool {
        !self.shared.is_revoked() && !self.dev.state.ledger.is_closed()
    }

    /// As [`map_again`](Self::map_again), of the whole buffers of a list. `None`: nothing has changed.
    pub(super) fn map_list_again(
        &mut self,
        list: &mut Vec<DmaBuffer>,
        direction: Direction,
        attrs: Attrs,
    ) -> Option<ArenaSlot> {
        if !self.is_open() {
            return None;
        }
        let (slots, shared) = (self.slots.as_mut()?, &*self.shared);
        let (context, domain) = (&*shared.context, slots.usual.as_ref()?);
        let (prot, output) = (context.prot(direction), &mut 0_u64);
        let mut usual = may_map(context, domain, slots.wanted);
        for buffer in &*list {
            let memory = buffer.memory();
            usual &= is_free(context, memory);
            *output = output.checked_add(memory.len().next_multiple_of(PAGE_SIZE))?;
        }
        let bytes = *output;
        if !usual || bytes == 0 {
            return None;
        }
        let (count, class) = Slots::class(bytes >> PAGE_SHIFT);
        if slots.waiting.is_some() {
            slots.refill_in_time(shared, class);
        }
        let index = slots.free[class];
        let (record, span) = (slots.records.get_mut(index as usize)?, shared.spans.get(index as usize)?);
        let lease = record.lease.as_ref()?;
        let iova = lease.iova();
        if span.pages() != count || iova.0 + (count * PAGE_SIZE - 1) > context.limit().0 {
            return None;
        }
        let runs = list.iter().map(|buffer| (buffer.memory().phys(), buffer.memory().allocated()));
        let entries = lease.free_run(bytes, runs.clone(), prot)?;
        slots.free[class] = record.next;
        slots.kept -= count;
        shared.set_kept(slots.kept);
        // Recorded before the page table changes: what the unwinder does not know of it does not unmap.
        slots.last_number += 1;
        span.begin(slots.last_number, Range { iova, len: bytes });
        lease.write_runs(entries, runs, prot);
        let how = How { kind: Kind::Scatter, direction, attrs };
        record.how = how;
        let (generation, mut addr) = (record.generation, iova);
        let elements = list.len() as u32;
        record.more.reserve(list.len() - 1);
        for buffer in list.drain(..) {
            let (len, allocated) = (buffer.memory().len(), buffer.memory().allocated());
            let element = Element::new(buffer.into_device_owned(), 0..len, addr, None);
            element.lend(context, how);
            addr = addr + allocated;
            match &mut record.first {
                first @ None => *first = Some(element),
                Some(_) => record.more.push(element),
            }
        }
        // P1: the device addresses are some that its back-end gave: the end of the last one is that of the range.
        let given = span.mapped();
        let given = iova == given.iova && addr.0 - iova.0 == given.len;
        let promises = &context.machine.promises;
        promises.check_times(&mut slots.tally, Promise::MatchingBackend, elements, given, || {
            format!("{}: the device address was not allocated by its IOMMU: not in {span:?}", context.device)
        });
        if context.machine.env().tracing_enabled() {
            slots.report_begin(context, index);
        }
        Some(ArenaSlot { arena: slots.arena, index, generation })
    }
}

/// As `admit`, of an arena with a usual domain, which has seen so often that addresses are [wanted](crate::iommu::IovaSpace::wanted).
#[inline]
fn may_map(context: &DmaContext, domain: &Domain, wanted: usize) -> bool {
    context.is_admitted() && domain.space().wanted() == wanted && domain.can_map_by_lease()
}

/// As `check_buffer`, of a whole buffer.
#[inline]
fn is_free(context: &DmaContext, memory: &DmaMemory) -> bool {
    memory.is_of(context.machine.memory().memory()) && memory.record().is_free_for(&context.pin_owner)
}

impl Slots {
    /// True when [`unmap_again`](Self::unmap_again) unmaps this slot.
    #[inline]
    pub(super) fn is_usual(&self, index: usize) -> bool {
        self.usual.is_some() && self.records[index].lease.is_some()
    }

    /// Unmaps mapped slot `index` of one buffer, which [is usual](Self::is_usual). The error is the number of bytes in quarantine.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
    #[inline(always)]
    pub(super) fn unmap_again(
        &mut self,
        shared: &Shared,
        domain: &Arc<Domain>,
        index: usize,
    ) -> Result<DmaBuffer, u64> {
        let context = &*shared.context;
        let (span, record, machine) = (&shared.spans[index], &mut self.records[index], &context.machine);
        let Some(lease) = &mut record.lease else { return Err(0) };
        let mut gather = Gather::new();
        record.generation = record.generation.wrapping_add(1);
        let gone = match lease.unmap(span.mapped().len, &mut gather) {
            Ok(gone) => gone || is_gone(domain, lease),
            Err(e) => return Err(self.hold_removed(shared, domain, index, UnmapError::Map(e), &mut gather)),
        };
        let set_up = context.is_set_up();
        if !(gone && set_up) {
            report_broken(context, domain, lease, gone, set_up);
        }
        let flushed = match domain.invalidate_in_place(machine, &mut gather) {
            Ok(flushed) => flushed,
            Err(e) => return Err(self.hold_removed(shared, domain, index, UnmapError::Unconfirmed(e), &mut gather)),
        };
        // P2: the proof is about the device of the slot.
        let covered = context.pin_owner.is_covered(&flushed, domain);
        machine.promises.check_set(&mut self.tally, Checks::Unmap, covered, Promise::UnreachableBeforeFree, || {
            format!("{}: the proof is about another device", context.device)
        });
        if machine.env().tracing_enabled() {
            super::unmap::report_end(context, record);
        }
        let how = record.how;
        // Found by its handle, so it has one.
        let Some(first) = &mut record.first else { return Err(0) };
        let buffer = first.reclaim(context, how);
        // The element has nothing any more: not dropped, and not looked at again.
        core::mem::forget(record.first.take());
        self.end(shared, index as u32);
        buffer.ok_or(0)
    }

    /// As [`unmap_again`](Self::unmap_again) in a lazy domain, whose queue has the memory until the flush.
    pub(super) fn queue_again(
        &mut self,
        shared: &Shared,
        domain: &Arc<Domain>,
        index: usize,
    ) -> Result<DmaBuffer, u64> {
        let Some(room) = self.room(shared, domain) else { return self.unmap_again(shared, domain, index) };
        let context = &*shared.context;
        let (span, record, machine) = (&shared.spans[index], &mut self.records[index], &context.machine);
        let Some(lease) = &mut record.lease else { return Err(0) };
        let mut gather = Gather::new();
        record.generation = record.generation.wrapping_add(1);
        let gone = match lease.unmap(span.mapped().len, &mut gather) {
            Ok(gone) => gone || is_gone(domain, lease),
            Err(e) => return Err(self.hold_removed(shared, domain, index, UnmapError::Map(e), &mut gather)),
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
        let full = self.wait(shared, domain, index as u32, room, gather);
        let record = &mut self.records[index];
        let how = record.how;
        let Some(first) = &mut record.first else { return Err(0) };
        let buffer = first.reclaim(context, how);
        // The element has nothing any more: not dropped, and not looked at again.
        core::mem::forget(record.first.take());
        self.end(shared, index as u32);
        if full {
            domain.confirm_queue(machine);
        }
        buffer.ok_or(0)
    }

    /// As [`hold_one`](Self::hold_one), of a slot that `gather` has.
    #[cold]
    fn hold_removed(
        &mut self,
        shared: &Shared,
        domain: &Arc<Domain>,
        index: usize,
        error: UnmapError,
        gather: &mut Gather,
    ) -> u64 {
        self.hold_one(shared, domain, index as u32, error, core::mem::take(gather))
    }
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
