//! Who gives DMA memory its pages and its device addresses, and takes them back.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::DmaError;
use crate::addr::{DeviceAddr, PAGE_SIZE, PhysAddr, pages};
use crate::binding::Bound;
use crate::device::DmaRange;
use crate::driver::Quiet;
use crate::env::Site;
use crate::iommu::{Domain, Flushed, Prot};
use crate::machine::Machine;
use crate::mem::{PageRequest, PageRun, PageSource};

/// A device that puts (offset) physical addresses on its bus.
pub(crate) struct Direct {
    ranges: Vec<DmaRange>,
}

impl Direct {
    /// The bus address of `len` bytes at `phys`, if one window of the bus covers them all.
    fn to_bus(&self, phys: PhysAddr, len: u64) -> Option<DeviceAddr> {
        if self.ranges.is_empty() {
            return Some(DeviceAddr(phys.0));
        }
        self.ranges.iter().find_map(|r| {
            let offset = phys.0.checked_sub(r.phys.0)?;
            (offset.checked_add(len)? <= r.len).then(|| DeviceAddr(r.bus + offset))
        })
    }

    /// Highest physical address that `limit` on the bus allows.
    fn phys_limit(&self, limit: DeviceAddr) -> PhysAddr {
        if self.ranges.is_empty() {
            return PhysAddr(limit.0);
        }
        let reach = |r: &DmaRange| Some(r.phys.0 + limit.0.checked_sub(r.bus)?.min(r.len - 1));
        PhysAddr(self.ranges.iter().filter_map(reach).max().unwrap_or(0))
    }
}

/// A back-end. Allocations carry a reference to it (P1).
pub(crate) enum Backend {
    /// Physical addresses, with the bus's windows.
    Direct(Direct),
    /// IOVA, through a domain.
    Translated(Arc<Domain>),
}

/// Holding an `Unreachable` tells you: no translation lets the device reach the pages of one mapping any more, or the
/// device does not look (P2, P11).
#[derive(Debug)]
#[must_use = "the proof is what lets pages go back"]
pub(crate) struct Unreachable(());

impl From<Flushed> for Unreachable {
    fn from(_: Flushed) -> Self {
        Self(())
    }
}

impl From<&Quiet> for Unreachable {
    fn from(_: &Quiet) -> Self {
        Self(())
    }
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

    /// Takes zeroed pages for `len` bytes that the device will share with the CPU.
    ///
    /// Untranslated devices need them contiguous: CMA first, page frames when CMA has none. The run remembers which one
    /// it was.
    pub(crate) fn take(
        &self,
        machine: &Machine,
        device: &str,
        len: u64,
        limit: DeviceAddr,
    ) -> Result<PageRun, DmaError> {
        let count = pages(len);
        if count == 0 || count > u64::from(u32::MAX) {
            return Err(DmaError::BadSize(len));
        }
        let request = |limit| PageRequest { pages: count, align: PAGE_SIZE, limit };
        let from = |source: &Arc<dyn PageSource>, site, limit| {
            if machine.inject(Some(device), site) {
                return Err(DmaError::Injected(site));
            }
            Ok(PageRun::take(source, &request(limit))?)
        };
        match self {
            Self::Translated(_) => from(machine.memory().frames(), Site::FrameAlloc, PhysAddr(u64::MAX)),
            Self::Direct(d) => {
                let limit = d.phys_limit(limit);
                let contiguous = machine.memory().cma().map(|cma| from(cma, Site::CmaAlloc, limit));
                match contiguous {
                    Some(Ok(run)) => Ok(run),
                    _ => from(machine.memory().frames(), Site::FrameAlloc, limit),
                }
            }
        }
    }

    /// Gives `len` bytes at `phys` a device address. `phys` is page aligned for a translated device.
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
        match self {
            Self::Direct(d) => {
                let addr = d.to_bus(phys, len).ok_or(DmaError::Mask(limit))?;
                let fits = addr.0.checked_add(len - 1).is_some_and(|last| last <= limit.0);
                if fits { Ok(addr) } else { Err(DmaError::Mask(limit)) }
            }
            Self::Translated(d) => d.map(machine, device, kind, phys, pages(len) * PAGE_SIZE, prot, limit),
        }
    }

    /// Takes a device address back. Without a translation the only proof is the device's own quiet; without any proof
    /// the reason comes back, and the pages must not be used again.
    pub(crate) fn unmap(
        &self,
        machine: &Machine,
        addr: DeviceAddr,
        len: u64,
        quiet: Option<&Quiet>,
    ) -> Result<Unreachable, String> {
        match self {
            Self::Direct(_) => {
                quiet.map(Unreachable::from).ok_or_else(|| "the device was not shown to be quiet".to_string())
            }
            Self::Translated(d) => {
                d.unmap(machine, addr, pages(len) * PAGE_SIZE).map(Unreachable::from).map_err(|e| e.to_string())
            }
        }
    }

    /// Whether `addr` still translates, as far as the page table knows.
    pub(crate) fn reaches(&self, addr: DeviceAddr) -> bool {
        match self {
            Self::Direct(_) => false,
            Self::Translated(d) => d.translation().resolve(addr).is_some(),
        }
    }
}
