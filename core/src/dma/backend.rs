//! Back-ends: allocate the pages and device addresses of DMA memory and free them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::DmaError;
use super::pin::{PagePins, Unreachable, release_all};
use crate::addr::{DeviceAddr, PAGE_SIZE, PhysAddr, pages};
use crate::binding::BindingState;
use crate::device::DmaRange;
use crate::driver::Quiesced;
use crate::instrument::FaultPoint;
use crate::iommu::{Domain, Range, Revoked};
use crate::mem::{PageAllocator, PageRequest, PageRun};
use crate::promise::Promise;
use crate::system::System;

/// Back-end of an untranslated device: device addresses are physical addresses, offset by the windows of the bus.
pub(crate) struct Direct {
    ranges: Vec<DmaRange>,
}

impl Direct {
    /// The bus address of `len` bytes (at least 1) at `phys`, if one window of the bus covers them all and none lies
    /// above `limit`.
    pub(super) fn bus_addr(&self, phys: PhysAddr, len: u64, limit: DeviceAddr) -> Option<DeviceAddr> {
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

    /// Highest physical address of each window whose bus address is not above `limit`, highest first.
    fn tops(&self, limit: DeviceAddr) -> Vec<PhysAddr> {
        if self.ranges.is_empty() {
            return Vec::from([PhysAddr(limit.0)]);
        }
        let top = |r: &DmaRange| Some(r.phys.0.saturating_add(limit.0.checked_sub(r.bus)?.min(r.len.checked_sub(1)?)));
        let mut tops: Vec<_> = self.ranges.iter().filter_map(top).map(PhysAddr).collect();
        tops.sort_unstable_by(|a, b| b.cmp(a));
        tops
    }

    /// Allocates `count` pages that the device can address. Allocators return the highest pages below a limit, so the
    /// end of each window is tried.
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
                Ok(run) if self.bus_addr(run.base(), run.len(), limit).is_some() => return Ok(run),
                Ok(_) => {}
                Err(e) => error = e.into(),
            }
        }
        Err(error)
    }
}

/// Back-end of a binding. Allocations hold a reference to it (P1).
pub(crate) enum Backend {
    /// Physical addresses, offset by the windows of the bus.
    Direct(Direct),
    /// IOVA, through a domain.
    Translated(Arc<Domain>),
}

/// Outcome of an unmap.
pub(super) enum Revocation {
    /// The device cannot reach the pages; their pins are gone.
    Confirmed,
    /// The unmap is queued in a lazy domain, with the pins; the device may reach the pages until the domain is flushed.
    Queued(Arc<Domain>),
}

impl Backend {
    pub(crate) fn direct(bound: &BindingState) -> Self {
        Self::Direct(Direct { ranges: bound.desc().dma.ranges.clone() })
    }

    /// Name in events.
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

