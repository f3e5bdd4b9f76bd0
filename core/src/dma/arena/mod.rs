//! Mapping arenas: streaming mappings of one queue, without a lock or an allocation for each.

mod again;
mod element;
mod part;
mod place;
mod shared;
mod slots;
mod unmap;
mod waiting;
mod whole;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use self::element::{Element, How};
use self::part::Part;
pub use self::part::SgElement;
use self::place::{part_span, place};
use self::shared::ArenaEntry;
pub(in crate::dma) use self::shared::Shared;
#[cfg(not(all(test, loom)))]
use self::slots::Slots;
#[cfg(all(test, loom))]
pub(in crate::dma) use self::slots::Slots;
use self::waiting::Waiting;
use self::whole::Ranges;
use super::backend::Backend;
use super::check::Op;
use super::pin::PagePin;
use super::streaming::place_buffer;
use super::sync::SyncFor;
use super::{Attrs, Direction, Dma, DmaBuffer, DmaContext, DmaError, Kind, Refused, Segments};
use crate::addr::{DeviceAddr, PAGE_SHIFT};
use crate::binding::{Bound, EntryId};
use crate::instrument::FaultPoint;
use crate::iommu::{DomainKind, Lease, MapListError};
use crate::lifecycle::Quiesced;

/// Most slots of an arena.
const MAX_SLOTS: u32 = 1 << 20;

/// Streaming mappings of one queue of a driver: a fixed number of slots, each of which maps a buffer or a list of buffers.
///
/// It does what [`Dma::map`] and [`Dma::map_sg`] do. In a strict domain it takes no lock of the core for it and, once its slots have
/// been used, no memory: the binding has one entry for the whole arena, and a free slot keeps its device addresses for its next
/// mapping, up to 16 MiB of them in all. In a lazy domain it takes the queue's lock; without an IOMMU, a bounced buffer or a list
/// allocates. Make one for each queue, or for each CPU; a driver that maps rarely needs none.
///
/// A mapped slot owns its buffers. Dropping the arena unmaps nothing, the tear-down of the binding does, newest first, and its entry
/// and slots stay until then: a driver that makes arenas anew calls [`release`](Self::release). Forgetting it leaks the memory of its
/// mapped slots, bounce buffers and their part of the machine's budget included (P9).
///
/// ```
/// use bindery::dma::Direction;
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
/// # example::bind(|dev| {
/// let mut arena = dev.dma().arena(64)?;
/// let slot = arena.map(dev.dma().buffer(1500)?, Direction::ToDevice)?;
/// let addr = arena.device_addr(slot)?;
/// // ... the device reads it at `addr` ...
/// # let _ = addr;
/// let buffer = arena.unmap(slot)?;
/// assert_eq!(buffer.len(), 1500);
/// assert!(arena.unmap(slot).is_err(), "it was unmapped");
/// # Ok(())
/// # });
/// ```
///
/// It cannot outlive the binding:
///
/// ```compile_fail
/// # use bindery::{binding::Bound, dma::{Arena, DmaError}};
/// fn smuggle(dev: Bound<'_>) -> Result<Arena<'static>, DmaError> {
/// dev.dma().arena(64) // borrows from the binding
/// }
/// ```
pub struct Arena<'s> {
    /// `None` only while it is dropped.
    slots: Option<Box<Slots>>,
    shared: Arc<Shared>,
    entry: EntryId,
    dev: Bound<'s>,
}

/// A mapping in an arena. It is a number: once it is unmapped, or in another arena, it finds nothing
/// ([`DmaError::StaleSlot`]).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ArenaSlot {
    arena: u64,
    index: u32,
    generation: u64,
}

impl ArenaSlot {
    /// Index of the slot, below the number of slots: what a driver may give to its device to name the transfer.
    pub fn index(&self) -> u32 {
        self.index
    }
}

