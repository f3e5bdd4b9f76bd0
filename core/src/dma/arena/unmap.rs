//! Unmapping of slots: with one proof for all of them, or into quarantine.

use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::ArenaSlot;
use super::again::{check_again, link_again, remove_again, take_again};
use super::shared::{Shared, Span};
use super::slots::{NONE, Record, Slots};
use super::waiting::Room;
use super::whole::{Dropped, TakeBack};
use crate::addr::DeviceAddr;
use crate::dma::backend::Backend;
use crate::dma::check::Op;
use crate::dma::flush_queue::Addresses;
use crate::dma::pin::{PagePins, PinState};
use crate::dma::{DmaBuffer, DmaContext, DmaError};
use crate::event::{EventKind, Outcome};
use crate::iommu::{Domain, DomainKind, Flushed, Gather, MapError, Range, UnmapError};
use crate::lifecycle::Quiesced;
use crate::promise::{CheckTally, Promise};

/// Outcome of an unmap of several slots.
pub(super) struct Unmapped {
    /// Bytes in quarantine.
    pub(super) lost: u64,
    /// The last slot that was not mapped.
    pub(super) stale: Option<DmaError>,
}

/// Slots in the order of their unmapping, linked.
struct Batch {
    first: u32,
    last: u32,
}

impl Slots {
    /// Unmaps slots, and hands each buffer back to `give`, in their order. A strict domain waits for one flush, a lazy one queues them.
    /// Slots that are not mapped are passed over.
    pub(super) fn unmap(
        &mut self,
        shared: &Shared,
        slots: impl Iterator<Item = ArenaSlot>,
        quiesced: Option<&Quiesced>,
        give: &mut dyn TakeBack,
    ) -> Unmapped {
        let mut done = Unmapped { lost: 0, stale: None };
        match &shared.context.backend {
            Backend::Direct(_) => {
                for slot in slots {
                    let Some(index) = self.claim(slot, &mut done) else { continue };
                    done.lost += self.unmap_direct(shared, index, quiesced, give);
                }
            }
            Backend::Translated(domain) if domain.kind() == DomainKind::Lazy => {
                for slot in slots {
                    let leases = self.find(slot).is_ok_and(|index| self.records[index].lease.is_some());
                    let room = if leases { self.room(shared, domain) } else { None };
                    if leases && room.is_none() {
                        self.unmap_strict(shared, domain, core::iter::once(slot), &mut done, give);
                        continue;
                    }
                    let Some(index) = self.claim(slot, &mut done) else { continue };
                    done.lost += self.unmap_lazy(shared, domain, index, room, give);
                }
            }
            Backend::Translated(domain) => self.unmap_strict(shared, domain, slots, &mut done, give),
        }
        done
    }

    /// Unmaps mapped slot `index` of one buffer in a strict domain. The error is the number of bytes in quarantine.
    fn unmap_one(&mut self, shared: &Shared, domain: &Arc<Domain>, index: usize) -> Result<DmaBuffer, u64> {
        let context = &*shared.context;
        let (span, record, tally) = (&shared.spans[index], &mut self.records[index], &mut self.tally);
        record.outdate();
        check_before(tally, context, record);
        let mut gather = Gather::keeping_tables();
        if let Err(e) = remove(domain, context, span, record, &mut gather, tally) {
            return Err(self.hold_one(shared, domain, index as u32, UnmapError::Map(e), gather));
        }
        match domain.invalidate_in_place(&context.machine, &mut gather) {
            Ok(flushed) => {
                check_proof(tally, context, domain, &flushed);
                domain.record_unmapped(&context.machine, span.reserved().iova);
                check_end(tally, context, record, true);
                let buffer = record.first.take().and_then(|first| first.take_back(context, record.how, true));
                self.end(shared, index as u32);
                buffer.ok_or(0)
            }
            Err(e) => Err(self.hold_one(shared, domain, index as u32, UnmapError::Unconfirmed(e), gather)),
        }
    }

    /// Unmaps mapped slot `slot` of one buffer, which `index` is. The error is the number of bytes in quarantine.
    #[inline(never)]
    pub(super) fn unmap_only(&mut self, shared: &Shared, slot: ArenaSlot, index: usize) -> Result<DmaBuffer, u64> {
        match &shared.context.backend {
            Backend::Translated(domain) if self.is_usual(index) => return self.queue_again(shared, domain, index),
            Backend::Translated(domain) if domain.kind() != DomainKind::Lazy => {
                return self.unmap_one(shared, domain, index);
            }
            _ => {}
        }
        // By this call the driver states that the device does not use it any more.
        let (stopped, mut returned) = (Quiesced::stopped(), None);
        let done = self.unmap(shared, core::iter::once(slot), Some(&stopped), &mut returned);
        returned.ok_or(done.lost)
    }

