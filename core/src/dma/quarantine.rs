//! Memory that must not be used again yet: its device was not shown to be quiet, or its IOMMU did not confirm.
//!
//! A device with memory in here gets no more (see [`DmaError::Quarantined`](super::DmaError)), so each device's share
//! is bounded by what it held when it was last bound.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use super::DmaMemory;
use crate::addr::PhysAddr;
use crate::event::EventKind;
use crate::machine::Machine;
use crate::mem::PageRun;
use crate::sync::Mutex;

struct Held {
    device: Arc<str>,
    kept: Kept,
    why: String,
}

/// What is kept.
enum Kept {
    /// Memory that somebody may still be reading.
    Memory(Arc<DmaMemory>),
    /// Pages that nobody held any more.
    Run(PageRun),
}

impl Kept {
    fn phys(&self) -> PhysAddr {
        match self {
            Self::Memory(m) => m.phys(),
            Self::Run(r) => r.base(),
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Memory(m) => m.allocated(),
            Self::Run(r) => r.len(),
        }
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

/// The quarantine of a machine.
#[derive(Default)]
pub(crate) struct Quarantine(Mutex<Vec<Held>>);

impl Quarantine {
    /// Keeps `memory` from its allocator.
    pub(crate) fn keep(&self, machine: &Machine, device: &Arc<str>, memory: Arc<DmaMemory>, why: String) {
        self.hold(machine, device, Kept::Memory(memory), why);
    }

    /// Keeps `run` from its allocator.
    pub(crate) fn keep_run(&self, machine: &Machine, device: &Arc<str>, run: PageRun, why: String) {
        self.hold(machine, device, Kept::Run(run), why);
    }

    fn hold(&self, machine: &Machine, device: &Arc<str>, kept: Kept, why: String) {
        machine.emit(Some(device), || EventKind::Quarantined {
            phys: kept.phys(),
            size: kept.bytes(),
            why: why.clone(),
        });
        self.0.lock().push(Held { device: Arc::clone(device), kept, why });
    }

    /// Bytes kept because of `device`.
    pub(crate) fn bytes_of(&self, device: &str) -> u64 {
        self.0.lock().iter().filter(|h| &*h.device == device).map(|h| h.kept.bytes()).sum()
    }

    /// Everything that is kept.
    pub(crate) fn list(&self) -> Vec<QuarantineInfo> {
        let info = |h: &Held| QuarantineInfo {
            device: Arc::clone(&h.device),
            phys: h.kept.phys(),
            len: h.kept.bytes(),
            why: h.why.clone(),
        };
        self.0.lock().iter().map(info).collect()
    }

    /// `device` was shown to be quiet: its memory goes back.
    pub(crate) fn recover(&self, machine: &Machine, device: &str) {
        // Those of other devices stay where they are: nobody may find them missing, and give their devices more (P11).
        let mine: Vec<Held> = self.0.lock().extract_if(.., |h| &*h.device == device).collect();
        for h in mine {
            let (phys, size) = (h.kept.phys(), h.kept.bytes());
            if let Kept::Memory(memory) = &h.kept {
                memory.settle_all();
            }
            machine.emit(Some(&h.device), || EventKind::Recovered { phys, size });
        }
    }

    /// Feeds how much `device` has in here to `state`.
    pub(crate) fn hash_held(&self, device: &str, state: &mut impl Hasher) {
        self.0.lock().iter().filter(|h| &*h.device == device).for_each(|h| h.kept.bytes().hash(state));
    }

    /// A line for reports.
    pub(crate) fn summary(&self) -> String {
        let held = self.0.lock();
        format!("{} runs, {} bytes", held.len(), held.iter().map(|h| h.kept.bytes()).sum::<u64>())
    }
}
