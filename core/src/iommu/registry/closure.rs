//! Groups as closures (P7): merged when a device has streams in several, and split again when no device connects them.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{DeviceStreams, GroupKey, Inner};
use crate::device::{Device, NodeId};
use crate::iommu::{Group, IommuError};

impl Inner {
    /// Merges the groups in which the device at `node` has streams: a group is a closure (P7).
    pub(super) fn merge_groups(&mut self, node: NodeId) -> Result<(), IommuError> {
        let groups = self.devices.get(&node).map(|p| self.groups_of(p)).unwrap_or_default();
        // A group in use keeps its identity and absorbs the others.
        let Some(home) = groups.iter().find(|g| !g.is_idle()).or(groups.first()) else { return Ok(()) };
        for other in groups.iter().filter(|g| !Arc::ptr_eq(g, home)) {
            if !home.merge_from(other, &mut self.deferred_drops)? {
                return Err(IommuError::Apart { first: home.id(), second: other.id() });
            }
            for group in self.groups.values_mut().filter(|g| Arc::ptr_eq(g, other)) {
                *group = Arc::clone(home);
            }
        }
        Ok(())
    }

    /// Restores `groups` as closures after a removal: drops keys without a stream, splits groups that no device
    /// connects any more, and retries merges that were postponed. Returns devices that have joined one group by this.
    /// Groups in use are left for later.
    pub(super) fn rebuild(&mut self, groups: &[Arc<Group>]) -> Vec<Arc<Device>> {
        let used: BTreeSet<GroupKey> =
            self.devices.values().flat_map(|p| p.streams.iter().map(|(key, _)| *key)).collect();
        self.groups.retain(|key, _| used.contains(key));
        for group in groups {
            if group.is_idle() {
                self.split(group);
            }
        }
        let split_devices = self.devices.iter().filter(|(_, p)| self.group_of(p).is_none());
        let split_devices: Vec<_> = split_devices.map(|(node, p)| (*node, Arc::clone(&p.device))).collect();
        let mut merged = Vec::new();
        for (node, device) in split_devices {
            if self.merge_groups(node).is_ok() {
                *device.not_joined.lock() = None;
                merged.push(device);
            }
        }
        merged
    }

    /// Retries mapping the regions of devices for which it failed while `group` was in use. Returns those devices.
    pub(super) fn retry_regions(&mut self, group: &Arc<Group>) -> Vec<Arc<Device>> {
        let waits = |d: &Device| matches!(*d.not_joined.lock(), Some(e) if e.is_about_regions());
        let here = |p: &&DeviceStreams| waits(&p.device) && self.group_of(p).is_some_and(|g| Arc::ptr_eq(g, group));
        let mut waiting: Vec<_> = self.devices.values().filter(here).map(|p| Arc::clone(&p.device)).collect();
        if !group.is_idle() {
            return Vec::new();
        }
        waiting.retain(|device| group.map_regions(device.name(), &mut self.deferred_drops).is_ok());
        for device in &waiting {
            *device.not_joined.lock() = None;
        }
        waiting
    }

    /// Splits `group`, which is idle, into its connected parts.
    fn split(&mut self, group: &Arc<Group>) {
        let of_it = self.groups.iter().filter(|(_, g)| Arc::ptr_eq(g, group));
        let mut remaining: BTreeSet<GroupKey> = of_it.map(|(key, _)| *key).collect();
        let mut closures = Vec::new();
        while let Some(start) = remaining.pop_first() {
            let (mut keys, mut members) = (Vec::from([start]), Vec::new());
            let mut at = 0;
            while let Some(key) = keys.get(at).copied() {
                at += 1;
                for entry in self.devices.values().filter(|p| p.streams.iter().any(|(k, _)| *k == key)) {
                    members.push(Arc::clone(&entry.device.desc().name));
                    keys.extend(entry.streams.iter().map(|(k, _)| *k).filter(|k| remaining.remove(k)));
                }
            }
            closures.push((keys, members));
        }
        let mut closures = closures.into_iter();
        let Some((kept, members)) = closures.next() else {
            self.deferred_drops.extend(group.retain_only(&[], &[]));
            return;
        };
        let nodes = |keys: &[GroupKey]| keys.iter().map(|key| key.0).collect::<Vec<_>>();
        for (keys, members) in closures {
            let new = group.split(self.next_group, &members, &nodes(&keys), &mut self.deferred_drops);
            self.next_group += 1;
            for key in keys {
                self.groups.insert(key, Arc::clone(&new));
            }
        }
        self.deferred_drops.extend(group.retain_only(&members, &nodes(&kept)));
    }
}
