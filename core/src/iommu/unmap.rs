//! Unmapping: from mapped to free, and the states between.
//!
//! A range of device addresses is mapped, then *queued* (lazy domains), *unconfirmed* (a flush failed), or free. The
//! pins of its memory go through the same states. A confirmed flush frees all that was unconfirmed when it began;
//! nothing else does.

use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::unconfirmed::{FlushMark, Range, Unconfirmed};
use super::{Domain, DomainKind, Gather, IommuError, MapError};
use crate::addr::{DeviceAddr, PAGE_SIZE};
use crate::description::ReservedRegion;
use crate::dma::check::Op;
use crate::dma::{PagePins, PinState, Unreachable, release_all};
use crate::env::Instant;
use crate::instrument::FaultPoint;
use crate::promise::{CheckTally, Promise};
use crate::sync::atomic::Ordering;
use crate::system::System;

/// Time without flushes by single unmaps after one that timed out. Explicit retries flush at once.
const RETRY_DELAY: Duration = Duration::from_millis(10);

/// Outcome of an unmap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Revoked {
    /// The hardware has confirmed it: the pins have ended.
    Confirmed,
    /// Queued for a common flush, with the pins.
    Queued,
}

/// Reason for which an unmap gives no proof. The pins are in quarantine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum UnmapError {
    /// The page table refused it.
    #[error(transparent)]
    Map(MapError),
    /// The hardware did not confirm.
    #[error("invalidation not confirmed: {0}")]
    Unconfirmed(IommuError),
}

impl Domain {
    /// Unmaps `range` and ends `pins`, the pins of its memory. A strict domain waits for one flush, the proof; a lazy
    /// one queues range and pins. Device addresses are freed only with the proof: on an error the range stays allocated
    /// until a later flush is confirmed, because the device may still use it.
    pub(crate) fn unmap(
        self: &Arc<Self>,
        machine: &System,
        device: &Arc<str>,
        range: Range,
        pins: PagePins,
    ) -> Result<Revoked, UnmapError> {
        if self.kind() == DomainKind::Lazy {
            let mut gather = Gather::new();
            if let Err(e) = self.remove(machine, range, &mut gather) {
                let held = machine.quarantine_table().hold_until_flushed(machine, device, pins, e.to_string(), self);
                self.unconfirmed.lock().not_removed(gather, &[range], held);
                retry_later(machine);
                return Err(UnmapError::Map(e));
            }
            for pin in &pins {
                pin.set(PinState::Queued);
            }
            // Whoever has the mapping looks whether the queue is due once it is the CPU's.
            let _due = self.enqueue(machine, range, gather, pins);
            return Ok(Revoked::Queued);
        }
        let mut pins = Some(pins);
        self.unmap_ranges(machine, device, &[range], range, Gather::new(), &mut || pins.take().unwrap_or_default())?;
        self.free_iova(range);
        Ok(Revoked::Confirmed)
    }

    /// Unmaps `ranges` of a strict domain with one flush, and ends `pins`, those of their memory. On an error all of them stay
    /// allocated, and the pins are in quarantine.
    pub(crate) fn unmap_all(
        self: &Arc<Self>,
        machine: &System,
        device: &Arc<str>,
        ranges: &[Range],
        pins: PagePins,
    ) -> Result<(), UnmapError> {
        let mut pins = Some(pins);
        self.unmap_ranges(machine, device, ranges, ranges, Gather::new(), &mut || pins.take().unwrap_or_default())?;
        for range in ranges {
            self.free_iova(*range);
        }
        Ok(())
    }

    /// Removes `ranges` from the page table and waits for one flush of all of them, and of what is gathered already. If that is not confirmed, all that
    /// `pins` makes goes to quarantine, reported in one event, and the addresses `reserved` wait with it for a later
    /// flush.
    pub(super) fn unmap_ranges(
        self: &Arc<Self>,
        machine: &System,
        device: &Arc<str>,
        ranges: &[Range],
        reserved: impl Into<ReservedIova>,
        mut gather: Gather,
        pins: &mut dyn FnMut() -> PagePins,
    ) -> Result<(), UnmapError> {
        if ranges.is_empty() {
            return Ok(());
        }
        let mut table_error = None;
        for range in ranges {
            table_error = self.remove(machine, *range, &mut gather).err().or(table_error);
        }
        let flushed = self.invalidate(machine, gather);
        let (error, gather) = match (flushed, table_error) {
            (Ok(proof), None) => {
                // Pins that this proof does not cover stay for ever; P2 has reported them.
                let _kept = release_all(machine, pins(), &proof);
                for range in ranges {
                    self.record_unmapped(machine, range.iova);
                }
                return Ok(());
            }
            (Ok(_), Some(e)) => (UnmapError::Map(e), Gather::new()),
            (Err((e, gather)), table_error) => {
                (table_error.map_or(UnmapError::Unconfirmed(e), UnmapError::Map), gather)
            }
        };
        self.hold(machine, device, error, gather, reserved, pins());
        Err(error)
    }

