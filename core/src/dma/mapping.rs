//! Mappings of every kind: the state of one, syncs, and tear-down.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::ops::Range;

use super::backend::{Backend, Revocation};
use super::check::{Call, CpuMemory, Op};
use super::piece::{Backing, Piece, Pieces};
use super::pin::{PagePin, PagePins};
use super::sync::{Run, SyncFor};
use super::{Attrs, Direction, DmaContext};
use crate::addr::{DeviceAddr, PAGE_SIZE, PhysAddr};
use crate::binding::{Bound, Entry, EntryId, Reservation, ResourceKind, UnwindCtx};
use crate::event::{EventKind, Outcome};
use crate::iommu::{Domain, DomainKind, Range as IovaRange};
use crate::lifecycle::Quiesced;
use crate::promise::Promise;
use crate::sync::atomic::{AtomicBool, Ordering, fence};

/// Kind of a mapping: which call made it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum Kind {
    /// Coherent memory.
    Coherent,
    /// Coherent memory of a pool.
    Pool,
    /// One streaming buffer.
    Single,
    /// A scatter list of streaming buffers.
    Scatter,
    /// Registers of another device.
    Resource,
}

impl Kind {
    /// Name in events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Coherent => "coherent",
            Self::Pool => "pool",
            Self::Single => "single",
            Self::Scatter => "sg",
            Self::Resource => "resource",
        }
    }

    /// Kind of its ledger entry.
    const fn entry(self) -> ResourceKind {
        match self {
            Self::Coherent => ResourceKind::DmaCoherent,
            Self::Pool => ResourceKind::DmaPool,
            Self::Single => ResourceKind::DmaSingle,
            Self::Scatter => ResourceKind::DmaScatter,
            Self::Resource => ResourceKind::DmaResource,
        }
    }
}

/// One mapping: its DMA context, parameters and pieces.
pub(super) struct Mapping {
    pub(super) context: Arc<DmaContext>,
    pub(super) kind: Kind,
    pub(super) direction: Direction,
    pub(super) attrs: Attrs,
    /// Allocated device addresses: the first, and bytes.
    pub(super) span: (DeviceAddr, u64),
    pub(super) pieces: Pieces,
    /// A view is active: the CPU owns the buffers.
    cpu_owned: AtomicBool,
    /// The unmap gave no proof; the memory is in quarantine.
    quarantined: AtomicBool,
}

/// Parameters of a mapping that has its device addresses and does not exist yet; the fields are those of [`Mapping`].
pub(super) struct NewMapping<'c> {
    pub(super) context: &'c Arc<DmaContext>,
    pub(super) kind: Kind,
    pub(super) direction: Direction,
    pub(super) attrs: Attrs,
    pub(super) span: (DeviceAddr, u64),
    pub(super) pieces: Pieces,
}

impl NewMapping<'_> {
    /// Transfers the memory to the device and pushes the mapping onto the ledger.
    pub(super) fn begin(self, dev: Bound<'_>, reservation: Reservation) -> (Arc<Mapping>, EntryId) {
        let entry = self.hold();
        let mapping = Arc::clone(&entry.mapping);
        let id = dev.state.push_reserved(reservation, dev.tag, entry);
        (mapping, id)
    }

    /// Transfers the memory to the device. Whoever has the entry releases it.
    pub(super) fn hold(self) -> MappingEntry {
        let Self { context, kind, direction, attrs, span, pieces } = self;
        let mapping = Arc::new(Mapping {
            context: Arc::clone(context),
            kind,
            direction,
            attrs,
            span,
            pieces,
            cpu_owned: AtomicBool::new(false),
            quarantined: AtomicBool::new(false),
        });
        // Pinned before the device address is published: from then on the device may reach the pages.
        let pins = mapping.new_pins().collect();
        if !attrs.contains(Attrs::SKIP_CPU_SYNC) {
            mapping.sync(SyncFor::Device);
        }
        let machine = &context.machine;
        machine.dma_state().begin_mapping();
        for piece in mapping.pieces.as_slice() {
            machine.emit(Some(&context.device), || EventKind::DmaMapped {
                kind: kind.name(),
                addr: piece.addr,
                phys: piece.phys(),
                size: piece.len(),
                backend: mapping.backend(),
            });
        }
        if let Backend::Translated(_) = context.backend {
            let given = |piece: &Piece| piece.addr >= span.0 && piece.addr - span.0 < span.1;
            machine.promises.check(Promise::MatchingBackend, mapping.pieces.as_slice().iter().all(given), || {
                format!("{}: the device address was not allocated by its IOMMU: not in {span:?}", context.device)
            });
        }
        for piece in mapping.pieces.as_slice() {
            context.check_call(|checker| checker.map(&mapping.call(piece), true));
        }
        MappingEntry { mapping, pins }
    }
}

