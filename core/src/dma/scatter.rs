//! Scatter lists: several streaming buffers in one mapping.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::backend::Backend;
use super::check::Op;
use super::mapping::{Kind, Mapping, NewMapping, unmap_early};
use super::piece::{Backing, Piece, Pieces};
use super::pin::PagePin;
use super::streaming::place_buffer;
use super::{Attrs, CpuViewSg, Direction, Dma, DmaBuffer, DmaContext, DmaError, Refused, SegmentLimits, Segments};
use crate::addr::{DeviceAddr, PAGE_SIZE, pages};
use crate::binding::{Bound, EntryId, Reservation};
use crate::iommu::{Domain, MapListError};

/// Mapping of a list of buffers. Otherwise as [`Mapped`](super::Mapped).
pub struct MappedSg<'s> {
    mapping: Arc<Mapping>,
    limits: SegmentLimits,
    entry: EntryId,
    dev: Bound<'s>,
}

/// Pieces of a list, and the first and number of bytes of their device addresses.
type List = (Vec<Piece>, (DeviceAddr, u64));

impl<'s> Dma<'s> {
    /// Maps a list of buffers (at least one) for the device.
    ///
    /// Behind an IOMMU the whole list is one range of device addresses, in which each buffer starts on a page. Its
    /// unmap then waits for one flush, however long the list is.
    ///
    /// # Errors
    ///
    /// As [`map`](Self::map); [`DmaError::BadSize`] for an empty list. The buffers are returned in the error, unless a
    /// part of them was mapped and the IOMMU did not confirm its unmap: then all of them are in quarantine.
    pub fn map_sg(&self, list: Vec<DmaBuffer>, direction: Direction) -> Result<MappedSg<'s>, Refused<Vec<DmaBuffer>>> {
        self.map_sg_with(list, direction, Attrs::empty())
    }

    /// As [`map_sg`](Self::map_sg), optionally with [`Attrs::SKIP_CPU_SYNC`].
    ///
    /// # Errors
    ///
    /// As [`map_sg`](Self::map_sg).
    pub fn map_sg_with(
        &self,
        list: Vec<DmaBuffer>,
        direction: Direction,
        attrs: Attrs,
    ) -> Result<MappedSg<'s>, Refused<Vec<DmaBuffer>>> {
        let (context, reservation) = match self.prepare_list(&list) {
            Ok(p) => p,
            Err(error) => return Err(Refused { error, returned: list }),
        };
        let (pieces, span) = match &context.backend {
            Backend::Direct(_) => map_direct_list(&context, list, direction)?,
            Backend::Translated(domain) => map_translated_list(&context, domain, list, direction)?,
        };
        let pieces = Pieces::Many(pieces);
        let new = NewMapping { context: &context, kind: Kind::Scatter, direction, attrs, span, pieces };
        let (mapping, entry) = new.begin(self.dev, reservation);
        let list = MappedSg { mapping, limits: context.segment_limits(), entry, dev: self.dev };
        if context.has_checker() {
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
        list.iter().try_for_each(|buffer| context.check_buffer(buffer, &(0..buffer.len())))?;
        Ok((context, self.dev.state.reservation()?))
    }
}

/// Untranslated: each buffer at its own address, or that of its bounce slot.
fn map_direct_list(
    context: &DmaContext,
    list: Vec<DmaBuffer>,
    direction: Direction,
) -> Result<List, Refused<Vec<DmaBuffer>>> {
    let place = |buffer: &DmaBuffer| place_buffer(context, Kind::Scatter, buffer, &(0..buffer.len()), direction);
    let placement = match list.iter().map(place).collect::<Result<Vec<_>, _>>() {
        Ok(placement) => placement,
        Err(error) => return Err(Refused { error, returned: list }),
    };
    let span = (placement[0].addr, placement[0].span.1);
    let piece = |(buffer, placement): (DmaBuffer, super::streaming::Placement)| {
        let range = 0..buffer.len();
        Piece::new(Backing::DeviceOwned(buffer.into_device_owned()), range, placement.addr, placement.bounce)
    };
    Ok((list.into_iter().zip(placement).map(piece).collect(), span))
}

/// Translated: one range of device addresses for all buffers.
fn map_translated_list(
    context: &DmaContext,
    domain: &Arc<Domain>,
    list: Vec<DmaBuffer>,
    direction: Direction,
) -> Result<List, Refused<Vec<DmaBuffer>>> {
    let total = list.iter().try_fold(0_u64, |sum, b| sum.checked_add(pages(b.len()) * PAGE_SIZE));
    let Some(total) = total else { return Err(Refused { error: DmaError::BadSize(u64::MAX), returned: list }) };
    let runs = list.iter().map(|b| (b.phys(), pages(b.len()) * PAGE_SIZE));
    let (prot, limit) = (context.prot(direction), context.limit());
    let pins = &mut || list.iter().map(|b| PagePin::new(b.memory(), &context.pin_owner)).collect();
    let iova = match domain.map_list(context.map_request(Kind::Scatter, prot, limit, pins), runs, total) {
        Ok(iova) => iova,
        Err(MapListError::NotMapped(error)) => return Err(Refused { error, returned: list }),
        // Part of the list was mapped and its unmap is not confirmed: no buffer may be reused.
        Err(MapListError::Unconfirmed) => {
            return Err(Refused { error: DmaError::Quarantined(total), returned: Vec::new() });
        }
    };
    let mut at = iova;
    let piece = |buffer: DmaBuffer| {
        let range = 0..buffer.len();
        let piece = Piece::new(Backing::DeviceOwned(buffer.into_device_owned()), range.clone(), at, None);
        at = at + pages(range.end) * PAGE_SIZE;
        piece
    };
    Ok((list.into_iter().map(piece).collect(), (iova, total)))
}

impl MappedSg<'_> {
    /// Address and length of each segment for the device's list, within the limits of [`Dma::set_limits`] as they were
    /// when the list was mapped. Reading them counts as publishing them to the device, which is no longer known to be
    /// quiesced from then on.
    pub fn segments(&self) -> impl Iterator<Item = (DeviceAddr, u64)> + '_ {
        self.mapping.sync_for_device();
        self.dev.state.publish_dma_address();
        self.cut()
    }

    fn cut(&self) -> impl Iterator<Item = (DeviceAddr, u64)> + '_ {
        Segments::new(self.mapping.pieces.as_slice().iter().map(|p| (p.addr, p.len())), self.limits)
    }

    /// Mapped bytes.
    pub fn len(&self) -> u64 {
        self.mapping.len()
    }

    /// Never true: at least one byte is mapped.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Transfers the bytes to the CPU while the view exists; see [`Mapped::sync_for_cpu`](super::Mapped::sync_for_cpu).
    pub fn sync_for_cpu(&mut self) -> CpuViewSg<'_> {
        CpuViewSg::new(&self.mapping)
    }

    /// Unmaps and returns the buffers to the CPU, in their order; see [`Mapped::unmap`](super::Mapped::unmap).
    ///
    /// # Errors
    ///
    /// [`DmaError::Quarantined`] when the IOMMU did not confirm.
    pub fn unmap(self) -> Result<Vec<DmaBuffer>, DmaError> {
        let len = self.mapping.len();
        let mapping = unmap_early(self.dev, self.entry, self.mapping).ok_or(DmaError::Quarantined(len))?;
        let Pieces::Many(pieces) = mapping.pieces else { return Ok(Vec::new()) };
        let buffer = |piece: Piece| match piece.backing {
            Backing::DeviceOwned(mapped) => Some(mapped.into_buffer()),
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
