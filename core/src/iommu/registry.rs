//! The IOMMU instances and groups of a machine, and which devices are in which.

mod closure;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use super::group::{Instance, Membership, Stream};
use super::{DomainKind, FaultReport, Group, GroupError, Grouping, Iommu, IommuError, Owner, StreamId, Translation};
use crate::addr::DeviceAddr;
use crate::binding::{Entry, ResourceKind, UnwindCtx};
use crate::claim::{Claim, Claims, Holder};
use crate::device::{Device, NodeId};
use crate::env::Env;
use crate::event::{EventKind, Outcome};
use crate::sync::Mutex;

/// What an IOMMU can tell apart: the instance, and the stream where it can tell streams apart.
type Key = (NodeId, Option<StreamId>);

/// A stream of a device, and its IOMMU.
type Wanted = Result<(Stream, Arc<dyn Iommu>), IommuError>;

/// A stream that was taken in, and whether the regions of its device are kept mapped.
type Taken = (Joined, Result<(), IommuError>);

/// Where a device is. It is in one group, unless it came between two that cannot become one for the time being.
struct Place {
    device: Arc<Device>,
    streams: Vec<(Key, Stream)>,
}

/// A stream that has come into a group.
pub(crate) struct Joined {
    pub(crate) group: u32,
    pub(crate) iommu: String,
    pub(crate) stream: StreamId,
}

/// Why a device's group was not claimed.
pub(crate) enum Unclaimed {
    /// It was refused.
    Refused(GroupError),
    /// The IOMMU at this node is not there, and the device has streams at it.
    Missing(NodeId),
}

#[derive(Default)]
struct Inner {
    instances: BTreeMap<NodeId, Arc<dyn Iommu>>,
    groups: BTreeMap<Key, Arc<Group>>,
    places: BTreeMap<NodeId, Place>,
    /// The machine's claims, for the owners of groups.
    claims: Arc<Claims>,
    next_group: u32,
    /// What no group needs any more. It goes without the lock, since the hardware may have to be waited for, and an
    /// interrupt that comes meanwhile may look at the groups.
    trash: Vec<Instance>,
}

/// All instances and groups.
///
/// Every decision on who is in which group, and who owns it, is made under this one lock: nobody joins, leaves, claims or
/// lets go between somebody else's look and act. The lock of a [`Group`] comes after it.
#[derive(Default)]
pub(crate) struct Iommus(Mutex<Inner>);

impl Iommus {
    /// None yet. Whoever owns a group has a claim in `claims`.
    pub(crate) fn new(claims: Arc<Claims>) -> Self {
        Self(Mutex::new(Inner { claims, ..Inner::default() }))
    }

    pub(crate) fn register(&self, node: NodeId, iommu: Arc<dyn Iommu>) {
        self.0.lock().instances.insert(node, iommu);
    }

    /// Whether the device at `node` is an IOMMU.
    pub(crate) fn is_instance(&self, node: NodeId) -> bool {
        self.0.lock().instances.contains_key(&node)
    }

    /// The groups, by number.
    pub(crate) fn groups(&self) -> Vec<Arc<Group>> {
        self.0.lock().distinct()
    }

    /// Feeds how many instances, groups and streams there are to `state`. What a group is like, its members say.
    pub(crate) fn hash_state(&self, state: &mut impl Hasher) {
        let inner = self.0.lock();
        let streams: usize = inner.places.values().map(|p| p.streams.len()).sum();
        (inner.instances.len(), inner.distinct().len(), streams).hash(state);
    }

    /// The instances, by node.
    pub(crate) fn instances(&self) -> Vec<Arc<dyn Iommu>> {
        self.0.lock().instances.values().cloned().collect()
    }

    /// The group of `device`, the first one when it is between several, and its streams.
    pub(crate) fn membership(&self, device: &Device) -> Option<Membership> {
        let inner = self.0.lock();
        let place = inner.places.get(&device.node())?;
        let (key, _) = place.streams.first()?;
        let group = Arc::clone(inner.groups.get(key)?);
        Some(Membership { group, streams: place.streams.iter().map(|(_, s)| *s).collect() })
    }

    /// The IOMMUs whose streams `device` has.
    pub(crate) fn instances_of(&self, device: &Device) -> Vec<Arc<dyn Iommu>> {
        let Some(member) = self.membership(device) else { return Vec::new() };
        let inner = self.0.lock();
        let mut list: Vec<Arc<dyn Iommu>> = Vec::new();
        let mut nodes = BTreeSet::new();
        for stream in member.streams.iter().filter(|s| nodes.insert(s.iommu)) {
            match inner.instances.get(&stream.iommu) {
                Some(iommu) => list.push(Arc::clone(iommu)),
                // Somebody else's, for this device alone.
                None => list.extend(member.group.iommus()),
            }
        }
        list
    }

