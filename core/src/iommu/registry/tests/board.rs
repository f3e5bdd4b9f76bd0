//! Three IOMMUs, of which each knows what its streams are attached to, and the devices behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, Weak};

use super::super::*;
use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::device::{DeviceDesc, RegionKind, ReservedRegion, Supplier, SupplierKind};
use crate::iommu::{Gather, Geometry, MapError, Prot};
use crate::sync::atomic::{AtomicBool, Ordering};

/// The last one does not isolate streams from each other, and reaches fewer addresses.
pub(super) const IOMMUS: [&str; 3] = ["a", "b", "c"];
/// Highest page that the last IOMMU reaches.
const NARROW: u64 = 0xff;

/// Streams of each device: its IOMMUs, and the stream at each.
pub(super) const STREAMS: [&[(usize, u32)]; 9] = [
    &[(0, 1)],
    &[(0, 1), (1, 1)],
    &[(1, 2)],
    &[(1, 2), (2, 0)],
    &[(2, 1)],
    &[(0, 3), (0, 4), (1, 4)],
    &[(1, 4)],
    // Those of one IOMMU are not together in the list.
    &[(0, 3), (2, 2), (0, 5)],
    &[(0, 4)],
];

/// Pages of each device's reserved regions, and their kind.
pub(super) const REGIONS: [&[(u64, u64, RegionKind)]; 9] = [
    &[],
    &[(4, 5, RegionKind::DirectRelaxable)],
    &[(8, 8, RegionKind::Direct), (10, 11, RegionKind::Reserved)],
    &[],
    &[(5, 7, RegionKind::DirectRelaxable), (12, 12, RegionKind::Msi)],
    &[(20, 20, RegionKind::Reserved)],
    &[(4, 4, RegionKind::Direct)],
    &[(30, 31, RegionKind::DirectRelaxable), (33, 33, RegionKind::DirectRelaxable)],
    &[],
];

/// Mapped pages.
pub(super) struct Table {
    pub(super) kind: DomainKind,
    pub(super) pages: Mutex<BTreeSet<u64>>,
    retired: AtomicBool,
}

impl Table {
    fn new(kind: DomainKind) -> Arc<Self> {
        Arc::new(Self { kind, pages: Mutex::default(), retired: AtomicBool::new(false) })
    }
}

impl Translation for Table {
    fn map(&self, iova: DeviceAddr, phys: PhysAddr, len: u64, _: Prot) -> Result<(), MapError> {
        assert_eq!((iova.0, self.kind != DomainKind::Blocked), (phys.0, true), "all here are identity mapped");
        assert!(!self.retired.load(Ordering::Relaxed), "nothing is mapped afterwards");
        let mut pages = self.pages.lock().unwrap();
        let new = iova.0 / PAGE_SIZE..(iova.0 + len) / PAGE_SIZE;
        if new.clone().any(|page| pages.contains(&page)) {
            return Err(MapError::Exists(iova));
        }
        pages.extend(new);
        Ok(())
    }
    fn unmap(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<(), MapError> {
        let mut pages = self.pages.lock().unwrap();
        let gone = iova.0 / PAGE_SIZE..(iova.0 + len) / PAGE_SIZE;
        if !gone.clone().all(|page| pages.remove(&page)) {
            return Err(MapError::Missing(iova));
        }
        gather.add(iova, len);
        Ok(())
    }
    fn flush(&self, _: &mut Gather) -> Result<(), IommuError> {
        Ok(())
    }
    fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        self.pages.lock().unwrap().clear();
    }
    fn resolve(&self, iova: DeviceAddr) -> Option<PhysAddr> {
        self.pages.lock().unwrap().contains(&(iova.0 / PAGE_SIZE)).then_some(PhysAddr(iova.0))
    }
    fn label(&self) -> String {
        "table".into()
    }
}

