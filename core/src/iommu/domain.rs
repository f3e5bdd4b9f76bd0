//! Domains: a translation and its IOVA space.

use alloc::collections::btree_map::{BTreeMap, Entry};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::history::History;
use super::multi_iommu::MultiIommu;
use super::regions::Pages;
use super::unconfirmed::{Range, UnconfirmedList};
use super::{AddressingLimits, DomainKind, Gather, Geometry, IovaSpace, MapError, Prot, Translation};
use crate::addr::{DeviceAddr, PAGE_SIZE, PhysAddr, pages};
use crate::device::{RegionKind, ReservedRegion};
use crate::dma::{FlushQueue, PagePins, QueueFlushes};
use crate::error::DmaError;
use crate::instrument::FaultPoint;
use crate::promise::Promise;
use crate::sync::SpinLock;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::system::System;

/// Device addresses that the IOVA space does not allocate.
#[derive(Default)]
struct FixedAddresses {
    /// Reserved pages, which are never device addresses here.
    reserved: Pages,
    /// Ranges that the owner of an unmanaged domain has mapped at addresses of its choice, or is about to: the lengths
    /// that calls have claimed at each address. A range stays until its unmap is confirmed.
    mapped: BTreeMap<DeviceAddr, Vec<u64>>,
}

impl FixedAddresses {
    /// True when a mapped range overlaps `run`.
    fn is_mapped(&self, run: &Pages) -> bool {
        let end = run.ranges().last().map_or(DeviceAddr(0), |(_, last)| last);
        self.mapped.range(..=end).any(|(at, lens)| lens.iter().any(|len| run.touch(*at, *len)))
    }
}

/// IOMMU domain: one translation and its IOVA space.
pub struct Domain {
    kind: DomainKind,
    ops: Arc<dyn Translation>,
    /// The same, if it is over IOMMUs of a group: maps and unmaps pass it by while there is one.
    pub(super) multi: Option<Arc<MultiIommu>>,
    iova: IovaSpace,
    /// Allocated pages that each of those who keep some for later does not use. A leaf lock.
    kept: SpinLock<Vec<Arc<AtomicU64>>>,
    /// A leaf lock.
    fixed: SpinLock<FixedAddresses>,
    /// A leaf lock.
    pub(super) history: SpinLock<History>,
    /// Flush queue of a lazy domain. The lock is a leaf.
    pub(crate) queue: SpinLock<Option<FlushQueue>>,
    /// Earlier queues, whose flush is under way.
    pub(crate) flushes: QueueFlushes,
    /// Time at which the oldest entry of the queue is due, in nanoseconds. A hint, to be read without the lock.
    pub(crate) queue_due: AtomicU64,
    /// A timer of the machine is going to look at the queue.
    pub(super) has_timer: AtomicBool,
    /// Unmaps that no flush has confirmed yet. Held while the owner of an unmanaged domain maps, so that it cannot map
    /// over such a range; otherwise the lock is a leaf.
    pub(super) unconfirmed: UnconfirmedList,
    label: String,
    /// Time before which single unmaps are not flushed, in nanoseconds: a flush has just timed out.
    pub(super) no_flush_before: AtomicU64,
    /// The translation is disabled.
    pub(super) retired: AtomicBool,
    /// A stream could not be detached from it.
    pub(super) detach_failed: AtomicBool,
}

impl Domain {
    #[cfg(test)]
    pub(crate) fn new(kind: DomainKind, ops: Arc<dyn Translation>, geometry: &Geometry) -> Arc<Self> {
        Self::of(kind, ops, None, geometry, &Pages::default())
    }

    /// A domain over the IOMMUs of `multi`, whose addresses are those of `geometry` without the reserved regions of its devices.
    pub(super) fn with_regions(
        kind: DomainKind,
        multi: &Arc<MultiIommu>,
        geometry: &Geometry,
        regions: &Pages,
    ) -> Arc<Self> {
        Self::of(kind, Arc::<MultiIommu>::clone(multi), Some(Arc::clone(multi)), geometry, regions)
    }

