//! Slots of an arena: records by index, and lists of those that are free.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::ArenaSlot;
use super::element::{Element, How, View};
use super::part::Part;
use super::shared::{Shared, Span};
use super::waiting::Waiting;
use super::whole::Whole;
use crate::addr::{DeviceAddr, PAGE_SIZE};
use crate::dma::bounce;
use crate::dma::check::{Call, CpuMemory};
use crate::dma::pin::PagePins;
use crate::dma::{Attrs, Direction, DmaContext, DmaError, DmaMemory, Kind};
use crate::event::EventKind;
use crate::iommu::{Domain, DomainKind, FailedMap, Gather, Lease, MapListError, Range, UnmapError};
use crate::promise::{CheckTally, Promise};

/// No slot, in links.
pub(super) const NONE: u32 = u32::MAX;
/// Largest range whose device addresses are rounded up to a power of two, as its order in pages, so that slots exchange them.
const MAX_ORDER: u32 = 9;
/// List of free slots that keep a larger range.
const LARGE: usize = MAX_ORDER as usize + 1;
/// List of free slots without device addresses.
pub(super) const BARE: usize = LARGE + 1;

/// Most pages of device addresses that the free slots of an arena keep: 16 MiB. Others of the domain get the rest. Tests have less RAM
/// than that.
pub(super) const MAX_KEPT: u64 = if cfg!(test) { 64 } else { 4096 };

/// One slot, in cache lines of its own.
#[repr(align(128))]
pub(super) struct Record {
    /// Increases whenever the slot is unmapped: a handle of an earlier mapping finds nothing.
    pub(super) generation: u64,
    /// Next slot of the list that it is in.
    pub(super) next: u32,
    pub(super) how: How,
    /// `None` while nothing is mapped.
    pub(super) first: Option<Element>,
    /// The other buffers of a list.
    pub(super) more: Vec<Element>,
    /// Or, instead of both, whole buffers.
    pub(super) whole: Whole,
    /// Of the page-table entries of its device addresses. What a slot with a lease maps, it maps by it.
    pub(super) lease: Option<Lease>,
}

impl Record {
    /// Makes the handles that were given for the slot stale.
    #[inline]
    pub(super) fn outdate(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Takes parts of buffers that were checked, each with its device address, as its elements.
    pub(super) fn fill<P: Part>(&mut self, parts: impl Iterator<Item = (P, (DeviceAddr, Option<Box<bounce::Slot>>))>) {
        let mut elements = parts.map(|(part, (addr, bounce))| {
            let range = part.range().unwrap_or(0..0);
            Element::new(part.into_buffer().into_device_owned(), range, addr, bounce)
        });
        self.first = elements.next();
        self.more.extend(elements);
    }

    pub(super) fn elements(&self) -> impl Iterator<Item = View<'_>> {
        self.first.iter().chain(&self.more).map(Element::view).chain(self.whole.views())
    }

