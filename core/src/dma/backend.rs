//! Who gives DMA memory its pages and its device addresses, and takes them back.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::DmaError;
use super::pin::{PagePin, Unreachable, release_all};
use crate::addr::{DeviceAddr, PAGE_SIZE, PhysAddr, pages};
use crate::binding::Bound;
use crate::device::DmaRange;
use crate::driver::Quiesced;
use crate::env::FaultPoint;
use crate::iommu::{Domain, Range, Revoked};
use crate::machine::Machine;
use crate::mem::{PageAllocator, PageRequest, PageRun};
use crate::promise::Promise;

/// A device that puts (offset) physical addresses on its bus.
pub(crate) struct Direct {
    ranges: Vec<DmaRange>,
}

impl Direct {
    /// The bus address of `len` bytes (at least 1) at `phys`, if one window of the bus covers them all and none lies
    /// above `limit`.
    pub(super) fn reach(&self, phys: PhysAddr, len: u64, limit: DeviceAddr) -> Option<DeviceAddr> {
        let addr = if self.ranges.is_empty() {
            DeviceAddr(phys.0)
        } else {
            self.ranges.iter().find_map(|r| {
                let offset = phys.0.checked_sub(r.phys.0)?;
                let inside = offset.checked_add(len)? <= r.len;
                inside.then(|| r.bus.checked_add(offset).map(DeviceAddr))?
            })?
        };
        (addr.0.checked_add(len - 1)? <= limit.0).then_some(addr)
    }

    /// The highest physical address that `limit` on the bus allows in each window, highest first.
    fn tops(&self, limit: DeviceAddr) -> Vec<PhysAddr> {
        if self.ranges.is_empty() {
            return Vec::from([PhysAddr(limit.0)]);
        }
        let top = |r: &DmaRange| Some(r.phys.0.saturating_add(limit.0.checked_sub(r.bus)?.min(r.len.checked_sub(1)?)));
        let mut tops: Vec<_> = self.ranges.iter().filter_map(top).map(PhysAddr).collect();
        tops.sort_unstable_by(|a, b| b.cmp(a));
        tops
    }

    /// Takes `count` pages that the device reaches. Allocators hand out the highest pages below a limit, so each
    /// window's top is tried.
    pub(super) fn take(
        &self,
        source: &Arc<dyn PageAllocator>,
        count: u64,
        align: u64,
        limit: DeviceAddr,
    ) -> Result<PageRun, DmaError> {
        let mut error = DmaError::Mask(limit);
        for top in self.tops(limit) {
            match PageRun::alloc(source, &PageRequest { pages: count, align, limit: top }) {
                Ok(run) if self.reach(run.base(), run.len(), limit).is_some() => return Ok(run),
                Ok(_) => {}
                Err(e) => error = e.into(),
            }
        }
        Err(error)
    }
}

/// A back-end. Allocations carry a reference to it (P1).
pub(crate) enum Backend {
    /// Physical addresses, with the bus's windows.
    Direct(Direct),
    /// IOVA, through a domain.
    Translated(Arc<Domain>),
}

/// How a mapping ended.
pub(super) enum Revocation {
    /// The device cannot reach the pages; their pins are gone.
    Proven,
    /// It will be unable to when a lazy domain is flushed; the pins wait there.
    Later(Arc<Domain>),
}

impl Backend {
    pub(crate) fn direct(bound: &Bound) -> Self {
        Self::Direct(Direct { ranges: bound.desc().dma.ranges.clone() })
    }

