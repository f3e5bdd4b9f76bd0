//! A domain: one translation, the IOVA space in front of it, and the memory of what was mapped where.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use super::{DomainKind, Flushed, Gather, Geometry, IommuError, IovaSpace, MapError, Prot, Translation};
use crate::addr::{DeviceAddr, PhysAddr, pages};
use crate::dma::DmaError;
use crate::env::Site;
use crate::machine::Machine;
use crate::sync::Mutex;

/// Ended mappings that a domain remembers, so that a late access can be told whose it was.
const REMEMBERED: usize = 64;

/// What was, or is, mapped at an IOVA.
#[derive(Clone, Debug)]
struct Mapping {
    len: u64,
    device: Arc<str>,
    kind: &'static str,
}

impl Mapping {
    fn covers(&self, at: DeviceAddr, addr: DeviceAddr) -> bool {
        addr >= at && addr - at < self.len
    }
}

/// Mappings that have ended: the newest [`REMEMBERED`] of them.
#[derive(Default)]
pub(crate) struct Past(VecDeque<(DeviceAddr, Mapping)>);

impl Past {
    fn push(&mut self, at: DeviceAddr, mapping: Mapping) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((at, mapping));
    }

    /// Adds what `later` knows, which is newer.
    pub(crate) fn add(&mut self, later: Self) {
        later.0.into_iter().for_each(|(at, mapping)| self.push(at, mapping));
    }

    /// What was mapped at `addr` last.
    pub(crate) fn explain(&self, addr: DeviceAddr) -> Option<String> {
        let (at, m) = self.0.iter().rev().find(|(at, m)| m.covers(*at, addr))?;
        Some(format!("{} at {at}, {:#x} bytes, mapped and freed by {}", m.kind, m.len, m.device))
    }
}

#[derive(Default)]
struct History {
    live: BTreeMap<DeviceAddr, Mapping>,
    ended: Past,
}

/// What is known of a refused access.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultReport {
    /// Devices that may have done it: those attached to the domain.
    pub devices: alloc::vec::Vec<Arc<str>>,
    /// What is or was mapped there, in words.
    pub was: Option<String>,
}

/// One translation and its bookkeeping.
pub struct Domain {
    kind: DomainKind,
    ops: Arc<dyn Translation>,
    iova: IovaSpace,
    history: Mutex<History>,
    label: String,
}

impl Domain {
    pub(crate) fn new(kind: DomainKind, ops: Arc<dyn Translation>, geometry: &Geometry) -> Arc<Self> {
        let label = ops.label();
        let iova = IovaSpace::new(geometry.first, geometry.last, &geometry.reserved);
        Arc::new(Self { kind, ops, iova, history: Mutex::default(), label })
    }

    /// What it does with accesses.
    pub fn kind(&self) -> DomainKind {
        self.kind
    }

    /// How reports name it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The translation underneath.
    pub fn translation(&self) -> &Arc<dyn Translation> {
        &self.ops
    }

    /// Pages of IOVA space in use.
    pub fn iova_in_use(&self) -> u64 {
        self.iova.in_use()
    }

    /// Maps `len` bytes at `phys` (page aligned) for `device`, below `limit` (inclusive).
    #[expect(clippy::too_many_arguments, reason = "each one is a different fact of the mapping")]
    pub(crate) fn map(
        &self,
        machine: &Machine,
        device: &Arc<str>,
        kind: &'static str,
        phys: PhysAddr,
        len: u64,
        prot: Prot,
        limit: DeviceAddr,
    ) -> Result<DeviceAddr, DmaError> {
        if machine.inject(Some(device), Site::IovaAlloc) {
            return Err(DmaError::Injected(Site::IovaAlloc));
        }
        let count = pages(len);
        let iova = self.iova.alloc(count, limit).map_err(DmaError::Iova)?;
        if let Err(e) = self.ops.map(iova, phys, len, prot) {
            let back = self.iova.free(iova, count);
            debug_assert!(back.is_ok(), "{back:?}");
            return Err(DmaError::Map(e));
        }
        if machine.tracks_mappings() {
            self.history.lock().live.insert(iova, Mapping { len, device: Arc::clone(device), kind });
        }
        Ok(iova)
    }

    /// Takes the translation of `len` bytes at `iova` down and waits for the proof. The IOVA space goes back only with
    /// it: on an error the range stays unused for ever, because the device may still reach through it.
    pub(crate) fn unmap(&self, machine: &Machine, iova: DeviceAddr, len: u64) -> Result<Flushed, UnmapError> {
        let mut gather = Gather::new();
        self.ops.unmap(iova, len, &mut gather).map_err(UnmapError::Map)?;
        if machine.inject(None, Site::Invalidate) {
            drop(gather);
            return Err(UnmapError::Unconfirmed(IommuError::Injected));
        }
        let flushed = self.ops.flush(gather).map_err(UnmapError::Unconfirmed)?;
        if machine.tracks_mappings() {
            let mut history = self.history.lock();
            if let Some(m) = history.live.remove(&iova) {
                history.ended.push(iova, m);
            }
        }
        let back = self.iova.free(iova, pages(len));
        debug_assert!(back.is_ok(), "{back:?}");
        Ok(flushed)
    }

    /// What is or was mapped at `addr`, newest first.
    pub(crate) fn explain(&self, addr: DeviceAddr) -> Option<String> {
        let history = self.history.lock();
        if let Some((at, m)) = history.live.range(..=addr).next_back().filter(|(at, m)| m.covers(**at, addr)) {
            return Some(format!("{} of {} at {at}, still mapped", m.kind, m.device));
        }
        history.ended.explain(addr)
    }

    /// The domain goes: all that it knows belongs to the past.
    pub(crate) fn last_words(&self) -> Past {
        let mut history = self.history.lock();
        let History { live, mut ended } = core::mem::take(&mut *history);
        for (at, mapping) in live {
            ended.push(at, mapping);
        }
        ended
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Domain({}, {})", self.label, self.kind)
    }
}

/// Why an unmap gives no proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum UnmapError {
    /// The page table disagrees.
    #[error(transparent)]
    Map(MapError),
    /// The hardware did not confirm.
    #[error("invalidation not confirmed: {0}")]
    Unconfirmed(IommuError),
}
