//! Pins: the record of which devices may still reach a page. For registers that a peer reaches, the table of claims is
//! the record.
//!
//! Each translation, and each untranslated device, through which a run of pages may be reached holds a [`PagePin`] of
//! it, from before the device address is published until the device is *proven* not to reach the pages any more. Pages
//! cannot be freed while a pin exists: each pin holds the memory, ends only with a proof that covers it, and leaks the
//! memory when it is dropped without one. Every path that frees, maps, pins, views, transfers or recovers pages
//! consults the record (docs/decisions/0007 has the table of which state allows what).

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::mem::ManuallyDrop;

use smallvec::SmallVec;

use super::DmaMemory;
use crate::addr::PhysAddr;
use crate::claim::{Claim, Holder, Subject};
use crate::driver::Quiesced;
use crate::iommu::{Domain, Flushed};
use crate::promise::Promise;
use crate::sync::SpinLock;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::system::System;

/// Path by which a device reaches pages.
#[derive(Clone, Debug)]
pub(crate) enum AccessPath {
    /// Untranslated: (offset) physical addresses on its bus.
    Direct,
    /// Through a domain.
    Domain(Weak<Domain>),
}

/// Owner of pins: one for each binding.
pub(crate) struct PinOwner {
    pub(crate) machine: Weak<System>,
    pub(crate) device: Arc<str>,
    pub(crate) path: AccessPath,
    /// Holder of its claims to registers that it reaches.
    pub(crate) holder: Holder,
    /// The CPU sees what the device writes without maintenance of its cache by the core.
    snoops: bool,
}

impl PinOwner {
    /// Owner of the pins of a device that snoops the CPU's caches, or of a user who maintains them.
    pub(crate) fn new(machine: &Arc<System>, device: &Arc<str>, path: AccessPath) -> Arc<Self> {
        Self::of_device(machine, device, path, true)
    }

    /// Owner of the pins of a device, which `snoops` the CPU's caches or does not.
    pub(crate) fn of_device(machine: &Arc<System>, device: &Arc<str>, path: AccessPath, snoops: bool) -> Arc<Self> {
        let (machine, device) = (Arc::downgrade(machine), Arc::clone(device));
        let holder = Holder::new(&device, "DMA");
        Arc::new(Self { machine, device, path, holder, snoops })
    }

    /// True when the confirmed flush of `domain` is a proof for its pins.
    #[inline]
    pub(super) fn is_covered(&self, _: &Flushed, domain: &Arc<Domain>) -> bool {
        self.uses(domain)
    }

    #[inline]
    fn uses(&self, domain: &Arc<Domain>) -> bool {
        matches!(&self.path, AccessPath::Domain(own) if core::ptr::eq(own.as_ptr(), Arc::as_ptr(domain)))
    }
}

/// State of one pin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PinState {
    /// Mapped.
    Mapped,
    /// Unmapped in a lazy domain, which was not flushed yet.
    Queued,
    /// Unmapped, but the flush was not confirmed, or the page table did not remove the entries.
    Unconfirmed,
    /// Its untranslated device was not shown to be quiesced.
    NotQuiesced,
}

struct PinEntry {
    number: u64,
    by: Arc<PinOwner>,
    state: PinState,
}

#[derive(Default)]
struct Pins {
    next: u64,
    /// Usually one at most, which needs no allocation.
    list: SmallVec<[PinEntry; 1]>,
    /// Owner of the pin by [`QueuedPages`] that is or was the latest; it has the next one, too, as a rule.
    batch_owner: Option<Arc<PinOwner>>,
}

/// Record of the pins of one run of pages. The lock is a leaf.
#[derive(Default)]
pub(super) struct PageRecord {
    /// Length of the list, to be read without the lock.
    count: AtomicUsize,
    /// Mapped in a slot of an arena, which owns the pages, and is the pin as long as it lasts.
    in_slot: AtomicBool,
    /// Number of flush queues whose [`QueuedPages`] have the pages: several, when the flush of an earlier one is under way. They may
    /// end in any order. Written under the lock of the domain's queue.
    batches: AtomicU32,
    /// Number of the newest of them. Written under the same lock.
    batch: AtomicU64,
    /// Address of the owner of that pin, which `pins` holds. Written by the owner of the pages alone, one call after the other.
    batch_owner: AtomicUsize,
    pins: SpinLock<Pins>,
}

