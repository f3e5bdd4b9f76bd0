//! What every kind of DMA memory has in common: one mapping, what lies behind it, and its way back.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::slice;

use super::backend::{Backend, Revocation};
use super::bounce::Slot;
use super::buffer::Lent;
use super::check::{CpuMemory, Op, Record};
use super::pin::PagePin;
use super::view::ViewCopy;
use super::{Attrs, DMA_ALIGN, Direction, DmaContext, DmaMemory};
use crate::addr::{DeviceAddr, PAGE_SIZE, PhysAddr};
use crate::binding::{Entry, EntryId, Reservation, ResourceKind, Scope, UnwindCtx};
use crate::claim::Claim;
use crate::env::CacheOp;
use crate::event::{EventKind, Outcome};
use crate::iommu::{DomainKind, Range as IovaRange};
use crate::promise::Promise;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// What kind of call made a mapping.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum Kind {
    /// Memory that CPU and device share.
    Coherent,
    /// Memory that a pool cuts into items.
    Pool,
    /// One buffer, lent.
    Single,
    /// A list of buffers, lent.
    Scatter,
    /// Registers of another device.
    Resource,
}

impl Kind {
    /// How events name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Coherent => "coherent",
            Self::Pool => "pool",
            Self::Single => "single",
            Self::Scatter => "sg",
            Self::Resource => "resource",
        }
    }

    /// How the ledger names it.
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

/// What the CPU has behind a piece.
pub(super) enum Backing {
    /// Memory that both use at the same time.
    Shared(Arc<DmaMemory>),
    /// A buffer that was lent.
    Lent(Lent),
    /// Registers, claimed.
    Registers(PhysAddr, Arc<Claim>),
}

/// A contiguous part of a mapping, as the device sees it.
pub(super) struct Piece {
    pub(super) backing: Backing,
    /// Which bytes of it.
    pub(super) range: Range<u64>,
    pub(super) addr: DeviceAddr,
    /// What the device really reaches, when that is not the memory itself.
    pub(super) bounce: Mutex<Option<Slot>>,
    /// What the CPU looks at while it has the piece, when that is not the memory itself.
    pub(super) copy: Mutex<Option<ViewCopy>>,
}

impl Piece {
    pub(super) fn new(backing: Backing, range: Range<u64>, addr: DeviceAddr, bounce: Option<Slot>) -> Self {
        Self { backing, range, addr, bounce: Mutex::new(bounce), copy: Mutex::new(None) }
    }

    pub(super) fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    pub(super) fn memory(&self) -> Option<&Arc<DmaMemory>> {
        match &self.backing {
            Backing::Shared(memory) => Some(memory),
            Backing::Lent(lent) => Some(lent.memory()),
            Backing::Registers(..) => None,
        }
    }

    pub(super) fn lent(&self) -> Option<&Lent> {
        match &self.backing {
            Backing::Lent(lent) => Some(lent),
            Backing::Shared(_) | Backing::Registers(..) => None,
        }
    }

    pub(super) fn phys(&self) -> PhysAddr {
        match &self.backing {
            Backing::Registers(phys, _) => *phys,
            Backing::Shared(memory) => memory.phys() + self.range.start,
            Backing::Lent(lent) => lent.memory().phys() + self.range.start,
        }
    }

    /// Keeps cache and bounce slot in step when the buffer changes hands.
    fn sync(&self, context: &DmaContext, direction: Direction, to: TransferTo) {
        let Some(lent) = self.lent() else { return };
        if to == TransferTo::Cpu && !direction.device_writes() {
            return;
        }
        let memory = lent.memory();
        if let Some(slot) = &*self.bounce.lock() {
            let first = (self.range.start / 8) as usize;
            let words = self.len().div_ceil(8) as usize;
            let own = &memory.window().words()[first..first + words];
            let slot = slot.words(words);
            let (from, into) = if to == TransferTo::Cpu { (slot, own) } else { (own, slot) };
            for (from, into) in from.iter().zip(into) {
                into.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        } else if !context.coherent {
            // Before the device writes, dirty lines must go, too: one that is evicted later would cover its data.
            let op = if to == TransferTo::Cpu { CacheOp::Invalidate } else { CacheOp::Clean };
            let whole_lines = self.len().next_multiple_of(DMA_ALIGN).min(memory.allocated() - self.range.start);
            memory.window().memory().cache(op, self.phys(), whole_lines);
        }
    }
}

/// Who gets a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TransferTo {
    Cpu,
    Device,
}

/// One or many, without an allocation for one.
pub(super) enum Pieces {
    One(Piece),
    Many(Vec<Piece>),
}

impl Pieces {
    pub(super) fn as_slice(&self) -> &[Piece] {
        match self {
            Self::One(piece) => slice::from_ref(piece),
            Self::Many(pieces) => pieces,
        }
    }
}

