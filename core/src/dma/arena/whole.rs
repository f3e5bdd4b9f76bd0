//! A list of whole buffers in one slot: mapped one behind the other, handed over and taken back as a list.

use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;

use super::element::{How, View};
use super::slots::{Record, Slots};
use super::{Arena, ArenaSlot, DmaContext};
use crate::addr::{DeviceAddr, PAGE_SHIFT, PAGE_SIZE};
use crate::dma::pin::{PagePin, PagePins, PinState};
use crate::dma::{Attrs, DMA_ALIGN, DmaBuffer};
use crate::env::{CacheOp, Memory};
use crate::iommu::{Lease, Prot, Range};
use crate::promise::Promise;
use crate::translation::Runs;

/// Takes buffers back from slots.
pub(super) trait TakeBack {
    fn one(&mut self, buffer: DmaBuffer);

    /// All of a list, in their order.
    fn all(&mut self, buffers: &mut Vec<DmaBuffer>) {
        buffers.drain(..).for_each(|buffer| self.one(buffer));
    }
}

impl TakeBack for Vec<DmaBuffer> {
    fn one(&mut self, buffer: DmaBuffer) {
        self.push(buffer);
    }

    fn all(&mut self, buffers: &mut Vec<DmaBuffer>) {
        self.append(buffers);
    }
}

impl TakeBack for Option<DmaBuffer> {
    fn one(&mut self, buffer: DmaBuffer) {
        *self = Some(buffer);
    }
}

/// Drops what comes back.
pub(super) struct Dropped;

impl TakeBack for Dropped {
    fn one(&mut self, _: DmaBuffer) {}
}

/// Whole buffers that the device owns, at device addresses one behind the other. Dropping it leaks their memory: the device may reach it
/// (P2, P9).
#[derive(Default)]
pub(super) struct Whole {
    /// Never borrowed as slices here. Moved as a list: nothing is done for each but what the device needs.
    buffers: Vec<DmaBuffer>,
    iova: DeviceAddr,
    /// Bytes, if none but the last buffer ends within a page: the list is one range of device addresses then. Else 0.
    joined: u64,
}

impl Drop for Whole {
    fn drop(&mut self) {
        self.buffers.drain(..).for_each(core::mem::forget);
    }
}

impl Whole {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.buffers.is_empty()
    }

    pub(super) fn count(&self) -> usize {
        self.buffers.len()
    }

    /// First device address.
    pub(super) fn addr(&self) -> DeviceAddr {
        self.iova
    }

    /// Device address and length of buffer number `n`, if the one before it ends at `at`.
    #[inline]
    fn range(&self, n: usize, at: &mut DeviceAddr) -> Option<(DeviceAddr, u64)> {
        let memory = self.buffers.get(n)?.memory();
        let first = if n == 0 { self.iova } else { *at };
        *at = first + memory.allocated();
        Some((first, memory.len()))
    }

    pub(super) fn views(&self) -> impl Iterator<Item = View<'_>> {
        let mut at = self.iova;
        self.buffers.iter().map(move |buffer| {
            let (memory, addr) = (buffer.memory(), at);
            at = at + memory.allocated();
            View { memory: Some(memory), offset: 0, len: memory.len(), addr }
        })
    }

    /// Hands back the buffers, which the device does not reach any more, or which its queue has pinned.
    #[expect(clippy::inline_always, reason = "most slots have no list")]
    #[inline(always)]
    pub(super) fn reclaim(&mut self, context: &DmaContext, how: How, to: &mut dyn TakeBack) {
        if !self.is_empty() {
            self.reclaim_all(context, how, to);
        }
    }

    fn reclaim_all(&mut self, context: &DmaContext, how: How, to: &mut dyn TakeBack) {
        for buffer in &self.buffers {
            buffer.memory().record().set_in_slot(false);
        }
        if let Some(cache) = cache(context, how).filter(|_| how.direction.device_writes()) {
            for memory in self.buffers.iter().map(DmaBuffer::memory) {
                cache.cache(CacheOp::Invalidate, memory.phys(), memory.len().next_multiple_of(DMA_ALIGN));
            }
        }
        to.all(&mut self.buffers);
        self.joined = 0;
    }

    /// Moves the memory to `pins`. Returns its bytes.
    pub(super) fn pin_all(&mut self, context: &DmaContext, state: PinState, pins: &mut PagePins) -> u64 {
        self.joined = 0;
        let pin = |buffer: DmaBuffer| {
            let memory = buffer.memory();
            pins.push(PagePin::in_state(memory, &context.pin_owner, state));
            memory.record().set_in_slot(false);
            memory.len()
        };
        self.buffers.drain(..).map(pin).sum()
    }
}

/// Device addresses and lengths of what a slot maps, in order.
pub(super) struct Ranges<'a> {
    record: &'a Record,
    next: usize,
    /// Device address behind the last buffer of a list of whole ones.
    at: DeviceAddr,
}

impl<'a> Ranges<'a> {
    pub(super) fn of(record: &'a Record) -> Self {
        Self { record, next: 0, at: DeviceAddr(0) }
    }
}

impl Iterator for Ranges<'_> {
    type Item = (DeviceAddr, u64);

    #[inline]
    fn next(&mut self) -> Option<(DeviceAddr, u64)> {
        let (n, record) = (self.next, self.record);
        self.next += 1;
        if record.whole.joined != 0 {
            return (n == 0).then_some((record.whole.iova, record.whole.joined));
        }
        let element = match &record.first {
            Some(first) if n == 0 => Some(first),
            Some(_) => record.more.get(n - 1),
            None => return record.whole.range(n, &mut self.at),
        };
        element.map(|element| (element.addr, element.len()))
    }
}

