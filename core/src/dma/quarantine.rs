//! Quarantine: memory that must not be reused yet, because its device was not shown to be quiesced or its IOMMU did not
//! confirm a flush.
//!
//! A device with memory in quarantine gets no more (see [`DmaError::Quarantined`](super::DmaError)), so the share of
//! each device is bounded by what it held during its last binding. The quarantine holds the pins themselves, and each
//! waits for its own proof: a quiesced device releases what it reached untranslated, a confirmed flush what was reached
//! through that domain (or a quiesced device, once every stream is detached from the domain).

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use super::pin::{PagePin, PagePins, PinState, Unreachable, release_all};
use crate::addr::PhysAddr;
use crate::driver::Quiesced;
use crate::event::EventKind;
use crate::iommu::Domain;
use crate::sync::SpinLock;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::system::System;

/// Identifies memory that was put into quarantine together.
pub(crate) type QuarantineId = u64;

/// Condition under which quarantined pages are freed.
enum ReleaseCondition {
    /// Their device is quiesced.
    Quiesced,
    /// The hardware confirms a flush of this domain.
    Flush(Arc<Domain>),
}

struct HeldPages {
    id: QuarantineId,
    device: Arc<str>,
    pins: PagePins,
    /// First byte and length of each run, without duplicates.
    runs: Vec<(PhysAddr, u64)>,
    reason: String,
    condition: ReleaseCondition,
}

impl HeldPages {
    fn bytes(&self) -> u64 {
        self.runs.iter().map(|(_, len)| len).sum()
    }

    fn first(&self) -> PhysAddr {
        self.runs.first().map_or(PhysAddr(0), |(phys, _)| *phys)
    }
}

/// A run of pages in quarantine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuarantineInfo {
    /// The device that may still reach it.
    pub device: Arc<str>,
    /// Physical address of the first byte.
    pub phys: PhysAddr,
    /// Length in bytes.
    pub len: u64,
    /// Reason for the quarantine.
    pub reason: String,
}

/// The quarantine of a machine. The lock is a leaf.
#[derive(Default)]
pub(crate) struct Quarantine {
    held: SpinLock<(QuarantineId, Vec<HeldPages>)>,
    /// Length of the list, so that while the quarantine is empty, which it should be, devices are admitted without the lock.
    count: Arc<AtomicUsize>,
}

/// A look at whether a quarantine holds anything, without its lock.
pub(crate) struct QuarantineWatch(Arc<AtomicUsize>);