    /// Finds a mapped slot, and makes its handle stale: named again, it is not found.
    fn claim(&mut self, slot: ArenaSlot, done: &mut Unmapped) -> Option<u32> {
        match self.find(slot) {
            Ok(index) => {
                self.records[index].outdate();
                Some(index as u32)
            }
            Err(e) => {
                done.stale = Some(e);
                None
            }
        }
    }

    fn unmap_strict(
        &mut self,
        shared: &Shared,
        domain: &Arc<Domain>,
        slots: impl Iterator<Item = ArenaSlot>,
        done: &mut Unmapped,
        give: &mut dyn TakeBack,
    ) {
        let context = &*shared.context;
        let machine = &context.machine;
        let mut gather = Gather::keeping_tables();
        let mut batch = Batch { first: NONE, last: NONE };
        let mut refused: Vec<(u32, MapError)> = Vec::new();
        for slot in slots {
            let Some(index) = self.claim(slot, done) else { continue };
            let usual = self.is_usual(index as usize);
            let (span, record, tally) =
                (&shared.spans[index as usize], &mut self.records[index as usize], &mut self.tally);
            let removed = if usual {
                let range = span.mapped();
                remove_again(context, domain, range.len, record).map(|()| gather.add(range.iova, range.len))
            } else {
                check_before(tally, context, record);
                remove(domain, context, span, record, &mut gather, tally)
            };
            match removed {
                Ok(()) => self.append(&mut batch, index),
                Err(e) => refused.push((index, e)),
            }
        }
        let mut rest = Gather::new();
        if batch.first != NONE || !gather.is_empty() {
            match domain.invalidate_in_place(machine, &mut gather) {
                Ok(flushed) => self.release_batch(shared, domain, &batch, &flushed, give),
                // What others of several IOMMUs have removed is flushed with what one of them has refused.
                Err(_) if batch.first == NONE => rest = gather,
                Err(e) => {
                    done.lost += self.hold_batch(shared, domain, &batch, UnmapError::Unconfirmed(e), gather);
                }
            }
        }
        for (index, e) in refused {
            done.lost += self.hold_one(shared, domain, index, UnmapError::Map(e), core::mem::take(&mut rest));
        }
    }

    fn append(&mut self, batch: &mut Batch, index: u32) {
        self.records[index as usize].next = NONE;
        match batch.last {
            NONE => batch.first = index,
            last => self.records[last as usize].next = index,
        }
        batch.last = index;
    }

    /// Ends the slots of a batch with the proof that the device reaches none of them.
    fn release_batch(
        &mut self,
        shared: &Shared,
        domain: &Arc<Domain>,
        batch: &Batch,
        flushed: &Flushed,
        give: &mut dyn TakeBack,
    ) {
        let mut index = batch.first;
        while index != NONE {
            let next = self.records[index as usize].next;
            if self.is_usual(index as usize) {
                self.give_again(shared, domain, index as usize, flushed, give);
            } else {
                check_proof(&mut self.tally, &shared.context, domain, flushed);
                domain.record_unmapped(&shared.context.machine, shared.spans[index as usize].reserved().iova);
                self.release(shared, index, true, give);
            }
            index = next;
        }
    }

    /// As [`hold_batch`](Self::hold_batch), of one slot.
    #[cold]
    pub(super) fn hold_one(
        &mut self,
        shared: &Shared,
        domain: &Arc<Domain>,
        index: u32,
        error: UnmapError,
        gather: Gather,
    ) -> u64 {
        let mut one = Batch { first: NONE, last: NONE };
        self.append(&mut one, index);
        self.hold_batch(shared, domain, &one, error, gather)
    }

    /// Ends the slots of a batch without a proof: their memory goes to quarantine, reported in one event, and their addresses wait
    /// for a flush.
    fn hold_batch(
        &mut self,
        shared: &Shared,
        domain: &Arc<Domain>,
        batch: &Batch,
        error: UnmapError,
        mut gather: Gather,
    ) -> u64 {
        let (context, mut index, mut lost) = (&*shared.context, batch.first, 0);
        let (mut ranges, mut pins) = (Vec::<Range>::new(), PagePins::new());
        while index != NONE {
            let (span, next) = (&shared.spans[index as usize], self.records[index as usize].next);
            ranges.push(span.reserved());
            self.end_lease(shared, domain, index, &mut gather);
            span.keep(DeviceAddr(0), 0);
            lost += self.take_pins(shared, index, &mut pins);
            index = next;
        }
        domain.hold(&context.machine, &context.device, error, gather, &ranges[..], pins);
        lost
    }