/// A pin that keeps pages from being mapped or read.
pub(super) struct Pending {
    by: Arc<PinOwner>,
    state: PinState,
}

impl PageRecord {
    /// True when any device may reach the pages.
    #[inline]
    pub(super) fn is_pinned(&self) -> bool {
        // Pairs with the release in `take`: whoever reads 0 sees all that was done before the last pin ended.
        let in_slot = u64::from(self.in_slot.load(Ordering::Acquire));
        (self.count.load(Ordering::Acquire) as u64 | in_slot | u64::from(self.batches.load(Ordering::Acquire))) != 0
    }

    /// True when no device may reach the pages but by what `own` has unmapped and queued in its domain.
    #[inline]
    pub(super) fn is_free_for(&self, own: &Arc<PinOwner>) -> bool {
        let waits = self.batches.load(Ordering::Acquire);
        let pins = self.count.load(Ordering::Acquire) | usize::from(self.in_slot.load(Ordering::Acquire));
        pins == 0 && (waits == 0 || self.batch_owner.load(Ordering::Relaxed) == Arc::as_ptr(own).addr())
    }

    /// Makes `by` the owner of the pin that a flush queue gets next. The owner of the pages calls it, just before it queues them.
    #[inline]
    pub(crate) fn claim_batch(&self, by: &Arc<PinOwner>) {
        if self.batch_owner.load(Ordering::Relaxed) != Arc::as_ptr(by).addr() {
            self.set_batch_owner(by);
        }
    }

    #[cold]
    fn set_batch_owner(&self, by: &Arc<PinOwner>) {
        let mut pins = self.pins.lock();
        pins.batch_owner = Some(Arc::clone(by));
        self.batch_owner.store(Arc::as_ptr(by).addr(), Ordering::Relaxed);
        if self.batches.load(Ordering::Relaxed) != 0 {
            // In the queue of another owner: not the batch that this one is about to be in.
            self.batch.store(u64::MAX, Ordering::Relaxed);
        }
    }

    /// Records that flush queue number `batch` has the pages; under the lock of the queue. False when it has them already.
    #[inline]
    pub(super) fn queue_in(&self, batch: u64) -> bool {
        let is_new = self.batch.load(Ordering::Relaxed) != batch;
        if is_new {
            self.batch.store(batch, Ordering::Relaxed);
            // Released: as for a pin.
            self.batches.store(self.batches.load(Ordering::Relaxed) + 1, Ordering::Release);
        }
        is_new
    }

    /// Records that one of the flush queues that had the pages has them no more; under the lock of the queue of the same domain.
    #[inline]
    pub(super) fn end_batch(&self) {
        // Released after the flush; pairs with the acquire in `is_pinned`.
        self.batches.store(self.batches.load(Ordering::Relaxed) - 1, Ordering::Release);
    }

    /// Records that a slot of an arena maps the pages, or not any more. Only the owner of the pages calls it, one call after the
    /// other. Released: as for a pin.
    #[inline]
    pub(super) fn set_in_slot(&self, is: bool) {
        self.in_slot.store(is, Ordering::Release);
    }

