//! A domain: one translation, the IOVA space in front of it, and the memory of what was mapped where.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::lazy::Queue;
use super::regions::Pages;
use super::unconfirmed::{Range, Unconfirmed};
use super::{AddressingLimits, DomainKind, Geometry, IommuError, IovaSpace, MapError, Prot, Translation};
use crate::addr::{DeviceAddr, PAGE_SIZE, PhysAddr, pages};
use crate::device::{RegionKind, ReservedRegion};
use crate::dma::{DmaError, PagePin};
use crate::env::FaultPoint;
use crate::machine::Machine;
use crate::promise::Promise;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64};

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
pub(crate) struct MappingHistory(VecDeque<(DeviceAddr, Mapping)>);

impl MappingHistory {
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
    ended: MappingHistory,
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
    /// What is no device address here, whoever asks. A leaf lock.
    holes: Mutex<Pages>,
    history: Mutex<History>,
    /// Of a lazy domain: what waits for confirmation. The lock is a leaf.
    pub(super) queue: Mutex<Option<Queue>>,
    /// What no flush has confirmed yet. Held while the owner of an unmanaged domain maps, so that it does not map over
    /// such a range; else the lock is a leaf.
    pub(super) unconfirmed: Mutex<Unconfirmed>,
    label: String,
    /// Until when it is not asked to confirm single unmaps, in nanoseconds: it has just let one wait for nothing.
    pub(super) silent_until: AtomicU64,
    /// The translation is off.
    pub(super) retired: AtomicBool,
    /// A stream could not be taken off it.
    pub(super) keeps_stream: AtomicBool,
}

impl Domain {
    #[cfg(all(test, not(loom)))]
    pub(crate) fn new(kind: DomainKind, ops: Arc<dyn Translation>, geometry: &Geometry) -> Arc<Self> {
        Self::with_regions(kind, ops, geometry, &Pages::default())
    }

