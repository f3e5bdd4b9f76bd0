//! The IOMMU instances and groups of a machine.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use super::{DomainKind, FaultReport, Group, Grouping, Iommu, IommuError, Membership, StreamId, Translation};
use crate::addr::DeviceAddr;
use crate::binding::{Entry, HoldingKind, WayBack};
use crate::device::{Device, NodeId, SupplierKind};
use crate::env::Env;
use crate::event::Outcome;
use crate::sync::Mutex;

/// Which group a stream falls into: the instance, and the stream where the instance can tell streams apart.
type Key = (NodeId, Option<StreamId>);

#[derive(Default)]
struct Inner {
    instances: BTreeMap<NodeId, Arc<dyn Iommu>>,
    groups: BTreeMap<Key, Arc<Group>>,
    next_group: u32,
}

/// All instances and groups.
#[derive(Default)]
pub(crate) struct Iommus(Mutex<Inner>);

impl Iommus {
    pub(crate) fn register(&self, node: NodeId, iommu: Arc<dyn Iommu>) {
        self.0.lock().instances.insert(node, iommu);
    }

    /// Whether the device at `node` is an IOMMU.
    pub(crate) fn is_instance(&self, node: NodeId) -> bool {
        self.0.lock().instances.contains_key(&node)
    }

    /// The groups, by number.
    pub(crate) fn groups(&self) -> Vec<Arc<Group>> {
        let mut groups: Vec<_> = self.0.lock().groups.values().cloned().collect();
        groups.sort_by_key(|g| g.id());
        groups
    }

    /// Feeds how many instances and groups there are to `state`. What a group is like, its members say.
    pub(crate) fn hash_state(&self, state: &mut impl Hasher) {
        let inner = self.0.lock();
        (inner.instances.len(), inner.groups.len()).hash(state);
    }

    /// The instances, by node.
    pub(crate) fn instances(&self) -> Vec<Arc<dyn Iommu>> {
        self.0.lock().instances.values().cloned().collect()
    }

    /// Puts `device` into its group, blocked, when its instance is there. `Ok(None)` when it has no IOMMU, or not yet,
    /// or is in a group already. The device remembers a failure until it joins or its IOMMU leaves.
    pub(crate) fn join(&self, device: &Device, env: &dyn Env) -> Result<Option<(Arc<Group>, StreamId)>, IommuError> {
        let mut member = device.group.lock();
        if member.is_some() {
            return Ok(None);
        }
        let taken_in = self.take_in(device, env);
        *device.not_joined.lock() = taken_in.as_ref().err().copied();
        *member = taken_in?;
        Ok(member.as_ref().map(|m| (Arc::clone(&m.group), m.streams[0])))
    }

    /// Finds, or makes, the place of `device`, whose slot for it is locked.
    fn take_in(&self, device: &Device, env: &dyn Env) -> Result<Option<Membership>, IommuError> {
        let mut inner = self.0.lock();
        let (node, iommu, streams) = if let Some(iommu) = env.passthrough(device.desc()) {
            let stream = iommu.stream(&[])?;
            (device.node(), iommu, Vec::from([stream]))
        } else {
            let mut needs = device.desc().suppliers.iter().filter(|s| s.kind == SupplierKind::Iommu);
            let Some(first) = needs.next() else { return Ok(None) };
            let Some(iommu) = inner.instances.get(&first.node).cloned() else { return Ok(None) };
            let mut streams = Vec::from([iommu.stream(&first.args)?]);
            for more in needs.filter(|s| s.node == first.node) {
                streams.push(iommu.stream(&more.args)?);
            }
            (first.node, iommu, streams)
        };
        let key = (node, (iommu.grouping() == Grouping::PerStream).then_some(streams[0]));
        let (group, new) = match inner.groups.get(&key) {
            Some(g) => (Arc::clone(g), false),
            None => (Group::new(inner.next_group, Arc::clone(&iommu), iommu.domain(DomainKind::Blocked)?), true),
        };
        group.add(&device.desc().name, &streams)?;
        if new {
            inner.next_group += 1;
            inner.groups.insert(key, Arc::clone(&group));
        }
        Ok(Some(Membership { group, streams }))
    }

    /// Takes `device` out of its group; an empty group goes.
    pub(crate) fn leave(&self, device: &Device) {
        let member = {
            let mut slot = device.group.lock();
            *device.not_joined.lock() = None;
            slot.take()
        };
        if let Some(member) = member
            && member.group.remove(device.name())
        {
            self.0.lock().groups.retain(|_, g| !Arc::ptr_eq(g, &member.group));
        }
    }

    /// What is known of an access to `addr` through `translation`.
    ///
    /// In the domain that blocks, which groups may share, it may have been any member; those of groups that have had
    /// the address are named alone, if there are any.
    pub(crate) fn explain(&self, translation: &Arc<dyn Translation>, addr: DeviceAddr) -> FaultReport {
        let groups = self.groups();
        let members = |groups: &[&Arc<Group>]| groups.iter().flat_map(|g| g.info().members).collect();
        if let Some(group) = groups.iter().find(|g| g.goes_through(translation) == Some(true)) {
            return FaultReport { devices: members(&[group]), was: group.explain(addr) };
        }
        let blocked: Vec<_> = groups.iter().filter(|g| g.goes_through(translation).is_some()).collect();
        let (knowing, was): (Vec<_>, Vec<_>) = blocked.iter().filter_map(|g| Some((*g, g.explain(addr)?))).unzip();
        let devices = members(if knowing.is_empty() { &blocked } else { &knowing });
        FaultReport { devices, was: was.into_iter().next() }
    }

    fn unregister(&self, node: NodeId) -> Option<Arc<dyn Iommu>> {
        let mut inner = self.0.lock();
        let iommu = inner.instances.remove(&node);
        inner.groups.retain(|key, _| key.0 != node);
        if inner.groups.is_empty() && inner.instances.is_empty() {
            // With no IOMMU left, numbering starts again: the machine is as it was before the first one came (P4).
            inner.next_group = 0;
        }
        iommu
    }
}

/// Ledger entry of an instance, on its own driver's ledger.
pub(crate) struct InstanceEntry {
    pub(crate) node: NodeId,
    pub(crate) name: String,
}

impl Entry for InstanceEntry {
    fn kind(&self) -> HoldingKind {
        HoldingKind::Iommu
    }

    fn what(&self) -> String {
        self.name.clone()
    }

    fn backend(&self) -> String {
        "core".into()
    }

    fn release(self: Box<Self>, way: &mut WayBack<'_>) -> Outcome {
        let machine = way.bound.machine();
        // Consumers are unbound by now (P6); they only leave their groups.
        for consumer in machine.consumers_of(self.node) {
            if consumer.desc().suppliers.iter().any(|s| s.kind == SupplierKind::Iommu && s.node == self.node) {
                machine.iommus.leave(&consumer);
            }
        }
        drop(machine.iommus.unregister(self.node));
        Outcome::Returned
    }
}
