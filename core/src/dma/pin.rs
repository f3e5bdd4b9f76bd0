//! The state of a page: one record of who may still reach it. Of registers that another device reaches, the table of
//! claims is the record.
//!
//! Each translation, and each untranslated device, that may lead to a run of pages holds a [`PagePin`] of it, from before
//! the device is told an address until it is *shown* that the device cannot reach the pages any more. The pages cannot
//! return to their allocator while a pin exists: each one holds the memory, ends only with a proof that is about it, and
//! leaks the memory when it is dropped without one. Whoever frees, lends, pins, views, hands over or recovers pages asks
//! the record (docs/decisions lists which state allows what).

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;

use super::DmaMemory;
use crate::addr::PhysAddr;
use crate::claim::{Claim, Holder, Subject};
use crate::driver::Quiesced;
use crate::iommu::{Domain, Flushed};
use crate::machine::Machine;
use crate::promise::Promise;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// The way by which a device reaches pages.
#[derive(Clone, Debug)]
pub(crate) enum Via {
    /// Untranslated: it puts (offset) physical addresses on its bus.
    Bus,
    /// Through a domain.
    Domain(Weak<Domain>),
}

/// Whose pins they are. One for each binding.
pub(crate) struct Pinner {
    pub(crate) machine: Weak<Machine>,
    pub(crate) device: Arc<str>,
    pub(crate) via: Via,
    /// As whom it claims registers that it reaches.
    pub(crate) holder: Holder,
}

impl Pinner {
    pub(crate) fn new(machine: &Arc<Machine>, device: &Arc<str>, via: Via) -> Arc<Self> {
        let (machine, device) = (Arc::downgrade(machine), Arc::clone(device));
        let holder = Holder::new(&device, "DMA");
        Arc::new(Self { machine, device, via, holder })
    }

    fn goes_through(&self, domain: &Arc<Domain>) -> bool {
        matches!(&self.via, Via::Domain(own) if core::ptr::eq(own.as_ptr(), Arc::as_ptr(domain)))
    }
}

/// State of one pin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PinState {
    /// The mapping stands.
    Mapped,
    /// Unmapped in a lazy domain; the hardware was not asked yet.
    Queued,
    /// Unmapped, and the hardware was asked and did not confirm; or the page table did not take it out.
    Unconfirmed,
    /// Its untranslated device was not shown to be quiesced.
    NotQuiet,
}

struct Pinned {
    number: u64,
    by: Arc<Pinner>,
    state: PinState,
}

#[derive(Default)]
struct Pins {
    next: u64,
    list: Vec<Pinned>,
}

/// The record of one run of pages. The lock is a leaf.
#[derive(Default)]
pub(super) struct PageRecord {
    /// Entries of the list, to be looked at without the lock.
    count: AtomicUsize,
    pins: Mutex<Pins>,
}

/// What keeps pages from being lent or looked at.
pub(super) struct Pending {
    by: Arc<Pinner>,
    state: PinState,
}

impl PageRecord {
    /// Whether any device may reach the pages.
    pub(super) fn is_pinned(&self) -> bool {
        self.count.load(Ordering::Acquire) != 0
    }

    fn add(&self, by: &Arc<Pinner>) -> u64 {
        let mut pins = self.pins.lock();
        let number = pins.next;
        pins.next += 1;
        pins.list.push(Pinned { number, by: Arc::clone(by), state: PinState::Mapped });
        self.count.fetch_add(1, Ordering::AcqRel);
        number
    }

    fn set(&self, number: u64, state: PinState) {
        let mut pins = self.pins.lock();
        pins.list.iter_mut().filter(|p| p.number == number).for_each(|p| p.state = state);
    }

