//! The driver of the IOMMU, its domains and their translations.

use std::collections::BTreeMap;
use std::sync::Arc;

use bindery::addr::{DeviceAddr, PAGE_SIZE, PhysAddr};
use bindery::binding::Bound;
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::iommu::{
    DomainKind, Gather, Geometry, Grouping, Iommu, IommuError, Lease, MapError, Prot, StreamId, Translation,
};
use bindery::sync::SpinLock;

use super::tables::{Tables, Written};
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
        let blocks = kind == DomainKind::Blocked;
        {
            let mut s = self.0.lock();
            if fault_due(&mut s.domain_fails_in) {
                (s.domain_failed, s.fault_hit) = (true, true);
                return Err(IommuError::NoContext);
            }
            if !blocks && s.is_full() {
                return Err(IommuError::NoContext);
            }
        }
        // Without the lock: what is freed of it is looked at.
        let made = self.0.tables.as_ref().filter(|_| !blocks).map(Tables::make).transpose()?;
        let (written, walk) = made.unzip();
        let mut s = self.0.lock();
        s.contexts.push(Context { walk, blocks, ..Context::default() });
        let (mmu, number) = (Arc::clone(&self.0), s.contexts.len() - 1);
        let written = written.map_or(Table::Calls, Table::Written);
        Ok(Arc::new(Domain { mmu, number, kind, table: SpinLock::new(written) }))
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

/// The table of a domain.
enum Table {
    /// That of the model, which calls change.
    Calls,
    Written(Written),
    /// One that the hardware may walk until it answers.
    Leaving(Written),
    /// There was one.
    Gone,
}

impl Table {
    fn written(&mut self) -> Result<&mut Written, MapError> {
        match self {
            Self::Written(written) => Ok(written),
            _ => Err(MapError::Revoked),
        }
    }
}

struct Domain {
    mmu: Arc<Mmu>,
    number: usize,
    kind: DomainKind,
    /// The hardware's state is locked within, and nothing is freed while that is.
    table: SpinLock<Table>,
}

impl Domain {
    fn with<R>(&self, act: impl FnOnce(&mut State, usize) -> R) -> R {
        act(&mut self.mmu.lock(), self.number)
    }

    /// The page table that the core writes, if there is one.
    fn with_written<R>(&self, act: impl FnOnce(&mut Written) -> Result<R, MapError>) -> Option<Result<R, MapError>> {
        let mut table = self.table.lock();
        let done = (!matches!(*table, Table::Calls)).then(|| table.written().and_then(act));
        drop(table);
        if done.is_some() {
            self.with(|s, _| s.access_walked());
        }
        done
    }

    /// The hardware does not walk it any more.
    fn free_table(&self) {
        let mut table = self.table.lock();
        let left = match &*table {
            Table::Leaving(_) => core::mem::replace(&mut *table, Table::Gone),
            _ => return,
        };
        drop(table);
        drop(left);
    }
}

impl Translation for Domain {
    fn map(&self, iova: DeviceAddr, phys: PhysAddr, len: u64, prot: Prot) -> Result<(), MapError> {
        self.with(|s, number| {
            if fault_due(&mut s.map_fails_in) {
                s.fault_hit = true;
                return Err(MapError::OutOfMemory);
            }
            let context = &s.contexts[number];
            if context.off || context.leaving { Err(MapError::Revoked) } else { Ok(()) }
        })?;
        if let Some(mapped) = self.with_written(|table| table.map(iova, phys, len, prot)) {
            return mapped;
        }
        let mapped = self.with(|s, number| s.contexts[number].map(iova.0, phys.0, len));
        if mapped { Ok(()) } else { Err(MapError::Exists(iova)) }
    }

    fn unmap(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<(), MapError> {
        if let Some(unmapped) = self.with_written(|table| table.unmap(iova, len, gather)) {
            self.with(|s, _| s.look());
            return unmapped;
        }
        self.with(|s, number| {
            let unmapped = s.contexts[number].unmap(iova.0, len);
            s.look();
            unmapped.map_err(|missing| MapError::Missing(DeviceAddr(missing)))
        })?;
        gather.add(iova, len);
        Ok(())
    }

    fn remove(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<bool, MapError> {
        if let Some(removed) = self.with_written(|table| table.remove(iova, len, gather)) {
            self.with(|s, _| s.look());
            return removed;
        }
        self.unmap(iova, len, gather)?;
        Ok(self.resolve(iova).is_none())
    }

    fn lease(&self, iova: DeviceAddr, len: u64) -> Option<Lease> {
        let lease = self.with_written(|table| table.lease(iova, len).ok_or(MapError::Missing(iova)))?;
        lease.ok()
    }

    fn end_lease(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<bool, MapError> {
        self.with_written(|table| table.end_lease(iova, len, gather)).unwrap_or(Err(MapError::Missing(iova)))
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
                (None, Some(range)) => s.contexts[number].invalidate(range),
                (None, None) => {}
            }
            // Tables that are linked still are found anew.
            if let Some(range) = range.filter(|_| gather.tables_freed()) {
                s.contexts[number].forget_ways(range);
            }
            Ok(())
        })?;
        self.free_table();
        Ok(())
    }

    fn retire(&self) {
        let mut table = self.table.lock();
        if let Table::Written(written) = core::mem::replace(&mut *table, Table::Gone) {
            *table = Table::Leaving(written);
        }
        drop(table);
        let is_off = self.with(|s, number| {
            let hangs = s.flushes_to_fail > 0;
            let context = &mut s.contexts[number];
            if hangs && !context.off {
                context.leaving = true;
                context.table.clear();
                context.walk = None;
            } else {
                context.off = true;
            }
            let is_off = context.off;
            s.look();
            is_off
        });
        if is_off {
            self.free_table();
        }
    }

    fn resolve(&self, iova: DeviceAddr) -> Option<PhysAddr> {
        let at = iova.page_start();
        let found = self.with_written(|table| table.resolve(at).map(|(phys, _)| phys).ok_or(MapError::Missing(at)));
        match found {
            Some(found) => found.ok(),
            None => self.with(|s, number| s.contexts[number].table.get(&at.0).map(|p| PhysAddr(*p))),
        }
    }

    fn label(&self) -> String {
        format!("{} context {} ({})", self.mmu.name, self.number, self.kind)
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        self.retire();
        if let (Table::Leaving(table), Some(tables)) =
            (core::mem::replace(&mut *self.table.lock(), Table::Gone), &self.mmu.tables)
        {
            tables.keep(table);
        }
    }
}