/// The memory whose cache is maintained for a transfer, if that is not left out.
fn cache(context: &DmaContext, how: How) -> Option<&dyn Memory> {
    let skip = context.coherent || how.attrs.contains(Attrs::SKIP_CPU_SYNC);
    (!skip).then(|| &**context.machine.memory().memory())
}

/// What a list needs to be mapped by a lease.
struct Wanted {
    runs: Runs,
    /// Bytes that the device uses.
    used: u64,
    /// Allocated bytes of the last buffer behind its end.
    behind: u64,
}

impl Wanted {
    /// Of buffers that are checked as `check_buffer` does; `None` when one of them is refused, or has to be looked at more closely.
    #[inline(never)]
    fn of(context: &DmaContext, list: &[DmaBuffer]) -> Option<Self> {
        let (mut runs, mut used) = (Runs::default(), 0_u64);
        let (own, by) = (context.machine.memory().memory(), &context.pin_owner);
        for memory in list.iter().map(DmaBuffer::memory) {
            // Only what the queue of a lazy domain has is pinned here.
            if !memory.is_of(own) || (memory.record().is_pinned() && !memory.record().is_free_for(by)) {
                return None;
            }
            runs.add(memory.phys(), memory.allocated());
            used = used.wrapping_add(memory.len());
        }
        let behind = list.last().map_or(0, |last| last.memory().allocated() - last.len());
        Some(Self { runs, used, behind })
    }

    /// Bytes of the list if it is one range, else 0.
    fn joined(&self) -> u64 {
        if self.used.wrapping_add(self.behind) == self.runs.bytes() { self.used } else { 0 }
    }
}

/// Maps and pins whole buffers, whose copies are written back first, and cleans the cache of their bytes, if it is given.
#[inline(never)]
fn hand_over(lease: &Lease, entries: &[AtomicU64], prot: Prot, list: &mut [DmaBuffer], cache: Option<&dyn Memory>) {
    let mut writer = lease.writer(entries, prot);
    for buffer in list {
        buffer.write_back();
        let memory = buffer.memory();
        writer.put(memory.phys(), memory.allocated());
        memory.record().set_in_slot(true);
        if let Some(cache) = cache {
            cache.cache(CacheOp::Clean, memory.phys(), memory.len().next_multiple_of(DMA_ALIGN));
        }
    }
}

impl Arena<'_> {
    /// As [`map_again`](Self::map_again), of the whole buffers of a list. `None`: nothing has changed.
    #[inline(never)]
    pub(super) fn map_list_again(&mut self, list: &mut Vec<DmaBuffer>, how: How) -> Option<ArenaSlot> {
        if list.len() < 2 {
            return self.map_only_again(list, how);
        }
        if !self.is_open() {
            return None;
        }
        let (slots, shared) = (self.slots.as_mut()?, &*self.shared);
        let (context, domain) = (&*shared.context, slots.usual.as_ref()?);
        if !super::again::may_map(context, domain, slots.wanted) {
            return None;
        }
        let (wanted, prot) = (Wanted::of(context, list)?, context.prot(how.direction));
        let bytes = wanted.runs.bytes();
        let (count, class) = Slots::class(bytes >> PAGE_SHIFT);
        if slots.waiting.is_some() {
            slots.refill_in_time(shared, class);
        }
        let index = slots.free[class];
        let (record, span) = (slots.records.get_mut(index as usize)?, shared.spans.get(index as usize)?);
        let lease = record.lease.as_ref()?;
        let iova = lease.iova();
        // The mask may have shrunk below the addresses.
        if span.pages() != count || iova.0 + (count * PAGE_SIZE - 1) > context.limit().0 {
            return None;
        }
        let entries = lease.free_run(&wanted.runs, prot)?;
        slots.free[class] = record.next;
        slots.kept -= count;
        shared.set_kept(slots.kept);
        // Recorded before the page table changes: what the unwinder does not know of it does not unmap.
        slots.last_number += 1;
        span.begin(slots.last_number, Range { iova, len: bytes });
        hand_over(lease, entries, prot, list, cache(context, how));
        lease.written(entries.len());
        (record.how, record.whole.iova, record.whole.joined) = (how, iova, wanted.joined());
        let (elements, generation) = (list.len() as u32, record.generation);
        record.whole.buffers.append(list);
        // P1: the device addresses are some that its back-end gave: the end of the last one is that of the range.
        let given = span.mapped();
        let given = record.whole.iova == given.iova && wanted.runs.bytes() == given.len;
        let promises = &context.machine.promises;
        promises.check_times(&mut slots.tally, Promise::MatchingBackend, elements, given, || {
            alloc::format!("{}: the device address was not allocated by its IOMMU: not in {span:?}", context.device)
        });
        if context.is_watched() {
            slots.report_again(context, index, span.mapped());
        }
        Some(ArenaSlot { arena: slots.arena, index, generation })
    }
    /// As [`map_list_again`](Self::map_list_again), of a list of one.
    #[inline(never)]
    fn map_only_again(&mut self, list: &mut Vec<DmaBuffer>, how: How) -> Option<ArenaSlot> {
        let mapped = self.map_again(list.pop()?, how);
        mapped.map_err(|buffer| list.push(buffer)).ok()
    }
}
