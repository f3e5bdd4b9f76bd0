//! Translation of a domain over several IOMMUs: the same mappings at each IOMMU of the domain's devices.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Gather, IommuError, MapError, Prot, Translation, map_each_run};
use crate::addr::{DeviceAddr, PAGE_SIZE, PhysAddr};
use crate::device::NodeId;
use crate::sync::SpinLock;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::translation::PartId;

/// Share of one IOMMU: its own translation.
#[derive(Clone)]
struct Share {
    id: PartId,
    node: NodeId,
    ops: Arc<dyn Translation>,
    /// Its IOMMU was removed. Nothing is mapped through it any more, but it has not confirmed that all is unmapped.
    removed: bool,
}

impl Share {
    /// True when no page of the range translates here.
    fn is_empty(&self, iova: DeviceAddr, len: u64) -> bool {
        (0..len).step_by(PAGE_SIZE as usize).all(|at| self.ops.resolve(iova + at).is_none())
    }
}

/// Translation by every IOMMU of a group: each maps the same ranges, and an unmap is confirmed when all have confirmed
/// it.
///
/// With a single IOMMU, the usual case, calls are passed directly to it.
pub(super) struct MultiIommu {
    first: Share,
    /// True once `first` is not the only share. Set with release after the list has changed, and read with acquire, so
    /// that a caller that sees it also sees the list.
    several: AtomicBool,
    shares: SpinLock<Shares>,
}

struct Shares {
    /// Replaced as a whole, so that calls iterate over it without the lock.
    list: Arc<[Share]>,
    next: u32,
    /// Unmaps of maps that failed at a later share, not confirmed by a flush yet.
    unconfirmed: Gather,
}

impl MultiIommu {
    /// A translation through the IOMMU at `node` alone.
    pub(super) fn new(node: NodeId, ops: Arc<dyn Translation>) -> Self {
        let first = Share { id: PartId(0), node, ops, removed: false };
        let shares = Shares { list: Arc::from([first.clone()]), next: 1, unconfirmed: Gather::new() };
        Self { first, several: AtomicBool::new(false), shares: SpinLock::new(shares) }
    }

    /// The share of the IOMMU at `node`.
    pub(super) fn at(&self, node: NodeId) -> Option<Arc<dyn Translation>> {
        self.list().iter().find(|p| p.node == node && !p.removed).map(|p| Arc::clone(&p.ops))
    }

    /// Adds the share of another IOMMU. Existing mappings are not added to it: they belong to devices that are not
    /// behind it.
    pub(super) fn add(&self, node: NodeId, ops: Arc<dyn Translation>) {
        let mut shares = self.shares.lock();
        let share = Share { id: PartId(shares.next), node, ops, removed: false };
        shares.next += 1;
        shares.list = shares.list.iter().cloned().chain([share]).collect();
        self.several.store(true, Ordering::Release);
    }