pub(super) struct Mmu {
    index: usize,
    blocked: Arc<Table>,
    pub(super) attached: Mutex<BTreeMap<u32, Arc<dyn Translation>>>,
    /// Streams that were blocked since this was emptied.
    pub(super) cut_off: Mutex<BTreeSet<u32>>,
    /// All tables that were made, but the blocked one.
    made: Mutex<Vec<Weak<Table>>>,
}

impl Mmu {
    pub(super) fn new(index: usize) -> Arc<Self> {
        let blocked = Table::new(DomainKind::Blocked);
        Arc::new(Self { index, blocked, attached: Mutex::default(), cut_off: Mutex::default(), made: Mutex::default() })
    }

    /// Those tables that are still there and in use.
    pub(super) fn tables(&self) -> Vec<Arc<Table>> {
        let made = self.made.lock().unwrap();
        made.iter().filter_map(Weak::upgrade).filter(|t| !t.retired.load(Ordering::Relaxed)).collect()
    }
}

/// Table behind what a stream is attached to.
pub(super) fn table(translation: &Arc<dyn Translation>) -> &Table {
    let any: &dyn core::any::Any = &**translation;
    any.downcast_ref().unwrap()
}

impl Iommu for Mmu {
    fn name(&self) -> String {
        IOMMUS[self.index].into()
    }
    fn stream(&self, cells: &[u32]) -> Result<StreamId, IommuError> {
        cells.first().map(|c| StreamId(*c)).ok_or(IommuError::NoSuchStream)
    }
    fn grouping(&self) -> Grouping {
        if self.index == 2 { Grouping::PerInstance } else { Grouping::PerStream }
    }
    fn geometry(&self) -> Geometry {
        let pages = if self.index == 2 { NARROW } else { 0xffff };
        let last = DeviceAddr((pages + 1) * PAGE_SIZE - 1);
        Geometry { first: DeviceAddr(0), last, page_sizes: PAGE_SIZE, reserved: Vec::new() }
    }
    fn cache_coherent(&self) -> bool {
        true
    }
    fn domain(&self, kind: DomainKind) -> Result<Arc<dyn Translation>, IommuError> {
        if kind == DomainKind::Blocked {
            return Ok(Arc::<Table>::clone(&self.blocked));
        }
        let table = Table::new(kind);
        self.made.lock().unwrap().push(Arc::downgrade(&table));
        Ok(table)
    }
    fn attach(&self, stream: StreamId, domain: &Arc<dyn Translation>) -> Result<(), IommuError> {
        if table(domain).kind == DomainKind::Blocked {
            self.cut_off.lock().unwrap().insert(stream.0);
        }
        self.attached.lock().unwrap().insert(stream.0, Arc::clone(domain));
        Ok(())
    }
}

pub(super) fn node(iommu: usize) -> NodeId {
    NodeId(u32::try_from(iommu).unwrap())
}

pub(super) fn device_name(d: usize) -> String {
    format!("{d}.dev")
}

pub(super) fn device(d: usize) -> Arc<Device> {
    Device::new(NodeId(10 + u32::try_from(d).unwrap()), desc(d, node), None)
}

/// The device, with its IOMMUs at the nodes that `at` gives.
pub(super) fn desc(d: usize, at: impl Fn(usize) -> NodeId) -> DeviceDesc {
    let mut desc = DeviceDesc::new(&device_name(d));
    desc.suppliers.extend(STREAMS[d].iter().map(|(iommu, stream)| Supplier {
        node: at(*iommu),
        target: at(*iommu),
        kind: SupplierKind::Iommu,
        property: "iommus".into(),
        args: Vec::from([*stream]),
    }));
    desc.dma.reserved = REGIONS[d]
        .iter()
        .map(|&(first, last, kind)| ReservedRegion {
            first: DeviceAddr(first * PAGE_SIZE),
            last: DeviceAddr(last * PAGE_SIZE + (PAGE_SIZE - 1)),
            kind,
        })
        .collect();
    desc
}