/// One mapping: what it is, who made it, and what lies behind.
pub(super) struct Mapping {
    pub(super) context: Arc<DmaContext>,
    pub(super) kind: Kind,
    pub(super) direction: Direction,
    pub(super) attrs: Attrs,
    /// Pages of device addresses that it takes: the first, and bytes.
    pub(super) span: (DeviceAddr, u64),
    pub(super) pieces: Pieces,
    /// Of all that the device may reach. Taken when the mapping ends.
    pins: Mutex<Vec<PagePin>>,
    /// A view has the buffers in the CPU's hands.
    with_cpu: AtomicBool,
    /// The memory could not be taken back from the device.
    lost: AtomicBool,
}

impl Mapping {
    /// Hands the memory to the device and puts the mapping on the ledger.
    #[expect(clippy::too_many_arguments, reason = "each one is a different fact of the mapping")]
    pub(super) fn begin(
        context: &Arc<DmaContext>,
        scope: Scope<'_>,
        reservation: Reservation,
        kind: Kind,
        direction: Direction,
        attrs: Attrs,
        span: (DeviceAddr, u64),
        pieces: Pieces,
    ) -> (Arc<Self>, EntryId) {
        let mapping = Arc::new(Self {
            context: Arc::clone(context),
            kind,
            direction,
            attrs,
            span,
            pieces,
            pins: Mutex::default(),
            with_cpu: AtomicBool::new(false),
            lost: AtomicBool::new(false),
        });
        // Before anybody is told the address.
        *mapping.pins.lock() = mapping.new_pins().collect();
        if !attrs.contains(Attrs::SKIP_CPU_SYNC) {
            mapping.sync(TransferTo::Device);
        }
        let machine = &context.machine;
        machine.dma.live.fetch_add(1, Ordering::Relaxed);
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
                format!("{}: it is told an address that its IOMMU did not give, not in {span:?}", context.device)
            });
        }
        for piece in mapping.pieces.as_slice() {
            machine.check_dma(|| Op::Map { record: mapping.record(piece), checked: true });
        }
        let id = scope.bound.push_reserved(reservation, scope.tag, MappingEntry(Arc::clone(&mapping)));
        (mapping, id)
    }

    /// First piece. Every mapping has one.
    pub(super) fn first(&self) -> &Piece {
        &self.pieces.as_slice()[0]
    }

    /// Bytes that the device may reach on purpose.
    pub(super) fn len(&self) -> u64 {
        self.pieces.as_slice().iter().map(Piece::len).sum()
    }

    /// True when the memory went to quarantine.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// The buffers go to the CPU, until [`give_to_device`](Self::give_to_device).
    pub(super) fn give_to_cpu(&self) {
        self.give_to_device();
        self.check_sync(true);
        self.sync(TransferTo::Cpu);
        self.pieces.as_slice().iter().for_each(Piece::copy_out);
        self.with_cpu.store(true, Ordering::Release);
    }

    /// The buffers go to the device, if the CPU has them: at the end of a view, or later if the view was forgotten.
    pub(super) fn give_to_device(&self) {
        if self.with_cpu.swap(false, Ordering::AcqRel) {
            self.copy_in();
            self.check_sync(false);
            self.sync(TransferTo::Device);
        }
    }

    /// What was changed in copies goes to the memory.
    fn copy_in(&self) {
        self.pieces.as_slice().iter().for_each(Piece::copy_in);
    }

    fn check_sync(&self, to_cpu: bool) {
        for piece in self.pieces.as_slice() {
            self.context.machine.check_dma(|| Op::Sync { record: self.record(piece), to_cpu });
        }
    }

    /// One piece, for the checker.
    fn record(&self, piece: &Piece) -> Record {
        let registers = matches!(piece.backing, Backing::Registers(..));
        Record {
            device: Arc::clone(&self.context.device),
            backend: Arc::clone(&self.context.backend_name),
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

    fn sync(&self, to: TransferTo) {
        for piece in self.pieces.as_slice() {
            piece.sync(&self.context, self.direction, to);
            self.check_cache_matches(piece, to);
        }
    }

    /// P13: what changes hands holds the same for both. Only a simulated machine can tell; its first and last bytes do.
    fn check_cache_matches(&self, piece: &Piece, to: TransferTo) {
        let DmaContext { machine, device, coherent, .. } = &*self.context;
        let untouched = to == TransferTo::Cpu && !self.direction.device_writes();
        let apart = *coherent || piece.lent().is_none() || piece.bounce.lock().is_some();
        if untouched || apart || !machine.policy().check_dma {
            return;
        }
        let sample = piece.len().min(DMA_ALIGN);
        let env = machine.env();
        let same =
            env.cache_matches(piece.phys(), sample) && env.cache_matches(piece.phys() + (piece.len() - sample), sample);
        machine.promises.check(Promise::CoherentAtTransfer, same, || {
            format!("{device}: the CPU's cache and the device differ over {} after a sync", piece.phys())
        });
    }

    fn backend(&self) -> String {
        let name = &self.context.backend_name;
        let Some(memory) = self.first().memory() else { return name.as_ref().into() };
        let bounced = if self.first().bounce.lock().is_some() { ", bounced" } else { "" };
        format!("{name}, {}{bounced}", memory.source())
    }

    /// Revokes the mapping, proves it, and lets go of what lies behind; or puts that into quarantine.
    fn end(&self, ctx: &UnwindCtx<'_>) -> Outcome {
        let context = &self.context;
        let machine = &context.machine;
        let (addr, len) = self.span;
        let now = ctx.bound.dma.lock().as_ref().is_some_and(|now| Arc::ptr_eq(now, context));
        machine.promises.check(Promise::MatchingBackend, now, || {
            format!("{}: {addr} is freed after the back-end that allocated it was torn down", context.device)
        });
        for piece in self.pieces.as_slice() {
            machine.check_dma(|| Op::Unmap(self.record(piece)));
        }
        if context.backend.domain().is_some_and(|d| d.kind() == DomainKind::Lazy) {
            machine.check_dma(|| Op::Queued { backend: Arc::clone(&context.backend_name), addr, len });
        }
        let pins = core::mem::take(&mut *self.pins.lock());
        let ended =
            context.backend.unmap(machine, &context.device, IovaRange { iova: addr, len }, ctx.quiesced.as_ref(), pins);
        machine.dma.live.fetch_sub(1, Ordering::Relaxed);
        for piece in self.pieces.as_slice() {
            machine.emit(Some(&context.device), || EventKind::DmaUnmapped {
                kind: self.kind.name(),
                addr: piece.addr,
                size: piece.len(),
                backend: context.backend_name.as_ref().into(),
            });
        }
        let shown = ended.is_err() || matches!(context.backend, Backend::Translated(_)) || ctx.quiesced.is_some();
        machine.promises.check(Promise::QuiescedFirst, shown, || {
            format!("{}: {addr} goes back although the device was not shown to be quiesced", context.device)
        });
        let Ok(ended) = ended else {
            self.lost.store(true, Ordering::Release);
            return Outcome::Quarantined;
        };
        if let Revocation::Later(domain) = &ended {
            domain.confirm_due(machine);
        }
        self.take_from_device();
        Outcome::Returned
    }

    /// The device is cut off: what it wrote becomes visible to the CPU, and bounce slots go.
    fn take_from_device(&self) {
        let with_cpu = self.with_cpu.swap(false, Ordering::AcqRel);
        if with_cpu {
            self.copy_in();
        } else if !self.attrs.contains(Attrs::SKIP_CPU_SYNC) {
            self.sync(TransferTo::Cpu);
        }
        for piece in self.pieces.as_slice() {
            drop(piece.bounce.lock().take());
        }
    }

    /// Pins of all that the device may reach.
    fn new_pins(&self) -> impl Iterator<Item = PagePin> + '_ {
        let by = &self.context.pinner;
        let registers = self.pieces.as_slice().iter().filter_map(move |piece| match &piece.backing {
            Backing::Registers(_, claim) => Some(PagePin::of_registers(Arc::clone(claim), by)),
            Backing::Shared(_) | Backing::Lent(_) => None,
        });
        self.memories().map(move |memory| PagePin::new(&memory, by)).chain(registers)
    }

    /// All memory that the device may reach.
    fn memories(&self) -> impl Iterator<Item = Arc<DmaMemory>> + '_ {
        let pieces = self.pieces.as_slice();
        let own = pieces.iter().filter_map(|p| p.memory().cloned());
        own.chain(pieces.iter().filter_map(|p| p.bounce.lock().as_ref().map(|s| Arc::clone(s.memory()))))
    }
}