    /// Maps a range at every share that does not have it yet. On an error some shares may have it.
    pub(super) fn map_each(&self, iova: DeviceAddr, phys: PhysAddr, len: u64, prot: Prot) -> Result<(), MapError> {
        for share in self.list().iter().filter(|p| !p.removed) {
            let whole = share.ops.map(iova, phys, len, prot);
            let mapped = match whole {
                // A part is mapped already, and the table is unchanged: map the rest page by page.
                Err(MapError::Exists(_)) => (0..len).step_by(PAGE_SIZE as usize).try_for_each(|at| {
                    match share.ops.map(iova + at, phys + at, PAGE_SIZE, prot) {
                        Err(MapError::Exists(_)) => Ok(()),
                        mapped => mapped,
                    }
                }),
                mapped => mapped,
            };
            match mapped {
                Err(e) if self.is_present(share.id) => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes the share of the IOMMU at `node`. Until it has confirmed that nothing is mapped, no flush of the others
    /// is a proof.
    pub(super) fn remove(&self, node: NodeId) {
        let Some(gone) = self.list().iter().find(|p| p.node == node && !p.removed).cloned() else { return };
        {
            let mut shares = self.shares.lock();
            let marked = |p: &Share| Share { removed: p.removed || p.id == gone.id, ..p.clone() };
            shares.list = shares.list.iter().map(marked).collect();
            self.several.store(true, Ordering::Release);
        }
        gone.ops.retire();
        if gone.ops.flush(&mut Gather::new()).is_ok() {
            let mut shares = self.shares.lock();
            shares.list = shares.list.iter().filter(|p| p.id != gone.id).cloned().collect();
        }
    }

    /// The IOMMU to which the share `translation` belongs.
    pub(super) fn node_of(&self, translation: &Arc<dyn Translation>) -> Option<NodeId> {
        self.list().iter().find(|p| Arc::ptr_eq(&p.ops, translation)).map(|p| p.node)
    }

    fn list(&self) -> Arc<[Share]> {
        Arc::clone(&self.shares.lock().list)
    }

    /// The first share, if it is the only one.
    #[inline]
    pub(super) fn single(&self) -> Option<&dyn Translation> {
        (!self.several.load(Ordering::Acquire)).then(|| &*self.first.ops)
    }

    /// The first share, whether others have joined it or not.
    pub(super) fn first(&self) -> &dyn Translation {
        &*self.first.ops
    }

    fn is_present(&self, id: PartId) -> bool {
        self.list().iter().any(|p| p.id == id && !p.removed)
    }
}

impl Translation for MultiIommu {
    fn map(&self, iova: DeviceAddr, phys: PhysAddr, len: u64, prot: Prot) -> Result<(), MapError> {
        if let Some(only) = self.single() {
            return only.map(iova, phys, len, prot);
        }
        let list = self.list();
        let mut done = Vec::with_capacity(list.len());
        for share in list.iter().filter(|p| !p.removed) {
            match share.ops.map(iova, phys, len, prot) {
                Ok(()) => done.push(share),
                // It was removed concurrently.
                Err(_) if !self.is_present(share.id) => {}
                Err(e) => {
                    // A device may have used the mappings of the other shares: they are flushed before the memory is
                    // reused.
                    let mut gather = Gather::new();
                    let mut undone = true;
                    for share in &done {
                        undone &= share.ops.unmap(iova, len, gather.part(share.id)).is_ok();
                    }
                    if undone && (done.is_empty() || self.flush(&mut gather).is_ok()) {
                        gather.free_tables();
                        return Err(e);
                    }
                    self.shares.lock().unconfirmed.absorb(gather);
                    return Err(MapError::Unconfirmed(iova));
                }
            }
        }
        Ok(())
    }

    fn map_runs(
        &self,
        iova: DeviceAddr,
        runs: &mut dyn Iterator<Item = (PhysAddr, u64)>,
        prot: Prot,
    ) -> Result<(), (u64, MapError)> {
        match self.single() {
            Some(only) => only.map_runs(iova, runs, prot),
            None => map_each_run(iova, runs, |at, phys, len| self.map(at, phys, len, prot)),
        }
    }

    fn remove(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<bool, MapError> {
        if let Some(only) = self.single() {
            return only.remove(iova, len, gather);
        }
        self.unmap(iova, len, gather)?;
        Ok(self.resolve(iova).is_none())
    }

    fn unmap(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<(), MapError> {
        if let Some(only) = self.single() {
            return only.unmap(iova, len, gather);
        }
        let (mut missing, mut failed, mut done) = (None, None, false);
        for share in self.list().iter().filter(|p| !p.removed) {
            match share.ops.unmap(iova, len, gather.part(share.id)) {
                Ok(()) => done = true,
                Err(_) if !self.is_present(share.id) => done = true,
                // The share was added after the range was mapped, or an earlier call unmapped it here.
                Err(e @ MapError::Missing(_)) if share.is_empty(iova, len) => missing = missing.or(Some(e)),
                Err(e) => failed = failed.or(Some(e)),
            }
        }
        if done {
            gather.add(iova, len);
        }
        match failed.or(missing.filter(|_| !done)) {
            Some(e) => Err(e),
            None => Ok(()),
        }
    }

    fn flush(&self, gather: &mut Gather) -> Result<(), IommuError> {
        let Some(only) = self.single() else {
            let (list, unconfirmed) = {
                let mut shares = self.shares.lock();
                (Arc::clone(&shares.list), core::mem::take(&mut shares.unconfirmed))
            };
            gather.absorb(unconfirmed);
            let mut result = Ok(());
            for share in list.iter() {
                // Continue after a share that does not respond, so that the next call waits for that one alone.
                let mut own = gather.take_part(share.id);
                match share.ops.flush(&mut own) {
                    Ok(()) => own.free_tables(),
                    Err(e) => {
                        gather.part(share.id).absorb(own);
                        result = Err(e);
                    }
                }
            }
            return result;
        };
        only.flush(gather)
    }

    fn retire(&self) {
        self.list().iter().for_each(|p| p.ops.retire());
    }

    fn resolve(&self, iova: DeviceAddr) -> Option<PhysAddr> {
        match self.single() {
            Some(only) => only.resolve(iova),
            None => self.list().iter().filter(|p| !p.removed).find_map(|p| p.ops.resolve(iova)),
        }
    }

    fn label(&self) -> String {
        let list = self.list();
        let mut labels = list.iter().map(|p| p.ops.label());
        let first = labels.next().unwrap_or_default();
        labels.fold(first, |all, label| format!("{all} + {label}"))
    }
}

#[cfg(test)]
mod tests;
