//! Members, streams and IOMMUs of a group: joining, merging and splitting.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Group, Instance, Stream, permissiveness};
use crate::device::{DeviceDesc, NodeId};
use crate::iommu::multi_iommu::MultiIommu;
use crate::iommu::{DomainKind, Iommu, IommuError};

impl Group {
    /// True when streams of `iommu` can be added now.
    pub(in crate::iommu) fn can_add(&self, node: NodeId, iommu: &dyn Iommu) -> bool {
        self.state.lock().can_add(node, iommu)
    }

    /// Adds a stream of `device`, blocked except for the regions of its devices; one shared with a bound device stays
    /// attached to that device's domain. The inner result is that of mapping the regions.
    pub(in crate::iommu) fn add(
        &self,
        device: &DeviceDesc,
        stream: Stream,
        iommu: &Arc<dyn Iommu>,
        deferred_drops: &mut Vec<Instance>,
    ) -> Result<Result<(), IommuError>, IommuError> {
        let mut s = self.state.lock();
        let blocked = match s.instance(stream.iommu) {
            Some(instance) => Arc::clone(&instance.blocked),
            None => iommu.domain(DomainKind::Blocked)?,
        };
        let direct = device.dma.reserved.iter().any(|r| r.kind.is_direct());
        if !direct && !s.users.contains_key(&stream) && !s.regions.has_direct(stream) {
            iommu.attach(stream.id, &blocked)?;
        }
        if s.instance(stream.iommu).is_none() {
            s.instances.push(Instance { node: stream.iommu, iommu: Arc::clone(iommu), blocked, region_domain: None });
        }
        if !s.members.contains(&device.name) {
            s.members.push(Arc::clone(&device.name));
        }
        s.regions.add(&device.name, stream, &device.dma.reserved, device.dma.coherent);
        let regions_mapped = s.map_regions(Some(&device.name), deferred_drops);
        let idle_translation = s.instance(stream.iommu).is_some_and(|i| i.region_domain.is_some());
        if direct
            && !s.users.contains_key(&stream)
            && (!idle_translation || regions_mapped == Err(IommuError::RegionPassedThrough))
        {
            // A stream whose regions cannot be mapped is blocked, and its device gets the error (P10).
            s.block_idle(stream);
        }
        Ok(regions_mapped)
    }

    /// Moves everything of `other` into this group. False when one of both is in use in a way that forbids it.
    pub(in crate::iommu) fn merge_from(
        &self,
        other: &Self,
        deferred_drops: &mut Vec<Instance>,
    ) -> Result<bool, IommuError> {
        let (mut s, mut o) = (self.state.lock(), other.state.lock());
        let fits = o.instances.iter().all(|i| s.can_add(i.node, &*i.iommu));
        // No silent downgrade: the merged group gets the stricter domain kind of both (P10).
        let kind = if permissiveness(s.kind) > permissiveness(o.kind) { o.kind } else { s.kind };
        if !o.is_idle() || !fits || (kind != s.kind && !s.is_idle()) {
            return Ok(false);
        }
        if let Some(current) = &s.current {
            let in_use = current.domain.reserve(&o.regions.holes(current.domain.kind()));
            if let Some((first, last)) = in_use.ranges().next() {
                return Err(IommuError::RegionInUse { first, last });
            }
        }
        s.kind = kind;
        for mut instance in core::mem::take(&mut o.instances) {
            match s.instance_mut(instance.node) {
                None => s.instances.push(instance),
                Some(own) => {
                    // Idle streams stay in its domain until the regions are mapped in the common one.
                    if own.region_domain.is_none() {
                        own.region_domain = instance.region_domain.take();
                    }
                    deferred_drops.push(instance);
                }
            }
        }
        s.regions.members.append(&mut o.regions.members);
        for member in core::mem::take(&mut o.members) {
            if !s.members.contains(&member) {
                s.members.push(member);
            }
        }
        s.history.add(core::mem::take(&mut o.history));
        // The device that connects both gets the error when it is bound.
        let _ = s.map_regions(None, deferred_drops);
        Ok(true)
    }

    pub(in crate::iommu) fn is_idle(&self) -> bool {
        self.state.lock().is_idle()
    }

    /// True when the IOMMU at `node` is one of its own.
    pub(in crate::iommu) fn has_instance(&self, node: NodeId) -> bool {
        self.state.lock().instance(node).is_some()
    }

    /// Removes the members for which `stays` is false.
    pub(in crate::iommu) fn retain(&self, stays: impl Fn(&str) -> bool) {
        self.state.lock().members.retain(|m| stays(m));
    }

    /// Removes the IOMMU at `node`. Returns the translation in which it has a share, if there is one; removing the
    /// share may wait for the hardware.
    pub(in crate::iommu) fn remove_instance(
        &self,
        node: NodeId,
        deferred_drops: &mut Vec<Instance>,
    ) -> Option<Arc<MultiIommu>> {
        let mut s = self.state.lock();
        deferred_drops.extend(s.instances.extract_if(.., |i| i.node == node));
        s.users.retain(|stream, _| stream.iommu != node);
        for member in &mut s.regions.members {
            member.streams.retain(|stream| stream.iommu != node);
        }
        s.regions.members.retain(|m| !m.streams.is_empty());
        s.current.as_ref().map(|c| Arc::clone(&c.multi))
    }

    /// Splits `members` and the IOMMUs at `nodes` off into a new group `id`. The group is idle.
    pub(in crate::iommu) fn split(
        &self,
        id: u32,
        members: &[Arc<str>],
        nodes: &[NodeId],
        deferred_drops: &mut Vec<Instance>,
    ) -> Arc<Self> {
        let mut s = self.state.lock();
        let instances = s.instances.iter().filter(|i| nodes.contains(&i.node)).cloned().collect();
        let new = Self::new(id, instances, s.kind, Arc::clone(s.ownership.table()));
        {
            let mut n = new.state.lock();
            n.members.extend(s.members.iter().filter(|m| members.contains(m)).cloned());
            n.regions.members = s.regions.members.extract_if(.., |m| members.contains(&m.device)).collect();
            // Without a context for a domain of its own, both groups share the old one.
            let _ = n.map_regions(None, deferred_drops);
        }
        new
    }

    /// Removes all but `members` and the IOMMUs at `nodes`, and returns the removed IOMMUs. The group is idle.
    pub(in crate::iommu) fn retain_only(&self, members: &[Arc<str>], nodes: &[NodeId]) -> Vec<Instance> {
        let mut s = self.state.lock();
        s.members.retain(|m| members.contains(m));
        s.regions.members.retain(|m| members.contains(&m.device));
        let mut deferred_drops: Vec<_> = s.instances.extract_if(.., |i| !nodes.contains(&i.node)).collect();
        let _ = s.map_regions(None, &mut deferred_drops);
        deferred_drops
    }
}