impl Mapping {
    /// The first piece. Every mapping has one.
    pub(super) fn first(&self) -> &Piece {
        &self.pieces.as_slice()[0]
    }

    /// Mapped bytes, without the rest of their pages.
    pub(super) fn len(&self) -> u64 {
        self.pieces.as_slice().iter().map(Piece::len).sum()
    }

    /// True when the memory is in quarantine.
    pub(super) fn is_quarantined(&self) -> bool {
        // Pairs with the release in `end`, which may have run on another thread that unwinds the binding.
        self.quarantined.load(Ordering::Acquire)
    }

    /// Transfers the buffers to the CPU, until [`sync_for_device`](Self::sync_for_device).
    pub(super) fn sync_for_cpu(&self) {
        self.sync_for_device();
        self.check_sync(true);
        self.sync(SyncFor::Cpu);
        self.pieces.as_slice().iter().for_each(Piece::copy_out);
        // Released after the copies are made: whoever swaps the flag writes them back.
        self.cpu_owned.store(true, Ordering::Release);
    }

    /// Transfers the buffers to the device, if the CPU owns them: at the end of a view, or later if the view was
    /// forgotten.
    pub(super) fn sync_for_device(&self) {
        // A swap, because the end of the binding on another thread does this as well: only one of both copies back.
        if self.cpu_owned.swap(false, Ordering::AcqRel) {
            self.copy_in();
            self.check_sync(false);
            self.sync(SyncFor::Device);
        }
    }

    /// Writes modified copies to the memory.
    fn copy_in(&self) {
        self.pieces.as_slice().iter().for_each(Piece::copy_in);
    }

    fn check_sync(&self, to_cpu: bool) {
        for piece in self.pieces.as_slice() {
            self.context.check_call(|checker| checker.sync(&self.call(piece), to_cpu));
        }
    }

    /// What the checker is told of one piece.
    fn call(&self, piece: &Piece) -> Call<'_> {
        let registers = matches!(piece.backing, Backing::Registers(..));
        Call {
            device: &self.context.device,
            backend: &self.context.backend_name,
            kind: self.kind,
            addr: piece.addr,
            len: piece.len(),
            phys: piece.phys(),
            memory: if registers { CpuMemory::Registers } else { CpuMemory::Pages },
            direction: self.direction,
            count: self.pieces.as_slice().len() as u32,
            attrs: self.attrs,
        }
    }

    fn sync(&self, to: SyncFor) {
        for piece in self.pieces.as_slice() {
            piece.sync(&self.context, self.direction, to);
            let Some(buffer) = piece.buffer().filter(|_| self.context.has_checker()) else { continue };
            let run = Run { memory: buffer.memory(), range: &piece.range, direction: self.direction };
            run.check_cache_matches(&self.context, piece.bounce.lock().is_some(), to);
        }
    }

    fn backend(&self) -> String {
        let name = &self.context.backend_name;
        let Some(memory) = self.first().memory() else { return name.as_ref().into() };
        let bounced = if self.first().bounce.lock().is_some() { ", bounced" } else { "" };
        format!("{name}, {}{bounced}", memory.source())
    }

    /// Unmaps, with proof, and releases the memory; without a proof the memory goes to quarantine.
    fn end(&self, pins: PagePins, quiesced: Option<&Quiesced>) -> Outcome {
        self.begin_unmap();
        let DmaContext { machine, device, backend, .. } = &*self.context;
        let (iova, len) = self.span;
        match backend.unmap(machine, device, IovaRange { iova, len }, quiesced, pins) {
            Ok(Revocation::Confirmed) => self.end_unmap(quiesced, Ok(None)),
            Ok(Revocation::Queued(domain)) => self.end_unmap(quiesced, Ok(Some(&domain))),
            Err(why) => self.end_unmap(quiesced, Err(&why)),
        }
    }

    /// First part of an unmap: what is checked before it.
    pub(super) fn begin_unmap(&self) {
        let context = &self.context;
        let machine = &context.machine;
        let (addr, len) = self.span;
        machine.promises.check(Promise::MatchingBackend, context.is_set_up(), || {
            format!("{}: {addr} is freed after the back-end that allocated it was torn down", context.device)
        });
        for piece in self.pieces.as_slice() {
            context.check_call(|checker| checker.unmap(&self.call(piece)));
        }
        if context.backend.domain().is_some_and(|d| d.kind() == DomainKind::Lazy) {
            machine.check_dma(|| Op::Queued { backend: Arc::clone(&context.backend_name), addr, len });
        }
    }

    /// Last part of an unmap: the memory is the CPU's again, unless the unmap `ended` without a proof. `Some` is the lazy domain
    /// that the unmap is queued in.
    pub(super) fn end_unmap(
        &self,
        quiesced: Option<&Quiesced>,
        ended: Result<Option<&Arc<Domain>>, &String>,
    ) -> Outcome {
        let context = &self.context;
        let machine = &context.machine;
        let (addr, _) = self.span;
        machine.dma_state().end_mapping();
        for piece in self.pieces.as_slice() {
            machine.emit(Some(&context.device), || EventKind::DmaUnmapped {
                kind: self.kind.name(),
                addr: piece.addr,
                size: piece.len(),
                backend: context.backend_name.as_ref().into(),
            });
        }
        let proven = ended.is_err() || matches!(context.backend, Backend::Translated(_)) || quiesced.is_some();
        machine.promises.check(Promise::QuiescedFirst, proven, || {
            format!("{}: {addr} is freed although the device was not shown to be quiesced", context.device)
        });
        let Ok(queued) = ended else {
            self.quarantined.store(true, Ordering::Release);
            return Outcome::Quarantined;
        };
        if let Some(domain) = queued {
            domain.confirm_due(machine);
        }
        self.take_from_device();
        Outcome::Returned
    }

    /// Transfers the unmapped memory to the CPU: makes what the device wrote visible, and frees bounce slots.
    pub(super) fn take_from_device(&self) {
        let cpu_owned = self.cpu_owned.swap(false, Ordering::AcqRel);
        if cpu_owned {
            self.copy_in();
        } else if !self.attrs.contains(Attrs::SKIP_CPU_SYNC) {
            self.sync(SyncFor::Cpu);
        }
        if self.may_bounce() {
            for piece in self.pieces.as_slice() {
                drop(piece.bounce.lock().take());
            }
        }
    }

    /// True when pieces may have bounce slots: translated devices address all memory.
    fn may_bounce(&self) -> bool {
        self.context.backend.domain().is_none()
    }

    /// New pins of all memory and registers that the device may reach, bounce slots included.
    fn new_pins(&self) -> impl Iterator<Item = PagePin> + '_ {
        let by = &self.context.pin_owner;
        let pieces = self.pieces.as_slice();
        let own = pieces.iter().map(move |piece| match &piece.backing {
            Backing::Shared(memory) => PagePin::new(memory, by),
            Backing::DeviceOwned(buffer) => PagePin::new(buffer.memory(), by),
            Backing::Registers(_, claim) => PagePin::of_registers(Arc::clone(claim), by),
        });
        let bouncing = if self.may_bounce() { pieces } else { &[] };
        own.chain(bouncing.iter().filter_map(move |p| p.bounce.lock().as_ref().map(|s| PagePin::new(s.memory(), by))))
    }
}

