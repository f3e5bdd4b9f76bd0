//! Reserved regions of a group: the domains of idle streams, and the regions mapped in the domain in use.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Group, Instance, State, Stream};
use crate::device::{NodeId, ReservedRegion};
use crate::iommu::regions::{Pages, RegionDomain};
use crate::iommu::{DomainKind, GroupError, IommuError, Translation};

impl State {
    /// Translation of an idle stream at `instance`.
    pub(super) fn idle_translation<'i>(&self, instance: &'i Instance, stream: Stream) -> &'i Arc<dyn Translation> {
        match &instance.region_domain {
            Some(region_domain) if self.regions.has_direct(stream) => &region_domain.ops,
            _ => &instance.blocked,
        }
    }

    pub(super) fn block_idle(&self, stream: Stream) {
        if let Some(i) = self.instance(stream.iommu) {
            // A stream that cannot be attached stays where it was: in the regions of its own device, or blocked.
            let _ = i.iommu.attach(stream.id, &i.blocked);
        }
    }

    /// Refuses a pass-through owner if a region forbids it.
    pub(super) fn check_pass_through(&self, group: u32) -> Result<(), GroupError> {
        self.regions.strict().map_or(Ok(()), |(device, region)| {
            let ReservedRegion { first, last, .. } = region;
            Err(GroupError::Reserved { group, device: Arc::clone(device), first, last })
        })
    }

    /// Maps the direct regions of all members, for idle streams and in the domain in use. Continues after a failure.
    /// Instances that are not used any more go to `deferred_drops`. Returns the first failure; for one `device`, the first
    /// that concerns it.
    pub(super) fn map_regions(
        &mut self,
        device: Option<&str>,
        deferred_drops: &mut Vec<Instance>,
    ) -> Result<(), IommuError> {
        let mut errors = self.map_domain_regions();
        if !errors.contains(&IommuError::RegionPassedThrough) {
            let nodes: Vec<_> = self.instances.iter().map(|i| i.node).collect();
            for node in nodes {
                self.map_idle_regions(node, deferred_drops, &mut errors);
            }
        }
        errors.into_iter().find(|error| device.is_none_or(|d| self.regions.concerns(error, d))).map_or(Ok(()), Err)
    }

    /// Maps them for the idle streams at `node`, in a translation that maps nothing else.
    fn map_idle_regions(&mut self, node: NodeId, deferred_drops: &mut Vec<Instance>, errors: &mut Vec<IommuError>) {
        let (pages, prot, streams) = (self.regions.pages_at(node), self.regions.prot(), self.regions.streams_at(node));
        let idle: Vec<_> = streams.into_iter().filter(|s| !self.users.contains_key(s)).collect();
        let Some(instance) = self.instance_mut(node) else { return };
        let leaves =
            |instance: &Instance, region_domain| Instance { region_domain: Some(region_domain), ..instance.clone() };
        if pages.is_empty() {
            let old = instance.region_domain.take();
            deferred_drops.extend(old.map(|region_domain| leaves(instance, region_domain)));
            return;
        }
        if instance.region_domain.as_ref().is_none_or(|region_domain| region_domain.exceeds(&pages)) {
            match instance.iommu.domain(DomainKind::Strict) {
                Ok(ops) => {
                    let old = instance.region_domain.replace(RegionDomain::new(ops));
                    deferred_drops.extend(old.map(|region_domain| leaves(instance, region_domain)));
                }
                Err(e) if instance.region_domain.is_none() => return errors.push(e),
                // Keep the old domain: it maps more than its devices need.
                Err(_) => {}
            }
        }
        let Some(region_domain) = &mut instance.region_domain else { return };
        region_domain.grow(&pages, prot, errors);
        let attach = |s: &Stream| instance.iommu.attach(s.id, &region_domain.ops).err();
        errors.extend(idle.iter().filter_map(attach));
    }

    /// Maps them in the domain of the current owner, and reserves all regions there. Returns what failed.
    fn map_domain_regions(&mut self) -> Vec<IommuError> {
        let Some(current) = &mut self.current else { return Vec::new() };
        let kind = current.domain.kind();
        if self.ownership.holder().is_some() && self.regions.strict().is_some() {
            return Vec::from([IommuError::RegionPassedThrough]);
        }
        let in_use = current.domain.reserve(&self.regions.holes(kind));
        let mut errors: Vec<_> = in_use.ranges().map(|(first, last)| IommuError::RegionInUse { first, last }).collect();
        for (first, end) in self.regions.direct(kind).without(&in_use).without(&current.mapped_regions).runs() {
            let run = Pages::run(first, end);
            let multi = &current.multi;
            match run.map(self.regions.prot(), |iova, phys, len, prot| multi.map_each(iova, phys, len, prot)) {
                Ok(()) => current.mapped_regions = current.mapped_regions.with(&run),
                Err(e) => errors.push(e),
            }
        }
        errors
    }
}

impl Group {
    /// Retries mapping the regions of its devices, for `device`.
    pub(in crate::iommu) fn map_regions(
        &self,
        device: &str,
        deferred_drops: &mut Vec<Instance>,
    ) -> Result<(), IommuError> {
        self.state.lock().map_regions(Some(device), deferred_drops)
    }

    /// Removes the regions of `device`, which leaves.
    pub(in crate::iommu) fn remove_regions(&self, device: &str, deferred_drops: &mut Vec<Instance>) {
        let mut s = self.state.lock();
        let gone: Vec<_> = s.regions.members.extract_if(.., |m| &*m.device == device).collect();
        for stream in gone.iter().filter(|m| m.has_direct()).flat_map(|m| &m.streams) {
            if !s.users.contains_key(stream) && !s.regions.has_direct(*stream) {
                s.block_idle(*stream);
            }
        }
        if !gone.is_empty() {
            // A domain that could not be replaced by a smaller one stays until it can.
            let _ = s.map_regions(None, deferred_drops);
        }
    }

    /// Reserved regions of its devices and IOMMUs, sorted by address, adjacent ones of one kind joined.
    pub fn reserved_regions(&self) -> Vec<ReservedRegion> {
        let s = self.state.lock();
        s.regions.listed(s.instances.iter().map(|i| i.iommu.geometry()))
    }
}
