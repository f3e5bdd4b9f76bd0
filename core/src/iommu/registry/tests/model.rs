//! The same as plain sets: which streams are one group, and who has it.

use alloc::vec::Vec;
use std::collections::{BTreeMap, BTreeSet};

use super::board::STREAMS;
use crate::iommu::DomainKind;

/// IOMMU, and stream if it isolates them.
pub(super) type Key = (usize, Option<u32>);

pub(super) struct Group {
    pub(super) id: u32,
    pub(super) kind: DomainKind,
    /// IOMMUs: of a group in use also those that it does not need any more.
    pub(super) iommus: BTreeSet<usize>,
    /// Bindings. They have its domain.
    pub(super) bindings: BTreeSet<usize>,
    pub(super) pass_through: bool,
    /// Its domain was made while the narrow IOMMU was one of its own.
    narrow: bool,
}

impl Group {
    pub(super) fn is_used(&self) -> bool {
        !self.bindings.is_empty()
    }

    /// The domain in use takes the IOMMU.
    fn takes(&self, iommu: usize) -> bool {
        !self.is_used() || !self.pass_through && (iommu != 2 || self.narrow || self.iommus.contains(&iommu))
    }

    fn rank(&self) -> usize {
        [DomainKind::Strict, DomainKind::Lazy, DomainKind::Identity].iter().position(|k| *k == self.kind).unwrap()
    }
}

#[derive(Default)]
pub(super) struct Model {
    pub(super) present: BTreeSet<usize>,
    pub(super) groups: BTreeMap<u32, Group>,
    /// Group of each key.
    pub(super) keys: BTreeMap<Key, u32>,
    /// Streams that each device has in groups, in order.
    pub(super) streams: BTreeMap<usize, Vec<(usize, u32)>>,
    /// Devices whose groups could not be merged.
    pub(super) apart: BTreeSet<usize>,
    next: u32,
}

pub(super) fn key((iommu, stream): (usize, u32)) -> Key {
    (iommu, (iommu != 2).then_some(stream))
}

impl Model {
    /// Groups of a device.
    pub(super) fn groups_of(&self, d: usize) -> BTreeSet<u32> {
        self.streams.get(&d).into_iter().flatten().filter_map(|s| self.keys.get(&key(*s)).copied()).collect()
    }

    /// The group of a device all of whose streams are in one.
    pub(super) fn group_of(&self, d: usize) -> Option<u32> {
        let groups = self.groups_of(d);
        groups.first().copied().filter(|_| groups.len() == 1)
    }

    /// Devices with a stream in the group, or nothing but a name.
    pub(super) fn members(&self, id: u32) -> BTreeSet<usize> {
        self.streams.keys().copied().filter(|d| self.groups_of(*d).contains(&id)).collect()
    }

    pub(super) fn join(&mut self, d: usize) {
        for stream in STREAMS[d].iter().filter(|s| self.present.contains(&s.0)).copied().collect::<Vec<_>>() {
            if self.streams.get(&d).is_some_and(|own| own.contains(&stream)) {
                continue;
            }
            let home = self.group_of(d).filter(|id| self.groups[id].takes(stream.0));
            let id = self.keys.get(&key(stream)).copied().or(home).unwrap_or(self.next);
            if id == self.next {
                self.next += 1;
                let (iommus, bindings) = <(BTreeSet<_>, BTreeSet<_>)>::default();
                let kind = DomainKind::Strict;
                self.groups.insert(id, Group { id, kind, iommus, bindings, pass_through: false, narrow: false });
            }
            self.groups.get_mut(&id).unwrap().iommus.insert(stream.0);
            self.keys.insert(key(stream), id);
            self.streams.entry(d).or_default().push(stream);
        }
        let merged = self.merge(d);
        self.note(d, merged);
    }

    fn note(&mut self, d: usize, merged: bool) {
        if merged {
            self.apart.remove(&d)
        } else {
            self.apart.insert(d)
        };
    }

    /// One in use takes the others, the oldest first, up to one that it cannot take.
    fn merge(&mut self, d: usize) -> bool {
        let all = self.groups_of(d);
        let Some(home) = all.iter().find(|id| self.groups[id].is_used()).or(all.first()).copied() else { return true };
        for other in all.into_iter().filter(|id| *id != home) {
            let (to, from) = (&self.groups[&home], &self.groups[&other]);
            let stricter = from.rank() < to.rank();
            if from.is_used() || !from.iommus.iter().all(|i| to.takes(*i)) || stricter && to.is_used() {
                return false;
            }
            let from = self.groups.remove(&other).unwrap();
            let to = self.groups.get_mut(&home).unwrap();
            to.iommus.extend(from.iommus);
            if stricter {
                to.kind = from.kind;
            }
            self.keys.values_mut().filter(|id| **id == other).for_each(|id| *id = home);
        }
        true
    }

