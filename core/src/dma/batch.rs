//! Unmapping of many buffers with one wait for the IOMMU.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use super::mapping::MappingEntry;
use super::pin::PagePins;
use super::{Dma, DmaBuffer, DmaError, Mapped};
use crate::binding::{Bound, Entry, EntryId};
use crate::event::EventKind;
use crate::instrument::CoveragePoint;
use crate::iommu::{DomainKind, Range};
use crate::lifecycle::Quiesced;

impl<'s> Dma<'s> {
    /// Unmaps buffers of this device, and appends them to `returned` in their order. As [`Mapped::unmap`] of each, but behind
    /// an IOMMU all of them wait for one flush.
    ///
    /// ```
    /// use bindery::dma::Direction;
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
    /// # example::bind(|dev| {
    /// let mut ring = Vec::new();
    /// for _ in 0..4 {
    ///     ring.push(dev.dma().map(dev.dma().buffer(4096)?, Direction::FromDevice)?);
    /// }
    /// // ... the device has filled the first three ...
    /// let mut filled = Vec::with_capacity(3);
    /// dev.dma().unmap_many(ring.drain(..3), &mut filled)?;
    /// assert_eq!((filled.len(), ring.len()), (3, 1));
    /// # Ok(())
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// [`DmaError::Quarantined`] when the IOMMU did not confirm: buffers of so many bytes are in quarantine, and the others
    /// are in `returned`.
    pub fn unmap_many(
        &self,
        mapped: impl IntoIterator<Item = Mapped<'s>>,
        returned: &mut Vec<DmaBuffer>,
    ) -> Result<(), DmaError> {
        let mut lost = 0;
        let mut batch = Vec::new();
        for one in mapped {
            if one.is_batched_for(self.dev) {
                batch.push(one);
                continue;
            }
            lost += unmap_batch(self.dev, &mut batch, returned);
            let len = one.span_len();
            match one.unmap() {
                Ok(buffer) => returned.push(buffer),
                Err(_) => lost += len,
            }
        }
        lost += unmap_batch(self.dev, &mut batch, returned);
        if lost == 0 { Ok(()) } else { Err(DmaError::Quarantined(lost)) }
    }
}

impl Mapped<'_> {
    /// True when its unmap can wait together with others of `dev`: in a strict domain. A lazy one does not wait.
    fn is_batched_for(&self, dev: Bound<'_>) -> bool {
        let domain = self.mapping.context.backend.domain();
        core::ptr::eq(self.dev.state, dev.state) && domain.is_some_and(|d| d.kind() == DomainKind::Strict)
    }

    fn span_len(&self) -> u64 {
        self.mapping.span.1
    }
}

/// Ledger entry of a mapping, taken off the ledger.
pub(super) fn take_entry(dev: Bound<'_>, id: EntryId) -> Option<Box<MappingEntry>> {
    let entry: Box<dyn Any> = dev.state.ledger.take(id)?;
    entry.downcast().ok()
}

/// Unmaps mappings of the binding `dev` in its strict domain, with one flush. Returns the number of bytes in quarantine.
fn unmap_batch(dev: Bound<'_>, batch: &mut Vec<Mapped<'_>>, returned: &mut Vec<DmaBuffer>) -> u64 {
    let mut entries = Vec::with_capacity(batch.len());
    batch.retain(|mapped| take_entry(dev, mapped.entry).map(|entry| entries.push((mapped.entry, entry))).is_some());
    // By this call the driver states that the device uses none of them any more.
    unmap_entries(dev, entries, Some(&Quiesced::stopped()));
    let mut lost = 0;
    for mapped in batch.drain(..) {
        let len = mapped.span_len();
        match mapped.into_unmapped() {
            Some(buffer) => returned.push(buffer),
            None => lost += len,
        }
    }
    lost
}

/// Releases ledger entries of mappings of the binding `dev` in its strict domain, in this order and with one flush.
pub(super) fn unmap_entries(
    dev: Bound<'_>,
    mut entries: Vec<(EntryId, Box<MappingEntry>)>,
    quiesced: Option<&Quiesced>,
) {
    let Some(context) = entries.first().map(|(_, first)| Arc::clone(&first.mapping.context)) else { return };
    let (machine, count) = (&context.machine, entries.len());
    let mut ranges = Vec::with_capacity(count);
    let mut pins = PagePins::with_capacity(count);
    let tracing = machine.env().tracing_enabled();
    let mut shown = Vec::with_capacity(if tracing { count } else { 0 });
    for (_, entry) in &mut entries {
        machine.cover(CoveragePoint::Released(entry.kind()));
        entry.mapping.begin_unmap();
        let (iova, len) = entry.mapping.span;
        ranges.push(Range { iova, len });
        pins.append(&mut entry.pins);
        if tracing {
            shown.push((entry.what(), entry.backend()));
        }
    }
    let ended = context.backend.unmap_all(machine, &context.device, &ranges, pins);
    let mut shown = shown.into_iter();
    for (id, entry) in entries {
        let (id, kind) = (id.number(), entry.kind().name());
        let outcome = entry.mapping.end_unmap(quiesced, ended.as_ref().map(|()| None));
        if let Some((what, backend)) = shown.next() {
            dev.state.emit(|| EventKind::Released { entry: id, resource: kind, what, backend, outcome });
        }
    }
}