    /// Calls `look` with each element: of one buffer, as most slots are, without a walk.
    #[inline]
    pub(super) fn each(&self, mut look: impl FnMut(View<'_>)) {
        match &self.first {
            Some(first) if self.more.is_empty() => look(first.view()),
            _ => self.elements().for_each(look),
        }
    }

    #[inline]
    pub(super) fn is_mapped(&self) -> bool {
        self.first.is_some() || !self.whole.is_empty()
    }

    /// The memory of a slot of one buffer.
    #[inline]
    pub(super) fn only(&self) -> Option<&Arc<DmaMemory>> {
        self.first.as_ref().filter(|_| self.more.is_empty())?.memory()
    }

    /// True when several buffers are mapped.
    #[inline]
    pub(super) fn is_list(&self) -> bool {
        !(self.more.is_empty() && self.whole.is_empty())
    }

    /// Number of buffers.
    pub(super) fn count(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len() + self.whole.count()
    }

    /// First device address.
    #[inline]
    pub(super) fn addr(&self) -> DeviceAddr {
        self.first.as_ref().map_or_else(|| self.whole.addr(), |first| first.addr)
    }

    /// What the checker is told of one element.
    pub(super) fn call<'a>(&self, context: &'a DmaContext, element: View<'_>) -> Call<'a> {
        Call {
            device: &context.device,
            backend: &context.backend_name,
            kind: self.how.kind,
            addr: element.addr,
            len: element.len,
            phys: element.phys(),
            memory: CpuMemory::Pages,
            direction: self.how.direction,
            count: self.count() as u32,
            attrs: self.how.attrs,
        }
    }
}

/// P1: the device address is one that its back-end gave.
#[inline]
fn check_address(tally: &mut CheckTally, context: &DmaContext, span: &Span, element: &Element) {
    if context.backend.domain().is_some() {
        let span = span.mapped();
        let given = element.addr >= span.iova && element.addr - span.iova < span.len;
        context.machine.promises.check_in(tally, Promise::MatchingBackend, given, || {
            format!("{}: the device address was not allocated by its IOMMU: not in {span:?}", context.device)
        });
    }
}

/// State of an arena, which its handle owns, and the binding once that is dropped.
pub(in crate::dma) struct Slots {
    /// Number of the arena.
    pub(super) arena: u64,
    pub(super) records: Box<[Record]>,
    /// First slot of each list of free ones: by the order of the device addresses that they keep.
    pub(super) free: [u32; BARE + 1],
    /// Pages of device addresses that free slots keep.
    pub(super) kept: u64,
    pub(super) last_number: u64,
    /// [`IovaSpace::wanted`](crate::iommu::IovaSpace::wanted) as it was seen last.
    pub(super) wanted: usize,
    pub(super) tally: CheckTally,
    /// Domain for which the usual maps take the short way.
    pub(super) usual: Option<Arc<Domain>>,
    /// Of a lazy domain.
    pub(super) waiting: Option<Box<Waiting>>,
}

impl Slots {
    pub(super) fn new(arena: u64, count: u32, usual: Option<Arc<Domain>>, waiting: Option<Box<Waiting>>) -> Self {
        let record = |index: u32| Record {
            generation: 0,
            next: if index + 1 == count { NONE } else { index + 1 },
            how: How { kind: Kind::Single, direction: Direction::Bidirectional, attrs: Attrs::empty() },
            first: None,
            more: Vec::new(),
            whole: Whole::default(),
            lease: None,
        };
        let mut free = [NONE; BARE + 1];
        free[BARE] = 0;
        Self {
            arena,
            records: (0..count).map(record).collect(),
            free,
            kept: 0,
            last_number: 0,
            wanted: 0,
            tally: CheckTally::default(),
            usual,
            waiting,
        }
    }

    /// Slots of a model.
    #[cfg(all(test, loom))]
    pub(in crate::dma) fn in_model() -> Box<Self> {
        Box::new(Self::new(1, 1, None, None))
    }

    /// Index of a mapped slot.
    #[inline]
    pub(super) fn find(&self, slot: ArenaSlot) -> Result<usize, DmaError> {
        match self.records.get(slot.index as usize) {
            Some(record) if slot.arena == self.arena && record.generation == slot.generation && record.is_mapped() => {
                Ok(slot.index as usize)
            }
            _ => Err(DmaError::StaleSlot(slot.index)),
        }
    }

    /// Pages of device addresses that are allocated for a range of `pages`, and the list of free slots that keep as many.
    #[inline]
    pub(super) fn class(pages: u64) -> (u64, usize) {
        if pages == 1 {
            return (1, 0);
        }
        let rounded = pages.next_power_of_two();
        let order = rounded.trailing_zeros();
        if order <= MAX_ORDER { (rounded, order as usize) } else { (pages, LARGE) }
    }

    /// Takes a free slot: one of list `class`, one without addresses, or any.
    #[inline]
    pub(super) fn take<'s>(&mut self, shared: &'s Shared, class: usize) -> Option<(u32, &'s Span)> {
        let list = if self.free[class] == NONE { self.any_list()? } else { class };
        let index = self.free[list];
        self.free[list] = self.records[index as usize].next;
        let span = &shared.spans[index as usize];
        self.kept -= span.pages();
        shared.set_kept(self.kept);
        Some((index, span))
    }

    /// A list that has a free slot: of those without addresses, if there are any.
    #[cold]
    fn any_list(&self) -> Option<usize> {
        let has = |list: &usize| self.free[*list] != NONE;
        [BARE].into_iter().chain(0..BARE).find(has)
    }

    /// Error of an arena that has no free slot.
    pub(super) fn full(&self) -> DmaError {
        DmaError::ArenaFull(self.records.len() as u32)
    }

    /// Puts a slot onto the list for the device addresses that it keeps.
    pub(super) fn put(&mut self, shared: &Shared, index: u32) {
        self.put_span(shared, index, &shared.spans[index as usize]);
    }