    /// Takes pin `number` off.
    fn take(&self, number: u64) {
        let mut pins = self.pins.lock();
        if let Some(place) = pins.list.iter().position(|p| p.number == number) {
            pins.list.swap_remove(place);
            self.count.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Pins that keep the pages from whoever maps them through `own`: all but those that only wait for `own` to be
    /// flushed, which lead where the new mapping leads, too.
    pub(super) fn pending(&self, own: Option<&Arc<Domain>>) -> Vec<Pending> {
        if !self.is_pinned() {
            return Vec::new();
        }
        let harmless = |p: &&Pinned| p.state == PinState::Queued && own.is_some_and(|own| p.by.goes_through(own));
        let pins = self.pins.lock();
        let list = pins.list.iter().filter(|p| !harmless(p));
        list.map(|p| Pending { by: Arc::clone(&p.by), state: p.state }).collect()
    }
}

impl Pending {
    /// Asks the hardware to confirm, if it is the hardware's word that is missing.
    pub(super) fn ask(&self) {
        let (Via::Domain(domain), Some(machine)) = (&self.by.via, self.by.machine.upgrade()) else { return };
        let Some(domain) = domain.upgrade() else { return };
        match self.state {
            PinState::Queued => drop(domain.confirm_queue(&machine)),
            PinState::Unconfirmed => drop(domain.retry(&machine)),
            PinState::Mapped | PinState::NotQuiet => {}
        }
    }
}

/// Holding a `PagePin` tells you: a device may reach the pages, so they are nobody else's.
///
/// Only [`release`](Self::release), with a proof, ends it. Dropping it leaks the pages (P2, P9).
#[must_use = "dropping a pin leaks the pages"]
pub(crate) struct PagePin {
    by: Arc<Pinner>,
    /// `None` only while it is dropped.
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
    pub(crate) fn new(memory: &Arc<DmaMemory>, by: &Arc<Pinner>) -> Self {
        let number = memory.record().add(by);
        Self { by: Arc::clone(by), target: Some(Target::Memory(Arc::clone(memory), number)) }
    }

    /// Pins registers, which `by` has claimed.
    pub(crate) fn of_registers(claim: Arc<Claim>, by: &Arc<Pinner>) -> Self {
        Self { by: Arc::clone(by), target: Some(Target::Registers(claim)) }
    }

    /// First byte and bytes of what may be reached.
    pub(crate) fn run(&self) -> Option<(PhysAddr, u64)> {
        match self.target.as_ref()? {
            Target::Memory(memory, _) => Some((memory.phys(), memory.allocated())),
            Target::Registers(claim) => match claim.subject() {
                Subject::Registers { base, len } => Some((*base, *len)),
                _ => None,
            },
        }
    }

    /// The device that may reach it.
    pub(crate) fn device(&self) -> &Arc<str> {
        &self.by.device
    }

    /// Whether it was made for this domain, or for a device without a translation.
    pub(super) fn is_via(&self, domain: Option<&Arc<Domain>>) -> bool {
        match domain {
            Some(domain) => self.by.goes_through(domain),
            None => matches!(self.by.via, Via::Bus),
        }
    }

    /// What became of the mapping.
    pub(crate) fn set(&self, state: PinState) {
        if let Some(Target::Memory(memory, number)) = &self.target {
            memory.record().set(*number, state);
        }
    }

    /// Ends the pin. Returns pages that nobody pins any more. The pin comes back when `proof` is about another device or
    /// another domain.
    fn release(mut self, machine: &Machine, proof: &Unreachable) -> Result<Option<Arc<DmaMemory>>, Self> {
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

impl fmt::Debug for PagePin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PagePin({:?} by {})", self.target, self.by.device)
    }
}

/// Holding an `Unreachable` tells you: the pages that one device reached in one way, and reaches through nothing that
/// stands now, are out of its reach (P2, P11). It counts for what it was shown for: a flush for the pins of its domain, a
/// quiet device for its own pins without a translation.
#[derive(Debug)]
#[must_use = "the proof is what lets pages go back"]
pub(crate) struct Unreachable(Shown);

#[derive(Debug)]
enum Shown {
    /// The hardware has forgotten what was unmapped in this domain. Never dereferenced.
    Flushed(*const Domain),
    /// This device does no DMA.
    Quiesced(Arc<str>),
    /// This device does no DMA, and no stream goes through the domain any more, whatever the hardware remembers of it.
    Detached(Arc<str>, *const Domain),
}

impl Unreachable {
    /// The hardware's word for what was unmapped in `domain`.
    pub(crate) fn flushed(_: Flushed, domain: &Arc<Domain>) -> Self {
        Self(Shown::Flushed(Arc::as_ptr(domain)))
    }

    /// `device` was shown to be quiesced.
    pub(crate) fn quiesced(_: &Quiesced, device: &Arc<str>) -> Self {
        Self(Shown::Quiesced(Arc::clone(device)))
    }

    /// `device` was shown to be quiesced, and every stream of `domain` goes elsewhere: what the hardware may remember of the
    /// domain leads nobody anywhere, until its driver uses the context again, which it does after a flush.
    pub(crate) fn detached(_: &Quiesced, device: &Arc<str>, domain: &Arc<Domain>) -> Option<Self> {
        domain.is_detached().then(|| Self(Shown::Detached(Arc::clone(device), Arc::as_ptr(domain))))
    }

    /// Whether the hardware has said so itself.
    fn is_confirmed(&self) -> bool {
        !matches!(self.0, Shown::Detached(..))
    }

    fn covers(&self, by: &Pinner) -> bool {
        match (&self.0, &by.via) {
            (Shown::Detached(device, domain), Via::Domain(own)) => {
                *device == by.device && core::ptr::eq(own.as_ptr(), *domain)
            }
            (Shown::Flushed(domain), Via::Domain(own)) => core::ptr::eq(own.as_ptr(), *domain),
            (Shown::Quiesced(device), Via::Bus) => *device == by.device,
            _ => false,
        }
    }
}

/// Ends `pins` with `proof`, and asks the target whether a device reaches pages that nobody pins any more. Pins that the
/// proof is not about come back.
#[must_use = "pins that the proof is not about are still pins"]
pub(crate) fn release_all(machine: &Machine, pins: Vec<PagePin>, proof: &Unreachable) -> Vec<PagePin> {
    let mut left = Vec::new();
    for pin in pins {
        let device = Arc::clone(pin.device());
        match pin.release(machine, proof) {
            // A context that nobody uses may remember pages that it leads nobody to: the target would tell of those.
            Ok(Some(memory)) if proof.is_confirmed() => {
                machine.check_unreachable(&device, memory.phys(), memory.allocated());
            }
            Ok(_) => {}
            Err(pin) => left.push(pin),
        }
    }
    machine.promises.check(Promise::UnreachableBeforeFree, left.is_empty(), || {
        alloc::format!("{left:?}: a proof for somebody else is offered to free them")
    });
    left
}