/// Gives a mapping back before the binding ends. The driver states that the device does not use it any more. `None`
/// when the memory went to quarantine.
pub(super) fn end_early(scope: Scope<'_>, entry: EntryId, mapping: Arc<Mapping>) -> Option<Mapping> {
    let entry_id = entry;
    let entry = scope.bound.ledger.take(entry_id)?;
    scope.bound.release_early(entry_id, entry);
    if mapping.is_lost() { None } else { Arc::into_inner(mapping) }
}

struct MappingEntry(Arc<Mapping>);

impl Entry for MappingEntry {
    fn kind(&self) -> ResourceKind {
        self.0.kind.entry()
    }

    fn what(&self) -> String {
        format!("{} bytes at {}", self.0.len(), self.0.first().addr)
    }

    fn backend(&self) -> String {
        self.0.backend()
    }

    fn release(self: Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome {
        self.0.end(ctx)
    }
}

/// Whole pages that hold `range` of pages that start at `phys`: the first, bytes, and where `range` begins in them.
pub(super) fn page_span(phys: PhysAddr, range: &Range<u64>) -> (PhysAddr, u64, u64) {
    let first = phys + range.start;
    let start = first.page_start();
    let len = (first.page_offset() + (range.end - range.start)).next_multiple_of(PAGE_SIZE);
    (start, len, first.page_offset())
}
