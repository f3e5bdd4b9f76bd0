//! A simple IOMMU.

use alloc::sync::Arc;
use std::collections::BTreeMap;
use std::string::String;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::vec::Vec;

use crate::addr::{DeviceAddr, PhysAddr};
use crate::iommu::{DomainKind, Gather, Geometry, Grouping, Iommu, IommuError, MapError, Prot, StreamId, Translation};

/// Simple IOMMU.
pub(super) struct FakeIommu {
    pub(super) name: &'static str,
    pub(super) grouping: Grouping,
    pub(super) has_lazy_domains: bool,
    /// While it is set, the IOMMU does not answer.
    pub(super) dead: Arc<AtomicBool>,
}

#[derive(Default)]
struct Space(Mutex<BTreeMap<DeviceAddr, PhysAddr>>);

impl Translation for Space {
    fn map(&self, iova: DeviceAddr, phys: PhysAddr, len: u64, _: Prot) -> Result<(), MapError> {
        self.0.lock().unwrap().extend((0..len).step_by(4096).map(|at| (iova + at, phys + at)));
        Ok(())
    }
    fn unmap(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<(), MapError> {
        self.0.lock().unwrap().retain(|at, _| *at < iova || *at - iova >= len);
        gather.add(iova, len);
        Ok(())
    }
    fn flush(&self, _: &mut Gather) -> Result<(), IommuError> {
        Ok(())
    }
    fn resolve(&self, iova: DeviceAddr) -> Option<PhysAddr> {
        self.0.lock().unwrap().get(&iova).copied()
    }
    fn label(&self) -> String {
        "the only context".into()
    }
}

impl Iommu for FakeIommu {
    fn name(&self) -> String {
        self.name.into()
    }
    fn stream(&self, cells: &[u32]) -> Result<StreamId, IommuError> {
        cells.first().copied().map(StreamId).ok_or(IommuError::NoSuchStream)
    }
    fn grouping(&self) -> Grouping {
        self.grouping
    }
    fn geometry(&self) -> Geometry {
        Geometry {
            first: DeviceAddr(0x1000),
            last: DeviceAddr(0xffff_ffff),
            page_sizes: 0x1000,
            reserved: Vec::from([(DeviceAddr(0x800_0000), DeviceAddr(0x80f_ffff))]),
        }
    }
    fn cache_coherent(&self) -> bool {
        true
    }
    fn domain(&self, kind: DomainKind) -> Result<Arc<dyn Translation>, IommuError> {
        if kind == DomainKind::Lazy && !self.has_lazy_domains {
            Err(IommuError::Unsupported(kind))
        } else {
            Ok(Arc::new(Space::default()))
        }
    }
    fn attach(&self, _: StreamId, _: &Arc<dyn Translation>) -> Result<(), IommuError> {
        if self.dead.load(Ordering::Relaxed) { Err(IommuError::Dead) } else { Ok(()) }
    }
}