    /// Splits those groups that are idle, and tries again what could not be merged. Returns devices that are in one group by this.
    fn rebuild(&mut self, groups: &BTreeSet<u32>) -> Vec<usize> {
        let used: BTreeSet<Key> = self.streams.values().flatten().map(|s| key(*s)).collect();
        self.keys.retain(|key, _| used.contains(key));
        for id in groups {
            if !self.groups[id].is_used() {
                self.split(*id);
            }
        }
        let left: BTreeSet<u32> = self.keys.values().copied().collect();
        self.groups.retain(|id, _| left.contains(id));
        let apart: Vec<_> = self.streams.keys().copied().filter(|d| self.group_of(*d).is_none()).collect();
        let mut joined = Vec::new();
        for d in apart {
            if self.merge(d) {
                self.apart.remove(&d);
                joined.push(d);
            }
        }
        joined
    }

    fn split(&mut self, id: u32) {
        let mut left: BTreeSet<Key> = self.keys.iter().filter(|(_, g)| **g == id).map(|(key, _)| *key).collect();
        let (kind, mut first) = (self.groups[&id].kind, true);
        while let Some(start) = left.first().copied() {
            // What devices connect with it, until nothing more is found.
            let mut part = BTreeSet::from([start]);
            loop {
                let connected = |own: &&Vec<(usize, u32)>| own.iter().any(|s| part.contains(&key(*s)));
                let all = self.streams.values().filter(connected).flatten().map(|s| key(*s));
                let more: BTreeSet<Key> = all.filter(|key| left.contains(key)).chain(part.iter().copied()).collect();
                if more == part {
                    break;
                }
                part = more;
            }
            left.retain(|key| !part.contains(key));
            let new = if core::mem::take(&mut first) { id } else { self.next };
            self.next += u32::from(new != id);
            let iommus = part.iter().map(|key| key.0).collect();
            let group = Group { id: new, kind, iommus, bindings: BTreeSet::new(), pass_through: false, narrow: false };
            self.groups.insert(new, group);
            self.keys.extend(part.into_iter().map(|key| (key, new)));
        }
    }

    pub(super) fn leave(&mut self, d: usize) -> Vec<usize> {
        self.apart.remove(&d);
        let groups = self.groups_of(d);
        self.streams.remove(&d);
        self.rebuild(&groups)
    }

    pub(super) fn unregister(&mut self, iommu: usize) -> Vec<usize> {
        self.present.remove(&iommu);
        let at_it = self.groups.values().filter(|g| g.iommus.contains(&iommu));
        let groups: BTreeSet<u32> = at_it.map(|g| g.id).collect();
        self.keys.retain(|key, _| key.0 != iommu);
        self.streams.values_mut().for_each(|own| own.retain(|s| s.0 != iommu));
        self.streams.retain(|_, own| !own.is_empty());
        for id in &groups {
            self.groups.get_mut(id).unwrap().iommus.remove(&iommu);
        }
        let joined = self.rebuild(&groups);
        if self.present.is_empty() {
            self.next = 0;
        }
        joined
    }

    /// The group of a device that can be bound.
    pub(super) fn may_bind(&self, d: usize, pass_through: bool) -> Option<u32> {
        let whole = self.streams.get(&d).is_some_and(|own| own.len() == STREAMS[d].len());
        let id = self.group_of(d).filter(|_| whole)?;
        let group = &self.groups[&id];
        (!group.is_used() || group.pass_through == pass_through).then_some(id)
    }

    pub(super) fn bind(&mut self, d: usize, id: u32, pass_through: bool) {
        let group = self.groups.get_mut(&id).unwrap();
        if !group.is_used() {
            (group.pass_through, group.narrow) = (pass_through, group.iommus.contains(&2));
        }
        group.bindings.insert(d);
    }

    pub(super) fn unbind(&mut self, d: usize) -> Vec<usize> {
        let Some(group) = self.groups.values_mut().find(|g| g.bindings.contains(&d)) else { return Vec::new() };
        group.bindings.remove(&d);
        let id = group.id;
        if group.is_used() { Vec::new() } else { self.rebuild(&BTreeSet::from([id])) }
    }
}