impl QuarantineWatch {
    /// True when nothing is in quarantine. Acquired, as in [`Quarantine::bytes_of`].
    #[inline]
    pub(super) fn is_clear(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

impl Quarantine {
    /// A look at whether it holds anything.
    pub(crate) fn watch(&self) -> QuarantineWatch {
        QuarantineWatch(Arc::clone(&self.count))
    }

    /// Holds `pins` of an untranslated device until it is shown to be quiesced.
    pub(crate) fn hold_until_quiesced(&self, machine: &System, device: &Arc<str>, pins: PagePins, reason: String) {
        for pin in &pins {
            pin.set(PinState::NotQuiesced);
        }
        self.hold(machine, device, pins, reason, ReleaseCondition::Quiesced);
    }

    /// Holds `pins` until `domain` [reports](Self::flushed) a confirmed flush. One event covers all of them. The domain sets the timer
    /// of retries once it has recorded what is to be confirmed.
    pub(crate) fn hold_until_flushed(
        &self,
        machine: &System,
        device: &Arc<str>,
        pins: PagePins,
        reason: String,
        domain: &Arc<Domain>,
    ) -> QuarantineId {
        for pin in &pins {
            pin.set(PinState::Unconfirmed);
        }
        self.hold(machine, device, pins, reason, ReleaseCondition::Flush(Arc::clone(domain)))
    }

    fn hold(
        &self,
        machine: &System,
        device: &Arc<str>,
        pins: PagePins,
        reason: String,
        condition: ReleaseCondition,
    ) -> QuarantineId {
        pins.iter().for_each(PagePin::mark_unseen);
        let mut runs: Vec<_> = pins.iter().filter_map(PagePin::run).collect();
        runs.sort_unstable();
        runs.dedup();
        let mut held = HeldPages { id: 0, device: Arc::clone(device), pins, runs, reason, condition };
        if !held.runs.is_empty() {
            let (phys, size) = (held.first(), held.bytes());
            machine.emit(Some(device), || EventKind::Quarantined { phys, size, reason: held.reason.clone() });
        }
        let mut quarantine = self.held.lock();
        held.id = quarantine.0;
        quarantine.0 += 1;
        let id = held.id;
        quarantine.1.push(held);
        self.counted(&quarantine.1);
        id
    }

    /// Publishes the length of the list, under the lock. Released, and acquired in [`bytes_of`](Self::bytes_of): a thread that
    /// knows of memory in quarantine finds it there.
    fn counted(&self, list: &[HeldPages]) {
        self.count.store(list.len(), Ordering::Release);
    }

    /// Bytes in quarantine because of `device`.
    pub(crate) fn bytes_of(&self, device: &str) -> u64 {
        if self.count.load(Ordering::Acquire) == 0 {
            return 0;
        }
        self.held.lock().1.iter().filter(|h| &*h.device == device).map(HeldPages::bytes).sum()
    }

    /// Contents of the quarantine, one entry for each run.
    pub(crate) fn list(&self) -> Vec<QuarantineInfo> {
        let info = |h: &HeldPages| {
            let (device, reason) = (Arc::clone(&h.device), h.reason.clone());
            let each = |(phys, len): &(PhysAddr, u64)| QuarantineInfo {
                device: Arc::clone(&device),
                phys: *phys,
                len: *len,
                reason: reason.clone(),
            };
            h.runs.iter().map(each).collect::<Vec<_>>()
        };
        self.held.lock().1.iter().flat_map(info).collect()
    }

    /// Recovers memory after `device` was shown to be quiesced: what it reached untranslated is freed. What it reached
    /// through a domain needs a flush, which is tried once more; without one it is freed only if no stream is attached
    /// to that domain any more.
    pub(crate) fn recover(&self, machine: &System, device: &Arc<str>, quiesced: &Quiesced) {
        for domain in self.awaited_domains(|h| h.device == *device) {
            if domain.retry(machine) {
                continue;
            }
            if let Some(proof) = Unreachable::detached(quiesced, device, &domain) {
                let through =
                    |h: &HeldPages| matches!(&h.condition, ReleaseCondition::Flush(d) if Arc::ptr_eq(d, &domain));
                self.release(machine, |h| h.device == *device && through(h), &proof);
            }
        }
        let proof = Unreachable::quiesced(quiesced, device);
        self.release(machine, |h| h.device == *device && matches!(h.condition, ReleaseCondition::Quiesced), &proof);
    }

    /// Frees the memory of `ids` after a confirmed flush that began later than they were added.
    pub(crate) fn flushed(&self, machine: &System, ids: &[QuarantineId], proof: &Unreachable) {
        if !ids.is_empty() {
            self.release(machine, |h| ids.contains(&h.id), proof);
        }
    }

    /// Retries the flush of every IOMMU that has not confirmed. True when nothing waits for a flush any more.
    pub(crate) fn retry(&self, machine: &System) -> bool {
        let left = self.awaited_domains(|_| true).into_iter().filter(|domain| !domain.retry(machine)).count();
        left == 0
    }

    /// Domains whose flush some entries of `which` wait for, without duplicates.
    fn awaited_domains(&self, which: impl Fn(&HeldPages) -> bool) -> Vec<Arc<Domain>> {
        let quarantine = self.held.lock();
        let mut domains: Vec<Arc<Domain>> = Vec::new();
        for held in quarantine.1.iter().filter(|h| which(h)) {
            if let ReleaseCondition::Flush(domain) = &held.condition
                && !domains.iter().any(|d| Arc::ptr_eq(d, domain))
            {
                domains.push(Arc::clone(domain));
            }
        }
        domains
    }

    fn release(&self, machine: &System, which: impl Fn(&HeldPages) -> bool, proof: &Unreachable) {
        // Entries of other devices stay in place the whole time: their devices must not get memory because the entries
        // are missing for a moment (P11).
        let mut quarantine = self.held.lock();
        let gone: Vec<HeldPages> = quarantine.1.extract_if(.., |h| which(h)).collect();
        self.counted(&quarantine.1);
        drop(quarantine);
        for HeldPages { device, pins, runs, reason, condition, id } in gone {
            let (phys, size) = (runs.first().map(|r| r.0), runs.iter().map(|r| r.1).sum());
            let left = release_all(machine, pins, proof);
            if !left.is_empty() {
                let mut quarantine = self.held.lock();
                quarantine.1.push(HeldPages { id, device, pins: left, runs, reason, condition });
                self.counted(&quarantine.1);
                continue;
            }
            if let Some(phys) = phys {
                machine.emit(Some(&device), || EventKind::Recovered { phys, size });
            }
        }
    }

    /// Feeds the sizes of the entries of `device` to `state`.
    pub(crate) fn hash_held(&self, device: &str, state: &mut impl Hasher) {
        self.held.lock().1.iter().filter(|h| &*h.device == device).for_each(|h| h.bytes().hash(state));
    }

    /// One-line summary for reports.
    pub(crate) fn summary(&self) -> String {
        let quarantine = self.held.lock();
        let runs: usize = quarantine.1.iter().map(|h| h.runs.len()).sum();
        format!("{runs} runs, {} bytes", quarantine.1.iter().map(HeldPages::bytes).sum::<u64>())
    }
}
