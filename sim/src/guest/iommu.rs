//! The guest's IOMMU: each map is a map of the session, with the guest's RAM pinned.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use bindery::addr::{DeviceAddr, PAGE_SIZE, PhysAddr};
use bindery::iommu::{
    DomainKind, Gather, Geometry, Grouping, Iommu, IommuError, MapError, Prot, StreamId, Translation,
};
use bindery::sync::Mutex;
use bindery_drivers::vfio::VfioError;

use super::Slot;
use super::memory::GuestRam;

/// The guest's IOMMU, for its only device.
pub(super) struct SessionIommu {
    slot: Slot,
    ram: Arc<GuestRam>,
}

impl SessionIommu {
    pub(super) fn new(slot: Slot, ram: Arc<GuestRam>) -> Self {
        Self { slot, ram }
    }
}

impl Iommu for SessionIommu {
    fn name(&self) -> String {
        "vfio".into()
    }

    fn stream(&self, _: &[u32]) -> Result<StreamId, IommuError> {
        Ok(StreamId(0))
    }

    fn grouping(&self) -> Grouping {
        Grouping::PerInstance
    }

    fn geometry(&self) -> Geometry {
        Geometry {
            first: DeviceAddr(0),
            last: DeviceAddr(u64::from(u32::MAX)),
            page_sizes: PAGE_SIZE,
            reserved: Vec::new(),
        }
    }

    fn cache_coherent(&self) -> bool {
        false
    }

    fn domain(&self, kind: DomainKind) -> Result<Arc<dyn Translation>, IommuError> {
        if kind == DomainKind::Identity {
            return Err(IommuError::Unsupported(kind));
        }
        Ok(Arc::new(GuestDomain {
            slot: Arc::clone(&self.slot),
            ram: Arc::clone(&self.ram),
            maps: Mutex::new(BTreeMap::new()),
            unconfirmed: Mutex::new(BTreeMap::new()),
        }))
    }

    fn attach(&self, _: StreamId, _: &Arc<dyn Translation>) -> Result<(), IommuError> {
        // Only mapped memory is reachable, and each domain removes its own maps.
        Ok(())
    }
}

/// A domain of the guest: a set of maps of the session.
struct GuestDomain {
    slot: Slot,
    ram: Arc<GuestRam>,
    maps: Mutex<BTreeMap<DeviceAddr, (PhysAddr, u64)>>,
    /// Unmaps that the host's IOMMU has not confirmed. Not locked during calls to the host.
    unconfirmed: Mutex<BTreeMap<DeviceAddr, u64>>,
}

impl GuestDomain {
    /// Unmaps at the host. Returns false when the host's IOMMU did not confirm, so that it has to be asked again. For a
    /// revoked session the host removes all maps by itself.
    fn unmap_one(&self, iova: DeviceAddr, len: u64) -> Result<bool, MapError> {
        let session = self.slot.lock().clone();
        match session.map_or(Ok(()), |s| s.unmap(iova, len)) {
            Ok(()) | Err(VfioError::Revoked) => Ok(true),
            Err(VfioError::Unconfirmed(_)) => Ok(false),
            Err(_) => Err(MapError::Revoked),
        }
    }
}

impl Translation for GuestDomain {
    fn map(&self, iova: DeviceAddr, phys: PhysAddr, len: u64, prot: Prot) -> Result<(), MapError> {
        let offset = self.ram.offset(phys, len).ok_or(MapError::OutOfRange(iova))?;
        let session = self.slot.lock().clone().ok_or(MapError::Revoked)?;
        session.map(iova, self.ram.backing(), offset, len, prot).map_err(|e| match e {
            VfioError::Map(e) => e,
            VfioError::BadRange { .. } => MapError::Unaligned(iova),
            VfioError::TooManyMaps(_) => MapError::OutOfMemory,
            VfioError::Unconfirmed(at) => MapError::Exists(at),
            _ => MapError::Revoked,
        })?;
        self.maps.lock().insert(iova, (phys, len));
        Ok(())
    }

    fn unmap(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<(), MapError> {
        {
            let mut maps = self.maps.lock();
            if maps.get(&iova).is_none_or(|(_, l)| *l != len) {
                return Err(MapError::Missing(iova));
            }
            maps.remove(&iova);
        }
        if !self.unmap_one(iova, len)? {
            self.unconfirmed.lock().insert(iova, len);
        }
        gather.add(iova, len);
        Ok(())
    }

    fn flush(&self, _: &mut Gather) -> Result<(), IommuError> {
        // A successful unmap was confirmed by the host's IOMMU already; it is asked again about the others.
        let unconfirmed: Vec<_> = self.unconfirmed.lock().iter().map(|(iova, len)| (*iova, *len)).collect();
        for (iova, len) in unconfirmed {
            if self.unmap_one(iova, len) == Ok(false) {
                return Err(IommuError::Dead);
            }
            self.unconfirmed.lock().remove(&iova);
        }
        Ok(())
    }

    fn resolve(&self, iova: DeviceAddr) -> Option<PhysAddr> {
        let maps = self.maps.lock();
        let (at, (phys, len)) = maps.range(..=iova).next_back()?;
        (iova - *at < *len).then(|| *phys + (iova - *at))
    }

    fn label(&self) -> String {
        "session".into()
    }
}

impl Drop for GuestDomain {
    fn drop(&mut self) {
        for (iova, (_, len)) in std::mem::take(&mut *self.maps.lock()) {
            // An unconfirmed unmap stays pinned at the host until the session ends.
            let _ = self.unmap_one(iova, len);
        }
    }
}
