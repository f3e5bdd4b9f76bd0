//! The way out of a domain: unmapped, confirmed, free; and what is between.
//!
//! A range of device addresses is mapped, then *queued* (lazy domains), *unconfirmed* (the hardware was asked and did not
//! say), or free. The pins of the memory behind it go the same way. A flush that is confirmed frees all that was
//! unconfirmed when it began; nothing else does.

use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::lazy::{QUEUE_TIME, Queue};
use super::unconfirmed::Range;
use super::{Domain, DomainKind, Gather, IommuError, MapError};
use crate::addr::DeviceAddr;
use crate::dma::check::Op;
use crate::dma::{PagePin, PinState, Unreachable, release_all};
use crate::env::FaultPoint;
use crate::machine::Machine;
use crate::promise::Promise;
use crate::sync::atomic::Ordering;

/// How long an IOMMU that took its time and did not confirm is not asked again by single unmaps. Whoever retries asks at
/// once.
const SILENCE: Duration = Duration::from_millis(10);

/// A translation is taken down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Revoked {
    /// And the hardware has said so: the pins are gone.
    Confirmed,
    /// The hardware is told together with others; the pins wait.
    Queued,
}

/// Why an unmap gives no proof. The pins are in quarantine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum UnmapError {
    /// The page table disagrees.
    #[error(transparent)]
    Map(MapError),
    /// The hardware did not confirm.
    #[error("invalidation not confirmed: {0}")]
    Unconfirmed(IommuError),
}

impl Domain {
    /// Takes the translation of `range` down, and ends `pins`, which are of the memory behind. A strict domain waits once,
    /// for the proof; a lazy one puts range and pins on its queue. The IOVA space goes back only with the proof: on an error
    /// the range stays unused until a later flush is confirmed, because the device may still reach through it.
    pub(crate) fn unmap(
        self: &Arc<Self>,
        machine: &Machine,
        device: &Arc<str>,
        range: Range,
        pins: Vec<PagePin>,
    ) -> Result<Revoked, UnmapError> {
        if self.kind() == DomainKind::Lazy {
            let mut gather = Gather::new();
            if let Err(e) = self.remove(machine, range, &mut gather) {
                let held = machine.quarantine.hold_until_flushed(machine, device, pins, e.to_string(), self);
                self.unconfirmed.lock().stuck(gather, &[range], held);
                return Err(UnmapError::Map(e));
            }
            self.enqueue(machine, range, gather, pins);
            return Ok(Revoked::Queued);
        }
        let mut pins = Some(pins);
        self.take_down(machine, device, &[range], range, &mut || pins.take().unwrap_or_default())?;
        self.free_iova(range);
        Ok(Revoked::Confirmed)
    }

    /// Takes `ranges` out of the page table and waits once for the hardware to forget them all. When it does not, all that
    /// `pins` gives goes to quarantine, told in one event, and the addresses `taken` wait for a later flush with them.
    pub(super) fn take_down(
        self: &Arc<Self>,
        machine: &Machine,
        device: &Arc<str>,
        ranges: &[Range],
        taken: impl Into<Taken>,
        pins: &mut dyn FnMut() -> Vec<PagePin>,
    ) -> Result<(), UnmapError> {
        if ranges.is_empty() {
            return Ok(());
        }
        let mut gather = Gather::new();
        let mut odd = None;
        for range in ranges {
            odd = self.remove(machine, *range, &mut gather).err().or(odd);
        }
        let flushed = self.invalidate(machine, gather);
        let taken = taken.into().0;
        let (error, gather) = match (flushed, odd) {
            (Ok(proof), None) => {
                // Pins that this proof is not about stay for ever, and a promise has told so.
                let _kept = release_all(machine, pins(), &proof);
                for range in ranges {
                    self.ended(machine, range.iova);
                }
                return Ok(());
            }
            (Ok(_), Some(e)) => (UnmapError::Map(e), Gather::new()),
            (Err((e, gather)), odd) => (odd.map_or(UnmapError::Unconfirmed(e), UnmapError::Map), gather),
        };
        let held = machine.quarantine.hold_until_flushed(machine, device, pins(), error.to_string(), self);
        match error {
            UnmapError::Map(_) => self.unconfirmed.lock().stuck(gather, &taken, held),
            UnmapError::Unconfirmed(_) => self.unconfirmed.lock().unconfirmed(gather, &taken, Some(held)),
        }
        Err(error)
    }

    /// Some IOMMUs had mapped `range`, which was not mapped in the end, and have not confirmed that it is gone: `pins` go to
    /// quarantine and the addresses wait until they have.
    pub(crate) fn hold_unconfirmed(
        self: &Arc<Self>,
        machine: &Machine,
        device: &Arc<str>,
        range: Range,
        pins: Vec<PagePin>,
        why: MapError,
    ) {
        let held = machine.quarantine.hold_until_flushed(machine, device, pins, why.to_string(), self);
        self.unconfirmed.lock().unconfirmed(Gather::new(), &[range], Some(held));
    }