    /// Keeps what an unmap could not prove to be unreachable: `pins` go to quarantine, reported in one event, and the addresses
    /// `reserved` wait with them for a flush, which includes `gather`.
    pub(crate) fn hold(
        self: &Arc<Self>,
        machine: &System,
        device: &Arc<str>,
        error: UnmapError,
        gather: Gather,
        reserved: impl Into<ReservedIova>,
        pins: PagePins,
    ) {
        let reserved = reserved.into().0;
        let held = machine.quarantine_table().hold_until_flushed(machine, device, pins, error.to_string(), self);
        match error {
            UnmapError::Map(_) => self.unconfirmed.lock().not_removed(gather, &reserved, held),
            UnmapError::Unconfirmed(_) => self.unconfirmed.lock().unconfirmed(gather, &reserved, Some(held)),
        }
        retry_later(machine);
    }

    /// Records a failed map of `range` that some IOMMUs have not confirmed to be undone, or not undone: `pins` go to
    /// quarantine, and the addresses stay reserved, until they have.
    pub(crate) fn hold_unconfirmed(
        self: &Arc<Self>,
        machine: &System,
        device: &Arc<str>,
        range: Range,
        pins: PagePins,
        why: MapError,
    ) {
        let held = machine.quarantine_table().hold_until_flushed(machine, device, pins, why.to_string(), self);
        self.unconfirmed.lock().not_undone(range, self.maps_any_of(range), held);
        retry_later(machine);
    }

    /// True when some page table maps a page of `range`.
    pub(super) fn maps_any_of(&self, range: Range) -> bool {
        let mut pages = (0..range.len).step_by(PAGE_SIZE as usize);
        pages.any(|offset| self.translation().resolve(range.iova + offset).is_some())
    }

    /// As [`remove`](Self::remove), with the check counted in `tally`.
    #[inline]
    pub(crate) fn remove_counted(
        &self,
        machine: &System,
        range: Range,
        gather: &mut Gather,
        tally: &mut CheckTally,
    ) -> Result<(), MapError> {
        // Looked up again before the IOVA is used again.
        let gone = self.direct().remove(range.iova, range.len, gather)?;
        machine.promises.check_in(tally, Promise::UnreachableBeforeFree, gone, || {
            format!("{}: {} still translates after it was unmapped", self.label(), range.iova)
        });
        Ok(())
    }

    /// Removes one range from the page table.
    pub(crate) fn remove(&self, machine: &System, range: Range, gather: &mut Gather) -> Result<(), MapError> {
        // Looked up again before the IOVA is freed: afterwards it may be mapped again at once.
        let gone = self.direct().remove(range.iova, range.len, gather)?;
        machine.promises.check(Promise::UnreachableBeforeFree, gone, || {
            format!("{}: {} still translates after it was unmapped", self.label(), range.iova)
        });
        Ok(())
    }

    /// As [`flush`](Self::flush), with fault injection, and without waiting for an IOMMU that has just timed out.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
    #[inline(always)]
    pub(crate) fn invalidate(
        self: &Arc<Self>,
        machine: &System,
        gather: Gather,
    ) -> Result<Unreachable, (IommuError, Gather)> {
        let begun = machine.env().now();
        if machine.should_fail(None, FaultPoint::Invalidate) {
            Err((IommuError::Injected, gather))
        } else if begun.0 < self.no_flush_before.load(Ordering::Relaxed) {
            // Unwinding a ledger with many mappings must not wait for a hung IOMMU once for each: they are confirmed
            // together, later.
            Err((IommuError::Dead, gather))
        } else {
            self.flush_at(machine, gather, begun)
        }
    }

    /// Flushes `gather` and all that earlier flushes did not confirm, and waits. On an error the gather is returned, with the
    /// unconfirmed ranges.
    pub(crate) fn flush(
        self: &Arc<Self>,
        machine: &System,
        gather: Gather,
    ) -> Result<Unreachable, (IommuError, Gather)> {
        self.flush_at(machine, gather, machine.env().now())
    }

