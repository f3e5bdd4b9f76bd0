//! Memory that must not be used again yet: its device was not shown to be quiesced, or its IOMMU did not confirm.
//!
//! A device with memory in here gets no more (see [`DmaError::Quarantined`](super::DmaError)), so each device's share
//! is bounded by what it held when it was last bound. What is kept are the pins themselves, and each waits for its own
//! proof: a quiet device frees what it reached untranslated, a confirmed flush what it reached through that domain (or a
//! quiet device whose streams, and everybody else's, have left the domain).

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use super::pin::{PagePin, PinState, Unreachable, release_all};
use crate::addr::PhysAddr;
use crate::driver::Quiesced;
use crate::event::EventKind;
use crate::iommu::Domain;
use crate::machine::Machine;
use crate::sync::Mutex;

/// Names what was put into quarantine together.
pub(crate) type HeldId = u64;

/// What lets pages go back.
enum Needs {
    /// Their device is shown to be quiesced.
    Quiesced,
    /// The hardware confirms a flush of this domain.
    Flush(Arc<Domain>),
}

struct Held {
    id: HeldId,
    device: Arc<str>,
    pins: Vec<PagePin>,
    /// First byte and bytes of each run, each run once.
    runs: Vec<(PhysAddr, u64)>,
    why: String,
    needs: Needs,
}

impl Held {
    fn bytes(&self) -> u64 {
        self.runs.iter().map(|(_, len)| len).sum()
    }

    fn first(&self) -> PhysAddr {
        self.runs.first().map_or(PhysAddr(0), |(phys, _)| *phys)
    }
}

/// What is in quarantine, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuarantineInfo {
    /// The device that may still reach it.
    pub device: Arc<str>,
    /// First byte.
    pub phys: PhysAddr,
    /// Bytes.
    pub len: u64,
    /// Why it is kept.
    pub why: String,
}

/// The quarantine of a machine. The lock is a leaf.
#[derive(Default)]
pub(crate) struct Quarantine(Mutex<(HeldId, Vec<Held>)>);

impl Quarantine {
    /// Keeps `pins` of an untranslated device until it is shown to be quiesced.
    pub(crate) fn until_quiesced(&self, machine: &Machine, device: &Arc<str>, pins: Vec<PagePin>, why: String) {
        for pin in &pins {
            pin.set(PinState::NotQuiet);
        }
        self.hold(machine, device, pins, why, Needs::Quiesced);
    }

    /// Keeps `pins` until `domain` [says](Self::flushed) that a flush was confirmed. One event tells of all of them.
    pub(crate) fn until_flushed(
        &self,
        machine: &Machine,
        device: &Arc<str>,
        pins: Vec<PagePin>,
        why: String,
        domain: &Arc<Domain>,
    ) -> HeldId {
        for pin in &pins {
            pin.set(PinState::Unconfirmed);
        }
        machine.timers.retry(machine.env().now());
        self.hold(machine, device, pins, why, Needs::Flush(Arc::clone(domain)))
    }

    fn hold(&self, machine: &Machine, device: &Arc<str>, pins: Vec<PagePin>, why: String, needs: Needs) -> HeldId {
        let mut runs: Vec<_> = pins.iter().filter_map(PagePin::run).collect();
        runs.sort_unstable();
        runs.dedup();
        let mut held = Held { id: 0, device: Arc::clone(device), pins, runs, why, needs };
        if !held.runs.is_empty() {
            let (phys, size) = (held.first(), held.bytes());
            machine.emit(Some(device), || EventKind::Quarantined { phys, size, why: held.why.clone() });
        }
        let mut quarantine = self.0.lock();
        held.id = quarantine.0;
        quarantine.0 += 1;
        let id = held.id;
        quarantine.1.push(held);
        id
    }

    /// Bytes kept because of `device`.
    pub(crate) fn bytes_of(&self, device: &str) -> u64 {
        self.0.lock().1.iter().filter(|h| &*h.device == device).map(Held::bytes).sum()
    }

