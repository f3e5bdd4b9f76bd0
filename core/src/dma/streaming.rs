//! Streaming mappings of single buffers.

use core::fmt;
use core::ops::Range;

use alloc::sync::Arc;

use super::backend::Backend;
use super::bounce::Slot;
use super::mapping::{Kind, Mapping, NewMapping, page_span};
use super::piece::{Backing, Piece, Pieces};
use super::pin::{PagePin, PagePins};
use super::{Attrs, CpuView, DMA_ALIGN, Direction, Dma, DmaBuffer, DmaContext, DmaError, Refused};
use crate::addr::DeviceAddr;
use crate::binding::{Bound, EntryId, Reservation};
use crate::iommu::Prot;

/// Streaming mapping: the device owns the buffer until [`unmap`](Self::unmap).
///
/// While it exists the CPU cannot access the bytes, except through [`sync_for_cpu`](Self::sync_for_cpu):
///
/// ```compile_fail
/// # use bindery::{binding::Bound, dma::{Direction, DmaError}};
/// fn touch(dev: Bound<'_>) -> Result<(), DmaError> {
///     let mut buffer = dev.dma().buffer(4096)?;
///     let bytes = buffer.as_mut_slice();
///     let mapped = dev.dma().map(buffer, Direction::ToDevice)?;
/// bytes[0] = 1; // the device owns it
///     Ok(())
/// }
/// ```
///
/// Nor can it outlive the binding:
///
/// ```compile_fail
/// # use bindery::{binding::Bound, dma::{Direction, DmaError, Mapped}};
/// fn smuggle(dev: Bound<'_>) -> Result<Mapped<'static>, DmaError> {
/// Ok(dev.dma().map(dev.dma().buffer(4096)?, Direction::ToDevice)?) // borrows from the binding
/// }
/// ```
///
/// The binding owns mapping and buffer: dropping this handle does not unmap, the tear-down of the binding does.
/// Forgetting the handle leaks the memory then (P9), dropping it does not.
///
/// ```
/// use bindery::dma::Direction;
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
/// # example::bind(|dev| {
/// let mut mapped = dev.dma().map(dev.dma().buffer(512)?, Direction::FromDevice)?;
/// // ... write mapped.device_addr() to a register, and wait for the device ...
/// assert_eq!(mapped.sync_for_cpu()[0], 0); // a view: the device owns the buffer again afterwards
/// let buffer = mapped.unmap()?; // the CPU owns it
/// assert_eq!(buffer.len(), 512);
/// # Ok(())
/// # });
/// ```
pub struct Mapped<'s> {
    pub(super) mapping: Arc<Mapping>,
    pub(super) entry: EntryId,
    pub(super) dev: Bound<'s>,
}

impl<'s> Dma<'s> {
    /// Allocates a buffer of `len` bytes (at least 1), zeroed, starting on a page, and owned by the CPU: where the
    /// device can address it, if such memory is left.
    ///
    /// # Errors
    ///
    /// [`DmaError::BadSize`], [`DmaError::Memory`], [`DmaError::Quarantined`] while earlier memory of the device is in
    /// quarantine, [`DmaError::NoWindow`], [`DmaError::Unbinding`].
    pub fn buffer(&self, len: u64) -> Result<DmaBuffer, DmaError> {
        let context = self.context()?;
        context.admit()?;
        let machine = &context.machine;
        let run = context.backend.take_streaming(machine, &context.device, len, context.limit())?;
        DmaBuffer::new(run, machine.memory().memory(), len).ok_or(DmaError::BadSize(len))
    }

    /// Maps a whole buffer for the device.
    ///
    /// # Errors
    ///
    /// As [`map_range`](Self::map_range).
    pub fn map(&self, buffer: DmaBuffer, direction: Direction) -> Result<Mapped<'s>, Refused<DmaBuffer>> {
        let range = 0..buffer.len();
        self.map_range(buffer, range, direction, Attrs::empty())
    }

    /// Maps `range` of a buffer for the device; the mapping owns the whole buffer. For a device that does not snoop the
    /// CPU's caches the range starts and ends on a multiple of [`DMA_ALIGN`], or ends with the buffer; for one that does it may be
    /// any bytes. A translated device reaches the whole pages that hold it.
    ///
    /// # Errors
    ///
    /// The buffer is returned in the error. [`DmaError::BadRange`], [`DmaError::ForeignMachine`],
    /// [`DmaError::Unconfirmed`] while an earlier mapping of it is not confirmed to be gone, [`DmaError::Iova`] or
    /// [`DmaError::Map`] from the IOMMU, [`DmaError::Memory`] or [`DmaError::BounceFull`] without a bounce buffer for
    /// it, [`DmaError::Quarantined`] while earlier memory of the device is in quarantine, [`DmaError::NoWindow`],
    /// [`DmaError::Unbinding`].
    pub fn map_range(
        &self,
        buffer: DmaBuffer,
        range: Range<u64>,
        direction: Direction,
        attrs: Attrs,
    ) -> Result<Mapped<'s>, Refused<DmaBuffer>> {
        let prepared = self.prepare(&buffer, &range).and_then(|(context, reservation)| {
            let placement = place_buffer(&context, Kind::Single, &buffer, &range, direction)?;
            Ok((context, reservation, placement))
        });
        let (context, reservation, placement) = match prepared {
            Ok(p) => p,
            Err(error) => return Err(Refused { error, returned: buffer }),
        };
        let piece =
            Piece::new(Backing::DeviceOwned(buffer.into_device_owned()), range, placement.addr, placement.bounce);
        let pieces = Pieces::One(piece);
        let new = NewMapping { context: &context, kind: Kind::Single, direction, attrs, span: placement.span, pieces };
        let (mapping, entry) = new.begin(self.dev, reservation);
        Ok(Mapped { mapping, entry, dev: self.dev })
    }

    pub(super) fn prepare(
        &self,
        buffer: &DmaBuffer,
        range: &Range<u64>,
    ) -> Result<(Arc<DmaContext>, Reservation), DmaError> {
        let context = self.context()?;
        context.admit()?;
        context.check_buffer(buffer, range)?;
        Ok((context, self.dev.state.reservation()?))
    }
}