    /// Moves the memory of a slot to `pins`, and ends the slot. Returns its bytes.
    fn take_pins(&mut self, shared: &Shared, index: u32, pins: &mut PagePins) -> u64 {
        let context = &*shared.context;
        let record = &mut self.records[index as usize];
        check_end(&mut self.tally, context, record, true);
        let mut bytes = 0;
        for element in record.first.take().into_iter().chain(record.more.drain(..)) {
            bytes += element.len();
            element.pin(context, PinState::Mapped, pins);
            let (buffer, _bounce) = element.into_parts();
            if let Some(buffer) = buffer {
                buffer.memory().record().set_in_slot(false);
            }
        }
        bytes += record.whole.pin_all(context, PinState::Mapped, pins);
        self.end(shared, index);
        bytes
    }

    fn unmap_lazy(
        &mut self,
        shared: &Shared,
        domain: &Arc<Domain>,
        index: u32,
        room: Option<Room>,
        give: &mut dyn TakeBack,
    ) -> u64 {
        let context = &*shared.context;
        let machine = &context.machine;
        let span = &shared.spans[index as usize];
        check_before(&mut self.tally, context, &self.records[index as usize]);
        let (iova, len) = (span.mapped().iova, span.mapped().len);
        machine.check_dma(|| Op::Queued { backend: Arc::clone(&context.backend_name), addr: iova, len });
        let mut gather = Gather::keeping_tables();
        let record = &mut self.records[index as usize];
        if let Err(e) = remove(domain, context, span, record, &mut gather, &mut self.tally) {
            return self.hold_one(shared, domain, index, UnmapError::Map(e), gather);
        }
        let full = if let Some(room) = room {
            self.wait(shared, domain, index, room, gather)
        } else {
            // The queue frees the addresses once they are flushed.
            let reserved = span.reserved();
            span.keep(DeviceAddr(0), 0);
            let memory = || record.elements().filter_map(|element| element.memory);
            memory().for_each(|memory| memory.record().claim_batch(&context.pin_owner));
            domain.enqueue_pages(machine, Addresses::Freed(reserved), gather, &context.pin_owner, memory())
        };
        self.release(shared, index, false, give);
        if full {
            domain.confirm_queue(machine);
        }
        0
    }

    fn unmap_direct(
        &mut self,
        shared: &Shared,
        index: u32,
        quiesced: Option<&Quiesced>,
        give: &mut dyn TakeBack,
    ) -> u64 {
        let context = &*shared.context;
        check_before(&mut self.tally, context, &self.records[index as usize]);
        if quiesced.is_some() {
            self.release(shared, index, true, give);
            return 0;
        }
        let mut pins = PagePins::new();
        let lost = self.take_pins(shared, index, &mut pins);
        let reason = "the device was not shown to be quiesced".to_string();
        context.machine.quarantine_table().hold_until_quiesced(&context.machine, &context.device, pins, reason);
        lost
    }

    /// Ends a slot: the memory is the CPU's again. `proven`: the device does not reach it; else the queue of a lazy domain has pinned
    /// it.
    fn release(&mut self, shared: &Shared, index: u32, proven: bool, give: &mut dyn TakeBack) {
        let context = &*shared.context;
        let usual = self.usual.is_some();
        let record = &mut self.records[index as usize];
        check_end(&mut self.tally, context, record, proven || context.backend.domain().is_some());
        let how = record.how;
        if usual {
            return self.give_back(shared, index, give);
        }
        if let Some(buffer) = record.first.take().and_then(|first| first.take_back(context, how, proven)) {
            give.one(buffer);
        }
        if !record.more.is_empty() {
            record
                .more
                .drain(..)
                .filter_map(|element| element.take_back(context, how, proven))
                .for_each(|buffer| give.one(buffer));
        }
        self.end(shared, index);
    }