    #[expect(clippy::inline_always, reason = "a call costs as much as what it does")]
    #[inline(always)]
    fn put_span(&mut self, shared: &Shared, index: u32, span: &Span) {
        let mut pages = span.pages();
        if self.kept + pages > MAX_KEPT
            && let Some(domain) = shared.context.backend.domain()
        {
            self.free_addresses(shared, domain, index);
            pages = span.pages();
        }
        let list = if pages == 0 { BARE } else { Self::class(pages).1 };
        self.records[index as usize].next = self.free[list];
        self.free[list] = index;
        self.kept += pages;
        shared.set_kept(self.kept);
    }

    /// Frees the device addresses that free slots keep. True when there were any.
    pub(super) fn free_kept(&mut self, shared: &Shared, domain: &Arc<Domain>) -> bool {
        let mut any = self.free_spare(shared, domain);
        for list in 0..BARE {
            while self.free[list] != NONE {
                let index = self.free[list];
                self.free[list] = self.records[index as usize].next;
                self.kept -= shared.spans[index as usize].pages();
                self.free_addresses(shared, domain, index);
                self.put(shared, index);
                any = true;
            }
        }
        any
    }

    #[cold]
    fn free_addresses(&mut self, shared: &Shared, domain: &Arc<Domain>, index: u32) {
        let span = &shared.spans[index as usize];
        if span.pages() == 0 {
            return;
        }
        let DmaContext { machine, device, .. } = &*shared.context;
        let mut gather = Gather::new();
        self.end_lease(shared, domain, index, &mut gather);
        let range = span.reserved();
        span.keep(DeviceAddr(0), 0);
        if gather.is_empty() {
            return domain.free_iova(range);
        }
        // A table went with the lease: the hardware may still walk to it.
        match domain.invalidate(machine, gather) {
            Ok(_) => domain.free_iova(range),
            Err((e, gather)) => {
                domain.hold(machine, device, UnmapError::Unconfirmed(e), gather, range, PagePins::new());
            }
        }
    }

    /// Ends the lease of a slot, if it has one. Its addresses are used again only once `gather` is flushed.
    #[cold]
    pub(super) fn end_lease(&mut self, shared: &Shared, domain: &Domain, index: u32, gather: &mut Gather) {
        // The table forgets it last: then nobody refers to its page any more.
        if self.records[index as usize].lease.take().is_some() {
            shared.spans[index as usize].end_lease(&shared.context.machine, domain, gather);
        }
    }