    /// Number of pins, that of a flush queue included.
    #[cfg(all(test, not(loom)))]
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire) + self.batches.load(Ordering::Acquire) as usize
    }

    fn add(&self, by: &Arc<PinOwner>, state: PinState) -> u64 {
        let mut pins = self.pins.lock();
        let number = pins.next;
        pins.next += 1;
        pins.list.push(PinEntry { number, by: Arc::clone(by), state });
        // Counted before the device address is published, so that a later reader without the lock sees the pin.
        self.count.fetch_add(1, Ordering::AcqRel);
        number
    }

    fn set(&self, number: u64, state: PinState) {
        let mut pins = self.pins.lock();
        pins.list.iter_mut().filter(|p| p.number == number).for_each(|p| p.state = state);
    }

    /// Removes pin `number`.
    fn take(&self, number: u64) {
        let mut pins = self.pins.lock();
        if let Some(place) = pins.list.iter().position(|p| p.number == number) {
            pins.list.swap_remove(place);
            // Released after the list has changed; pairs with the acquire in `is_pinned`.
            self.count.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Pins that forbid a new mapping through `own`: all except those that wait for a flush of `own` itself, since the
    /// new mapping reaches the same pages through the same domain.
    pub(super) fn pending(&self, own: Option<&Arc<Domain>>) -> Vec<Pending> {
        if !self.is_pinned() {
            return Vec::new();
        }
        let harmless = |p: &&PinEntry| p.state == PinState::Queued && own.is_some_and(|own| p.by.uses(own));
        let pins = self.pins.lock();
        let list = pins.list.iter().filter(|p| !harmless(p)).map(|p| (&p.by, p.state));
        let waits = self.batches.load(Ordering::Acquire) != 0;
        let queued = pins.batch_owner.iter().filter(|by| waits && !own.is_some_and(|own| by.uses(own)));
        list.chain(queued.map(|by| (by, PinState::Queued)))
            .map(|(by, state)| Pending { by: Arc::clone(by), state })
            .collect()
    }
}

impl Pending {
    /// Requests the missing confirmation from the hardware, if it is a flush that is missing.
    pub(super) fn request_confirmation(&self) {
        let (AccessPath::Domain(domain), Some(machine)) = (&self.by.path, self.by.machine.upgrade()) else { return };
        let Some(domain) = domain.upgrade() else { return };
        match self.state {
            PinState::Queued => drop(domain.confirm_all_queued(&machine)),
            PinState::Unconfirmed => drop(domain.retry(&machine)),
            PinState::Mapped | PinState::NotQuiesced => {}
        }
    }
}

/// Pin of pages or registers. Holding one proves that they are neither freed nor given to another owner while the
/// device may reach them.
///
/// Ended only by [`release`](Self::release), with a proof. Dropping it leaks the pages (P2, P9).
#[must_use = "dropping a pin leaks the pages"]
pub(crate) struct PagePin {
    by: Arc<PinOwner>,
    /// `None` only during drop.
    target: Option<Target>,
}

#[derive(Debug)]
enum Target {
    /// Pages, and the number of the pin in their record.
    Memory(Arc<DmaMemory>, u64),
    /// Registers of another device.
    Registers(Arc<Claim>),
}

impl PagePin {
    /// Pins `memory` for `by`.
    pub(crate) fn new(memory: &Arc<DmaMemory>, by: &Arc<PinOwner>) -> Self {
        Self::in_state(memory, by, PinState::Mapped)
    }

    /// Pins `memory` for `by`, which has or had it mapped.
    pub(crate) fn in_state(memory: &Arc<DmaMemory>, by: &Arc<PinOwner>, state: PinState) -> Self {
        let number = memory.record().add(by, state);
        Self { by: Arc::clone(by), target: Some(Target::Memory(Arc::clone(memory), number)) }
    }

    /// Pins registers that `by` has claimed.
    pub(crate) fn of_registers(claim: Arc<Claim>, by: &Arc<PinOwner>) -> Self {
        Self { by: Arc::clone(by), target: Some(Target::Registers(claim)) }
    }

    /// First byte and length of the pinned range.
    pub(crate) fn run(&self) -> Option<(PhysAddr, u64)> {
        match self.target.as_ref()? {
            Target::Memory(memory, _) => Some((memory.phys(), memory.allocated())),
            Target::Registers(claim) => match claim.subject() {
                Subject::Registers { base, len } => Some((*base, *len)),
                _ => None,
            },
        }
    }

    /// The device that may reach the range.
    pub(crate) fn device(&self) -> &Arc<str> {
        &self.by.device
    }

    /// True when it was made for this domain; for `None`, when it was made for an untranslated device.
    pub(super) fn is_for(&self, domain: Option<&Arc<Domain>>) -> bool {
        match domain {
            Some(domain) => self.by.uses(domain),
            None => matches!(self.by.path, AccessPath::Direct),
        }
    }

    /// Sets the state of the mapping.
    pub(crate) fn set(&self, state: PinState) {
        if let Some(Target::Memory(memory, number)) = &self.target {
            memory.record().set(*number, state);
        }
    }

    /// Records that the device may write what the CPU's cache does not show, until the pin ends.
    pub(super) fn mark_unseen(&self) {
        if let (Some(Target::Memory(memory, _)), false) = (&self.target, self.by.snoops) {
            memory.set_unseen();
        }
    }

    /// Ends the pin. Returns the memory if this was its last pin; returns the pin as the error when `proof` is about
    /// another device or another domain.
    fn release(mut self, machine: &System, proof: &Unreachable) -> Result<Option<Arc<DmaMemory>>, Self> {
        if !proof.covers(&self.by) {
            return Err(self);
        }
        match self.target.take() {
            Some(Target::Memory(memory, number)) => {
                memory.record().take(number);
                Ok(Some(memory).filter(|m| !m.record().is_pinned()))
            }
            Some(Target::Registers(claim)) => {
                machine.release_claim(&claim);
                Ok(None)
            }
            None => Ok(None),
        }
    }
}

impl Drop for PagePin {
    fn drop(&mut self) {
        core::mem::forget(self.target.take());
    }
}

/// Pages that one owner had mapped in slots of arenas, in the flush queue of a lazy domain: pins that take no lock and no memory each.
///
/// Dropping it leaks the pages (P2, P9).
pub(crate) struct QueuedPages {
    by: Arc<PinOwner>,
    pages: ManuallyDrop<Vec<Arc<DmaMemory>>>,
}

impl QueuedPages {
    pub(crate) fn new(by: &Arc<PinOwner>, room: usize) -> Self {
        Self { by: Arc::clone(by), pages: ManuallyDrop::new(Vec::with_capacity(room)) }
    }

    /// True when the pins are `by`'s.
    #[inline]
    pub(crate) fn is_of(&self, by: &Arc<PinOwner>) -> bool {
        Arc::ptr_eq(&self.by, by)
    }

    /// Pins `memory` until flush queue number `batch`, whose lock the caller has, is confirmed.
    #[inline]
    pub(crate) fn add(&mut self, memory: &Arc<DmaMemory>, batch: u64) {
        if memory.record().queue_in(batch) {
            self.pages.push(Arc::clone(memory));
        }
    }

    /// Ends the pins, if `proof` covers them; under the lock of the domain's queue.
    pub(crate) fn end(&self, proof: &Unreachable) {
        if proof.covers(&self.by) {
            self.end_all();
        }
    }

    fn end_all(&self) {
        for memory in self.pages.iter() {
            memory.record().end_batch();
        }
    }

    /// Frees the pages whose pins have [ended](Self::end), if nobody else has them. Outside every lock.
    pub(crate) fn free(mut self, machine: &System, proof: &Unreachable) {
        let covered = proof.covers(&self.by);
        machine.promises.check(Promise::UnreachableBeforeFree, covered, || {
            alloc::format!("{}: queued pages are not covered by the proof that is to free them", self.by.device)
        });
        if !covered {
            return;
        }
        for memory in core::mem::take(&mut *self.pages) {
            if !memory.record().is_pinned() {
                machine.check_unreachable(&self.by.device, memory.phys(), memory.allocated());
            }
        }
    }

    /// Pins of the usual kind for the same pages, for the quarantine of the device that is named.
    pub(crate) fn to_pins(&self) -> (Arc<str>, PagePins) {
        let pins = self.pages.iter().map(|memory| PagePin::in_state(memory, &self.by, PinState::Queued)).collect();
        (Arc::clone(&self.by.device), pins)
    }

    /// Ends the pins of pages that have [others](Self::to_pins); under the lock of the domain's queue.
    pub(crate) fn end_pinned(mut self) {
        self.end_all();
        // Not the last references, which the pins have.
        core::mem::take(&mut *self.pages);
    }
}

/// Pins of one mapping. Most have one, which needs no allocation.
pub(crate) type PagePins = SmallVec<[PagePin; 1]>;

impl fmt::Debug for PagePin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PagePin({:?} by {})", self.target, self.by.device)
    }
}