/// Unmaps before the binding ends; by this the driver states that the device does not use the mapping any more. `None`
/// when the memory went to quarantine.
pub(super) fn unmap_early(dev: Bound<'_>, entry: EntryId, mapping: Arc<Mapping>) -> Option<Mapping> {
    let entry_id = entry;
    let entry = dev.state.ledger.take(entry_id)?;
    dev.state.release_early(entry_id, entry);
    if mapping.is_quarantined() { None } else { Arc::into_inner(mapping) }
}

/// Ledger entry of a mapping.
pub(super) struct MappingEntry {
    pub(super) mapping: Arc<Mapping>,
    /// Pins of all memory and registers that the device may reach.
    pub(super) pins: PagePins,
}

impl MappingEntry {
    /// Unmaps, with proof, and releases the memory; without a proof the memory goes to quarantine.
    pub(super) fn unmap(self, quiesced: Option<&Quiesced>) -> Outcome {
        let Self { mapping, pins } = self;
        mapping.end(pins, quiesced)
    }
}

impl Entry for MappingEntry {
    fn kind(&self) -> ResourceKind {
        self.mapping.kind.entry()
    }

    fn what(&self) -> String {
        format!("{} bytes at {}", self.mapping.len(), self.mapping.first().addr)
    }

    fn backend(&self) -> String {
        self.mapping.backend()
    }

    fn ends_with_group(&self, quiesced: &dyn Fn() -> bool) -> bool {
        let mapping = &self.mapping;
        // A handle that was moved out of the group lends slices of a buffer, or gives the device an address that may be another
        // buffer's by then.
        if Arc::strong_count(mapping) != 1 {
            return false;
        }
        // Acquire: pairs with the release when the handle was dropped, after its last use, which may have published the address.
        fence(Ordering::Acquire);
        quiesced() || matches!(mapping.context.backend, Backend::Translated(_))
    }

    fn release(self: Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome {
        self.unmap(ctx.quiesced.as_ref())
    }
}

/// Whole pages that hold `range` of the memory at `phys`: the first page, bytes, and the offset of `range` in them.
pub(super) fn page_span(phys: PhysAddr, range: &Range<u64>) -> (PhysAddr, u64, u64) {
    let first = phys + range.start;
    let start = first.page_start();
    let len = (first.page_offset() + (range.end - range.start)).next_multiple_of(PAGE_SIZE);
    (start, len, first.page_offset())
}
