//! The translation of a domain: one for each IOMMU that the domain's devices are behind, all saying the same.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Gather, IommuError, MapError, Prot, Translation};
use crate::addr::{DeviceAddr, PAGE_SIZE, PhysAddr};
use crate::device::NodeId;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::translation::PartId;

/// One IOMMU's share.
#[derive(Clone)]
struct Part {
    id: PartId,
    node: NodeId,
    ops: Arc<dyn Translation>,
    /// Its IOMMU has left. Nothing is mapped through it any more, but it has not confirmed that all is gone.
    left: bool,
}

impl Part {
    /// Whether no page of the range translates here.
    fn is_empty(&self, iova: DeviceAddr, len: u64) -> bool {
        (0..len).step_by(PAGE_SIZE as usize).all(|at| self.ops.resolve(iova + at).is_none())
    }
}

/// A translation by every IOMMU that the members of a group are behind: what one maps all map, and an unmap is confirmed
/// when all have confirmed it.
///
/// With a single IOMMU, which is the rule, calls go straight to it.
pub(super) struct Joint {
    first: Part,
    /// True once there is not only `first` to ask.
    several: AtomicBool,
    parts: Mutex<Parts>,
}

struct Parts {
    /// Replaced as a whole, so that calls use it without the lock.
    list: Arc<[Part]>,
    next: u32,
    /// What maps that failed at a later part took down again, and no flush has confirmed.
    unconfirmed: Gather,
}

impl Joint {
    /// A translation through the IOMMU at `node` alone.
    pub(super) fn new(node: NodeId, ops: Arc<dyn Translation>) -> Self {
        let first = Part { id: PartId(0), node, ops, left: false };
        let parts = Parts { list: Arc::from([first.clone()]), next: 1, unconfirmed: Gather::new() };
        Self { first, several: AtomicBool::new(false), parts: Mutex::new(parts) }
    }

    /// The share of the IOMMU at `node`.
    pub(super) fn at(&self, node: NodeId) -> Option<Arc<dyn Translation>> {
        self.list().iter().find(|p| p.node == node && !p.left).map(|p| Arc::clone(&p.ops))
    }

    /// Adds the share of another IOMMU. What is mapped already is not mapped there: it belongs to devices that are not
    /// behind it.
    pub(super) fn add(&self, node: NodeId, ops: Arc<dyn Translation>) {
        let mut parts = self.parts.lock();
        let part = Part { id: PartId(parts.next), node, ops, left: false };
        parts.next += 1;
        parts.list = parts.list.iter().cloned().chain([part]).collect();
        self.several.store(true, Ordering::Release);
    }