impl<'s> Dma<'s> {
    /// Makes an arena of `slots` slots (1 to 2^20).
    ///
    /// # Errors
    ///
    /// [`DmaError::BadSize`] for another number, [`DmaError::Quarantined`] while earlier memory of the device is in quarantine,
    /// [`DmaError::NoWindow`], [`DmaError::Unbinding`].
    pub fn arena(&self, slots: u32) -> Result<Arena<'s>, DmaError> {
        let context = self.context()?;
        context.admit()?;
        if !(1..=MAX_SLOTS).contains(&slots) {
            return Err(DmaError::BadSize(u64::from(slots)));
        }
        let reservation = self.dev.state.reservation()?;
        let state = context.machine.dma_state();
        let lazy = context.backend.domain().is_some_and(|domain| domain.kind() == DomainKind::Lazy);
        let shared = Shared::new(&context, slots, if lazy { waiting::SPARE } else { 0 });
        shared.register();
        let waiting = lazy.then(|| Box::new(Waiting::new()));
        let own = Box::new(Slots::new(state.number_arena(), slots, again::usual_domain(&context), waiting));
        let entry = self.dev.state.push_reserved(reservation, self.dev.tag, ArenaEntry(Arc::clone(&shared)));
        Ok(Arena { slots: Some(own), shared, entry, dev: self.dev })
    }
}