impl DmaContext {
    /// Checks that `range` of `buffer` may be mapped for this device.
    #[inline]
    pub(super) fn check_buffer(&self, buffer: &DmaBuffer, range: &Range<u64>) -> Result<(), DmaError> {
        let (start, end, len) = (range.start, range.end, buffer.len());
        // Only where lines are cleaned and dropped does a neighbour in the same line matter.
        let aligned = || start.is_multiple_of(DMA_ALIGN) && (end == len || end.is_multiple_of(DMA_ALIGN));
        if start >= end || end > len || !(self.coherent || aligned()) {
            return Err(DmaError::BadRange { start, end, len });
        }
        if !buffer.memory().is_of(self.machine.memory().memory()) {
            return Err(DmaError::ForeignMachine);
        }
        buffer.memory().confirm_unmapped(self.backend.domain())
    }

    #[inline]
    pub(super) fn prot(&self, direction: Direction) -> Prot {
        let mut prot = direction.prot();
        prot.set(Prot::COHERENT, self.coherent);
        prot
    }
}

/// Device address of a buffer, and its bounce slot if there is one.
pub(super) struct Placement {
    pub(super) addr: DeviceAddr,
    pub(super) span: (DeviceAddr, u64),
    pub(super) bounce: Option<Slot>,
}

/// Assigns a device address to `range` of `buffer`: maps it, or allocates a bounce slot if the device cannot address
/// it.
pub(super) fn place_buffer(
    context: &DmaContext,
    kind: Kind,
    buffer: &DmaBuffer,
    range: &Range<u64>,
    direction: Direction,
) -> Result<Placement, DmaError> {
    let len = range.end - range.start;
    let limit = context.limit();
    match &context.backend {
        Backend::Direct(direct) => {
            let first = buffer.phys() + range.start;
            let (addr, bounce) = if let Some(addr) = direct.bus_addr(first, len, limit) {
                (addr, None)
            } else {
                Slot::take(context, direct, first.page_offset(), len).map(|(slot, addr)| (addr, Some(slot)))?
            };
            Ok(Placement { addr, span: (addr, len), bounce })
        }
        Backend::Translated(domain) => {
            let (phys, bytes, offset) = page_span(buffer.phys(), range);
            let prot = context.prot(direction);
            let pins = &mut || PagePins::from_iter([PagePin::new(buffer.memory(), &context.pin_owner)]);
            let iova = domain.map(context.map_request(kind, prot, limit, pins), phys, bytes)?;
            Ok(Placement { addr: iova + offset, span: (iova, bytes), bounce: None })
        }
    }
}

impl Mapped<'_> {
    /// DMA address of the first byte. Reading it counts as publishing it to the device, which is no longer known to be
    /// quiesced from then on.
    pub fn device_addr(&self) -> DeviceAddr {
        self.mapping.sync_for_device();
        self.dev.state.publish_dma_address();
        self.mapping.first().addr
    }

    /// Mapped bytes.
    pub fn len(&self) -> u64 {
        self.mapping.len()
    }

    /// Never true: at least one byte is mapped.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Direction of the transfer.
    pub fn direction(&self) -> Direction {
        self.mapping.direction
    }

    /// True when the device accesses a bounce buffer instead of the memory.
    pub fn is_bounced(&self) -> bool {
        self.mapping.first().bounce.lock().is_some()
    }

    /// Transfers the bytes to the CPU while the view exists. By this call the driver states that the device does not
    /// use them until the view is dropped, which transfers them to the device again. If the view is forgotten, the next
    /// call on this handle does so instead.
    pub fn sync_for_cpu(&mut self) -> CpuView<'_> {
        CpuView::new(&self.mapping)
    }

    /// Unmaps and returns the buffer to the CPU. By this call the driver states that the device does not use it any
    /// more.
    ///
    /// Behind an IOMMU the statement is enforced before this returns; in a lazy domain within 10 ms, and until then the
    /// pages are not reused.
    ///
    /// # Errors
    ///
    /// [`DmaError::Quarantined`] when the IOMMU did not confirm: the buffer is in quarantine.
    pub fn unmap(self) -> Result<DmaBuffer, DmaError> {
        let len = self.mapping.span.1;
        if let Some(entry) = self.dev.state.ledger.take(self.entry) {
            self.dev.state.release_early(self.entry, entry);
        }
        self.into_unmapped().ok_or(DmaError::Quarantined(len))
    }

    /// The buffer, once its ledger entry is released. `None` when it is in quarantine.
    pub(super) fn into_unmapped(self) -> Option<DmaBuffer> {
        if self.mapping.is_quarantined() {
            return None;
        }
        match Arc::into_inner(self.mapping)?.pieces {
            Pieces::One(Piece { backing: Backing::DeviceOwned(mapped), .. }) => Some(mapped.into_buffer()),
            _ => None,
        }
    }
}

impl fmt::Debug for Mapped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = &self.mapping;
        write!(f, "Mapped({} bytes at {}, {})", m.len(), m.first().addr, m.direction)
    }
}