    fn of(
        kind: DomainKind,
        ops: Arc<dyn Translation>,
        multi: Option<Arc<MultiIommu>>,
        geometry: &Geometry,
        regions: &Pages,
    ) -> Arc<Self> {
        let label = ops.label();
        let reserved: Vec<_> = geometry.reserved.iter().copied().chain(regions.ranges()).collect();
        let iova = IovaSpace::new(geometry.first, geometry.last, &reserved);
        let hole = |(first, last): (DeviceAddr, DeviceAddr)| ReservedRegion { first, last, kind: RegionKind::Reserved };
        let holes: Vec<_> = reserved.into_iter().filter(|(a, b)| a <= b).map(hole).collect();
        let fixed = FixedAddresses { reserved: Pages::of(&holes, |_| true), ..FixedAddresses::default() };
        Arc::new(Self {
            kind,
            ops,
            multi,
            iova,
            kept: SpinLock::default(),
            fixed: SpinLock::new(fixed),
            history: SpinLock::default(),
            queue: SpinLock::new(None),
            flushes: QueueFlushes::default(),
            queue_due: AtomicU64::new(u64::MAX),
            has_timer: AtomicBool::new(false),
            unconfirmed: UnconfirmedList::default(),
            label,
            no_flush_before: AtomicU64::new(0),
            retired: AtomicBool::new(false),
            detach_failed: AtomicBool::new(false),
        })
    }

    /// Kind of the domain.
    #[inline]
    pub fn kind(&self) -> DomainKind {
        self.kind
    }

    /// Name in reports.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The translation.
    #[inline]
    pub fn translation(&self) -> &Arc<dyn Translation> {
        &self.ops
    }

    /// The translation, or that of its only IOMMU.
    #[inline]
    pub(super) fn direct(&self) -> &dyn Translation {
        self.multi.as_ref().and_then(|multi| multi.single()).unwrap_or(&*self.ops)
    }

    /// The IOVA space.
    #[inline]
    pub(crate) fn space(&self) -> &IovaSpace {
        &self.iova
    }

    /// Reserves those of `regions` that are free, so that they are not allocated as device addresses. Returns the others.
    pub(super) fn reserve(&self, regions: &Pages) -> Pages {
        let (mut fixed, mut in_use) = (self.fixed.lock(), Pages::default());
        for (first, end) in regions.without(&fixed.reserved).runs() {
            let run = Pages::run(first, end);
            let is_free = match self.kind {
                DomainKind::Unmanaged => !fixed.is_mapped(&run),
                _ => self.iova.reserve_pages(first, end),
            };
            let list = if is_free { &mut fixed.reserved } else { &mut in_use };
            *list = list.with(&run);
        }
        in_use
    }

    /// Claims `range` for a map at an address that its owner has chosen. False when a part of it is reserved.
    pub(super) fn claim_fixed(&self, range: Range) -> bool {
        let mut fixed = self.fixed.lock();
        if fixed.reserved.touch(range.iova, range.len) {
            return false;
        }
        fixed.mapped.entry(range.iova).or_default().push(range.len);
        true
    }

    /// Claims the first page of `place`, a reserved region, that nobody has claimed and that is in none of `others`.
    pub(super) fn claim_page(&self, place: &ReservedRegion, others: &[ReservedRegion]) -> Option<Range> {
        let mut fixed = self.fixed.lock();
        let others = Pages::of(others, |_| true);
        let pages = (place.first.0..place.last.0).step_by(PAGE_SIZE as usize).map(DeviceAddr);
        let is_free = |iova: &DeviceAddr| {
            let page = iova.0 / PAGE_SIZE;
            !others.touch(*iova, PAGE_SIZE) && !fixed.is_mapped(&Pages::run(page, page + 1))
        };
        let range = Range { iova: pages.into_iter().find(is_free)?, len: PAGE_SIZE };
        fixed.mapped.entry(range.iova).or_default().push(range.len);
        Some(range)
    }

    /// Pages of IOVA space in use, without those that are kept for later maps.
    pub fn iova_in_use(&self) -> u64 {
        self.iova.in_use().saturating_sub(self.kept_pages())
    }

    /// Pages of IOVA space that are kept for later maps.
    pub(crate) fn kept_pages(&self) -> u64 {
        self.kept.lock().iter().map(|kept| kept.load(Ordering::Relaxed)).sum()
    }

    /// Counts in `kept` the allocated pages that somebody keeps for later.
    pub(crate) fn add_keeper(&self, kept: &Arc<AtomicU64>) {
        self.kept.lock().push(Arc::clone(kept));
    }

    /// Ends what [`add_keeper`](Self::add_keeper) began.
    pub(crate) fn remove_keeper(&self, kept: &Arc<AtomicU64>) {
        self.kept.lock().retain(|one| !Arc::ptr_eq(one, kept));
    }