    /// As [`flush`](Self::flush), begun now. Here, in [`flush_with_earlier`](Self::flush_with_earlier) and in
    /// [`invalidate_in_place`](Self::invalidate_in_place) the confirmation of the hardware becomes a proof, and nowhere else.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
    #[inline(always)]
    fn flush_at(
        self: &Arc<Self>,
        machine: &System,
        mut gather: Gather,
        begun: Instant,
    ) -> Result<Unreachable, (IommuError, Gather)> {
        // Usually there is nothing: what another thread adds meanwhile this flush does not confirm in any case.
        if !self.unconfirmed.is_clear() {
            return self.flush_with_earlier(machine, gather, begun, Unconfirmed::begin);
        }
        if let Err(e) = self.direct().flush(&mut gather) {
            self.not_confirmed(machine, begun);
            return Err((e, gather));
        }
        self.confirmed();
        Ok(Unreachable::flushed(gather.confirm(), self))
    }

    /// Flushes `gather` together with what earlier flushes did not confirm, as `begin` gathers it.
    #[cold]
    fn flush_with_earlier(
        self: &Arc<Self>,
        machine: &System,
        gather: Gather,
        begun: Instant,
        begin: fn(&mut Unconfirmed) -> (Gather, FlushMark),
    ) -> Result<Unreachable, (IommuError, Gather)> {
        // Read before the flush begins: only a flush that began after the translation was disabled covers all entries.
        let off = self.retired.load(Ordering::Acquire);
        let own = gather.range();
        let (mut all, mark) = begin(&mut self.unconfirmed.lock());
        all.absorb(gather);
        if let Err(e) = self.translation().flush(&mut all) {
            self.not_confirmed(machine, begun);
            // At once: another flush must not take the entries of an earlier one for confirmed by an empty gather.
            self.unconfirmed.lock().failed(mark, all);
            // The caller adds its entry together with its range, which may be in another flush by now.
            let mut gather = Gather::new();
            if let Some((first, last)) = own {
                gather.add(first, last.0 - first.0 + 1);
            }
            return Err((e, gather));
        }
        self.confirmed();
        let proof = Unreachable::flushed(all.confirm(), self);
        let done = self.unconfirmed.lock().confirmed(mark, off);
        if !done.is_empty() {
            let held: Vec<_> = done.iter().filter_map(|entry| entry.held).collect();
            machine.quarantine_table().flushed(machine, &held, &proof);
            for range in done.iter().flat_map(|entry| &entry.ranges) {
                machine
                    .check_dma(|| Op::Confirmed { backend: self.backend_name(), range: Some((range.iova, range.len)) });
                self.record_unmapped(machine, range.iova);
                self.free_iova(*range);
            }
        }
        Ok(proof)
    }

    /// Records that a flush that began at `begun` was not confirmed: if it has waited, single unmaps do not for a while.
    #[cold]
    pub(super) fn not_confirmed(&self, machine: &System, begun: Instant) {
        let now = machine.env().now();
        if now > begun {
            self.no_flush_before.store((now + RETRY_DELAY).0, Ordering::Relaxed);
        }
    }

    /// Records that the hardware answers.
    #[inline]
    fn confirmed(&self) {
        if self.no_flush_before.load(Ordering::Relaxed) != 0 {
            self.no_flush_before.store(0, Ordering::Relaxed);
        }
    }

    /// Name of this domain as a back-end, for the checker.
    pub(crate) fn backend_name(&self) -> Arc<str> {
        format!("iommu {}", self.label()).into()
    }

    /// True when an unmap is not confirmed by a flush.
    pub(crate) fn has_unconfirmed(&self) -> bool {
        !self.unconfirmed.lock().is_empty()
    }

    /// Retries the flush of unconfirmed unmaps, with what other threads are retrying: whoever asks gets an answer of the hardware, as
    /// from [`confirm_all_queued`](Self::confirm_all_queued), and does not take theirs for refused while it is on its way. True when
    /// nothing is left to confirm.
    pub(crate) fn retry(self: &Arc<Self>, machine: &System) -> bool {
        if self.unconfirmed.lock().is_empty() {
            return true;
        }
        let begun = machine.env().now();
        match self.flush_with_earlier(machine, Gather::new(), begun, Unconfirmed::begin_joined) {
            Ok(_) => self.unconfirmed.lock().is_empty(),
            Err((_, gather)) => {
                self.unconfirmed.lock().put_back(gather);
                false
            }
        }
    }

    /// Records that a stream could not be detached.
    pub(crate) fn detach_failed(&self) {
        // Stored before `retire`, whose flag `is_detached` reads first.
        self.detach_failed.store(true, Ordering::Release);
    }

    /// Disables the translation after its last user has left.
    pub(crate) fn retire(&self) {
        self.translation().retire();
        // Only after the translation is disabled: a flush that sees the flag covers every entry.
        self.retired.store(true, Ordering::Release);
    }