    /// Gives the next number of a mapping.
    pub(super) fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Maps a range of `pages` at device addresses of a free slot, by `map`, and returns the slot.
    #[inline]
    pub(super) fn place<'s>(
        &mut self,
        shared: &'s Shared,
        domain: &Arc<Domain>,
        pages: u64,
        map: impl FnOnce(Range, Option<&mut Lease>) -> Result<(), FailedMap>,
        pins: &mut dyn FnMut() -> PagePins,
    ) -> Result<(u32, &'s Span), MapListError> {
        let limit = shared.context.limit();
        let wanted = domain.space().wanted();
        if wanted != self.wanted {
            // Somebody else needs the addresses that are kept.
            self.free_kept(shared, domain);
            self.wanted = wanted;
        }
        let (count, class) = Self::class(pages);
        self.refill(shared, domain, class);
        let Some((index, span)) = self.take(shared, class) else {
            return Err(MapListError::NotMapped(self.full()));
        };
        let mut reserved = span.reserved();
        let outdated = self.records[index as usize].lease.is_some() && !domain.can_map_by_lease();
        // The mask may have shrunk below them.
        if reserved.len != count * PAGE_SIZE || reserved.iova.0 + (reserved.len - 1) > limit.0 || outdated {
            reserved = self.reserve(shared, domain, index, count, limit).map_err(MapListError::NotMapped)?;
        }
        let range = Range { iova: reserved.iova, len: pages * PAGE_SIZE };
        // Recorded before the page table changes: what the unwinder does not know of it does not unmap.
        self.last_number += 1;
        span.begin(self.last_number, range);
        match map(range, self.records[index as usize].lease.as_mut()) {
            Ok(()) => Ok((index, span)),
            Err(failed) => Err(self.undo(shared, domain, index, failed, pins)),
        }
    }

    /// Gives slot `index`, which was taken, `count` pages of device addresses instead of those that it has. On an error it is free
    /// again.
    #[cold]
    fn reserve(
        &mut self,
        shared: &Shared,
        domain: &Arc<Domain>,
        index: u32,
        count: u64,
        limit: DeviceAddr,
    ) -> Result<Range, DmaError> {
        let context = &*shared.context;
        self.free_addresses(shared, domain, index);
        let limits = context.addressing(limit);
        let allocated = match domain.alloc_iova(&context.machine, count, limits) {
            Err(_) if self.free_kept(shared, domain) => domain.alloc_iova(&context.machine, count, limits),
            allocated => allocated,
        };
        match allocated {
            Ok(iova) => {
                let span = &shared.spans[index as usize];
                span.keep(iova, count);
                let leases = self.waiting.is_some() || domain.kind() == DomainKind::Strict;
                self.records[index as usize].lease = if leases { domain.lease(span.reserved()) } else { None };
                span.set_leased(self.records[index as usize].lease.is_some());
                Ok(span.reserved())
            }
            Err(e) => {
                self.put(shared, index);
                Err(e)
            }
        }
    }

    /// Frees slot `index`, whose map has failed.
    #[cold]
    fn undo(
        &mut self,
        shared: &Shared,
        domain: &Arc<Domain>,
        index: u32,
        failed: FailedMap,
        pins: &mut dyn FnMut() -> PagePins,
    ) -> MapListError {
        let context = &*shared.context;
        let span = &shared.spans[index as usize];
        if self.records[index as usize].lease.is_some() {
            // A lease has written nothing then, and keeps its addresses.
            self.end(shared, index);
            return MapListError::NotMapped(DmaError::Map(failed.error()));
        }
        let error = domain.undo(&context.machine, &context.device, span.reserved(), failed, pins);
        // The addresses are free, or wait for a flush.
        span.end();
        span.keep(DeviceAddr(0), 0);
        self.put(shared, index);
        error
    }

    /// Hands `element` in slot `index`, whose device addresses are in place, to the device.
    #[inline]
    pub(super) fn begin_one(
        &mut self,
        shared: &Shared,
        (index, span): (u32, &Span),
        how: How,
        element: Element,
    ) -> ArenaSlot {
        let context = &*shared.context;
        let record = &mut self.records[index as usize];
        record.how = how;
        let generation = record.generation;
        let element = record.first.insert(element);
        element.hand_over(context, how);
        check_address(&mut self.tally, context, span, element);
        self.begun(shared, index, generation)
    }

    /// Hands the memory of slot `index`, whose elements and device addresses are in place, to the device.
    pub(super) fn begin(&mut self, shared: &Shared, index: u32, how: How) -> ArenaSlot {
        let Self { records, tally, .. } = self;
        let record = &mut records[index as usize];
        record.how = how;
        let generation = record.generation;
        for element in record.first.iter().chain(&record.more) {
            element.hand_over(&shared.context, how);
            check_address(tally, &shared.context, &shared.spans[index as usize], element);
        }
        self.begun(shared, index, generation)
    }

    #[inline]
    fn begun(&mut self, shared: &Shared, index: u32, generation: u64) -> ArenaSlot {
        let context = &*shared.context;
        if context.is_watched() {
            self.report_begin(context, index);
        }
        ArenaSlot { arena: self.arena, index, generation }
    }

    /// Reports a mapping to the event stream and to the checker.
    #[cold]
    pub(super) fn report_begin(&self, context: &DmaContext, index: u32) {
        let record = &self.records[index as usize];
        record.each(|element| {
            context.machine.emit(Some(&context.device), || EventKind::DmaMapped {
                kind: record.how.kind.name(),
                addr: element.addr,
                phys: element.phys(),
                size: element.len,
                backend: context.backend_name.as_ref().into(),
            });
            context.check_call(|checker| checker.map(&record.call(context, element), true));
        });
    }

    /// Ends the use of slot `index`, whose elements were taken out. It keeps its device addresses if the span has some.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does")]
    #[inline(always)]
    pub(super) fn end(&mut self, shared: &Shared, index: u32) {
        let span = &shared.spans[index as usize];
        span.end();
        self.put_span(shared, index, span);
    }

    /// Slots that are mapped, newest first.
    pub(super) fn newest_first(&self, shared: &Shared) -> Vec<ArenaSlot> {
        let mut live: Vec<u32> =
            (0..self.records.len() as u32).filter(|index| self.records[*index as usize].is_mapped()).collect();
        live.sort_unstable_by_key(|index| core::cmp::Reverse(shared.spans[*index as usize].number()));
        let handle = |index: u32| {
            let generation = self.records[index as usize].generation;
            ArenaSlot { arena: self.arena, index, generation }
        };
        live.into_iter().map(handle).collect()
    }
}
