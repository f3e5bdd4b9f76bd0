//! Registry of a machine's IOMMU instances and groups, and of the devices in them.

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
use crate::sync::{LockLevel, Mutex};

/// Key of a group: the instance, and the stream if the IOMMU isolates streams from each other.
type GroupKey = (NodeId, Option<StreamId>);

/// A stream of a device, and its IOMMU.
type Wanted = Result<(Stream, Arc<dyn Iommu>), IommuError>;

/// A stream that was added, and the result of mapping its device's regions.
type Added = (Joined, Result<(), IommuError>);

/// Streams of a device. All of them are in one group, unless they connect two groups that cannot be merged at present.
struct DeviceStreams {
    device: Arc<Device>,
    streams: Vec<(GroupKey, Stream)>,
}

/// Report of a stream that was added to a group.
pub(crate) struct Joined {
    pub(crate) group: u32,
    pub(crate) iommu: String,
    pub(crate) stream: StreamId,
}

/// Error of claiming a device's group.
pub(crate) enum ClaimError {
    /// The claim was refused.
    Refused(GroupError),
    /// The IOMMU at this node is missing, and the device has streams at it.
    Missing(NodeId),
}

#[derive(Default)]
struct Inner {
    instances: BTreeMap<NodeId, Arc<dyn Iommu>>,
    groups: BTreeMap<GroupKey, Arc<Group>>,
    devices: BTreeMap<NodeId, DeviceStreams>,
    /// The machine's table of claims, for the owners of groups.
    claims: Arc<Claims>,
    next_group: u32,
    /// Instances that no group uses any more. They are dropped without the lock, because that may wait for the
    /// hardware, and an interrupt handler may look up groups meanwhile.
    deferred_drops: Vec<Instance>,
}

/// All IOMMU instances and groups of a machine.
///
/// Membership and ownership of all groups change under this one lock, so that a check and the following change are
/// atomic. The lock of a [`Group`] comes after it.
#[derive(Default)]
pub(crate) struct Iommus(Mutex<Inner>);

impl Iommus {
    /// An empty registry. Owners of groups have claims in `claims`.
    pub(crate) fn new(claims: Arc<Claims>) -> Self {
        Self(Mutex::new(Inner { claims, ..Inner::default() }).at(LockLevel::Iommus))
    }

    pub(crate) fn register(&self, node: NodeId, iommu: Arc<dyn Iommu>) {
        self.0.lock().instances.insert(node, iommu);
    }

    /// True when the device at `node` is an IOMMU.
    pub(crate) fn is_instance(&self, node: NodeId) -> bool {
        self.0.lock().instances.contains_key(&node)
    }

    /// The groups, sorted by number.
    pub(crate) fn groups(&self) -> Vec<Arc<Group>> {
        self.0.lock().distinct()
    }

    /// Feeds the numbers of instances, groups and streams to `state`. The state of a group is hashed with its members.
    pub(crate) fn hash_state(&self, state: &mut impl Hasher) {
        let inner = self.0.lock();
        let streams: usize = inner.devices.values().map(|p| p.streams.len()).sum();
        (inner.instances.len(), inner.distinct().len(), streams).hash(state);
    }

    /// The instances, sorted by node.
    pub(crate) fn instances(&self) -> Vec<Arc<dyn Iommu>> {
        self.0.lock().instances.values().cloned().collect()
    }

    /// Group of `device` (the first one, if its streams are in several), and its streams.
    pub(crate) fn membership(&self, device: &Device) -> Option<Membership> {
        let inner = self.0.lock();
        let entry = inner.devices.get(&device.node())?;
        let (key, _) = entry.streams.first()?;
        let group = Arc::clone(inner.groups.get(key)?);
        Some(Membership { group, streams: entry.streams.iter().map(|(_, s)| *s).collect() })
    }