    /// True when it is disabled, and every stream was detached.
    pub(crate) fn is_detached(&self) -> bool {
        // `retired` first: its acquire makes an earlier failed detach visible.
        self.retired.load(Ordering::Acquire) && !self.detach_failed.load(Ordering::Acquire)
    }
}

/// Sets the timer of retries, after an entry was added to a list of unconfirmed unmaps: a timer that expired earlier would find
/// nothing to retry, and not be set again.
pub(super) fn retry_later(machine: &System) {
    machine.timers().retry(machine.env().now());
}

/// Device addresses that stay reserved while an unmap is unconfirmed.
pub(crate) struct ReservedIova(Vec<Range>);

impl From<Range> for ReservedIova {
    fn from(range: Range) -> Self {
        Self(Vec::from([range]))
    }
}

impl From<&[Range]> for ReservedIova {
    fn from(ranges: &[Range]) -> Self {
        Self(ranges.to_vec())
    }
}

/// Maps at fixed addresses: the domain of a pass-through owner.
impl Domain {
    /// True when `range` overlaps one that is neither mapped nor free.
    pub(crate) fn is_unconfirmed(&self, range: Range) -> bool {
        self.unconfirmed.lock().first_overlap(range).is_some()
    }

    /// As [`is_unconfirmed`](Self::is_unconfirmed), after a retry of the flush.
    pub(crate) fn retry_unconfirmed(self: &Arc<Self>, machine: &System, range: Range) -> bool {
        self.is_unconfirmed(range) && (!self.retry(machine) || self.is_unconfirmed(range))
    }

    /// Maps `range` at a fixed address, unless it overlaps a reserved one, or one that is neither mapped nor free.
    pub(crate) fn map_fixed(
        &self,
        range: Range,
        phys: crate::addr::PhysAddr,
        prot: super::Prot,
    ) -> Result<(), FixedError> {
        // Claimed before it is mapped: a device with a reserved region may join the group meanwhile.
        if !self.claim_fixed(range) {
            return Err(FixedError::Reserved);
        }
        self.map_claimed(range, phys, prot)
    }

    /// Maps the page of a doorbell at the first page of `place` that has no other, and that is in none of `others`. The error has
    /// the page.
    pub(crate) fn map_doorbell(
        &self,
        place: &ReservedRegion,
        others: &[ReservedRegion],
        phys: crate::addr::PhysAddr,
        prot: super::Prot,
    ) -> Result<Range, (Range, FixedError)> {
        let none = Range { iova: place.first, len: PAGE_SIZE };
        let range = self.claim_page(place, others).ok_or((none, FixedError::Reserved))?;
        self.map_claimed(range, phys, prot).map(|()| range).map_err(|error| (range, error))
    }

    /// Maps a range that was claimed; on an error the claim has ended, unless some IOMMU may have a part of it.
    fn map_claimed(&self, range: Range, phys: crate::addr::PhysAddr, prot: super::Prot) -> Result<(), FixedError> {
        // Held over check and map: an unmap registers its ranges under this lock before it changes the table.
        let unconfirmed = self.unconfirmed.lock();
        let mapped = match unconfirmed.first_overlap(range) {
            Some(overlap) => Err(FixedError::Unconfirmed(overlap.iova)),
            None => self.translation().map(range.iova, phys, range.len, prot).map_err(FixedError::Map),
        };
        // What one of several IOMMUs may still map keeps its claim until a flush is confirmed.
        if matches!(mapped, Err(e) if !matches!(e, FixedError::Map(MapError::Unconfirmed(_)))) {
            self.free_iova(range);
        }
        mapped
    }

    /// Unmaps many ranges with one flush. On an error all of them are unconfirmed.
    pub(crate) fn unmap_fixed(
        self: &Arc<Self>,
        machine: &System,
        device: &Arc<str>,
        ranges: &[Range],
        pins: PagePins,
    ) -> Result<(), UnmapError> {
        let unmapping = self.unconfirmed.lock().begin_unmap(ranges);
        let mut pins = Some(pins);
        let done =
            self.unmap_ranges(machine, device, ranges, ranges, Gather::new(), &mut || pins.take().unwrap_or_default());
        self.unconfirmed.lock().end_unmap(unmapping);
        if done.is_ok() {
            for range in ranges {
                self.free_iova(*range);
            }
        }
        done
    }
}

/// Error of a map at a fixed address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FixedError {
    /// A part of the range is reserved.
    Reserved,
    /// The page table refused.
    Map(MapError),
    /// The unmap of the earlier mapping at this address is not confirmed.
    Unconfirmed(DeviceAddr),
}