    /// Allocates zeroed pages for `len` bytes of coherent memory.
    ///
    /// Untranslated devices need contiguous pages: from CMA if it has any, else from the page frames. The run records
    /// which of them it came from.
    pub(super) fn take_coherent(
        &self,
        machine: &System,
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

    /// Allocates zeroed pages for `len` bytes of a streaming buffer: where the device can address them, if there are
    /// any, else anywhere.
    pub(super) fn take_streaming(
        &self,
        machine: &System,
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
        machine: &System,
        device: &str,
        count: u64,
        align: u64,
        limit: DeviceAddr,
    ) -> Result<PageRun, DmaError> {
        if machine.should_fail(Some(device), FaultPoint::FrameAlloc) {
            return Err(DmaError::Injected(FaultPoint::FrameAlloc));
        }
        match self.take_frames_once(machine, count, align, limit) {
            // Released pages may wait for their driver's next allocation.
            Err(DmaError::Memory(_) | DmaError::Mask(_)) if machine.empty_coherent_caches() => {
                self.take_frames_once(machine, count, align, limit)
            }
            taken => taken,
        }
    }

    fn take_frames_once(
        &self,
        machine: &System,
        count: u64,
        align: u64,
        limit: DeviceAddr,
    ) -> Result<PageRun, DmaError> {
        let frames = machine.memory().frames();
        match self {
            Self::Direct(d) => d.take(frames, count, align, limit),
            Self::Translated(domain) => {
                let request = PageRequest::new(count);
                match PageRun::alloc(frames, &request) {
                    // Pages may still be on the queue of a lazy domain: flush it, then try again.
                    Err(_) if domain.confirm_all_queued(machine) => Ok(PageRun::alloc(frames, &request)?),
                    taken => Ok(taken?),
                }
            }
        }
    }

    /// Unmaps a range of device addresses and ends the pins of its memory with a proof. Without a translation the only
    /// proof is a quiesced device; without any proof the reason is returned, and the pins are in quarantine.
    pub(super) fn unmap(
        &self,
        machine: &System,
        device: &Arc<str>,
        range: Range,
        quiesced: Option<&Quiesced>,
        pins: PagePins,
    ) -> Result<Revocation, String> {
        let same = pins.iter().all(|pin| pin.is_for(self.domain()));
        machine.promises.check(Promise::MatchingBackend, same, || {
            format!("{device}: {} is asked to free what another back-end allocated", self.name())
        });
        match self {
            Self::Direct(_) => {
                let Some(quiesced) = quiesced else {
                    let reason = "the device was not shown to be quiesced".to_string();
                    machine.quarantine_table().hold_until_quiesced(machine, device, pins, reason.clone());
                    return Err(reason);
                };
                let left = release_all(machine, pins, &Unreachable::quiesced(quiesced, device));
                if left.is_empty() {
                    Ok(Revocation::Confirmed)
                } else {
                    Err("the proof is about another device".to_string())
                }
            }
            Self::Translated(d) => match d.unmap(machine, device, range, pins) {
                Ok(Revoked::Confirmed) => Ok(Revocation::Confirmed),
                Ok(Revoked::Queued) => Ok(Revocation::Queued(Arc::clone(d))),
                Err(e) => Err(e.to_string()),
            },
        }
    }

    /// As [`unmap`](Self::unmap), of many ranges of a strict domain, with one flush.
    pub(super) fn unmap_all(
        &self,
        machine: &System,
        device: &Arc<str>,
        ranges: &[Range],
        pins: PagePins,
    ) -> Result<(), String> {
        let Self::Translated(domain) = self else { return Err("not behind an IOMMU".to_string()) };
        let same = pins.iter().all(|pin| pin.is_for(Some(domain)));
        machine.promises.check(Promise::MatchingBackend, same, || {
            format!("{device}: {} is asked to free what another back-end allocated", self.name())
        });
        domain.unmap_all(machine, device, ranges, pins).map_err(|e| e.to_string())
    }
}

/// Number of pages for `len` bytes; an error for no bytes, or more than an allocator takes.
fn count(len: u64) -> Result<u64, DmaError> {
    match pages(len) {
        n @ 1..=0xffff_ffff => Ok(n),
        _ => Err(DmaError::BadSize(len)),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Each run gets an address exactly when its first and its last byte lie in one window.
    #[test]
    fn a_run_lies_in_one_window_whole_or_has_no_address() {
        let window = |bus, phys, len| DmaRange { bus, phys: PhysAddr(phys), len };
        let direct = Direct { ranges: Vec::from([window(0x1000, 0x8000, 0x3000), window(0x9000, 0xb000, 0x1000)]) };
        for phys in (0x7000..0xd000).step_by(0x800) {
            for len in [1, 0x800, 0x801, 0x1000, 0x2000, 0x3000, 0x3800, 0x4000, u64::MAX] {
                let (first, last) = (phys, u64::saturating_add(phys, len - 1));
                let expected = direct.ranges.iter().find_map(|w| {
                    let holds = |at: u64| at >= w.phys.0 && at - w.phys.0 < w.len;
                    (holds(first) && holds(last)).then(|| DeviceAddr(w.bus + (first - w.phys.0)))
                });
                let got = direct.bus_addr(PhysAddr(phys), len, DeviceAddr(u64::MAX));
                assert_eq!(got, expected, "{phys:#x} + {len:#x}");
            }
        }
    }
}