    /// Maps `len` bytes at `phys` (page aligned).
    pub(crate) fn map(
        self: &Arc<Self>,
        request: MapRequest<'_>,
        phys: PhysAddr,
        len: u64,
    ) -> Result<DeviceAddr, DmaError> {
        match self.map_list(request, core::iter::once((phys, len)), len) {
            Ok(iova) => Ok(iova),
            Err(MapListError::NotMapped(e)) => Err(e),
            // Some of its IOMMUs had mapped the run, and have not confirmed the unmap.
            Err(MapListError::Unconfirmed) => Err(DmaError::Unconfirmed),
        }
    }

    /// Maps each run of `runs` (whole pages, `total` bytes in all) at one range of device addresses, in their order.
    pub(crate) fn map_list(
        self: &Arc<Self>,
        request: MapRequest<'_>,
        runs: impl Iterator<Item = (PhysAddr, u64)> + Clone,
        total: u64,
    ) -> Result<DeviceAddr, MapListError> {
        let MapRequest { machine, device, limits, .. } = request;
        if machine.should_fail(Some(device), FaultPoint::IovaAlloc) {
            return Err(MapListError::NotMapped(DmaError::Injected(FaultPoint::IovaAlloc)));
        }
        self.confirm_due(machine);
        let count = pages(total);
        let iova = self.alloc_iova(machine, count, limits).map_err(MapListError::NotMapped)?;
        self.map_at(request, Range { iova, len: count * PAGE_SIZE }, runs, total)?;
        Ok(iova)
    }

    /// Allocates device addresses for `count` pages. If there are none, what is queued is flushed first, and then the coherent pages are
    /// unmapped that wait for their drivers.
    pub(crate) fn alloc_iova(
        self: &Arc<Self>,
        machine: &System,
        count: u64,
        limits: AddressingLimits<'_>,
    ) -> Result<DeviceAddr, DmaError> {
        let alloc = || self.iova.alloc_limited(count, limits);
        let after = |freed: bool, none| if freed { alloc() } else { Err(none) };
        let iova = alloc()
            .or_else(|none| after(self.confirm_all_queued(machine), none))
            .or_else(|none| after(machine.empty_coherent_caches_of(self, limits.limit), none));
        iova.map_err(DmaError::Iova)
    }

    /// Maps each run of `runs` (whole pages, `total` bytes in all) from the start of `reserved` on, which the caller has allocated. On
    /// an error the addresses are free again, or wait until a flush is confirmed.
    pub(crate) fn map_at(
        self: &Arc<Self>,
        request: MapRequest<'_>,
        reserved: Range,
        runs: impl Iterator<Item = (PhysAddr, u64)> + Clone,
        total: u64,
    ) -> Result<(), MapListError> {
        let MapRequest { machine, device, kind, prot, pins, .. } = request;
        let range = Range { iova: reserved.iova, len: total };
        self.map_runs(machine, (device, kind), range, runs, prot)
            .map_err(|failed| self.undo(machine, device, reserved, failed, pins))
    }