    /// Devices that have streams at the IOMMU called `iommu`.
    pub(crate) fn devices_at(&self, iommu: &str) -> Vec<Arc<Device>> {
        let inner = self.0.lock();
        let named = |stream: &Stream| match inner.instances.get(&stream.iommu) {
            Some(i) => i.name() == iommu,
            None => inner.places.get(&stream.iommu).is_some_and(|p| {
                let groups = p.streams.iter().filter_map(|(key, _)| inner.groups.get(key));
                groups.flat_map(|g| g.iommus()).any(|i| i.name() == iommu)
            }),
        };
        let here = |p: &&Place| p.streams.iter().any(|(_, s)| named(s));
        inner.places.values().filter(here).map(|p| Arc::clone(&p.device)).collect()
    }

    /// Puts the streams of `device` into groups, blocked, as far as their IOMMUs are there and they are in none: in the
    /// end into one group. Returns those that have come in, also with an error, which the device remembers until it has
    /// joined or its IOMMU leaves.
    pub(crate) fn join(&self, device: &Arc<Device>, env: &dyn Env) -> (Vec<Joined>, Result<(), IommuError>) {
        let mut inner = self.0.lock();
        let mut joined = Vec::new();
        // Asked under the lock: whoever removes the device takes it out after it was marked.
        if device.is_removed() {
            return (joined, Ok(()));
        }
        let taken_in = inner.take_in(device, env, &mut joined);
        let result = taken_in.and(inner.unite(device.node()));
        *device.not_joined.lock() = result.err();
        for j in &mut joined {
            // They may have become one.
            j.group = inner.places.get(&device.node()).and_then(|p| inner.group_of(p)).map_or(j.group, |g| g.id());
        }
        let trash = core::mem::take(&mut inner.trash);
        drop(inner);
        drop(trash);
        (joined, result)
    }

    /// Takes `device` out of its group; an empty group goes, and one that it held together falls apart.
    pub(crate) fn leave(&self, device: &Device) {
        let mut inner = self.0.lock();
        *device.not_joined.lock() = None;
        if inner.places.get(&device.node()).is_none_or(|p| !core::ptr::eq(&raw const *p.device, device)) {
            return;
        }
        let Some(place) = inner.places.remove(&device.node()) else { return };
        let groups = inner.groups_of(&place);
        for group in &groups {
            group.forget_regions(device.name(), &mut inner.trash);
            group.retain(|member| member != device.name());
        }
        inner.tidy(&groups);
        let trash = core::mem::take(&mut inner.trash);
        drop(inner);
        drop((groups, place, trash));
    }

    /// Claims the group of `device` for a binding, `holder`.
    pub(crate) fn claim(&self, device: &Device, holder: &Holder) -> Result<(Membership, Arc<Claim>, Owner), Unclaimed> {
        let inner = self.0.lock();
        let place = inner.places.get(&device.node()).ok_or(Unclaimed::Refused(GroupError::NoGroup))?;
        let has = |node: NodeId| place.streams.iter().any(|(_, s)| s.iommu == node);
        if !has(device.node()) {
            let mut needs = device.desc().suppliers.iter().filter(|s| s.translates());
            if let Some(missing) = needs.find(|s| !has(s.node)) {
                return Err(Unclaimed::Missing(missing.node));
            }
        }
        let group = inner.group_of(place).ok_or(Unclaimed::Refused(GroupError::NotTranslated))?;
        let (claim, owner) = group.claim(holder).map_err(Unclaimed::Refused)?;
        let streams = place.streams.iter().map(|(_, s)| *s).collect();
        Ok((Membership { group: Arc::clone(group), streams }, claim, owner))
    }

    /// One binding lets go of `group`, which it has by `claim`. When it was the last one, devices that had to wait between this group and another
    /// one join: they are returned.
    pub(crate) fn unclaim(&self, group: &Arc<Group>, claim: &Arc<Claim>) -> (Owner, Vec<Arc<Device>>) {
        let mut inner = self.0.lock();
        let owner = group.unclaim(claim);
        let mut joined = if group.is_idle() { inner.tidy(&[Arc::clone(group)]) } else { Vec::new() };
        joined.extend(inner.keep_again(group));
        let trash = core::mem::take(&mut inner.trash);
        drop(inner);
        drop(trash);
        (owner, joined)
    }

