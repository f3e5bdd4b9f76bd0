//! One buffer, lent to the device.

use core::fmt;
use core::ops::Range;

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::backend::Backend;
use super::bounce::Slot;
use super::mapping::{Backing, Kind, Mapping, Piece, Pieces, end_early, page_span};
use super::pin::PagePin;
use super::{Attrs, CpuView, DMA_ALIGN, Direction, Dma, DmaBuffer, DmaContext, DmaError, Refused};
use crate::addr::DeviceAddr;
use crate::binding::{EntryId, Reservation, Scope};
use crate::iommu::Prot;

/// A buffer that the device has.
///
/// While this exists the CPU has no way to the bytes, except through [`sync_for_cpu`](Self::sync_for_cpu):
///
/// ```compile_fail
/// # use bindery::{binding::Bound, dma::{Direction, DmaError}};
/// fn touch(dev: &Bound) -> Result<(), DmaError> {
///     let mut buffer = dev.dma().buffer(4096)?;
///     let bytes = buffer.as_mut_slice();
///     let lent = dev.dma().map(buffer, Direction::ToDevice)?;
///     bytes[0] = 1; // the device has it
///     Ok(())
/// }
/// ```
///
/// Nor can it be used when the binding has ended:
///
/// ```compile_fail
/// # use bindery::{binding::Bound, dma::{Direction, DmaError, Mapped}};
/// fn smuggle(dev: &Bound) -> Result<Mapped<'static>, DmaError> {
///     Ok(dev.dma().map(dev.dma().buffer(4096)?, Direction::ToDevice)?) // lives as long as the binding, not longer
/// }
/// ```
///
/// The binding owns mapping and buffer. Dropping or forgetting this handle ends neither; the way back does. Forgetting
/// it loses the memory (P9), dropping it does not.
///
/// ```
/// # use bindery::{binding::Bound, dma::{Direction, DmaError}};
/// fn send(dev: &Bound, start: impl Fn(u64)) -> Result<(), DmaError> {
///     let mut buffer = dev.dma().buffer(512)?;
///     buffer.as_mut_slice().fill(0x55);
///     let lent = dev.dma().map(buffer, Direction::ToDevice)?;
///     start(lent.device_addr().0);
///     // ... wait for the device ...
///     let buffer = lent.unmap()?;
///     assert_eq!(buffer.as_slice()[0], 0x55);
///     Ok(())
/// }
/// ```
pub struct Mapped<'s> {
    mapping: Arc<Mapping>,
    entry: EntryId,
    scope: Scope<'s>,
}

impl<'s> Dma<'s> {
    /// Takes a buffer of `len` bytes (at least 1) for the CPU, zeroed, starting on a page: where the device reaches it,
    /// if such memory is left.
    pub fn buffer(&self, len: u64) -> Result<DmaBuffer, DmaError> {
        let context = self.context()?;
        context.admit()?;
        let machine = &context.machine;
        let run = context.backend.take_lent(machine, &context.device, len, context.limit())?;
        DmaBuffer::new(run, machine.memory().memory(), len).ok_or(DmaError::BadSize(len))
    }

    /// Lends a whole buffer to the device. What was not taken comes back with the error.
    pub fn map(&self, buffer: DmaBuffer, direction: Direction) -> Result<Mapped<'s>, Refused<DmaBuffer>> {
        let range = 0..buffer.len();
        self.map_range(buffer, range, direction, Attrs::empty())
    }

    /// Lends `range` of a buffer to the device, and the rest to nobody meanwhile. The range starts and ends on a
    /// multiple of [`DMA_ALIGN`], or ends with the buffer. A translated device reaches the whole pages that hold it.
    pub fn map_range(
        &self,
        buffer: DmaBuffer,
        range: Range<u64>,
        direction: Direction,
        attrs: Attrs,
    ) -> Result<Mapped<'s>, Refused<DmaBuffer>> {
        let prepared = self.prepare(&buffer, &range).and_then(|(context, reservation)| {
            let placed = place(&context, Kind::Single, &buffer, &range, direction)?;
            Ok((context, reservation, placed))
        });
        let (context, reservation, placed) = match prepared {
            Ok(p) => p,
            Err(error) => return Err(Refused { error, back: buffer }),
        };
        let piece = Piece::new(Backing::Lent(buffer.lend()), range, placed.addr, placed.bounce);
        let (mapping, entry) = Mapping::begin(
            &context,
            self.scope,
            reservation,
            Kind::Single,
            direction,
            attrs,
            placed.span,
            Pieces::One(piece),
        );
        Ok(Mapped { mapping, entry, scope: self.scope })
    }

    fn prepare(&self, buffer: &DmaBuffer, range: &Range<u64>) -> Result<(Arc<DmaContext>, Reservation), DmaError> {
        let context = self.context()?;
        context.admit()?;
        context.accept(buffer, range)?;
        Ok((context, self.scope.bound.reservation()?))
    }
}

