//! The place of one buffer: a slot, device addresses, and a bounce slot where it needs one.

use alloc::boxed::Box;
use core::ops::Range;

use super::element::How;
use super::part::Part;
use super::shared::{Shared, Span};
use super::slots::Slots;
use crate::addr::{DeviceAddr, PAGE_SHIFT, PhysAddr};
use crate::dma::backend::Backend;
use crate::dma::mapping::page_span;
use crate::dma::pin::{PagePin, PagePins};
use crate::dma::streaming::place_buffer;
use crate::dma::{DmaBuffer, DmaError, bounce};
use crate::iommu::{Lease, MapListError};

/// Whole pages that hold a part that was checked: the first page, bytes, and the offset of the part in them.
pub(super) fn part_span(part: &impl Part) -> (PhysAddr, u64, u64) {
    page_span(part.buffer().phys(), &part.range().unwrap_or(0..0))
}

/// Slot and device address of a buffer, and its bounce slot if there is one.
pub(super) type Placed<'s> = ((u32, &'s Span), DeviceAddr, Option<Box<bounce::Slot>>);

/// Gives `range` of `buffer` a slot and a device address.
#[inline]
pub(super) fn place<'s>(
    slots: &mut Slots,
    shared: &'s Shared,
    buffer: &DmaBuffer,
    range: &Range<u64>,
    how: How,
) -> Result<Placed<'s>, DmaError> {
    let context = &*shared.context;
    context.check_buffer(buffer, range)?;
    let Backend::Translated(domain) = &context.backend else {
        return place_directly(slots, shared, buffer, range, how);
    };
    let (phys, bytes, offset) = page_span(buffer.phys(), range);
    let (device, prot) = ((&context.device, how.kind.name()), context.prot(how.direction));
    let map = |at, lease: Option<&mut Lease>| match lease {
        Some(lease) => domain.map_leased(&context.machine, device, at, lease, (phys, prot)),
        None => domain.map_run(&context.machine, device, at, phys, prot),
    };
    let pins = &mut || PagePins::from_iter([PagePin::new(buffer.memory(), &context.pin_owner)]);
    match slots.place(shared, domain, bytes >> PAGE_SHIFT, map, pins) {
        Ok((index, span)) => Ok(((index, span), span.mapped().iova + offset, None)),
        Err(MapListError::NotMapped(e)) => Err(e),
        Err(MapListError::Unconfirmed) => Err(DmaError::Unconfirmed),
    }
}

fn place_directly<'s>(
    slots: &mut Slots,
    shared: &'s Shared,
    buffer: &DmaBuffer,
    range: &Range<u64>,
    how: How,
) -> Result<Placed<'s>, DmaError> {
    let (index, span) = slots.take(shared, 0).ok_or_else(|| slots.full())?;
    match place_buffer(&shared.context, how.kind, buffer, range, how.direction) {
        Ok(placed) => {
            span.begin(slots.number(), crate::iommu::Range { iova: placed.addr, len: 0 });
            Ok(((index, span), placed.addr, placed.bounce.map(Box::new)))
        }
        Err(e) => {
            slots.put(shared, index);
            Err(e)
        }
    }
}
