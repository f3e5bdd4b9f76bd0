//! Groups as closures (P7): united by a device that has streams in several, and split again once nothing holds them together.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Inner, Key, Place};
use crate::device::{Device, NodeId};
use crate::iommu::{Group, IommuError};

impl Inner {
    /// Makes one group of those in which the device at `node` is: a group is a closure (P7).
    pub(super) fn unite(&mut self, node: NodeId) -> Result<(), IommuError> {
        let groups = self.places.get(&node).map(|p| self.groups_of(p)).unwrap_or_default();
        // One that is in use stays what it is, and takes the others in.
        let Some(home) = groups.iter().find(|g| !g.is_idle()).or(groups.first()) else { return Ok(()) };
        for other in groups.iter().filter(|g| !Arc::ptr_eq(g, home)) {
            if !home.absorb(other, &mut self.trash)? {
                return Err(IommuError::Apart { first: home.id(), second: other.id() });
            }
            for group in self.groups.values_mut().filter(|g| Arc::ptr_eq(g, other)) {
                *group = Arc::clone(home);
            }
        }
        Ok(())
    }

    /// Makes `groups` closures again after something has left them: keys without a stream go, a group that nothing holds
    /// together any more falls apart, and those that waited for it to be free are united. Returns devices that are in
    /// one group from now on. Groups in use are left for when they are not.
    pub(super) fn tidy(&mut self, groups: &[Arc<Group>]) -> Vec<Arc<Device>> {
        let used: BTreeSet<Key> = self.places.values().flat_map(|p| p.streams.iter().map(|(key, _)| *key)).collect();
        self.groups.retain(|key, _| used.contains(key));
        for group in groups {
            if group.is_idle() {
                self.split(group);
            }
        }
        let between = self.places.iter().filter(|(_, p)| self.group_of(p).is_none());
        let between: Vec<_> = between.map(|(node, p)| (*node, Arc::clone(&p.device))).collect();
        let mut united = Vec::new();
        for (node, device) in between {
            if self.unite(node).is_ok() {
                *device.not_joined.lock() = None;
                united.push(device);
            }
        }
        united
    }

    /// Devices of `group`, which is idle, whose regions can be kept mapped now and could not while it was in use.
    pub(super) fn keep_again(&mut self, group: &Arc<Group>) -> Vec<Arc<Device>> {
        let waits = |d: &Device| matches!(*d.not_joined.lock(), Some(e) if e.is_about_regions());
        let here = |p: &&Place| waits(&p.device) && self.group_of(p).is_some_and(|g| Arc::ptr_eq(g, group));
        let waiting: Vec<_> = self.places.values().filter(here).map(|p| Arc::clone(&p.device)).collect();
        if waiting.is_empty() || !group.is_idle() || group.keep_regions(&mut self.trash).is_err() {
            return Vec::new();
        }
        for device in &waiting {
            *device.not_joined.lock() = None;
        }
        waiting
    }

    /// Makes a group of each part of `group`, which is idle, that nothing holds together with the others.
    fn split(&mut self, group: &Arc<Group>) {
        let of_it = self.groups.iter().filter(|(_, g)| Arc::ptr_eq(g, group));
        let mut rest: BTreeSet<Key> = of_it.map(|(key, _)| *key).collect();
        let mut closures = Vec::new();
        while let Some(start) = rest.pop_first() {
            let (mut keys, mut members) = (Vec::from([start]), Vec::new());
            let mut at = 0;
            while let Some(key) = keys.get(at).copied() {
                at += 1;
                for place in self.places.values().filter(|p| p.streams.iter().any(|(k, _)| *k == key)) {
                    members.push(Arc::clone(&place.device.desc().name));
                    keys.extend(place.streams.iter().map(|(k, _)| *k).filter(|k| rest.remove(k)));
                }
            }
            closures.push((keys, members));
        }
        let mut closures = closures.into_iter();
        let Some((kept, members)) = closures.next() else {
            self.trash.extend(group.keep(&[], &[]));
            return;
        };
        let nodes = |keys: &[Key]| keys.iter().map(|key| key.0).collect::<Vec<_>>();
        for (keys, members) in closures {
            let new = group.split(self.next_group, &members, &nodes(&keys), &mut self.trash);
            self.next_group += 1;
            for key in keys {
                self.groups.insert(key, Arc::clone(&new));
            }
        }
        self.trash.extend(group.keep(&members, &nodes(&kept)));
    }
}