impl DmaContext {
    /// Whether `range` of `buffer` may be given to this device.
    pub(super) fn accept(&self, buffer: &DmaBuffer, range: &Range<u64>) -> Result<(), DmaError> {
        let (start, end, len) = (range.start, range.end, buffer.len());
        let aligned = start.is_multiple_of(DMA_ALIGN) && (end == len || end.is_multiple_of(DMA_ALIGN));
        if start >= end || end > len || !aligned {
            return Err(DmaError::BadRange { start, end, len });
        }
        if !buffer.memory().is_of(self.machine.memory().memory()) {
            return Err(DmaError::ForeignMachine);
        }
        buffer.memory().settle(self.backend.domain())
    }

    pub(super) fn prot(&self, direction: Direction) -> Prot {
        let mut prot = direction.prot();
        prot.set(Prot::COHERENT, self.coherent);
        prot
    }
}

/// Where the device finds one buffer.
pub(super) struct Placed {
    pub(super) addr: DeviceAddr,
    pub(super) span: (DeviceAddr, u64),
    pub(super) bounce: Option<Slot>,
}

/// Gives `range` of `buffer` a device address, or a bounce slot with one.
pub(super) fn place(
    context: &DmaContext,
    kind: Kind,
    buffer: &DmaBuffer,
    range: &Range<u64>,
    direction: Direction,
) -> Result<Placed, DmaError> {
    let len = range.end - range.start;
    let limit = context.limit();
    match &context.backend {
        Backend::Direct(direct) => {
            let first = buffer.phys() + range.start;
            let (addr, bounce) = if let Some(addr) = direct.reach(first, len, limit) {
                (addr, None)
            } else {
                Slot::take(context, direct, first.page_offset(), len).map(|(slot, addr)| (addr, Some(slot)))?
            };
            Ok(Placed { addr, span: (addr, len), bounce })
        }
        Backend::Translated(domain) => {
            let (phys, bytes, offset) = page_span(buffer.phys(), range);
            let prot = context.prot(direction);
            let pins = &mut || Vec::from([PagePin::new(buffer.memory(), &context.pinner)]);
            let iova = domain.map(
                &context.machine,
                &context.device,
                kind.name(),
                phys,
                bytes,
                prot,
                context.reach(limit),
                pins,
            )?;
            Ok(Placed { addr: iova + offset, span: (iova, bytes), bounce: None })
        }
    }
}

impl Mapped<'_> {
    /// Where the device finds the first byte. Reading this counts as telling the device: whatever was known about the
    /// device being quiet is void.
    pub fn device_addr(&self) -> DeviceAddr {
        self.mapping.give_to_device();
        self.scope.bound.publish_dma_address();
        self.mapping.first().addr
    }

    /// Bytes that were lent.
    pub fn len(&self) -> u64 {
        self.mapping.len()
    }

    /// Never true: at least one byte was lent.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Which way the data goes.
    pub fn direction(&self) -> Direction {
        self.mapping.direction
    }

    /// Whether a bounce buffer stands in for the memory.
    pub fn is_bounced(&self) -> bool {
        self.mapping.first().bounce.lock().is_some()
    }

    /// Takes the bytes to the CPU for the life of the view. By calling this the driver states that the device does not
    /// use them until the view is dropped, which gives them back to the device. If the view is forgotten, the next call
    /// on this handle gives them back instead.
    pub fn sync_for_cpu(&mut self) -> CpuView<'_> {
        CpuView::new(&self.mapping)
    }

    /// Ends the mapping and gives the buffer to the CPU. By calling this the driver states that the device does not use
    /// it any more.
    ///
    /// Behind an IOMMU that statement is enforced before this returns; in a lazy domain it is enforced within 10 ms,
    /// and until then the pages go to nobody else. When the IOMMU does not confirm, the buffer goes to quarantine and
    /// the error says so.
    pub fn unmap(self) -> Result<DmaBuffer, DmaError> {
        let len = self.mapping.span.1;
        let mapping = end_early(self.scope, self.entry, self.mapping).ok_or(DmaError::Quarantined(len))?;
        match mapping.pieces {
            Pieces::One(Piece { backing: Backing::Lent(lent), .. }) => Ok(lent.into_buffer()),
            _ => Err(DmaError::Quarantined(len)),
        }
    }
}

impl fmt::Debug for Mapped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = &self.mapping;
        write!(f, "Mapped({} bytes at {}, {})", m.len(), m.first().addr, m.direction)
    }
}