    /// What is known of an access to `addr` through `translation`.
    ///
    /// In the domain that blocks, which groups may share, it may have been any member; those of groups that have had
    /// the address are named alone, if there are any.
    pub(crate) fn explain(&self, translation: &Arc<dyn Translation>, addr: DeviceAddr) -> FaultReport {
        let inner = self.0.lock();
        let groups = inner.distinct();
        let through: Vec<_> = groups.iter().filter_map(|g| Some((g, g.goes_through(translation)?))).collect();
        if let Some((group, (_, nodes))) = through.iter().find(|(_, (owned, _))| *owned) {
            return FaultReport { devices: inner.names(group, nodes), was: group.explain(addr) };
        }
        let knowing = through.iter().filter_map(|(g, (_, nodes))| Some((*g, nodes, g.explain(addr)?)));
        let knowing: Vec<_> = knowing.collect();
        let devices = if knowing.is_empty() {
            through.iter().flat_map(|(g, (_, nodes))| inner.names(g, nodes)).collect()
        } else {
            knowing.iter().flat_map(|(g, nodes, _)| inner.names(g, nodes)).collect()
        };
        FaultReport { devices, was: knowing.into_iter().next().map(|(.., was)| was) }
    }

    /// The IOMMU at `node` goes, and its streams leave their groups, at once: a device that comes meanwhile finds it
    /// there before, or does not find it after. Returns devices that are in one group from now on.
    fn unregister(&self, node: NodeId) -> Vec<Arc<Device>> {
        let mut inner = self.0.lock();
        let iommu = inner.instances.remove(&node);
        let at_it = inner.groups.iter().filter(|(key, _)| key.0 == node);
        let mut groups: Vec<_> = at_it.map(|(_, g)| Arc::clone(g)).collect();
        groups.sort_by_key(|g| g.id());
        groups.dedup_by_key(|g| g.id());
        for place in inner.places.values_mut() {
            place.streams.retain(|(key, _)| key.0 != node);
        }
        inner.groups.retain(|key, _| key.0 != node);
        let joints: Vec<_> = groups.iter().filter_map(|g| g.remove_instance(node, &mut inner.trash)).collect();
        for group in &groups {
            let stays = |name: &str| {
                let mut places = inner.places.values().filter(|p| p.device.name() == name);
                places.any(|p| inner.groups_of(p).iter().any(|g| Arc::ptr_eq(g, group)))
            };
            group.retain(stays);
        }
        inner.places.retain(|_, p| !p.streams.is_empty());
        let joined = inner.tidy(&groups);
        if inner.groups.is_empty() && inner.instances.is_empty() {
            // With no IOMMU left, numbering starts again: the machine is as it was before the first one came (P4).
            inner.next_group = 0;
        }
        let trash = core::mem::take(&mut inner.trash);
        drop(inner);
        for joint in joints {
            joint.remove(node);
        }
        drop((iommu, groups, trash));
        joined
    }
}

impl Inner {
    fn distinct(&self) -> Vec<Arc<Group>> {
        let mut groups: Vec<_> = self.groups.values().cloned().collect();
        groups.sort_by_key(|g| g.id());
        groups.dedup_by_key(|g| g.id());
        groups
    }

    fn groups_of(&self, place: &Place) -> Vec<Arc<Group>> {
        let mut groups: Vec<_> = place.streams.iter().filter_map(|(key, _)| self.groups.get(key)).cloned().collect();
        groups.sort_by_key(|g| g.id());
        groups.dedup_by_key(|g| g.id());
        groups
    }

    /// The group of a place that is in one.
    fn group_of(&self, place: &Place) -> Option<&Arc<Group>> {
        let mut groups = place.streams.iter().map(|(key, _)| self.groups.get(key));
        let first = groups.next()??;
        groups.all(|g| g.is_some_and(|g| Arc::ptr_eq(g, first))).then_some(first)
    }

    /// Members of `group` that have streams at one of `nodes`.
    fn names(&self, group: &Arc<Group>, nodes: &[NodeId]) -> Vec<Arc<str>> {
        let is_it = |key: &Key| self.groups.get(key).is_some_and(|g| Arc::ptr_eq(g, group));
        let here = |p: &&Place| p.streams.iter().any(|(key, s)| nodes.contains(&s.iommu) && is_it(key));
        let mut names: Vec<_> = self.places.values().filter(here).map(|p| Arc::clone(&p.device.desc().name)).collect();
        // In the order in which they came.
        let members = group.info().members;
        names.sort_by_key(|n| members.iter().position(|m| m == n));
        names
    }