    /// Maps each run of `runs` (whole pages) at `range`, which the caller has allocated, in their order. Whoever gets an error calls
    /// [`undo`](Self::undo).
    pub(crate) fn map_runs(
        &self,
        machine: &System,
        (device, kind): (&Arc<str>, &'static str),
        range: Range,
        mut runs: impl Iterator<Item = (PhysAddr, u64)> + Clone,
        prot: Prot,
    ) -> Result<(), FailedMap> {
        if machine.tracks_mappings() {
            self.check_reuse(machine, range);
        }
        let again = runs.clone();
        if let Err((done, error)) = self.direct().map_runs(range.iova, &mut runs, prot) {
            return Err(FailedMap { error, done, len: len_at(again, done) });
        }
        if machine.tracks_mappings() {
            self.record_mapped(range, device, kind);
        }
        Ok(())
    }

    /// As [`map_runs`](Self::map_runs), for one run, at `phys`.
    #[inline]
    pub(crate) fn map_run(
        &self,
        machine: &System,
        (device, kind): (&Arc<str>, &'static str),
        range: Range,
        phys: PhysAddr,
        prot: Prot,
    ) -> Result<(), FailedMap> {
        if machine.tracks_mappings() {
            self.check_reuse(machine, range);
        }
        let mapped = self.direct().map(range.iova, phys, range.len, prot);
        mapped.map_err(|error| FailedMap::of(error, range.len))?;
        if machine.tracks_mappings() {
            self.record_mapped(range, device, kind);
        }
        Ok(())
    }

    /// P2: what is mapped anew does not wait for its flush.
    #[cold]
    pub(super) fn check_reuse(&self, machine: &System, new: Range) {
        if self.kind == DomainKind::Lazy {
            machine.promises.check(Promise::UnreachableBeforeFree, !self.is_queued(new), || {
                format!("{}: {} is reused before its old translation is flushed", self.label, new.iova)
            });
        }
    }

    /// Unmaps the first bytes of `reserved`, of which the run behind them could not be mapped. The addresses are free then, or wait
    /// until a flush is confirmed.
    #[cold]
    pub(crate) fn undo(
        self: &Arc<Self>,
        machine: &System,
        device: &Arc<str>,
        reserved: Range,
        failed: FailedMap,
        pins: &mut dyn FnMut() -> PagePins,
    ) -> MapListError {
        let FailedMap { error: e, done, len } = failed;
        let (iova, at) = (reserved.iova, reserved.iova + done);
        let (before, run) = (Range { iova, len: done }, Range { iova: at, len });
        let unconfirmed = matches!(e, MapError::Unconfirmed(_));
        // One of several IOMMUs may have failed to remove what it had mapped of the run.
        let mapped = [(before, done != 0), (run, unconfirmed && self.maps_any_of(run))];
        let mapped: Vec<_> = mapped.into_iter().filter(|(_, is)| *is).map(|(range, _)| range).collect();
        if mapped.is_empty() && unconfirmed {
            self.hold_unconfirmed(machine, device, reserved, pins(), e);
            return MapListError::Unconfirmed;
        }
        // The flush of the mapped part covers the run that failed, too: what is left of it at some IOMMU may be in the hands
        // of another flush, which is not finished.
        let mut gather = Gather::new();
        gather.add(at, len);
        match self.unmap_ranges(machine, device, &mapped, reserved, gather, pins) {
            Ok(()) => {
                self.free_iova(reserved);
                MapListError::NotMapped(DmaError::Map(e))
            }
            // The range stays allocated, and its memory pinned.
            Err(_) => MapListError::Unconfirmed,
        }
    }

    /// Frees device addresses that were allocated, or claimed by the owner of an unmanaged domain.
    pub(crate) fn free_iova(&self, range: Range) {
        if self.kind == DomainKind::Unmanaged {
            if let Entry::Occupied(mut claimed) = self.fixed.lock().mapped.entry(range.iova) {
                // Another call may have mapped the address again since it was confirmed to be free.
                let lens = claimed.get_mut();
                let at = lens.iter().position(|len| *len == range.len).unwrap_or(0);
                lens.swap_remove(at);
                if lens.is_empty() {
                    claimed.remove();
                }
            }
            return;
        }
        let back = self.iova.free(range.iova, pages(range.len));
        debug_assert!(back.is_ok(), "{back:?}");
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Domain({}, {})", self.label, self.kind)
    }
}

/// Request to map memory or registers for one device: all but their addresses.
pub(crate) struct MapRequest<'a> {
    pub(crate) machine: &'a System,
    pub(crate) device: &'a Arc<str>,
    /// Kind of the mapping, in reports.
    pub(crate) kind: &'static str,
    pub(crate) prot: Prot,
    /// Device addresses that the device can reach.
    pub(crate) limits: AddressingLimits<'a>,
    /// Makes pins of all that is mapped. They go to quarantine when the map fails after a part was mapped whose unmap
    /// is not confirmed: the device may still reach the memory.
    pub(crate) pins: &'a mut dyn FnMut() -> PagePins,
}

/// Bytes of the run that begins after `done` bytes of `runs`.
#[cold]
fn len_at(runs: impl Iterator<Item = (PhysAddr, u64)>, done: u64) -> u64 {
    let mut before = 0;
    let run = runs.map(|(_, len)| len).find(|len| {
        let begins = before == done;
        before += len;
        begins
    });
    run.unwrap_or(0)
}

/// A run that could not be mapped.
#[derive(Clone, Copy)]
pub(crate) struct FailedMap {
    error: MapError,
    /// Bytes that were mapped before it, and are still.
    done: u64,
    /// Bytes of the run.
    len: u64,
}

impl FailedMap {
    /// `error` of a run of `len` bytes, before which nothing was mapped.
    pub(super) fn of(error: MapError, len: u64) -> Self {
        Self { error, done: 0, len }
    }

    pub(crate) fn error(&self) -> MapError {
        self.error
    }
}

/// Error of [`Domain::map_list`].
pub(crate) enum MapListError {
    /// Nothing is mapped.
    NotMapped(DmaError),
    /// A part was mapped, and its unmap is not confirmed.
    Unconfirmed,
}

#[cfg(all(test, not(loom)))]
mod tests;