/// Proof that a device cannot reach pages by one path any more, once they are unmapped (P2, P11). It covers the pins of
/// that path only: a flush those of its domain, a quiesced device its own untranslated ones.
#[derive(Debug)]
#[must_use = "only the proof releases the pages"]
pub(crate) struct Unreachable(ProofOf);

#[derive(Debug)]
enum ProofOf {
    /// The hardware caches nothing that was unmapped in this domain. Never dereferenced.
    Flushed(Flushed, *const Domain),
    /// This device does no DMA.
    Quiesced(Arc<str>),
    /// This device does no DMA, and no stream is attached to the domain any more, whatever the hardware still caches of
    /// it.
    Detached(Arc<str>, *const Domain),
}

impl Unreachable {
    /// Proof by a confirmed flush of `domain`.
    #[inline]
    pub(crate) fn flushed(flushed: Flushed, domain: &Arc<Domain>) -> Self {
        Self(ProofOf::Flushed(flushed, Arc::as_ptr(domain)))
    }

    /// Proof by a quiesced `device`.
    pub(crate) fn quiesced(_: &Quiesced, device: &Arc<str>) -> Self {
        Self(ProofOf::Quiesced(Arc::clone(device)))
    }

    /// Proof by a quiesced `device` and a detached `domain`: no stream uses what the hardware may still cache of the
    /// domain, and its driver flushes the context before it uses it again.
    pub(crate) fn detached(_: &Quiesced, device: &Arc<str>, domain: &Arc<Domain>) -> Option<Self> {
        domain.is_detached().then(|| Self(ProofOf::Detached(Arc::clone(device), Arc::as_ptr(domain))))
    }