    /// A domain whose addresses are those of `geometry` without the reserved regions of its devices.
    pub(super) fn with_regions(
        kind: DomainKind,
        ops: Arc<dyn Translation>,
        geometry: &Geometry,
        regions: &Pages,
    ) -> Arc<Self> {
        let label = ops.label();
        let reserved: Vec<_> = geometry.reserved.iter().copied().chain(regions.ranges()).collect();
        let iova = IovaSpace::new(geometry.first, geometry.last, &reserved);
        let hole = |(first, last): (DeviceAddr, DeviceAddr)| ReservedRegion { first, last, kind: RegionKind::Reserved };
        let holes: Vec<_> = reserved.into_iter().filter(|(a, b)| a <= b).map(hole).collect();
        let holes = Mutex::new(Pages::of(&holes, |_| true));
        Arc::new(Self {
            kind,
            ops,
            iova,
            holes,
            history: Mutex::default(),
            queue: Mutex::new(None),
            unconfirmed: Mutex::default(),
            label,
            silent_until: AtomicU64::new(0),
            retired: AtomicBool::new(false),
            keeps_stream: AtomicBool::new(false),
        })
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

    /// Its addresses, whatever is in use.
    pub(crate) fn space(&self) -> &IovaSpace {
        &self.iova
    }

    /// Keeps `regions` from being used as device addresses from now on. Those that are in use are the error.
    pub(super) fn reserve(&self, regions: &Pages) -> Result<(), IommuError> {
        let mut holes = self.holes.lock();
        for (first, end) in regions.without(&holes).runs() {
            let run = Pages::run(first, end);
            if self.kind != DomainKind::Unmanaged && !self.iova.withdraw(first, end) {
                let (first, last) = run.ranges().next().unwrap_or_default();
                return Err(IommuError::RegionInUse { first, last });
            }
            *holes = holes.with(&run);
        }
        Ok(())
    }

    /// Whether a part of `range` is no device address, because it is reserved.
    pub(crate) fn is_reserved(&self, range: Range) -> bool {
        self.holes.lock().touch(range.iova, range.len)
    }

    /// Pages of IOVA space in use.
    pub fn iova_in_use(&self) -> u64 {
        self.iova.in_use()
    }

    /// Maps `len` bytes at `phys` (page aligned) for `device`, inside `limits`. As for a list, all that `pins`
    /// gives goes to quarantine when it is not mapped and the device may still reach it.
    #[expect(clippy::too_many_arguments, reason = "each one is a different fact of the mapping")]
    pub(crate) fn map(
        self: &Arc<Self>,
        machine: &Machine,
        device: &Arc<str>,
        kind: &'static str,
        phys: PhysAddr,
        len: u64,
        prot: Prot,
        limits: AddressingLimits<'_>,
        pins: &mut dyn FnMut() -> Vec<PagePin>,
    ) -> Result<DeviceAddr, DmaError> {
        let run = &mut core::iter::once((phys, len));
        match self.map_list(machine, device, kind, run, len, prot, limits, pins) {
            Ok(iova) => Ok(iova),
            Err(MapList::Undone(e)) => Err(e),
            // Some of its IOMMUs had mapped the run, and have not confirmed that it is gone.
            Err(MapList::Stuck) => Err(DmaError::Unconfirmed),
        }
    }

    /// Maps each run of `runs` (whole pages, `total` bytes in all) at one range of device addresses, in their order. When
    /// their beginning is mapped and cannot be shown to be unmapped, all that `pins` gives goes to quarantine.
    #[expect(clippy::too_many_arguments, reason = "each one is a different fact of the mapping")]
    pub(crate) fn map_list(
        self: &Arc<Self>,
        machine: &Machine,
        device: &Arc<str>,
        kind: &'static str,
        runs: &mut dyn Iterator<Item = (PhysAddr, u64)>,
        total: u64,
        prot: Prot,
        limits: AddressingLimits<'_>,
        pins: &mut dyn FnMut() -> Vec<PagePin>,
    ) -> Result<DeviceAddr, MapList> {
        if machine.should_fail(Some(device), FaultPoint::IovaAlloc) {
            return Err(MapList::Undone(DmaError::Injected(FaultPoint::IovaAlloc)));
        }
        self.confirm_due(machine);
        let count = pages(total);
        let iova = match self.iova.alloc_limited(count, limits) {
            Err(_) if self.confirm_queue(machine) => self.iova.alloc_limited(count, limits),
            first => first,
        };
        let iova = iova.map_err(|e| MapList::Undone(DmaError::Iova(e)))?;
        if machine.tracks_mappings() && self.kind == DomainKind::Lazy {
            let new = Range { iova, len: total };
            let waits = self.queue.lock().as_ref().is_some_and(|q| q.ranges.iter().any(|r| r.overlaps(new)));
            machine.promises.check(Promise::UnreachableBeforeFree, !waits, || {
                format!("{}: {iova} is used again before what it translated to is flushed", self.label)
            });
        }
        let mut at = iova;
        for (phys, len) in runs {
            if let Err(e) = self.ops.map(at, phys, len, prot) {
                let mapped = (at != iova).then_some(Range { iova, len: at - iova });
                let taken = Range { iova, len: count * PAGE_SIZE };
                if mapped.is_none() && matches!(e, MapError::Unconfirmed(_)) {
                    self.hold_unconfirmed(machine, device, taken, pins(), e);
                    return Err(MapList::Stuck);
                }
                // The flush of the beginning is one of the run that failed, too.
                return Err(match self.take_down(machine, device, mapped.as_slice(), taken, pins) {
                    Ok(()) => {
                        self.free_iova(taken);
                        MapList::Undone(DmaError::Map(e))
                    }
                    // The range stays taken, and so does the memory behind it.
                    Err(_) => MapList::Stuck,
                });
            }
            at = at + len;
        }
        if machine.tracks_mappings() {
            self.history.lock().live.insert(iova, Mapping { len: total, device: Arc::clone(device), kind });
        }
        Ok(iova)
    }

    pub(super) fn ended(&self, machine: &Machine, iova: DeviceAddr) {
        if machine.tracks_mappings() {
            let mut history = self.history.lock();
            if let Some(m) = history.live.remove(&iova) {
                history.ended.push(iova, m);
            }
        }
    }

    /// Gives device addresses back. The owner of an unmanaged domain takes its own.
    pub(super) fn free_iova(&self, range: Range) {
        if self.kind == DomainKind::Unmanaged {
            return;
        }
        let back = self.iova.free(range.iova, pages(range.len));
        debug_assert!(back.is_ok(), "{back:?}");
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
    pub(crate) fn last_words(&self) -> MappingHistory {
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

/// Why a list is not mapped.
pub(crate) enum MapList {
    /// Nothing of it is.
    Undone(DmaError),
    /// Its beginning was mapped, and could not be shown to be unmapped.
    Stuck,
}