impl Arena<'_> {
    /// Maps a whole buffer for the device.
    ///
    /// # Errors
    ///
    /// As [`map_range`](Self::map_range).
    pub fn map(&mut self, buffer: DmaBuffer, direction: Direction) -> Result<ArenaSlot, Refused<DmaBuffer>> {
        match self.map_again(buffer, How { kind: Kind::Single, direction, attrs: Attrs::empty() }) {
            Ok(slot) => Ok(slot),
            Err(buffer) => self.map_whole(buffer, direction),
        }
    }

    fn map_whole(&mut self, buffer: DmaBuffer, direction: Direction) -> Result<ArenaSlot, Refused<DmaBuffer>> {
        let range = 0..buffer.len();
        self.map_range(buffer, range, direction, Attrs::empty())
    }

    /// Maps `range` of a buffer for the device; the slot owns the whole buffer. See [`Dma::map_range`].
    ///
    /// # Errors
    ///
    /// The buffer is returned in the error: [`DmaError::ArenaFull`], [`DmaError::Unbinding`] once the arena was taken away, and those
    /// of [`Dma::map_range`].
    pub fn map_range(
        &mut self,
        buffer: DmaBuffer,
        range: Range<u64>,
        direction: Direction,
        attrs: Attrs,
    ) -> Result<ArenaSlot, Refused<DmaBuffer>> {
        let how = How { kind: Kind::Single, direction, attrs };
        let (slots, shared) = match self.admit() {
            Ok(parts) => parts,
            Err(error) => return Err(Refused { error, returned: buffer }),
        };
        match place(slots, shared, &buffer, &range, how) {
            Ok((slot, addr, bounce)) => {
                let element = Element::new(buffer.into_device_owned(), range, addr, bounce);
                Ok(slots.begin_one(shared, slot, how, element))
            }
            Err(error) => Err(Refused { error, returned: buffer }),
        }
    }

    /// Checks that the arena may map: it is not taken away, its binding is not being torn down, and its device has no memory in
    /// quarantine.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
    #[inline(always)]
    fn admit(&mut self) -> Result<(&mut Slots, &Shared), DmaError> {
        let (Some(slots), shared) = (&mut self.slots, &*self.shared) else { return Err(DmaError::Unbinding) };
        if shared.is_revoked() || self.dev.state.ledger.is_closed() {
            return Err(DmaError::Unbinding);
        }
        let context = &*shared.context;
        context.admit()?;
        if context.machine.should_fail(Some(&context.device), FaultPoint::IovaAlloc) {
            return Err(DmaError::Injected(FaultPoint::IovaAlloc));
        }
        if let Some(domain) = context.backend.domain() {
            domain.confirm_overdue(&context.machine);
        }
        Ok((slots, shared))
    }

    /// Maps the buffers of `list` (at least one) in one slot, and takes them out of it. See [`Dma::map_sg`].
    ///
    /// # Errors
    ///
    /// As [`map`](Self::map), with the buffers left in `list`, unless a part of them was mapped and the IOMMU did not confirm its
    /// unmap: then all of them are in quarantine. [`DmaError::BadSize`] for an empty list.
    pub fn map_sg(&mut self, list: &mut Vec<DmaBuffer>, direction: Direction) -> Result<ArenaSlot, DmaError> {
        self.map_sg_with(list, direction, Attrs::empty())
    }

    /// As [`map_sg`](Self::map_sg), optionally with [`Attrs::SKIP_CPU_SYNC`].
    ///
    /// # Errors
    ///
    /// As [`map_sg`](Self::map_sg).
    pub fn map_sg_with(
        &mut self,
        list: &mut Vec<DmaBuffer>,
        direction: Direction,
        attrs: Attrs,
    ) -> Result<ArenaSlot, DmaError> {
        let how = How { kind: Kind::Scatter, direction, attrs };
        match self.map_list_again(list, how) {
            Some(slot) => Ok(slot),
            None => self.map_list(list, how),
        }
    }

    /// Maps the elements of `list` (at least one) in one slot, and takes them out of it: `list` keeps its capacity, so that a queue that
    /// fills it again allocates nothing. Behind an IOMMU the device reaches the whole pages that hold the elements, and no others of their
    /// buffers. [`unmap_many`](Self::unmap_many) returns the buffers.
    ///
    /// ```
    /// use bindery::dma::{Attrs, Direction, SgElement};
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
    /// # example::bind(|dev| {
    /// let mut arena = dev.dma().arena(64)?;
    /// let (header, page) = (dev.dma().buffer(4096)?, dev.dma().buffer(4096)?);
    /// let mut list = vec![
    ///     SgElement { buffer: header, offset: 128, len: 256 },
    ///     SgElement { buffer: page, offset: 0, len: 1024 },
    /// ];
    /// let slot = arena.map_elements(&mut list, Direction::ToDevice, Attrs::empty())?;
    /// assert_eq!((list.len(), arena.mapped_len(slot)?, arena.segments(slot)?.count()), (0, 1280, 2));
    /// let mut buffers = Vec::new();
    /// arena.unmap_many([slot], &mut buffers)?;
    /// assert_eq!(buffers.len(), 2);
    /// # Ok(())
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// As [`map_sg`](Self::map_sg); [`DmaError::BadRange`] for an element that is not inside its buffer, or not aligned as
    /// [`map_range`](Self::map_range) needs it.
    pub fn map_elements(
        &mut self,
        list: &mut Vec<SgElement>,
        direction: Direction,
        attrs: Attrs,
    ) -> Result<ArenaSlot, DmaError> {
        self.map_list(list, How { kind: Kind::Scatter, direction, attrs })
    }

    fn map_list<P: Part>(&mut self, list: &mut Vec<P>, how: How) -> Result<ArenaSlot, DmaError> {
        let direction = how.direction;
        let (slots, shared) = self.admit()?;
        if list.is_empty() {
            return Err(DmaError::BadSize(0));
        }
        let context = &*shared.context;
        list.iter().try_for_each(|part| context.check_buffer(part.buffer(), &part.range()?))?;
        let index = match &context.backend {
            Backend::Direct(_) => {
                let (index, span) = slots.take(shared, 0).ok_or_else(|| slots.full())?;
                let place = |part: &P| place_buffer(context, how.kind, part.buffer(), &part.range()?, direction);
                let placed = match list.iter().map(place).collect::<Result<Vec<_>, _>>() {
                    Ok(placed) => placed,
                    Err(e) => {
                        slots.put(shared, index);
                        return Err(e);
                    }
                };
                let number = slots.number();
                span.begin(number, crate::iommu::Range { iova: DeviceAddr(0), len: 0 });
                let placed = placed.into_iter().map(|placed| (placed.addr, placed.bounce.map(Box::new)));
                slots.records[index as usize].fill(list.drain(..).zip(placed));
                index
            }
            Backend::Translated(domain) => {
                let total = list.iter().try_fold(0_u64, |sum, part| sum.checked_add(part_span(part).1 >> PAGE_SHIFT));
                let total =
                    total.filter(|pages| *pages <= u64::MAX >> PAGE_SHIFT).ok_or(DmaError::BadSize(u64::MAX))?;
                let runs = list.iter().map(|part| (part_span(part).0, part_span(part).1));
                let pins =
                    &mut || list.iter().map(|part| PagePin::new(part.buffer().memory(), &context.pin_owner)).collect();
                let (device, prot) = ((&context.device, how.kind.name()), context.prot(direction));
                let map = |at, lease: Option<&mut Lease>| match lease {
                    Some(lease) => domain.map_runs_leased(&context.machine, device, at, lease, runs, prot),
                    None => domain.map_runs(&context.machine, device, at, runs, prot),
                };
                match slots.place(shared, domain, total, map, pins) {
                    Ok((index, span)) => {
                        let mut at = span.mapped().iova;
                        slots.records[index as usize].fill(list.drain(..).map(|part| {
                            let (_, bytes, offset) = part_span(&part);
                            let addr = at + offset;
                            at = at + bytes;
                            (part, (addr, None))
                        }));
                        index
                    }
                    Err(MapListError::NotMapped(e)) => return Err(e),
                    Err(MapListError::Unconfirmed) => {
                        // Part of the list was mapped and its unmap is not confirmed: no buffer may be reused.
                        list.clear();
                        return Err(DmaError::Quarantined(total << PAGE_SHIFT));
                    }
                }
            }
        };
        let slot = slots.begin(shared, index, how);
        if context.has_checker() {
            for (addr, len) in slots.cut(context, index) {
                context.machine.check_dma(|| Op::Segment { device: Arc::clone(&context.device), addr, len });
            }
        }
        Ok(slot)
    }

    /// DMA address of the first byte of a slot. Reading it counts as publishing it to the device, which is no longer known to be
    /// quiesced from then on.
    ///
    /// # Errors
    ///
    /// [`DmaError::StaleSlot`], [`DmaError::Unbinding`].
    pub fn device_addr(&self, slot: ArenaSlot) -> Result<DeviceAddr, DmaError> {
        let slots = self.live()?;
        let record = &slots.records[slots.find(slot)?];
        self.dev.state.publish_dma_address();
        Ok(record.addr())
    }

    /// Address and length of each segment of a slot for the device's list, within the limits of [`Dma::set_limits`]. Reading
    /// them counts as publishing them.
    ///
    /// # Errors
    ///
    /// [`DmaError::StaleSlot`], [`DmaError::Unbinding`].
    pub fn segments(&self, slot: ArenaSlot) -> Result<impl Iterator<Item = (DeviceAddr, u64)> + '_, DmaError> {
        let slots = self.live()?;
        let index = slots.find(slot)?;
        self.dev.state.publish_dma_address();
        Ok(slots.cut(&self.shared.context, index as u32))
    }

    /// Mapped bytes of a slot.
    ///
    /// # Errors
    ///
    /// [`DmaError::StaleSlot`], [`DmaError::Unbinding`].
    pub fn mapped_len(&self, slot: ArenaSlot) -> Result<u64, DmaError> {
        let slots = self.live()?;
        Ok(slots.records[slots.find(slot)?].elements().map(|element| element.len).sum())
    }

    /// Copies out bytes of a mapped buffer, from `offset` of the mapped range on, as the device has written them. By this call
    /// the driver states that the device does not write them now.
    ///
    /// # Errors
    ///
    /// [`DmaError::BadRange`] outside the mapped range, [`DmaError::StaleSlot`], [`DmaError::SlotOfList`], [`DmaError::Unbinding`].
    pub fn read_bytes(&mut self, slot: ArenaSlot, offset: u64, to: &mut [u8]) -> Result<(), DmaError> {
        let (slots, shared) = self.parts()?;
        let (context, index) = (&*shared.context, slots.find(slot)?);
        let record = &slots.records[index];
        let first = match &record.first {
            Some(first) if record.more.is_empty() => first,
            _ => return Err(DmaError::SlotOfList(record.count())),
        };
        let end = offset.saturating_add(to.len() as u64);
        if end > first.len() {
            return Err(DmaError::BadRange { start: offset, end, len: first.len() });
        }
        for to_cpu in [true, false] {
            context.check_call(|checker| checker.sync(&record.call(context, first.view()), to_cpu));
            first.sync(context, record.how.direction, if to_cpu { SyncFor::Cpu } else { SyncFor::Device });
            if to_cpu && let Some(buffer) = first.buffer() {
                buffer.memory().read_bytes(first.range.start + offset, to);
            }
        }
        Ok(())
    }

    /// Unmaps a slot of one buffer, and returns the buffer to the CPU; see [`Mapped::unmap`](super::Mapped::unmap).
    ///
    /// # Errors
    ///
    /// [`DmaError::Quarantined`] when the IOMMU did not confirm: the buffer is in quarantine. [`DmaError::StaleSlot`],
    /// [`DmaError::SlotOfList`], [`DmaError::Unbinding`].
    pub fn unmap(&mut self, slot: ArenaSlot) -> Result<DmaBuffer, DmaError> {
        let (slots, shared) = self.parts()?;
        let index = slots.find(slot)?;
        if slots.records[index].is_list() {
            return Err(DmaError::SlotOfList(slots.records[index].count()));
        }
        let unmapped = if slots.is_usual(index) && slots.waiting.is_none() {
            slots.unmap_again(shared, index)
        } else {
            slots.unmap_only(shared, slot, index)
        };
        unmapped.map_err(DmaError::Quarantined)
    }

    /// Unmaps slots, and appends their buffers to `returned` in their order. Behind an IOMMU all of them wait for one flush.
    ///
    /// # Errors
    ///
    /// [`DmaError::Quarantined`] when the IOMMU did not confirm: buffers of so many bytes are in quarantine, and the others are in
    /// `returned`. [`DmaError::StaleSlot`] for a slot that is not mapped, or is named twice; the others are unmapped.
    /// [`DmaError::Unbinding`].
    pub fn unmap_many(
        &mut self,
        slots: impl IntoIterator<Item = ArenaSlot>,
        returned: &mut Vec<DmaBuffer>,
    ) -> Result<(), DmaError> {
        let (own, shared) = self.parts()?;
        let stopped = Quiesced::stopped();
        let done = own.unmap(shared, slots.into_iter(), Some(&stopped), returned);
        match (done.lost, done.stale) {
            (0, None) => Ok(()),
            (0, Some(e)) => Err(e),
            (lost, _) => Err(DmaError::Quarantined(lost)),
        }
    }

    /// Unmaps everything and ends the arena. By this call the driver states that the device does not use its mappings any more.
    ///
    /// # Errors
    ///
    /// [`DmaError::Quarantined`] when the IOMMU did not confirm: so many bytes of mapped buffers may be in quarantine.
    /// [`DmaError::Unbinding`] when the binding has ended it already.
    pub fn release(self) -> Result<(), DmaError> {
        let (dev, entry) = (self.dev, self.entry);
        let held = dev.state.system().quarantine_table().bytes_of(dev.name());
        drop(self);
        let taken = dev.state.ledger.take(entry).ok_or(DmaError::Unbinding)?;
        dev.state.release_early(entry, taken);
        match dev.state.system().quarantine_table().bytes_of(dev.name()).saturating_sub(held) {
            0 => Ok(()),
            lost => Err(DmaError::Quarantined(lost)),
        }
    }

    /// The slots, unless the arena was taken away (P5).
    #[inline]
    fn live(&self) -> Result<&Slots, DmaError> {
        match &self.slots {
            Some(slots) if !self.shared.is_revoked() => Ok(slots),
            _ => Err(DmaError::Unbinding),
        }
    }

    /// As [`live`](Self::live), to change them.
    #[inline]
    fn parts(&mut self) -> Result<(&mut Slots, &Shared), DmaError> {
        match &mut self.slots {
            Some(slots) if !self.shared.is_revoked() => Ok((slots, &self.shared)),
            _ => Err(DmaError::Unbinding),
        }
    }
}

impl Slots {
    fn cut<'a>(&'a self, context: &DmaContext, index: u32) -> impl Iterator<Item = (DeviceAddr, u64)> + use<'a> {
        Segments::new(Ranges::of(&self.records[index as usize]), context.segment_limits())
    }
}

impl Drop for Arena<'_> {
    fn drop(&mut self) {
        if let Some(mut slots) = self.slots.take() {
            // Nobody maps in it any more.
            if let Some(domain) = self.shared.context.backend.domain().filter(|_| !self.shared.is_revoked()) {
                slots.free_kept(&self.shared, domain);
            }
            self.shared.give_back(slots);
        }
    }
}

impl fmt::Debug for Arena<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arena({} of {} slots mapped)", self.shared.live(), self.shared.spans.len())
    }
}