    /// How events name it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Direct(d) if d.ranges.is_empty() => "direct".to_string(),
            Self::Direct(_) => "direct (dma-ranges)".to_string(),
            Self::Translated(d) => format!("iommu {}", d.label()),
        }
    }

    /// The domain, if there is one.
    pub(super) fn domain(&self) -> Option<&Arc<Domain>> {
        match self {
            Self::Direct(_) => None,
            Self::Translated(d) => Some(d),
        }
    }

    /// Takes zeroed pages for `len` bytes that the device will share with the CPU.
    ///
    /// Untranslated devices need them contiguous: CMA first, page frames when CMA has none. The run remembers which one
    /// it was.
    pub(super) fn take_shared(
        &self,
        machine: &Machine,
        device: &str,
        len: u64,
        align: u64,
        limit: DeviceAddr,
    ) -> Result<PageRun, DmaError> {
        let count = count(len)?;
        if let (Self::Direct(d), Some(cma)) = (self, machine.memory().cma())
            && !machine.should_fail(Some(device), FaultPoint::CmaAlloc)
            && let Ok(run) = d.take(cma, count, align, limit)
        {
            return Ok(run);
        }
        self.take_frames(machine, device, count, align, limit)
    }

    /// Takes zeroed pages for `len` bytes that the CPU owns and lends to the device: where the device reaches them, if
    /// there is such a place, else anywhere.
    pub(super) fn take_lent(
        &self,
        machine: &Machine,
        device: &str,
        len: u64,
        limit: DeviceAddr,
    ) -> Result<PageRun, DmaError> {
        let count = count(len)?;
        match self.take_frames(machine, device, count, PAGE_SIZE, limit) {
            Err(DmaError::Memory(_) | DmaError::Mask(_)) => {
                Ok(PageRun::alloc(machine.memory().frames(), &PageRequest::new(count))?)
            }
            taken => taken,
        }
    }

    fn take_frames(
        &self,
        machine: &Machine,
        device: &str,
        count: u64,
        align: u64,
        limit: DeviceAddr,
    ) -> Result<PageRun, DmaError> {
        if machine.should_fail(Some(device), FaultPoint::FrameAlloc) {
            return Err(DmaError::Injected(FaultPoint::FrameAlloc));
        }
        let frames = machine.memory().frames();
        match self {
            Self::Direct(d) => d.take(frames, count, align, limit),
            Self::Translated(domain) => {
                let request = PageRequest::new(count);
                match PageRun::alloc(frames, &request) {
                    // Pages may wait for a confirmation that nobody has asked for yet.
                    Err(_) if domain.confirm_queue(machine) => Ok(PageRun::alloc(frames, &request)?),
                    taken => Ok(taken?),
                }
            }
        }
    }

    /// Takes a range of device addresses back, and ends the pins behind it with a proof. Without a translation the only
    /// proof is the device's own quiet; without any proof the reason comes back, and the pins are in quarantine.
    pub(super) fn unmap(
        &self,
        machine: &Machine,
        device: &Arc<str>,
        range: Range,
        quiesced: Option<&Quiesced>,
        pins: Vec<PagePin>,
    ) -> Result<Revocation, String> {
        let same = pins.iter().all(|pin| pin.is_via(self.domain()));
        machine.promises.check(Promise::MatchingBackend, same, || {
            format!("{device}: {} takes back what another back-end gave", self.name())
        });
        match self {
            Self::Direct(_) => {
                let Some(quiesced) = quiesced else {
                    let why = "the device was not shown to be quiesced".to_string();
                    machine.quarantine.until_quiesced(machine, device, pins, why.clone());
                    return Err(why);
                };
                let left = release_all(machine, pins, &Unreachable::quiesced(quiesced, device));
                if left.is_empty() { Ok(Revocation::Proven) } else { Err("shown for another device".to_string()) }
            }
            Self::Translated(d) => match d.unmap(machine, device, range, pins) {
                Ok(Revoked::Now) => Ok(Revocation::Proven),
                Ok(Revoked::Queued) => Ok(Revocation::Later(Arc::clone(d))),
                Err(e) => Err(e.to_string()),
            },
        }
    }
}

/// Pages for `len` bytes, if that is a size to be had at all.
fn count(len: u64) -> Result<u64, DmaError> {
    match pages(len) {
        n @ 1..=0xffff_ffff => Ok(n),
        _ => Err(DmaError::BadSize(len)),
    }
}