    /// Maps the same by every share, as far as a share does not have it yet. On an error some shares may have it.
    pub(super) fn map_each(&self, iova: DeviceAddr, phys: PhysAddr, len: u64, prot: Prot) -> Result<(), MapError> {
        for part in self.list().iter().filter(|p| !p.left) {
            let whole = part.ops.map(iova, phys, len, prot);
            let mapped = match whole {
                // Some of it is there, and the table is as it was: the rest is mapped page by page.
                Err(MapError::Exists(_)) => (0..len).step_by(PAGE_SIZE as usize).try_for_each(|at| {
                    match part.ops.map(iova + at, phys + at, PAGE_SIZE, prot) {
                        Err(MapError::Exists(_)) => Ok(()),
                        mapped => mapped,
                    }
                }),
                mapped => mapped,
            };
            match mapped {
                Err(e) if self.still_has(part.id) => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// The IOMMU at `node` leaves, and with it its share. Until it has confirmed that nothing is left, no flush of the
    /// others is a proof.
    pub(super) fn remove(&self, node: NodeId) {
        let Some(gone) = self.list().iter().find(|p| p.node == node && !p.left).cloned() else { return };
        {
            let mut parts = self.parts.lock();
            let marked = |p: &Part| Part { left: p.left || p.id == gone.id, ..p.clone() };
            parts.list = parts.list.iter().map(marked).collect();
            self.several.store(true, Ordering::Release);
        }
        gone.ops.retire();
        if gone.ops.flush(&mut Gather::new()).is_ok() {
            let mut parts = self.parts.lock();
            parts.list = parts.list.iter().filter(|p| p.id != gone.id).cloned().collect();
        }
    }

    /// The IOMMU whose share `translation` is.
    pub(super) fn node_of(&self, translation: &Arc<dyn Translation>) -> Option<NodeId> {
        self.list().iter().find(|p| Arc::ptr_eq(&p.ops, translation)).map(|p| p.node)
    }

    fn list(&self) -> Arc<[Part]> {
        Arc::clone(&self.parts.lock().list)
    }

    /// Whether there is only the first part.
    fn single(&self) -> Option<&dyn Translation> {
        (!self.several.load(Ordering::Acquire)).then(|| &*self.first.ops)
    }

    fn still_has(&self, id: PartId) -> bool {
        self.list().iter().any(|p| p.id == id && !p.left)
    }
}

impl Translation for Joint {
    fn map(&self, iova: DeviceAddr, phys: PhysAddr, len: u64, prot: Prot) -> Result<(), MapError> {
        if let Some(only) = self.single() {
            return only.map(iova, phys, len, prot);
        }
        let list = self.list();
        let mut done = Vec::with_capacity(list.len());
        for part in list.iter().filter(|p| !p.left) {
            match part.ops.map(iova, phys, len, prot) {
                Ok(()) => done.push(part),
                // It has left meanwhile.
                Err(_) if !self.still_has(part.id) => {}
                Err(e) => {
                    // A device may have used what the others had mapped: they must forget it before anybody gets the
                    // memory for something else.
                    let mut gather = Gather::new();
                    for part in &done {
                        if part.ops.unmap(iova, len, gather.part(part.id)).is_err() {
                            return Err(MapError::Unconfirmed(iova));
                        }
                    }
                    if done.is_empty() || self.flush(&mut gather).is_ok() {
                        gather.free_tables();
                        return Err(e);
                    }
                    self.parts.lock().unconfirmed.absorb(gather);
                    return Err(MapError::Unconfirmed(iova));
                }
            }
        }
        Ok(())
    }

    fn unmap(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<(), MapError> {
        if let Some(only) = self.single() {
            return only.unmap(iova, len, gather);
        }
        let (mut missing, mut failed, mut done) = (None, None, false);
        for part in self.list().iter().filter(|p| !p.left) {
            match part.ops.unmap(iova, len, gather.part(part.id)) {
                Ok(()) => done = true,
                Err(_) if !self.still_has(part.id) => done = true,
                // It was added after the range was mapped, or an earlier call got as far as here.
                Err(e @ MapError::Missing(_)) if part.is_empty(iova, len) => missing = missing.or(Some(e)),
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
                let mut parts = self.parts.lock();
                (Arc::clone(&parts.list), core::mem::take(&mut parts.unconfirmed))
            };
            gather.absorb(unconfirmed);
            let mut result = Ok(());
            for part in list.iter() {
                // Each one is asked, also after one that does not answer: the next call then waits for that one alone.
                let mut own = gather.take_part(part.id);
                match part.ops.flush(&mut own) {
                    Ok(()) => own.free_tables(),
                    Err(e) => {
                        gather.part(part.id).absorb(own);
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
            None => self.list().iter().filter(|p| !p.left).find_map(|p| p.ops.resolve(iova)),
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
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use super::*;

    /// Page numbers that translate.
    #[derive(Default)]
    struct Share(Mutex<BTreeSet<u64>>);

    impl Translation for Share {
        fn map(&self, iova: DeviceAddr, _: PhysAddr, len: u64, _: Prot) -> Result<(), MapError> {
            let mut pages = self.0.lock().unwrap();
            let new = iova.0 / PAGE_SIZE..(iova.0 + len) / PAGE_SIZE;
            if let Some(there) = new.clone().find(|page| pages.contains(page)) {
                return Err(MapError::Exists(DeviceAddr(there * PAGE_SIZE)));
            }
            pages.extend(new);
            Ok(())
        }
        fn unmap(&self, _: DeviceAddr, _: u64, _: &mut Gather) -> Result<(), MapError> {
            Ok(())
        }
        fn flush(&self, _: &mut Gather) -> Result<(), IommuError> {
            Ok(())
        }
        fn resolve(&self, _: DeviceAddr) -> Option<PhysAddr> {
            None
        }
        fn label(&self) -> String {
            String::new()
        }
    }

    #[test]
    fn a_share_that_has_a_part_of_a_region_gets_the_rest_of_it() {
        let (one, two) = (Arc::new(Share::default()), Arc::new(Share::default()));
        one.0.lock().unwrap().insert(9);
        let joint = Joint::new(NodeId(0), Arc::<Share>::clone(&one));
        joint.add(NodeId(1), Arc::<Share>::clone(&two));
        joint.map_each(DeviceAddr(8 * PAGE_SIZE), PhysAddr(8 * PAGE_SIZE), 3 * PAGE_SIZE, Prot::READ).unwrap();
        for share in [one, two] {
            assert_eq!(*share.0.lock().unwrap(), BTreeSet::from([8, 9, 10]));
        }
    }
}
