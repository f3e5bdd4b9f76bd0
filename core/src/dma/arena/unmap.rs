//! Unmapping of slots: with one proof for all of them, or into quarantine.

use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::ArenaSlot;
use super::shared::Shared;
use super::slots::{Element, NONE, Slots};
use crate::addr::DeviceAddr;
use crate::dma::backend::Backend;
use crate::dma::check::Op;
use crate::dma::mapping::SyncFor;
use crate::dma::pin::{PagePins, Unreachable};
use crate::dma::{Attrs, DmaBuffer, DmaContext, DmaError};
use crate::event::{EventKind, Outcome};
use crate::iommu::{Domain, DomainKind, Gather, MapError, Range, UnmapError};
use crate::lifecycle::Quiesced;
use crate::promise::Promise;

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
    /// Unmaps slots, and hands each buffer to `give`, in their order. A strict domain waits for one flush, a lazy one queues them.
    /// Slots that are not mapped are passed over.
    pub(super) fn unmap(
        &mut self,
        shared: &Shared,
        slots: impl Iterator<Item = ArenaSlot>,
        quiesced: Option<&Quiesced>,
        give: &mut dyn FnMut(DmaBuffer),
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
                    let Some(index) = self.claim(slot, &mut done) else { continue };
                    done.lost += self.unmap_lazy(shared, domain, index, give);
                }
            }
            Backend::Translated(domain) => self.unmap_strict(shared, domain, slots, &mut done, give),
        }
        done
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
        give: &mut dyn FnMut(DmaBuffer),
    ) {
        let context = &*shared.context;
        let machine = &context.machine;
        let mut gather = Gather::keeping_tables();
        let mut batch = Batch { first: NONE, last: NONE };
        let mut refused: Vec<(u32, MapError)> = Vec::new();
        for slot in slots {
            let Some(index) = self.claim(slot, done) else { continue };
            self.before(shared, index);
            match domain.remove_counted(machine, shared.spans[index as usize].mapped(), &mut gather, &mut self.tally) {
                Ok(()) => self.append(&mut batch, index),
                Err(e) => refused.push((index, e)),
            }
        }
        let mut rest = Gather::new();
        if batch.first != NONE || !gather.is_empty() {
            match domain.invalidate(machine, gather) {
                Ok(proof) => self.release_batch(shared, domain, &batch, &proof, give),
                // What others of several IOMMUs have removed is flushed with what one of them has refused.
                Err((_, gather)) if batch.first == NONE => rest = gather,
                Err((e, gather)) => {
                    done.lost += self.hold_batch(shared, domain, &batch, UnmapError::Unconfirmed(e), gather);
                }
            }
        }
        for (index, e) in refused {
            let (mut one, gather) = (Batch { first: NONE, last: NONE }, core::mem::take(&mut rest));
            self.append(&mut one, index);
            done.lost += self.hold_batch(shared, domain, &one, UnmapError::Map(e), gather);
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
        domain: &Domain,
        batch: &Batch,
        proof: &Unreachable,
        give: &mut dyn FnMut(DmaBuffer),
    ) {
        let (context, mut index) = (&*shared.context, batch.first);
        let machine = &context.machine;
        let covered = proof.covers(&context.pin_owner);
        while index != NONE {
            let next = self.records[index as usize].next;
            machine.promises.check_in(&mut self.tally, Promise::UnreachableBeforeFree, covered, || {
                format!("{}: the proof is about another device", context.device)
            });
            domain.record_unmapped(machine, shared.spans[index as usize].reserved().iova);
            self.release(shared, index, Some(proof), give);
            index = next;
        }
    }

    /// Ends the slots of a batch without a proof: their memory goes to quarantine, reported in one event, and their addresses wait
    /// for a flush.
    fn hold_batch(
        &mut self,
        shared: &Shared,
        domain: &Arc<Domain>,
        batch: &Batch,
        error: UnmapError,
        gather: Gather,
    ) -> u64 {
        let (context, mut index, mut lost) = (&*shared.context, batch.first, 0);
        let (mut ranges, mut pins) = (Vec::<Range>::new(), PagePins::new());
        while index != NONE {
            let (span, next) = (&shared.spans[index as usize], self.records[index as usize].next);
            ranges.push(span.reserved());
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
        self.report_end(shared, index, true);
        let record = &mut self.records[index as usize];
        let mut bytes = 0;
        for element in record.first.take().into_iter().chain(record.more.drain(..)) {
            bytes += element.len();
            pins.extend(element.pins(context));
            let (buffer, _bounce) = element.into_parts();
            if let Some(buffer) = buffer {
                buffer.memory().record().set_in_slot(false);
            }
        }
        self.end(shared, index);
        bytes
    }

    fn unmap_lazy(
        &mut self,
        shared: &Shared,
        domain: &Arc<Domain>,
        index: u32,
        give: &mut dyn FnMut(DmaBuffer),
    ) -> u64 {
        let context = &*shared.context;
        let machine = &context.machine;
        let span = &shared.spans[index as usize];
        self.before(shared, index);
        let (iova, len) = (span.mapped().iova, span.mapped().len);
        machine.check_dma(|| Op::Queued { backend: Arc::clone(&context.backend_name), addr: iova, len });
        let mut gather = Gather::keeping_tables();
        if let Err(e) = domain.remove_counted(machine, span.mapped(), &mut gather, &mut self.tally) {
            let mut batch = Batch { first: NONE, last: NONE };
            self.append(&mut batch, index);
            return self.hold_batch(shared, domain, &batch, UnmapError::Map(e), gather);
        }
        let mut pins = PagePins::new();
        for element in self.records[index as usize].elements() {
            pins.extend(element.pins(context));
        }
        // The queue frees the addresses once they are flushed.
        let reserved = span.reserved();
        span.keep(DeviceAddr(0), 0);
        domain.enqueue(machine, reserved, gather, pins);
        self.release(shared, index, None, give);
        domain.confirm_due(machine);
        0
    }

    fn unmap_direct(
        &mut self,
        shared: &Shared,
        index: u32,
        quiesced: Option<&Quiesced>,
        give: &mut dyn FnMut(DmaBuffer),
    ) -> u64 {
        let context = &*shared.context;
        self.before(shared, index);
        if let Some(quiesced) = quiesced {
            let proof = Unreachable::quiesced(quiesced, &context.device);
            self.release(shared, index, Some(&proof), give);
            return 0;
        }
        let mut pins = PagePins::new();
        let lost = self.take_pins(shared, index, &mut pins);
        let reason = "the device was not shown to be quiesced".to_string();
        context.machine.quarantine_table().hold_until_quiesced(&context.machine, &context.device, pins, reason);
        lost
    }

    /// Checks before an unmap.
    fn before(&mut self, shared: &Shared, index: u32) {
        let context = &*shared.context;
        let machine = &context.machine;
        let record = &self.records[index as usize];
        machine.promises.check_in(&mut self.tally, Promise::MatchingBackend, context.is_set_up(), || {
            format!("{}: unmapped after the back-end that mapped it was torn down", context.device)
        });
        if machine.policy().check_dma {
            for element in record.elements() {
                machine.check_dma(|| Op::Unmap(record.checked(context, element)));
            }
        }
    }

    /// Reports the end of a mapping. `proven`: its pages stay pinned, or the device does not reach them.
    fn report_end(&mut self, shared: &Shared, index: u32, proven: bool) {
        let DmaContext { machine, device, backend_name, .. } = &*shared.context;
        let record = &self.records[index as usize];
        if machine.env().tracing_enabled() {
            for element in record.elements() {
                machine.emit(Some(device), || EventKind::DmaUnmapped {
                    kind: record.kind.name(),
                    addr: element.addr,
                    size: element.len(),
                    backend: backend_name.as_ref().into(),
                });
            }
        }
        machine.promises.check_in(&mut self.tally, Promise::QuiescedFirst, proven, || {
            format!("{device}: slot {index} is freed although the device was not shown to be quiesced")
        });
    }

    /// Ends a slot: the memory is the CPU's again. Without a `proof` it was pinned by the queue of a lazy domain.
    #[inline]
    fn release(&mut self, shared: &Shared, index: u32, proof: Option<&Unreachable>, give: &mut dyn FnMut(DmaBuffer)) {
        let context = &*shared.context;
        let machine = &context.machine;
        self.report_end(shared, index, proof.is_some() || context.backend.domain().is_some());
        let record = &mut self.records[index as usize];
        let (direction, skip) = (record.direction, record.attrs.contains(Attrs::SKIP_CPU_SYNC));
        let mut each = |element: Element| {
            if let Some(buffer) = element.buffer() {
                let memory = buffer.memory();
                memory.record().set_in_slot(false);
                // With other pins, such as those of a queue, a device may still reach the pages.
                if proof.is_some() && !memory.record().is_pinned() {
                    machine.check_unreachable(&context.device, memory.phys(), memory.allocated());
                }
            }
            if !skip {
                element.sync(context, direction, SyncFor::Cpu);
            }
            if let (Some(buffer), _bounce) = element.into_parts() {
                give(buffer.into_buffer());
            }
        };
        if let Some(first) = record.first.take() {
            each(first);
        }
        if !record.more.is_empty() {
            record.more.drain(..).for_each(each);
        }
        self.end(shared, index);
    }

    /// Unmaps everything when the binding ends, newest first (P3), and gives back all device addresses.
    pub(super) fn end_all(&mut self, shared: &Shared, quiesced: Option<&Quiesced>) -> Outcome {
        let live = self.newest_first(shared);
        let lost = self.unmap(shared, live.into_iter(), quiesced, &mut drop).lost;
        if let Some(domain) = shared.context.backend.domain() {
            self.free_kept(shared, domain);
        }
        shared.context.machine.promises.publish(&mut self.tally);
        if lost == 0 { Outcome::Returned } else { Outcome::Quarantined }
    }
}