    /// Everything that is kept, a run each.
    pub(crate) fn list(&self) -> Vec<QuarantineInfo> {
        let info = |h: &Held| {
            let (device, why) = (Arc::clone(&h.device), h.why.clone());
            let each = |(phys, len): &(PhysAddr, u64)| QuarantineInfo {
                device: Arc::clone(&device),
                phys: *phys,
                len: *len,
                why: why.clone(),
            };
            h.runs.iter().map(each).collect::<Vec<_>>()
        };
        self.0.lock().1.iter().flat_map(info).collect()
    }

    /// `device` was shown to be quiesced: what it reached untranslated goes back. What it reached through a domain waits for
    /// the hardware, which is asked once more, unless no stream goes through that domain any more.
    pub(crate) fn recover(&self, machine: &Machine, device: &Arc<str>, quiesced: &Quiesced) {
        for domain in self.waits_for(|h| h.device == *device) {
            if domain.retry(machine) {
                continue;
            }
            if let Some(proof) = Unreachable::detached(quiesced, device, &domain) {
                let through = |h: &Held| matches!(&h.needs, Needs::Flush(d) if Arc::ptr_eq(d, &domain));
                self.release(machine, |h| h.device == *device && through(h), &proof);
            }
        }
        let proof = Unreachable::quiesced(quiesced, device);
        self.release(machine, |h| h.device == *device && matches!(h.needs, Needs::Quiesced), &proof);
    }

    /// The hardware has confirmed a flush that began after `ids` were put here.
    pub(crate) fn flushed(&self, machine: &Machine, ids: &[HeldId], proof: &Unreachable) {
        if !ids.is_empty() {
            self.release(machine, |h| ids.contains(&h.id), proof);
        }
    }

    /// Asks every IOMMU that has not confirmed once more. True when nothing waits for one any more.
    pub(crate) fn retry(&self, machine: &Machine) -> bool {
        let left = self.waits_for(|_| true).into_iter().filter(|domain| !domain.retry(machine)).count();
        left == 0
    }

    /// Domains whose word is missing for some that `which` names, each once.
    fn waits_for(&self, which: impl Fn(&Held) -> bool) -> Vec<Arc<Domain>> {
        let quarantine = self.0.lock();
        let mut domains: Vec<Arc<Domain>> = Vec::new();
        for held in quarantine.1.iter().filter(|h| which(h)) {
            if let Needs::Flush(domain) = &held.needs
                && !domains.iter().any(|d| Arc::ptr_eq(d, domain))
            {
                domains.push(Arc::clone(domain));
            }
        }
        domains
    }

    fn release(&self, machine: &Machine, which: impl Fn(&Held) -> bool, proof: &Unreachable) {
        // Those of other devices stay where they are: nobody may find them missing, and give their devices more (P11).
        let gone: Vec<Held> = self.0.lock().1.extract_if(.., |h| which(h)).collect();
        for Held { device, pins, runs, why, needs, id } in gone {
            let (phys, size) = (runs.first().map(|r| r.0), runs.iter().map(|r| r.1).sum());
            let left = release_all(machine, pins, proof);
            if !left.is_empty() {
                self.0.lock().1.push(Held { id, device, pins: left, runs, why, needs });
                continue;
            }
            if let Some(phys) = phys {
                machine.emit(Some(&device), || EventKind::Recovered { phys, size });
            }
        }
    }

    /// Feeds how much `device` has in here to `state`.
    pub(crate) fn hash_held(&self, device: &str, state: &mut impl Hasher) {
        self.0.lock().1.iter().filter(|h| &*h.device == device).for_each(|h| h.bytes().hash(state));
    }

    /// A line for reports.
    pub(crate) fn summary(&self) -> String {
        let quarantine = self.0.lock();
        let runs: usize = quarantine.1.iter().map(|h| h.runs.len()).sum();
        format!("{runs} runs, {} bytes", quarantine.1.iter().map(Held::bytes).sum::<u64>())
    }
}
