//! A domain: one translation, the IOVA space in front of it, and the memory of what was mapped where.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::lazy::{Batch, Queue};
use super::{DomainKind, Flushed, Gather, Geometry, IommuError, IovaSpace, MapError, Prot, Translation};
use crate::addr::{DeviceAddr, PAGE_SIZE, PhysAddr, pages};
use crate::dma::DmaError;
use crate::dma::check::Op;
use crate::env::Site;
use crate::machine::Machine;
use crate::mutant::Mutant;
use crate::promise::Promise;
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

/// What was unmapped and not confirmed. The next flush takes it along: once that is confirmed, so is this, and neither
/// table pages nor device addresses are lost.
#[derive(Default)]
struct Late {
    gather: Gather,
    ranges: Vec<(DeviceAddr, u64)>,
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
    /// Of a lazy domain: what waits for confirmation. The lock is a leaf.
    queue: Mutex<Option<Queue>>,
    /// What no flush has confirmed yet. The lock is a leaf.
    late: Mutex<Late>,
    label: String,
}

impl Domain {
    pub(crate) fn new(kind: DomainKind, ops: Arc<dyn Translation>, geometry: &Geometry) -> Arc<Self> {
        let label = ops.label();
        let iova = IovaSpace::new(geometry.first, geometry.last, &geometry.reserved);
        Arc::new(Self {
            kind,
            ops,
            iova,
            history: Mutex::default(),
            queue: Mutex::new(None),
            late: Mutex::default(),
            label,
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
        match self.map_list(machine, device, kind, &mut core::iter::once((phys, len)), len, prot, limit) {
            Ok(iova) => Ok(iova),
            Err(MapList::Undone(e)) => Err(e),
            // One run is mapped whole or not at all.
            Err(MapList::Stuck(_)) => Err(DmaError::Unconfirmed),
        }
    }

    /// Maps each run of `runs` (whole pages, `total` bytes in all) at one range of device addresses, in their order.
    #[expect(clippy::too_many_arguments, reason = "each one is a different fact of the mapping")]
    pub(crate) fn map_list(
        &self,
        machine: &Machine,
        device: &Arc<str>,
        kind: &'static str,
        runs: &mut dyn Iterator<Item = (PhysAddr, u64)>,
        total: u64,
        prot: Prot,
        limit: DeviceAddr,
    ) -> Result<DeviceAddr, MapList> {
        if machine.inject(Some(device), Site::IovaAlloc) {
            return Err(MapList::Undone(DmaError::Injected(Site::IovaAlloc)));
        }
        self.confirm_due(machine);
        let count = pages(total);
        let iova = match self.iova.alloc(count, limit) {
            Err(_) if self.confirm_queue(machine) => self.iova.alloc(count, limit),
            first => first,
        };
        let iova = iova.map_err(|e| MapList::Undone(DmaError::Iova(e)))?;
        if machine.tracks_mappings() && self.kind == DomainKind::Lazy {
            let clash = |(at, len): &(DeviceAddr, u64)| at.0 < iova.0 + total && iova.0 < at.0 + len;
            let waits = self.queue.lock().as_ref().is_some_and(|q| q.ranges.iter().any(clash));
            machine.promises.check(Promise::UnreachableBeforeFree, !waits, || {
                format!("{}: {iova} is used again before what it translated to is flushed", self.label)
            });
        }
        let mut at = iova;
        for (phys, len) in runs {
            if let Err(e) = self.ops.map(at, phys, len, prot) {
                return Err(match self.take_back(machine, iova, at - iova) {
                    Ok(()) => {
                        self.free_iova(iova, count * PAGE_SIZE);
                        MapList::Undone(DmaError::Map(e))
                    }
                    // The range stays taken, and so must the memory behind it.
                    Err(stuck) => {
                        if let UnmapError::Unconfirmed(_) = stuck {
                            self.late.lock().ranges.push((iova, count * PAGE_SIZE));
                        }
                        MapList::Stuck(stuck)
                    }
                });
            }
            at = at + len;
        }
        if machine.tracks_mappings() {
            self.history.lock().live.insert(iova, Mapping { len: total, device: Arc::clone(device), kind });
        }
        Ok(iova)
    }

    /// Takes down the first `len` bytes of a list that was not mapped to its end.
    fn take_back(&self, machine: &Machine, iova: DeviceAddr, len: u64) -> Result<(), UnmapError> {
        if len == 0 {
            return Ok(());
        }
        let mut gather = Gather::new();
        self.ops.unmap(iova, len, &mut gather).map_err(UnmapError::Map)?;
        self.flush(machine, gather).map(|_| ()).map_err(UnmapError::Unconfirmed)
    }

    /// Takes the translation of `len` bytes at `iova` down. A strict domain waits once, for the proof; a lazy one puts
    /// the range on its queue. The IOVA space goes back only with the proof: on an error the range stays unused until a
    /// later flush is confirmed, because the device may still reach through it.
    pub(crate) fn unmap(&self, machine: &Machine, iova: DeviceAddr, len: u64) -> Result<Revoked, UnmapError> {
        let mut gather = Gather::new();
        self.ops.unmap(iova, len, &mut gather).map_err(UnmapError::Map)?;
        // While the IOVA is still this caller's: freed, it may translate again for somebody else at once.
        machine.promises.check(Promise::UnreachableBeforeFree, self.ops.resolve(iova).is_none(), || {
            format!("{}: {iova} still translates after it was unmapped", self.label)
        });
        if self.kind == DomainKind::Lazy {
            let now = machine.env().now();
            let batch = {
                let mut slot = self.queue.lock();
                let queue = slot.get_or_insert_with(|| Queue::new(now));
                queue.gather.absorb(gather);
                queue.ranges.push((iova, len));
                Arc::clone(&queue.batch)
            };
            if machine.is_mutant(Mutant::IovaReusedBeforeFlush) {
                self.free_iova(iova, len);
            }
            return Ok(Revoked::Queued(batch));
        }
        let times_out = machine.inject(None, Site::Invalidate);
        let unasked = machine.is_mutant(Mutant::FreedBeforeInvalidation)
            || times_out && machine.is_mutant(Mutant::TimeoutIgnored);
        let flushed = if unasked {
            Ok(gather.confirm())
        } else if times_out {
            self.late.lock().gather.absorb(gather);
            Err(IommuError::Injected)
        } else {
            self.flush(machine, gather)
        };
        let flushed = flushed.map_err(|e| {
            self.late.lock().ranges.push((iova, len));
            UnmapError::Unconfirmed(e)
        })?;
        self.ended(machine, iova);
        self.free_iova(iova, len);
        Ok(Revoked::Now(flushed))
    }

    /// Waits until the hardware has forgotten what is in `gather`, and what earlier flushes did not confirm. The one place
    /// where the hardware's word becomes a proof.
    fn flush(&self, machine: &Machine, mut gather: Gather) -> Result<Flushed, IommuError> {
        let late = core::mem::take(&mut *self.late.lock());
        gather.absorb(late.gather);
        if let Err(e) = self.ops.flush(&mut gather) {
            let mut again = self.late.lock();
            again.gather.absorb(gather);
            again.ranges.extend(late.ranges);
            return Err(e);
        }
        for (iova, len) in late.ranges {
            self.ended(machine, iova);
            self.free_iova(iova, len);
        }
        Ok(gather.confirm())
    }

    /// Flushes what is left, before the translation goes. What the hardware does not confirm the translation keeps.
    pub(crate) fn flush_late(&self) {
        let mut late = core::mem::take(&mut self.late.lock().gather);
        if !late.is_empty() && self.ops.flush(&mut late).is_ok() {
            let _proof = late.confirm();
        }
    }

    /// Confirms the queue when it is full or its oldest entry has waited long enough.
    pub(crate) fn confirm_due(&self, machine: &Machine) {
        if self.kind == DomainKind::Lazy {
            let due = self.queue.lock().as_ref().is_some_and(|q| q.is_due(machine.env().now()));
            if due {
                self.confirm_queue(machine);
            }
        }
    }

    /// Confirms what waits now, all at once, and lets its pages and device addresses go. Without confirmation the pages
    /// go to quarantine and the addresses stay unused until a later flush is confirmed. True when something was confirmed.
    pub(crate) fn confirm_queue(&self, machine: &Machine) -> bool {
        let Some(queue) = self.queue.lock().take() else { return false };
        let confirmed = if machine.inject(None, Site::Invalidate) {
            self.late.lock().gather.absorb(queue.gather);
            Err(IommuError::Injected)
        } else {
            self.flush(machine, queue.gather).map(|_| ())
        };
        // The pages go back, or not, outside every lock.
        let runs = queue.batch.end(confirmed.is_ok());
        match confirmed {
            Ok(()) => {
                machine.check_dma(|| Op::Confirmed { backend: format!("iommu {}", self.label).into() });
                for (iova, len) in queue.ranges {
                    self.ended(machine, iova);
                    if !machine.is_mutant(Mutant::IovaReusedBeforeFlush) {
                        self.free_iova(iova, len);
                    }
                }
                for (device, run) in &runs {
                    machine.check_unreachable(device, run.base(), run.len());
                }
                // `runs` go back here.
                true
            }
            Err(e) => {
                if !machine.is_mutant(Mutant::IovaReusedBeforeFlush) {
                    self.late.lock().ranges.extend(queue.ranges);
                }
                for (device, run) in runs {
                    machine.quarantine.keep_run(machine, &device, run, format!("invalidation not confirmed: {e}"));
                }
                false
            }
        }
    }

    /// Unmaps that wait for their confirmation.
    pub fn waiting(&self) -> usize {
        self.queue.lock().as_ref().map_or(0, |q| q.ranges.len())
    }

    fn ended(&self, machine: &Machine, iova: DeviceAddr) {
        if machine.tracks_mappings() {
            let mut history = self.history.lock();
            if let Some(m) = history.live.remove(&iova) {
                history.ended.push(iova, m);
            }
        }
    }

    fn free_iova(&self, iova: DeviceAddr, len: u64) {
        let back = self.iova.free(iova, pages(len));
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

/// Why a list is not mapped.
pub(crate) enum MapList {
    /// Nothing of it is.
    Undone(DmaError),
    /// Its beginning was mapped, and could not be shown to be unmapped.
    Stuck(UnmapError),
}

/// A translation is taken down.
pub(crate) enum Revoked {
    /// And the hardware has said so.
    Now(Flushed),
    /// The hardware is told together with others.
    Queued(Arc<Batch>),
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
