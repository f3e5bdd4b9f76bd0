//! Members, streams and IOMMUs of a group: how they join, and how groups become one and fall apart.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Group, Instance, Stream, looseness};
use crate::device::{DeviceDesc, NodeId};
use crate::iommu::joint::Joint;
use crate::iommu::{DomainKind, Iommu, IommuError};

impl Group {
    /// Whether streams of `iommu` may come in now.
    pub(in crate::iommu) fn may_take(&self, node: NodeId, iommu: &dyn Iommu) -> bool {
        self.state.lock().may_take(node, iommu)
    }

    /// Takes a stream of `device` in, blocked but for the regions of its devices; one that it shares with a bound device
    /// stays with that one's domain. The answer has what keeps the regions of the device from being mapped.
    pub(in crate::iommu) fn add(
        &self,
        device: &DeviceDesc,
        stream: Stream,
        iommu: &Arc<dyn Iommu>,
        trash: &mut Vec<Instance>,
    ) -> Result<Result<(), IommuError>, IommuError> {
        let mut s = self.state.lock();
        let blocked = match s.instance(stream.iommu) {
            Some(instance) => Arc::clone(&instance.blocked),
            None => iommu.domain(DomainKind::Blocked)?,
        };
        let direct = device.dma.reserved.iter().any(|r| r.kind.is_direct());
        if !direct && !s.users.contains_key(&stream) && !s.regions.keeps(stream) {
            iommu.attach(stream.id, &blocked)?;
        }
        if s.instance(stream.iommu).is_none() {
            s.instances.push(Instance { node: stream.iommu, iommu: Arc::clone(iommu), blocked, rest: None });
        }
        if !s.members.contains(&device.name) {
            s.members.push(Arc::clone(&device.name));
        }
        s.regions.add(&device.name, stream, &device.dma.reserved, device.dma.coherent);
        let kept = s.keep_regions(trash);
        let resting = s.instance(stream.iommu).is_some_and(|i| i.rest.is_some());
        if direct && !s.users.contains_key(&stream) && (!resting || kept == Err(IommuError::RegionPassedThrough)) {
            // What cannot be kept mapped is blocked, and its device told (P10).
            s.block_at_rest(stream);
        }
        Ok(kept)
    }

    /// Takes over all of `other`, which is left empty. False when one of both is in use in a way that forbids it.
    pub(in crate::iommu) fn absorb(&self, other: &Self, trash: &mut Vec<Instance>) -> Result<bool, IommuError> {
        let (mut s, mut o) = (self.state.lock(), other.state.lock());
        let fits = o.instances.iter().all(|i| s.may_take(i.node, &*i.iommu));
        // No silent downgrade: nobody gets a domain that checks less than the one that the group was set to (P10).
        let kind = if looseness(s.kind) > looseness(o.kind) { o.kind } else { s.kind };
        if !o.is_idle() || !fits || (kind != s.kind && !s.is_idle()) {
            return Ok(false);
        }
        if let Some(current) = &s.current {
            current.domain.reserve(&o.regions.holes(current.domain.kind()))?;
        }
        s.kind = kind;
        for mut instance in core::mem::take(&mut o.instances) {
            match s.instance_mut(instance.node) {
                None => s.instances.push(instance),
                Some(own) => {
                    // Streams rest in it until the regions are mapped where the others rest.
                    if own.rest.is_none() {
                        own.rest = instance.rest.take();
                    }
                    trash.push(instance);
                }
            }
        }
        s.regions.members.append(&mut o.regions.members);
        for member in core::mem::take(&mut o.members) {
            if !s.members.contains(&member) {
                s.members.push(member);
            }
        }
        s.past.add(core::mem::take(&mut o.past));
        // The device between both hears of it when it is to be bound.
        let _ = s.keep_regions(trash);
        Ok(true)
    }

    pub(in crate::iommu) fn is_idle(&self) -> bool {
        self.state.lock().is_idle()
    }

    /// Leaves only the members in it that `stays` is true for.
    pub(in crate::iommu) fn retain(&self, stays: impl Fn(&str) -> bool) {
        self.state.lock().members.retain(|m| stays(m));
    }

    /// The IOMMU at `node` is none of the group's any more. Returns the translation that it has a share in, if there is
    /// one; to take the share out may wait for the hardware.
    pub(in crate::iommu) fn remove_instance(&self, node: NodeId, trash: &mut Vec<Instance>) -> Option<Arc<Joint>> {
        let mut s = self.state.lock();
        trash.extend(s.instances.extract_if(.., |i| i.node == node));
        s.users.retain(|stream, _| stream.iommu != node);
        for member in &mut s.regions.members {
            member.streams.retain(|stream| stream.iommu != node);
        }
        s.regions.members.retain(|m| !m.streams.is_empty());
        s.current.as_ref().map(|c| Arc::clone(&c.joint))
    }

    /// Makes a group of its own, number `id`, of `members` and of the IOMMUs at `nodes`. The group is idle.
    pub(in crate::iommu) fn split(
        &self,
        id: u32,
        members: &[Arc<str>],
        nodes: &[NodeId],
        trash: &mut Vec<Instance>,
    ) -> Arc<Self> {
        let mut s = self.state.lock();
        let instances = s.instances.iter().filter(|i| nodes.contains(&i.node)).cloned().collect();
        let new = Self::new(id, instances, s.kind, Arc::clone(s.ownership.table()));
        {
            let mut n = new.state.lock();
            n.members.extend(s.members.iter().filter(|m| members.contains(m)).cloned());
            n.regions.members = s.regions.members.extract_if(.., |m| members.contains(&m.device)).collect();
            // Where there is no context for a place of its own, both rest in the one that they had.
            let _ = n.keep_regions(trash);
        }
        new
    }

    /// Leaves only `members` and the IOMMUs at `nodes` in it, and returns the other IOMMUs. The group is idle.
    pub(in crate::iommu) fn keep(&self, members: &[Arc<str>], nodes: &[NodeId]) -> Vec<Instance> {
        let mut s = self.state.lock();
        s.members.retain(|m| members.contains(m));
        s.regions.members.retain(|m| members.contains(&m.device));
        let mut trash: Vec<_> = s.instances.extract_if(.., |i| !nodes.contains(&i.node)).collect();
        let _ = s.keep_regions(&mut trash);
        trash
    }
}
