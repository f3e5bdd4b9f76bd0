//! Memory that must not be used again yet: its device was not shown to be quiet, or its IOMMU did not confirm.
//!
//! A device with memory in here gets no more (see [`DmaError::Quarantined`](super::DmaError)), so each device's share
//! is bounded by what it held when it was last bound.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::DmaMemory;
use crate::addr::PhysAddr;
use crate::event::EventKind;
use crate::machine::Machine;
use crate::promise::Promise;
use crate::sync::Mutex;

struct Held {
    device: Arc<str>,
    memory: Arc<DmaMemory>,
    why: String,
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
        machine.promises.check(Promise::QuietFirst, true, String::new);
        machine.emit(Some(device), || EventKind::Quarantined {
            phys: memory.phys(),
            size: memory.allocated(),
            why: why.clone(),
        });
        self.0.lock().push(Held { device: Arc::clone(device), memory, why });
    }

    /// Bytes kept because of `device`.
    pub(crate) fn bytes_of(&self, device: &str) -> u64 {
        self.0.lock().iter().filter(|h| &*h.device == device).map(|h| h.memory.allocated()).sum()
    }

    /// Everything that is kept.
    pub(crate) fn list(&self) -> Vec<QuarantineInfo> {
        let info = |h: &Held| QuarantineInfo {
            device: Arc::clone(&h.device),
            phys: h.memory.phys(),
            len: h.memory.allocated(),
            why: h.why.clone(),
        };
        self.0.lock().iter().map(info).collect()
    }

    /// `device` was shown to be quiet: its memory goes back.
    pub(crate) fn recover(&self, machine: &Machine, device: &str) {
        let mut recovered = Vec::new();
        self.0.lock().retain_mut(|h| {
            let mine = &*h.device == device;
            if mine {
                recovered.push((Arc::clone(&h.device), Arc::clone(&h.memory)));
            }
            !mine
        });
        for (device, memory) in recovered {
            machine.emit(Some(&device), || EventKind::Recovered { phys: memory.phys(), size: memory.allocated() });
        }
    }

    /// A line for reports.
    pub(crate) fn summary(&self) -> String {
        let held = self.0.lock();
        format!("{} runs, {} bytes", held.len(), held.iter().map(|h| h.memory.allocated()).sum::<u64>())
    }
}
