//! A list of buffers, lent to the device as one.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::backend::Backend;
use super::check::Op;
use super::mapping::{Backing, Kind, Mapping, Piece, Pieces, end_early};
use super::pin::PagePin;
use super::streaming::place;
use super::{Attrs, CpuViewSg, Direction, Dma, DmaBuffer, DmaContext, DmaError, Refused, SegmentLimits, Segments};
use crate::addr::{DeviceAddr, PAGE_SIZE, pages};
use crate::binding::{EntryId, Reservation, Scope};
use crate::iommu::{Domain, MapList};

/// A list of buffers that the device has. As [`Mapped`](super::Mapped) in everything else.
pub struct MappedSg<'s> {
    mapping: Arc<Mapping>,
    limits: SegmentLimits,
    entry: EntryId,
    scope: Scope<'s>,
}

/// Pieces of a list, and the pages of device addresses that they take.
type List = (Vec<Piece>, (DeviceAddr, u64));

impl<'s> Dma<'s> {
    /// Lends a list of buffers (at least one) to the device. What was not taken comes back with the error.
    ///
    /// Behind an IOMMU the whole list lies in one range of device addresses, each buffer from a page of its own on.
    /// Ending the mapping then waits for the IOMMU once, however long the list is.
    pub fn map_sg(&self, list: Vec<DmaBuffer>, direction: Direction) -> Result<MappedSg<'s>, Refused<Vec<DmaBuffer>>> {
        self.map_sg_with(list, direction, Attrs::empty())
    }

    /// As [`map_sg`](Self::map_sg), with [`Attrs::SKIP_CPU_SYNC`] or without.
    pub fn map_sg_with(
        &self,
        list: Vec<DmaBuffer>,
        direction: Direction,
        attrs: Attrs,
    ) -> Result<MappedSg<'s>, Refused<Vec<DmaBuffer>>> {
        let (context, reservation) = match self.prepare_list(&list) {
            Ok(p) => p,
            Err(error) => return Err(Refused { error, back: list }),
        };
        let (pieces, span) = match &context.backend {
            Backend::Direct(_) => place_each(&context, list, direction)?,
            Backend::Translated(domain) => place_all(&context, domain, list, direction)?,
        };
        let pieces = Pieces::Many(pieces);
        let (mapping, entry) =
            Mapping::begin(&context, self.scope, reservation, Kind::Scatter, direction, attrs, span, pieces);
        let list = MappedSg { mapping, limits: context.segment_limits(), entry, scope: self.scope };
        if context.machine.policy().check_dma {
            for (addr, len) in list.cut() {
                context.machine.check_dma(|| Op::Segment { device: Arc::clone(&context.device), addr, len });
            }
        }
        Ok(list)
    }

    fn prepare_list(&self, list: &[DmaBuffer]) -> Result<(Arc<DmaContext>, Reservation), DmaError> {
        let context = self.context()?;
        context.admit()?;
        if list.is_empty() {
            return Err(DmaError::BadSize(0));
        }
        list.iter().try_for_each(|buffer| context.accept(buffer, &(0..buffer.len())))?;
        Ok((context, self.scope.bound.reservation()?))
    }
}

/// Untranslated: each buffer where it lies, or where its bounce slot does.
fn place_each(
    context: &DmaContext,
    list: Vec<DmaBuffer>,
    direction: Direction,
) -> Result<List, Refused<Vec<DmaBuffer>>> {
    let place = |buffer: &DmaBuffer| place(context, Kind::Scatter, buffer, &(0..buffer.len()), direction);
    let placed = match list.iter().map(place).collect::<Result<Vec<_>, _>>() {
        Ok(placed) => placed,
        Err(error) => return Err(Refused { error, back: list }),
    };
    let span = (placed[0].addr, placed[0].span.1);
    let piece = |(buffer, placed): (DmaBuffer, super::streaming::Placed)| {
        let range = 0..buffer.len();
        Piece::new(Backing::Lent(buffer.lend()), range, placed.addr, placed.bounce)
    };
    Ok((list.into_iter().zip(placed).map(piece).collect(), span))
}