    /// The confirmation of a flush, if it is one.
    pub(crate) fn into_flushed(self) -> Option<Flushed> {
        match self.0 {
            ProofOf::Flushed(flushed, _) => Some(flushed),
            ProofOf::Quiesced(_) | ProofOf::Detached(..) => None,
        }
    }

    /// True when the hardware has confirmed it.
    fn is_confirmed(&self) -> bool {
        !matches!(self.0, ProofOf::Detached(..))
    }

    #[inline]
    pub(super) fn covers(&self, by: &PinOwner) -> bool {
        match (&self.0, &by.path) {
            (ProofOf::Detached(device, domain), AccessPath::Domain(own)) => {
                *device == by.device && core::ptr::eq(own.as_ptr(), *domain)
            }
            (ProofOf::Flushed(_, domain), AccessPath::Domain(own)) => core::ptr::eq(own.as_ptr(), *domain),
            (ProofOf::Quiesced(device), AccessPath::Direct) => *device == by.device,
            _ => false,
        }
    }
}

/// Ends `pins` with `proof`, and checks on simulated targets that no device reaches pages whose last pin ended. Returns
/// the pins that the proof does not cover.
#[must_use = "pins that the proof does not cover are still pinned"]
pub(crate) fn release_all(machine: &System, pins: impl IntoIterator<Item = PagePin>, proof: &Unreachable) -> PagePins {
    let mut left = PagePins::new();
    for pin in pins {
        let by = Arc::clone(&pin.by);
        match pin.release(machine, proof) {
            // An unused context may still cache translations that no stream uses; a simulated target would report
            // those.
            Ok(Some(memory)) if proof.is_confirmed() => {
                machine.check_unreachable(&by.device, memory.phys(), memory.allocated());
            }
            Ok(_) => {}
            Err(pin) => left.push(pin),
        }
    }
    machine.promises.check(Promise::UnreachableBeforeFree, left.is_empty(), || {
        alloc::format!("{left:?}: not covered by the proof that is to free them")
    });
    left
}