    /// Takes one range out of the page table.
    fn remove(&self, machine: &Machine, range: Range, gather: &mut Gather) -> Result<(), MapError> {
        self.translation().unmap(range.iova, range.len, gather)?;
        // While the IOVA is still this caller's: freed, it may translate again for somebody else at once.
        let gone = self.translation().resolve(range.iova).is_none();
        machine.promises.check(Promise::UnreachableBeforeFree, gone, || {
            format!("{}: {} still translates after it was unmapped", self.label(), range.iova)
        });
        Ok(())
    }

    /// As [`flush`](Self::flush), with a place for injected faults.
    fn invalidate(self: &Arc<Self>, machine: &Machine, gather: Gather) -> Result<Unreachable, (IommuError, Gather)> {
        let times_out = machine.should_fail(None, FaultPoint::Invalidate);
        if times_out {
            Err((IommuError::Injected, gather))
        } else if machine.env().now().0 < self.silent_until.load(Ordering::Relaxed) {
            // A ledger with many mappings does not wait for a hung IOMMU once for each: they are confirmed together, later.
            Err((IommuError::Dead, gather))
        } else {
            self.flush(machine, gather)
        }
    }

    /// Waits until the hardware has forgotten what is in `gather`, and what earlier flushes did not confirm. The one place
    /// where the hardware's word becomes a proof. On an error the gather comes back, with what was late.
    fn flush(self: &Arc<Self>, machine: &Machine, gather: Gather) -> Result<Unreachable, (IommuError, Gather)> {
        let off = self.retired.load(Ordering::Acquire);
        let (mut all, mark) = self.unconfirmed.lock().begin();
        all.absorb(gather);
        let begun = machine.env().now();
        if let Err(e) = self.translation().flush(&mut all) {
            let now = machine.env().now();
            if now > begun {
                self.silent_until.store((now + SILENCE).0, Ordering::Relaxed);
            }
            return Err((e, all));
        }
        self.silent_until.store(0, Ordering::Relaxed);
        let proof = Unreachable::flushed(all.confirm(), self);
        let done = self.unconfirmed.lock().confirmed(mark, off);
        if !done.is_empty() {
            let held: Vec<_> = done.iter().filter_map(|entry| entry.held).collect();
            machine.quarantine.flushed(machine, &held, &proof);
            for range in done.iter().flat_map(|entry| &entry.ranges) {
                machine
                    .check_dma(|| Op::Confirmed { backend: self.backend_name(), range: Some((range.iova, range.len)) });
                self.ended(machine, range.iova);
                self.free_iova(*range);
            }
        }
        Ok(proof)
    }

    /// How the checker knows mappings of this domain.
    fn backend_name(&self) -> Arc<str> {
        format!("iommu {}", self.label()).into()
    }

    /// Whether something was unmapped that no flush has confirmed.
    pub(crate) fn has_unconfirmed(&self) -> bool {
        !self.unconfirmed.lock().is_empty()
    }

    /// Flushes once more what was not confirmed. True when nothing is left to confirm.
    pub(crate) fn retry(self: &Arc<Self>, machine: &Machine) -> bool {
        if self.unconfirmed.lock().is_empty() {
            return true;
        }
        match self.flush(machine, Gather::new()) {
            Ok(_) => self.unconfirmed.lock().is_empty(),
            Err((_, gather)) => {
                self.unconfirmed.lock().keep(gather);
                false
            }
        }
    }

    /// Puts an ended mapping on the queue.
    fn enqueue(self: &Arc<Self>, machine: &Machine, range: Range, gather: Gather, pins: Vec<PagePin>) {
        for pin in &pins {
            pin.set(PinState::Queued);
        }
        let now = machine.env().now();
        let begun = {
            let mut slot = self.queue.lock();
            let begun = slot.is_none();
            slot.get_or_insert_with(|| Queue::new(now)).add(range, gather, pins);
            begun
        };
        if begun {
            machine.timers.confirm(now + QUEUE_TIME, self);
        }
    }

    /// Confirms the queue when it is full or its oldest entry has waited long enough.
    pub(crate) fn confirm_due(self: &Arc<Self>, machine: &Machine) {
        if self.kind() == DomainKind::Lazy {
            let due = self.queue.lock().as_ref().is_some_and(|q| q.is_due(machine.env().now()));
            if due {
                self.confirm_queue(machine);
            }
        }
    }