    /// Checks the end of a slot, which [is usual](Self::is_usual) and was flushed, and hands back its memory.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
    #[inline(always)]
    fn give_again(
        &mut self,
        shared: &Shared,
        domain: &Arc<Domain>,
        index: usize,
        flushed: &Flushed,
        give: &mut dyn TakeBack,
    ) {
        let (context, record, span) = (&*shared.context, &mut self.records[index], &shared.spans[index]);
        check_again(&mut self.tally, context, domain, record, flushed);
        if record.first.is_some() && record.more.is_empty() {
            if let Some(buffer) = take_again(context, record) {
                give.one(buffer);
            }
            if link_again(&mut self.free, &mut self.kept, shared, index, record, span) {
                return;
            }
        }
        self.give_back(shared, index as u32, give);
    }

    /// Hands back the memory of a slot of an arena with a [usual](super::again::usual_domain) domain, and ends it: behind an IOMMU nothing was
    /// bounced, and nothing looks at what the hardware can reach.
    #[inline]
    fn give_back(&mut self, shared: &Shared, index: u32, give: &mut dyn TakeBack) {
        let (context, record) = (&*shared.context, &mut self.records[index as usize]);
        let how = record.how;
        if let Some(first) = &mut record.first {
            if let Some(buffer) = first.reclaim(context, how) {
                give.one(buffer);
            }
            // The element has nothing any more: not dropped, and not looked at again.
            core::mem::forget(record.first.take());
            for mut element in record.more.drain(..) {
                if let Some(buffer) = element.reclaim(context, how) {
                    give.one(buffer);
                }
            }
        } else {
            record.whole.reclaim(context, how, give);
        }
        self.end(shared, index);
    }

    /// Unmaps everything when the binding ends, newest first (P3), and gives back all device addresses.
    pub(super) fn end_all(&mut self, shared: &Shared, quiesced: Option<&Quiesced>) -> Outcome {
        let live = self.newest_first(shared);
        let lost = self.unmap(shared, live.into_iter(), quiesced, &mut Dropped).lost;
        if let Some(domain) = shared.context.backend.domain() {
            self.free_kept(shared, domain);
            self.free_waiting(shared, domain);
        }
        shared.context.machine.promises.publish(&mut self.tally);
        if lost == 0 { Outcome::Returned } else { Outcome::Quarantined }
    }
}

/// Removes what a slot maps from the page table.
#[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
#[inline(always)]
fn remove(
    domain: &Domain,
    context: &DmaContext,
    span: &Span,
    record: &mut Record,
    gather: &mut Gather,
    tally: &mut CheckTally,
) -> Result<(), MapError> {
    let (machine, range) = (&context.machine, span.mapped());
    match &mut record.lease {
        Some(lease) => domain.remove_leased(machine, range.len, lease, gather, tally),
        None => domain.remove_counted(machine, range, gather, tally),
    }
}

/// Checks before an unmap.
#[inline]
fn check_before(tally: &mut CheckTally, context: &DmaContext, record: &Record) {
    context.machine.promises.check_in(tally, Promise::MatchingBackend, context.is_set_up(), || {
        format!("{}: unmapped after the back-end that mapped it was torn down", context.device)
    });
    if context.has_checker() {
        report_unmap(context, record);
    }
}

/// Tells the checker.
#[cold]
pub(super) fn report_unmap(context: &DmaContext, record: &Record) {
    record.each(|element| context.check_call(|checker| checker.unmap(&record.call(context, element))));
}

/// P2: the proof is about the device of the slot.
#[inline]
fn check_proof(tally: &mut CheckTally, context: &DmaContext, domain: &Arc<Domain>, flushed: &Flushed) {
    let covered = context.pin_owner.is_covered(flushed, domain);
    context.machine.promises.check_in(tally, Promise::UnreachableBeforeFree, covered, || {
        format!("{}: the proof is about another device", context.device)
    });
}

/// Reports and checks the end of a mapping. `proven`: its pages stay pinned, or the device does not reach them.
#[inline]
fn check_end(tally: &mut CheckTally, context: &DmaContext, record: &Record, proven: bool) {
    if context.machine.env().tracing_enabled() {
        report_end(context, record);
    }
    context.machine.promises.check_in(tally, Promise::QuiescedFirst, proven, || {
        format!("{}: a slot is freed although the device was not shown to be quiesced", context.device)
    });
}

#[cold]
pub(super) fn report_end(context: &DmaContext, record: &Record) {
    for element in record.elements() {
        context.machine.emit(Some(&context.device), || EventKind::DmaUnmapped {
            kind: record.how.kind.name(),
            addr: element.addr,
            size: element.len,
            backend: context.backend_name.as_ref().into(),
        });
    }
}
