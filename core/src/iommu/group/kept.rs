//! Reserved regions: where streams that nobody uses rest, and what the domain in use keeps mapped.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Group, Instance, State, Stream};
use crate::device::{NodeId, ReservedRegion};
use crate::iommu::regions::{Pages, Rest};
use crate::iommu::{DomainKind, GroupError, IommuError, Translation};

impl State {
    /// Where a stream at `instance` goes while nobody uses it.
    pub(super) fn resting<'i>(&self, instance: &'i Instance, stream: Stream) -> &'i Arc<dyn Translation> {
        match &instance.rest {
            Some(rest) if self.regions.keeps(stream) => &rest.ops,
            _ => &instance.blocked,
        }
    }

    pub(super) fn block_at_rest(&self, stream: Stream) {
        if let Some(i) = self.instance(stream.iommu) {
            // One that stays where it was reaches what its device may, or nothing.
            let _ = i.iommu.attach(stream.id, &i.blocked);
        }
    }

    /// Whether a pass-through owner may have it.
    pub(super) fn may_be_passed(&self, group: u32) -> Result<(), GroupError> {
        self.regions.strict().map_or(Ok(()), |(device, region)| {
            let ReservedRegion { first, last, .. } = region;
            Err(GroupError::Reserved { group, device: Arc::clone(device), first, last })
        })
    }

    /// Maps the direct regions of all members where their streams rest, and in the domain in use. What is not needed any
    /// more goes to `trash`. Each is tried, also after one that fails.
    pub(super) fn keep_regions(&mut self, trash: &mut Vec<Instance>) -> Result<(), IommuError> {
        let mut result = self.keep_in_domain();
        if result == Err(IommuError::RegionPassedThrough) {
            return result;
        }
        let nodes: Vec<_> = self.instances.iter().map(|i| i.node).collect();
        for node in nodes {
            result = result.and(self.keep_at_rest(node, trash));
        }
        result
    }

    /// Maps them where the streams at `node` rest: in a translation that maps nothing else.
    fn keep_at_rest(&mut self, node: NodeId, trash: &mut Vec<Instance>) -> Result<(), IommuError> {
        let (pages, prot, streams) = (self.regions.pages_at(node), self.regions.prot(), self.regions.streams_at(node));
        let idle: Vec<_> = streams.into_iter().filter(|s| !self.users.contains_key(s)).collect();
        let Some(instance) = self.instance_mut(node) else { return Ok(()) };
        let leaves = |instance: &Instance, rest| Instance { rest: Some(rest), ..instance.clone() };
        if pages.is_empty() {
            let old = instance.rest.take();
            trash.extend(old.map(|rest| leaves(instance, rest)));
            return Ok(());
        }
        if instance.rest.as_ref().is_none_or(|rest| rest.exceeds(&pages)) {
            match instance.iommu.domain(DomainKind::Strict) {
                Ok(ops) => {
                    let old = instance.rest.replace(Rest::new(ops));
                    trash.extend(old.map(|rest| leaves(instance, rest)));
                }
                Err(e) if instance.rest.is_none() => return Err(e),
                // It goes on with what it had, which is more than its devices need.
                Err(_) => {}
            }
        }
        let Some(rest) = &mut instance.rest else { return Ok(()) };
        let grown = rest.grow(&pages, prot);
        let attach = |s: &Stream| instance.iommu.attach(s.id, &rest.ops);
        idle.iter().map(attach).fold(grown, Result::and)
    }

    /// Maps them in the domain of the present owner, and keeps all regions from being device addresses there.
    fn keep_in_domain(&mut self) -> Result<(), IommuError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let kind = current.domain.kind();
        if self.ownership.holder().is_some() && self.regions.strict().is_some() {
            return Err(IommuError::RegionPassedThrough);
        }
        current.domain.reserve(&self.regions.holes(kind))?;
        for (first, end) in self.regions.direct(kind).without(&current.kept).runs() {
            let run = Pages::run(first, end);
            let joint = &current.joint;
            run.map(self.regions.prot(), |iova, phys, len, prot| joint.map_each(iova, phys, len, prot))?;
            current.kept = current.kept.with(&run);
        }
        Ok(())
    }
}

impl Group {
    /// Tries again to keep the regions of its devices mapped.
    pub(in crate::iommu) fn keep_regions(&self, trash: &mut Vec<Instance>) -> Result<(), IommuError> {
        self.state.lock().keep_regions(trash)
    }

    /// The regions of `device`, which leaves, are nobody's any more.
    pub(in crate::iommu) fn forget_regions(&self, device: &str, trash: &mut Vec<Instance>) {
        let mut s = self.state.lock();
        let gone: Vec<_> = s.regions.members.extract_if(.., |m| &*m.device == device).collect();
        for stream in gone.iter().filter(|m| m.has_direct()).flat_map(|m| &m.streams) {
            if !s.users.contains_key(stream) && !s.regions.keeps(*stream) {
                s.block_at_rest(*stream);
            }
        }
        if !gone.is_empty() {
            // What could not be made smaller stays as it is until it can.
            let _ = s.keep_regions(trash);
        }
    }

    /// The reserved regions of its devices and IOMMUs, by address, those of one kind that meet as one.
    pub fn reserved_regions(&self) -> Vec<ReservedRegion> {
        let s = self.state.lock();
        s.regions.listed(s.instances.iter().map(|i| i.iommu.geometry()))
    }
}