    /// Confirms what waits now, all at once, and lets its pages and device addresses go. Without confirmation the pages
    /// go to quarantine and the addresses stay unused until a later flush is confirmed. True when something was confirmed.
    pub(crate) fn confirm_queue(self: &Arc<Self>, machine: &Machine) -> bool {
        let Some(Queue { gather, ranges, pins, .. }) = self.queue.lock().take() else { return false };
        let confirmed = if machine.should_fail(None, FaultPoint::Invalidate) {
            Err((IommuError::Injected, gather))
        } else {
            self.flush(machine, gather)
        };
        match confirmed {
            Ok(proof) => {
                machine.check_dma(|| Op::Confirmed { backend: self.backend_name(), range: None });
                for range in ranges {
                    self.ended(machine, range.iova);
                    self.free_iova(range);
                }
                // The pages go back outside every lock.
                let _kept = release_all(machine, pins, &proof);
                true
            }
            Err((e, gather)) => {
                let mut by_device: Vec<(Arc<str>, Vec<PagePin>)> = Vec::new();
                for pin in pins {
                    match by_device.iter_mut().find(|(d, _)| d == pin.device()) {
                        Some((_, pins)) => pins.push(pin),
                        None => by_device.push((Arc::clone(pin.device()), Vec::from([pin]))),
                    }
                }
                let why = format!("invalidation not confirmed: {e}");
                let held: Vec<_> = by_device
                    .into_iter()
                    .map(|(device, pins)| {
                        machine.quarantine.hold_until_flushed(machine, &device, pins, why.clone(), self)
                    })
                    .collect();
                let mut unconfirmed = self.unconfirmed.lock();
                unconfirmed.unconfirmed(gather, &ranges, None);
                for held in held {
                    unconfirmed.unconfirmed(Gather::new(), &[], Some(held));
                }
                false
            }
        }
    }

    /// Unmaps that wait for their confirmation.
    pub fn waiting(&self) -> usize {
        self.queue.lock().as_ref().map_or(0, |q| q.ranges.len())
    }

    /// A stream could not be taken off.
    pub(crate) fn keeps_stream(&self) {
        self.keeps_stream.store(true, Ordering::Release);
    }

    /// Its last user has left.
    pub(crate) fn retire(&self) {
        self.translation().retire();
        self.retired.store(true, Ordering::Release);
    }

    /// Whether it is off, and every stream was taken off it.
    pub(crate) fn is_detached(&self) -> bool {
        self.retired.load(Ordering::Acquire) && !self.keeps_stream.load(Ordering::Acquire)
    }
}

/// Device addresses that an unmap takes with it.
pub(super) struct Taken(Vec<Range>);

impl From<Range> for Taken {
    fn from(range: Range) -> Self {
        Self(Vec::from([range]))
    }
}

impl From<&[Range]> for Taken {
    fn from(ranges: &[Range]) -> Self {
        Self(ranges.to_vec())
    }
}

/// Device addresses to the caller's liking: the domain of a pass-through owner.
impl Domain {
    /// Whether `range` overlaps one that is neither mapped nor free.
    pub(crate) fn is_unconfirmed(&self, range: Range) -> bool {
        self.unconfirmed.lock().clash(range).is_some()
    }

    /// The same, after the hardware was asked once more.
    pub(crate) fn retry_unconfirmed(self: &Arc<Self>, machine: &Machine, range: Range) -> bool {
        self.is_unconfirmed(range) && (!self.retry(machine) || self.is_unconfirmed(range))
    }

    /// Maps `range` where the owner wants it, unless it overlaps one that is neither mapped nor free.
    pub(crate) fn map_fixed(
        &self,
        range: Range,
        phys: crate::addr::PhysAddr,
        prot: super::Prot,
    ) -> Result<(), FixedError> {
        // Held across both: an unmap of the range says so here before it touches the table.
        let unconfirmed = self.unconfirmed.lock();
        if let Some(clash) = unconfirmed.clash(range) {
            return Err(FixedError::Unconfirmed(clash.iova));
        }
        self.translation().map(range.iova, phys, range.len, prot).map_err(FixedError::Map)
    }

    /// Takes many maps down with one flush. On an error all of them are unconfirmed.
    pub(crate) fn unmap_fixed(
        self: &Arc<Self>,
        machine: &Machine,
        device: &Arc<str>,
        ranges: &[Range],
        pins: Vec<PagePin>,
    ) -> Result<(), UnmapError> {
        let leaving = self.unconfirmed.lock().leaving(ranges);
        let mut pins = Some(pins);
        let done = self.take_down(machine, device, ranges, ranges, &mut || pins.take().unwrap_or_default());
        self.unconfirmed.lock().left(leaving);
        done
    }
}

/// Why a range could not be mapped at an address of the caller's choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FixedError {
    /// The page table refused.
    Map(MapError),
    /// What was mapped at this address is unmapped, and the hardware has not confirmed.
    Unconfirmed(DeviceAddr),
}