    /// The IOMMUs at which `device` has streams.
    pub(crate) fn instances_of(&self, device: &Device) -> Vec<Arc<dyn Iommu>> {
        let Some(member) = self.membership(device) else { return Vec::new() };
        let inner = self.0.lock();
        let mut list: Vec<Arc<dyn Iommu>> = Vec::new();
        let mut nodes = BTreeSet::new();
        for stream in member.streams.iter().filter(|s| nodes.insert(s.iommu)) {
            match inner.instances.get(&stream.iommu) {
                Some(iommu) => list.push(Arc::clone(iommu)),
                // An IOMMU that the env supplies for this device alone.
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
            None => inner.devices.get(&stream.iommu).is_some_and(|p| {
                let groups = p.streams.iter().filter_map(|(key, _)| inner.groups.get(key));
                groups.flat_map(|g| g.iommus()).any(|i| i.name() == iommu)
            }),
        };
        let here = |p: &&DeviceStreams| p.streams.iter().any(|(_, s)| named(s));
        inner.devices.values().filter(here).map(|p| Arc::clone(&p.device)).collect()
    }

    /// Adds the streams of `device` to groups, blocked, as far as their IOMMUs exist, and merges these groups. Returns
    /// the added streams, also with an error, which the device records until it has joined or its IOMMU is removed.
    pub(crate) fn join(&self, device: &Arc<Device>, env: &dyn Env) -> (Vec<Joined>, Result<(), IommuError>) {
        let mut inner = self.0.lock();
        let mut joined = Vec::new();
        // Checked under the lock: a removal marks the device first, and then takes it out of its group.
        if device.is_removed() {
            return (joined, Ok(()));
        }
        let streams_added = inner.add_streams(device, env, &mut joined);
        let result = streams_added.and(inner.merge_groups(device.node()));
        *device.not_joined.lock() = result.err();
        for j in &mut joined {
            // The groups may have been merged.
            j.group = inner.devices.get(&device.node()).and_then(|p| inner.group_of(p)).map_or(j.group, |g| g.id());
        }
        let deferred_drops = core::mem::take(&mut inner.deferred_drops);
        drop(inner);
        drop(deferred_drops);
        (joined, result)
    }

    /// Removes `device` from its group; an empty group is dropped, and one that is no closure any more is split. Returns devices that
    /// have joined one group by this.
    pub(crate) fn leave(&self, device: &Device) -> Vec<Arc<Device>> {
        let mut inner = self.0.lock();
        *device.not_joined.lock() = None;
        if inner.devices.get(&device.node()).is_none_or(|p| !core::ptr::eq(&raw const *p.device, device)) {
            return Vec::new();
        }
        let Some(entry) = inner.devices.remove(&device.node()) else { return Vec::new() };
        let groups = inner.groups_of(&entry);
        for group in &groups {
            group.remove_regions(device.name(), &mut inner.deferred_drops);
            group.retain(|member| member != device.name());
        }
        let joined = inner.rebuild(&groups);
        let deferred_drops = core::mem::take(&mut inner.deferred_drops);
        drop(inner);
        drop((groups, entry, deferred_drops));
        joined
    }

    /// Claims the group of `device` for the binding `holder`.
    pub(crate) fn claim(
        &self,
        device: &Device,
        holder: &Holder,
    ) -> Result<(Membership, Arc<Claim>, Owner), ClaimError> {
        let inner = self.0.lock();
        let entry = inner.devices.get(&device.node()).ok_or(ClaimError::Refused(GroupError::NoGroup))?;
        let has = |node: NodeId| entry.streams.iter().any(|(_, s)| s.iommu == node);
        if !has(device.node()) {
            let mut needs = device.desc().suppliers.iter().filter(|s| s.translates());
            if let Some(missing) = needs.find(|s| !has(s.node)) {
                return Err(ClaimError::Missing(missing.node));
            }
        }
        let group = inner.group_of(entry).ok_or(ClaimError::Refused(GroupError::NotTranslated))?;
        let (claim, owner) = group.claim(holder).map_err(ClaimError::Refused)?;
        let streams = entry.streams.iter().map(|(_, s)| *s).collect();
        Ok((Membership { group: Arc::clone(group), streams }, claim, owner))
    }

    /// Releases the `claim` of a binding to `group`. After the last one, devices that could not join because the group
    /// was in use join: they are returned.
    pub(crate) fn unclaim(&self, group: &Arc<Group>, claim: &Arc<Claim>) -> (Owner, Vec<Arc<Device>>) {
        let mut inner = self.0.lock();
        let owner = group.unclaim(claim);
        let mut joined = if group.is_idle() { inner.rebuild(&[Arc::clone(group)]) } else { Vec::new() };
        joined.extend(inner.retry_regions(group));
        let deferred_drops = core::mem::take(&mut inner.deferred_drops);
        drop(inner);
        drop(deferred_drops);
        (owner, joined)
    }

    /// Explains an access to `addr` by a stream of an IOMMU: by the mappings of the devices that have it.
    pub(crate) fn explain_stream(&self, stream: Stream, addr: DeviceAddr) -> FaultReport {
        let inner = self.0.lock();
        let here = |p: &&DeviceStreams| p.streams.iter().any(|(_, s)| *s == stream);
        let entries: Vec<_> = inner.devices.values().filter(here).collect();
        let devices: Vec<_> = entries.iter().map(|p| Arc::clone(&p.device.desc().name)).collect();
        let group = entries.first().and_then(|p| inner.group_of(p));
        let (mapping, certain) = group.and_then(|group| group.explain(addr, &devices)).unzip();
        FaultReport { devices, mapping, certain: certain.unwrap_or(false) }
    }

    /// Explains an access to `addr` through `translation`, by an unknown stream.
    ///
    /// In the blocked domain, which groups may share, it may have been any member; if some groups have had the address
    /// mapped, only their members are named.
    pub(crate) fn explain(&self, translation: &Arc<dyn Translation>, addr: DeviceAddr) -> FaultReport {
        let inner = self.0.lock();
        let groups = inner.distinct();
        let through: Vec<_> = groups.iter().filter_map(|g| Some((g, g.match_translation(translation)?))).collect();
        if let Some((group, (_, nodes))) = through.iter().find(|(_, (owned, _))| *owned) {
            let devices = inner.names(group, nodes);
            let (mapping, certain) = group.explain(addr, &devices).unzip();
            return FaultReport { devices, mapping, certain: certain.unwrap_or(false) };
        }
        let names: Vec<_> = through.iter().map(|(g, (_, nodes))| (*g, inner.names(g, nodes))).collect();
        let all = names.iter().flat_map(|(_, devices)| devices).cloned().collect();
        let knowing = names.into_iter().filter_map(|(g, devices)| Some((g.explain(addr, &devices)?, devices)));
        let (known, devices): (Vec<_>, Vec<_>) = knowing.unzip();
        let devices = if known.is_empty() { all } else { devices.concat() };
        let certain = devices.len() == 1;
        let (mapping, own) = known.into_iter().next().unzip();
        FaultReport { certain: certain && own.unwrap_or(false), devices, mapping }
    }

    /// Removes the IOMMU at `node` and its streams from their groups, atomically for devices that join concurrently.
    /// Returns devices that have joined one group by this.
    fn unregister(&self, node: NodeId) -> Vec<Arc<Device>> {
        let mut inner = self.0.lock();
        let iommu = inner.instances.remove(&node);
        // Also groups in use that have no stream at it any more: the device that had it has left.
        let groups: Vec<_> = inner.distinct().into_iter().filter(|g| g.has_instance(node)).collect();
        for entry in inner.devices.values_mut() {
            entry.streams.retain(|(key, _)| key.0 != node);
        }
        inner.groups.retain(|key, _| key.0 != node);
        let translations: Vec<_> =
            groups.iter().filter_map(|g| g.remove_instance(node, &mut inner.deferred_drops)).collect();
        for group in &groups {
            let stays = |name: &str| {
                let mut devices = inner.devices.values().filter(|p| p.device.name() == name);
                devices.any(|p| inner.groups_of(p).iter().any(|g| Arc::ptr_eq(g, group)))
            };
            group.retain(stays);
        }
        inner.devices.retain(|_, p| !p.streams.is_empty());
        let joined = inner.rebuild(&groups);
        if inner.groups.is_empty() && inner.instances.is_empty() {
            // With no IOMMU left, numbering restarts: the machine is as before the first one was added (P4).
            inner.next_group = 0;
        }
        let deferred_drops = core::mem::take(&mut inner.deferred_drops);
        drop(inner);
        for multi in translations {
            multi.remove(node);
        }
        drop((iommu, groups, deferred_drops));
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

    fn groups_of(&self, entry: &DeviceStreams) -> Vec<Arc<Group>> {
        let mut groups: Vec<_> = entry.streams.iter().filter_map(|(key, _)| self.groups.get(key)).cloned().collect();
        groups.sort_by_key(|g| g.id());
        groups.dedup_by_key(|g| g.id());
        groups
    }

    /// The group of a device all of whose streams are in one.
    fn group_of(&self, entry: &DeviceStreams) -> Option<&Arc<Group>> {
        let mut groups = entry.streams.iter().map(|(key, _)| self.groups.get(key));
        let first = groups.next()??;
        groups.all(|g| g.is_some_and(|g| Arc::ptr_eq(g, first))).then_some(first)
    }

    /// Members of `group` that have streams at one of `nodes`.
    fn names(&self, group: &Arc<Group>, nodes: &[NodeId]) -> Vec<Arc<str>> {
        let is_it = |key: &GroupKey| self.groups.get(key).is_some_and(|g| Arc::ptr_eq(g, group));
        let here = |p: &&DeviceStreams| p.streams.iter().any(|(key, s)| nodes.contains(&s.iommu) && is_it(key));
        let mut names: Vec<_> = self.devices.values().filter(here).map(|p| Arc::clone(&p.device.desc().name)).collect();
        // In the order in which they joined.
        let members = group.info().members;
        names.sort_by_key(|n| members.iter().position(|m| m == n));
        names
    }

    /// The streams of `device` whose IOMMUs exist, in firmware order.
    fn wanted(&self, device: &Device, env: &dyn Env) -> Vec<Wanted> {
        if let Some(iommu) = env.host_iommu(device.desc()) {
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

    /// Adds each stream of `device` that is in no group to one. Continues after a failure, so that as many streams as
    /// possible are blocked.
    fn add_streams(&mut self, device: &Arc<Device>, env: &dyn Env, joined: &mut Vec<Joined>) -> Result<(), IommuError> {
        let mut result = self.map_regions(device);
        for wanted in self.wanted(device, env) {
            let added = wanted.and_then(|(stream, iommu)| self.add_stream(device, stream, &iommu));
            match added {
                Ok(Some((new, regions_mapped))) => {
                    result = result.and(regions_mapped);
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

    /// Retries mapping the regions of `device`, which is in groups already.
    fn map_regions(&mut self, device: &Device) -> Result<(), IommuError> {
        if device.desc().dma.reserved.is_empty() {
            return Ok(());
        }
        let groups = self.devices.get(&device.node()).map(|p| self.groups_of(p)).unwrap_or_default();
        let name = &*device.desc().name;
        groups.iter().map(|g| g.map_regions(name, &mut self.deferred_drops)).fold(Ok(()), Result::and)
    }

    fn add_stream(
        &mut self,
        device: &Arc<Device>,
        stream: Stream,
        iommu: &Arc<dyn Iommu>,
    ) -> Result<Option<Added>, IommuError> {
        let key = (stream.iommu, (iommu.grouping() == Grouping::PerStream).then_some(stream.id));
        let entry = self.devices.get(&device.node());
        if entry.is_some_and(|p| p.streams.iter().any(|(_, s)| *s == stream)) {
            return Ok(None);
        }
        let there = self.groups.get(&key).cloned();
        // Without a group of its own the stream is added to the device's group.
        let home = || entry.and_then(|p| self.group_of(p)).filter(|g| g.can_add(stream.iommu, &**iommu)).cloned();
        let (group, new) = match there.or_else(home) {
            Some(group) => (group, false),
            None => (Group::new(self.next_group, Vec::new(), DomainKind::Strict, Arc::clone(&self.claims)), true),
        };
        let regions_mapped = group.add(device.desc(), stream, iommu, &mut self.deferred_drops)?;
        self.next_group += u32::from(new);
        let joined = Joined { group: group.id(), iommu: iommu.name(), stream: stream.id };
        self.groups.insert(key, group);
        let entry = DeviceStreams { device: Arc::clone(device), streams: Vec::new() };
        self.devices.entry(device.node()).or_insert(entry).streams.push((key, stream));
        Ok(Some((joined, regions_mapped)))
    }
}

/// Ledger entry of an IOMMU instance, on its driver's ledger.
pub(crate) struct InstanceEntry {
    pub(crate) node: NodeId,
    pub(crate) name: String,
    /// Claim to be the IOMMU of this node.
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
        let machine = ctx.bound.system();
        // Consumers are unbound by now (P6); they only leave their groups. Other members of these groups may still have
        // queued unmaps that this IOMMU must confirm.
        for domain in machine.iommus().groups().iter().filter_map(|g| g.domain()) {
            domain.confirm_all_queued(machine);
        }
        let joined = machine.iommus().unregister(self.node);
        for consumer in ctx.bound.registry().consumers_of(self.node) {
            *consumer.not_joined.lock() = None;
            if consumer.desc().dma.reserved.iter().any(|r| r.kind.is_direct()) && !machine.policy().untranslated_dma {
                machine.emit(Some(&consumer.desc().name), || EventKind::Log {
                    text: format!("its reserved regions are not mapped while the IOMMU {} is missing", self.name),
                });
            }
        }
        machine.release_claim(&self.claim);
        super::joined_late(machine, &**ctx.bound.registry(), joined);
        Outcome::Returned
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