/// Translated: one range of device addresses for all.
fn place_all(
    context: &DmaContext,
    domain: &Arc<Domain>,
    list: Vec<DmaBuffer>,
    direction: Direction,
) -> Result<List, Refused<Vec<DmaBuffer>>> {
    let total = list.iter().try_fold(0_u64, |sum, b| sum.checked_add(pages(b.len()) * PAGE_SIZE));
    let Some(total) = total else { return Err(Refused { error: DmaError::BadSize(u64::MAX), back: list }) };
    let mut runs = list.iter().map(|b| (b.phys(), pages(b.len()) * PAGE_SIZE));
    let (prot, limit) = (context.prot(direction), context.limit());
    let kind = Kind::Scatter.name();
    let pins = &mut || list.iter().map(|b| PagePin::new(b.memory(), &context.pinner)).collect();
    let iova = match domain.map_list(
        &context.machine,
        &context.device,
        kind,
        &mut runs,
        total,
        prot,
        context.reach(limit),
        pins,
    ) {
        Ok(iova) => iova,
        Err(MapList::Undone(error)) => return Err(Refused { error, back: list }),
        // Part of the list is mapped and cannot be shown to be unmapped: none of it may be used again.
        Err(MapList::Stuck) => return Err(Refused { error: DmaError::Quarantined(total), back: Vec::new() }),
    };
    let mut at = iova;
    let piece = |buffer: DmaBuffer| {
        let range = 0..buffer.len();
        let piece = Piece::new(Backing::Lent(buffer.lend()), range.clone(), at, None);
        at = at + pages(range.end) * PAGE_SIZE;
        piece
    };
    Ok((list.into_iter().map(piece).collect(), (iova, total)))
}

impl MappedSg<'_> {
    /// What to put into the device's list: address and bytes of each segment, none longer than the device takes, none
    /// across its boundary (see [`Dma::set_limits`], as they were when the list was mapped). Reading this counts as
    /// telling the device: whatever was known about the device being quiet is void.
    pub fn segments(&self) -> impl Iterator<Item = (DeviceAddr, u64)> + '_ {
        self.mapping.give_to_device();
        self.scope.bound.publish_dma_address();
        self.cut()
    }

    fn cut(&self) -> impl Iterator<Item = (DeviceAddr, u64)> + '_ {
        Segments::new(self.mapping.pieces.as_slice().iter().map(|p| (p.addr, p.len())), self.limits)
    }

    /// Bytes that were lent.
    pub fn len(&self) -> u64 {
        self.mapping.len()
    }

    /// Never true: at least one byte was lent.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Takes the bytes to the CPU for the life of the view; see [`Mapped::sync_for_cpu`](super::Mapped::sync_for_cpu).
    pub fn sync_for_cpu(&mut self) -> CpuViewSg<'_> {
        CpuViewSg::new(&self.mapping)
    }

    /// Ends the mapping and gives the buffers to the CPU, in their order; see [`Mapped::unmap`](super::Mapped::unmap).
    pub fn unmap(self) -> Result<Vec<DmaBuffer>, DmaError> {
        let len = self.mapping.len();
        let mapping = end_early(self.scope, self.entry, self.mapping).ok_or(DmaError::Quarantined(len))?;
        let Pieces::Many(pieces) = mapping.pieces else { return Ok(Vec::new()) };
        let buffer = |piece: Piece| match piece.backing {
            Backing::Lent(lent) => Some(lent.into_buffer()),
            Backing::Shared(_) | Backing::Registers(..) => None,
        };
        Ok(pieces.into_iter().filter_map(buffer).collect())
    }
}

impl fmt::Debug for MappedSg<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = &self.mapping;
        write!(f, "MappedSg({} bytes in {} buffers, {})", m.len(), m.pieces.as_slice().len(), m.direction)
    }
}