    /// The streams of `device` whose IOMMUs are there, in the firmware's order.
    fn wanted(&self, device: &Device, env: &dyn Env) -> Vec<Wanted> {
        if let Some(iommu) = env.passthrough(device.desc()) {
            let stream = iommu.stream(&[]).map(|id| (Stream { iommu: device.node(), id }, iommu));
            return Vec::from([stream]);
        }
        let needs = device.desc().suppliers.iter().filter(|s| s.translates());
        let present = needs.filter_map(|s| Some((s, self.instances.get(&s.node)?)));
        let stream = |(s, iommu): (&crate::device::Supplier, &Arc<dyn Iommu>)| {
            Ok((Stream { iommu: s.node, id: iommu.stream(&s.args)? }, Arc::clone(iommu)))
        };
        present.map(stream).collect()
    }

    /// Puts each stream of `device` that is in no group into one. Each is tried, also after one that fails: what is
    /// blocked is blocked.
    fn take_in(&mut self, device: &Arc<Device>, env: &dyn Env, joined: &mut Vec<Joined>) -> Result<(), IommuError> {
        let mut result = self.keep_regions(device);
        for wanted in self.wanted(device, env) {
            let taken = wanted.and_then(|(stream, iommu)| self.take_stream(device, stream, &iommu));
            match taken {
                Ok(Some((new, kept))) => {
                    result = result.and(kept);
                    if !joined.iter().any(|j| j.iommu == new.iommu) {
                        joined.push(new);
                    }
                }
                Ok(None) => {}
                Err(e) => result = result.and(Err(e)),
            }
        }
        result
    }

    /// Tries again to keep the regions of `device` mapped, which is in groups already.
    fn keep_regions(&mut self, device: &Device) -> Result<(), IommuError> {
        if device.desc().dma.reserved.is_empty() {
            return Ok(());
        }
        let groups = self.places.get(&device.node()).map(|p| self.groups_of(p)).unwrap_or_default();
        groups.iter().map(|g| g.keep_regions(&mut self.trash)).fold(Ok(()), Result::and)
    }

    fn take_stream(
        &mut self,
        device: &Arc<Device>,
        stream: Stream,
        iommu: &Arc<dyn Iommu>,
    ) -> Result<Option<Taken>, IommuError> {
        let key = (stream.iommu, (iommu.grouping() == Grouping::PerStream).then_some(stream.id));
        let place = self.places.get(&device.node());
        if place.is_some_and(|p| p.streams.iter().any(|(_, s)| *s == stream)) {
            return Ok(None);
        }
        let there = self.groups.get(&key).cloned();
        // It goes where the device is already, if there is no other place for it.
        let home = || place.and_then(|p| self.group_of(p)).filter(|g| g.may_take(stream.iommu, &**iommu)).cloned();
        let (group, new) = match there.or_else(home) {
            Some(group) => (group, false),
            None => (Group::new(self.next_group, Vec::new(), DomainKind::Strict, Arc::clone(&self.claims)), true),
        };
        let kept = group.add(device.desc(), stream, iommu, &mut self.trash)?;
        self.next_group += u32::from(new);
        let joined = Joined { group: group.id(), iommu: iommu.name(), stream: stream.id };
        self.groups.insert(key, group);
        let place = Place { device: Arc::clone(device), streams: Vec::new() };
        self.places.entry(device.node()).or_insert(place).streams.push((key, stream));
        Ok(Some((joined, kept)))
    }
}

/// Ledger entry of an instance, on its own driver's ledger.
pub(crate) struct InstanceEntry {
    pub(crate) node: NodeId,
    pub(crate) name: String,
    /// To be the IOMMU of this node.
    pub(crate) claim: Arc<Claim>,
}

impl Entry for InstanceEntry {
    fn kind(&self) -> ResourceKind {
        ResourceKind::Iommu
    }

    fn what(&self) -> String {
        self.name.clone()
    }

    fn backend(&self) -> String {
        "core".into()
    }

    fn release(self: Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome {
        let machine = ctx.bound.machine();
        // Consumers are unbound by now (P6); they only leave their groups. Whoever else uses one of these groups may
        // still wait for this IOMMU's word.
        for domain in machine.iommus.groups().iter().filter_map(|g| g.domain()) {
            if domain.waiting() > 0 {
                domain.confirm_queue(machine);
            }
        }
        let joined = machine.iommus.unregister(self.node);
        for consumer in machine.consumers_of(self.node) {
            *consumer.not_joined.lock() = None;
            if consumer.desc().dma.reserved.iter().any(|r| r.kind.is_direct()) && !machine.policy().untranslated_dma {
                machine.emit(Some(&consumer.desc().name), || EventKind::Log {
                    text: format!("its reserved regions are not mapped while the IOMMU {} is away", self.name),
                });
            }
        }
        machine.release_claim(&self.claim);
        machine.joined_late(joined);
        Outcome::Returned
    }
}
