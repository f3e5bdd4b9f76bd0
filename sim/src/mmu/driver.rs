//! The driver of the IOMMU, its domains and their translations.

use std::collections::BTreeMap;
use std::sync::Arc;

use bindery::addr::{DeviceAddr, PAGE_SIZE, PhysAddr};
use bindery::binding::Bound;
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::iommu::{
    DomainKind, Gather, Geometry, Grouping, Iommu, IommuError, MapError, Prot, StreamId, Translation,
};

use super::{Context, DuringFlush, Mmu, State, fault_due};

/// Driver of the modelled IOMMUs, compatible with `test,mmu`; each device is the one with its name.
pub struct MmuDriver(pub BTreeMap<String, Arc<Mmu>>);

impl Driver for MmuDriver {
    const NAME: &'static str = "mmu";
    const MATCHES: &'static [Match] = &[Match::compatible("test,mmu")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let mmu = self.0.get(dev.name()).ok_or(ProbeError::NoDevice)?;
        mmu.reset();
        Ok(dev.iommu_provider().provide(mmu.iommu())?)
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

pub(super) struct MmuIommu(pub(super) Arc<Mmu>);

impl Iommu for MmuIommu {
    fn name(&self) -> String {
        self.0.name.clone()
    }

    fn stream(&self, cells: &[u32]) -> Result<StreamId, IommuError> {
        cells.first().map(|c| StreamId(*c)).ok_or(IommuError::NoSuchStream)
    }

    fn grouping(&self) -> Grouping {
        self.0.grouping
    }

    fn geometry(&self) -> Geometry {
        let last = DeviceAddr(self.0.lock().last.unwrap_or(u32::MAX.into()));
        Geometry { first: DeviceAddr(0), last, page_sizes: PAGE_SIZE, reserved: Vec::new() }
    }

    fn cache_coherent(&self) -> bool {
        true
    }

    fn domain(&self, kind: DomainKind) -> Result<Arc<dyn Translation>, IommuError> {
        let mut s = self.0.lock();
        if fault_due(&mut s.domain_fails_in) {
            (s.domain_failed, s.fault_hit) = (true, true);
            return Err(IommuError::NoContext);
        }
        if kind != DomainKind::Blocked && s.is_full() {
            return Err(IommuError::NoContext);
        }
        s.contexts.push(Context { blocks: kind == DomainKind::Blocked, ..Context::default() });
        Ok(Arc::new(Domain { mmu: Arc::clone(&self.0), number: s.contexts.len() - 1, kind }))
    }

    fn attach(&self, stream: StreamId, domain: &Arc<dyn Translation>) -> Result<(), IommuError> {
        let any: &dyn std::any::Any = &**domain;
        let domain = any.downcast_ref::<Domain>().ok_or(IommuError::ForeignDomain)?;
        if !Arc::ptr_eq(&domain.mmu, &self.0) {
            return Err(IommuError::ForeignDomain);
        }
        let mut s = self.0.lock();
        if fault_due(&mut s.attach_fails_in) {
            s.fault_hit = true;
            s.refused.insert(stream.0);
            return Err(IommuError::Dead);
        }
        s.streams.insert(stream.0, domain.number);
        s.refused.remove(&stream.0);
        s.look();
        Ok(())
    }
}

struct Domain {
    mmu: Arc<Mmu>,
    number: usize,
    kind: DomainKind,
}

impl Domain {
    fn with<R>(&self, act: impl FnOnce(&mut State, usize) -> R) -> R {
        act(&mut self.mmu.lock(), self.number)
    }
}

impl Translation for Domain {
    fn map(&self, iova: DeviceAddr, phys: PhysAddr, len: u64, _: Prot) -> Result<(), MapError> {
        self.with(|s, number| {
            if fault_due(&mut s.map_fails_in) {
                s.fault_hit = true;
                return Err(MapError::OutOfMemory);
            }
            let context = &mut s.contexts[number];
            let pages = || (0..len).step_by(PAGE_SIZE as usize);
            if context.off || context.leaving {
                return Err(MapError::Revoked);
            }
            if pages().any(|at| context.table.contains_key(&(iova.0 + at))) {
                return Err(MapError::Exists(iova));
            }
            for at in pages() {
                context.table.insert(iova.0 + at, phys.0 + at);
                // As if the device accessed it at once: the IOTLB caches it.
                context.iotlb.entry(iova.0 + at).or_default().insert(phys.0 + at);
            }
            Ok(())
        })
    }

    fn unmap(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<(), MapError> {
        self.with(|s, number| {
            let table = &mut s.contexts[number].table;
            let pages = || (0..len).step_by(PAGE_SIZE as usize).map(|at| iova.0 + at);
            if let Some(missing) = pages().find(|at| !table.contains_key(at)) {
                return Err(MapError::Missing(DeviceAddr(missing)));
            }
            pages().for_each(|at| {
                table.remove(&at);
            });
            s.look();
            gather.add(iova, len);
            Ok(())
        })
    }

    fn flush(&self, gather: &mut Gather) -> Result<(), IommuError> {
        let range = gather.range();
        let slow = self.with(|s, number| {
            let DuringFlush(Some(act)) = s.during_flush.clone() else { return None };
            Some((act, range.map(|range| s.contexts[number].stale(range)).unwrap_or_default()))
        });
        // The lock is not held: others map, unmap and flush meanwhile.
        let begun = slow.map(|(act, begun)| {
            act();
            begun
        });
        self.with(|s, number| {
            if s.contexts[number].off {
                return Ok(());
            }
            if s.flushes_to_fail > 0 {
                s.flushes_to_fail -= 1;
                s.fault_hit = true;
                return Err(IommuError::Dead);
            }
            if s.contexts[number].leaving {
                s.contexts[number].off = true;
                return Ok(());
            }
            match (begun, range) {
                (Some(begun), _) => s.contexts[number].forget(&begun),
                (None, Some((first, last))) => {
                    s.contexts[number].iotlb.retain(|at, _| *at < first.0 || *at > last.0);
                }
                (None, None) => {}
            }
            Ok(())
        })
    }

    fn retire(&self) {
        self.with(|s, number| {
            let hangs = s.flushes_to_fail > 0;
            let context = &mut s.contexts[number];
            if hangs && !context.off {
                context.leaving = true;
                context.table.clear();
            } else {
                context.off = true;
            }
            s.look();
        });
    }

    fn resolve(&self, iova: DeviceAddr) -> Option<PhysAddr> {
        self.with(|s, number| s.contexts[number].table.get(&iova.page_start().0).map(|p| PhysAddr(*p)))
    }

    fn label(&self) -> String {
        format!("{} context {} ({})", self.mmu.name, self.number, self.kind)
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        self.retire();
    }
}
