//! Release of unused nodes, so that hot plug does not cost memory for every name that was ever used.

use super::registry::Registry;
use crate::device::{DeviceDesc, NodeId, Resource};
use crate::power::Supplies;

/// Nodes that `desc` names, beside its own.
fn named(desc: &DeviceDesc) -> impl Iterator<Item = NodeId> {
    let controllers = desc.resources.iter().filter_map(|r| match r {
        Resource::IrqBehind { controller, .. } => Some(*controller),
        Resource::Mem { .. } | Resource::Irq { .. } => None,
    });
    desc.parent.into_iter().chain(desc.suppliers.iter().flat_map(|s| [s.node, s.target])).chain(controllers)
}

impl Registry {
    /// Node of a device that is about to be added.
    pub(super) fn node_for(&mut self, desc: &DeviceDesc) -> NodeId {
        let path = || ["/devices/", &*desc.name].concat();
        let Some(node) = desc.node else { return self.nodes.find_or_add(&path()) };
        if self.nodes.info(node).is_none() {
            self.nodes.restore(node, &path());
        }
        node
    }

    /// Counts the nodes that the device at `node`, which was added, names.
    pub(super) fn add_names(&mut self, node: NodeId, desc: &DeviceDesc) {
        self.graph.mark_changed(node);
        for named in named(desc) {
            let times = self.named.entry(named).or_default();
            *times += 1;
            if *times == 1 {
                self.graph.mark_changed(named);
            }
        }
    }

    /// Uncounts the nodes that the device at `node`, which was removed, names.
    pub(super) fn remove_names(&mut self, node: NodeId, desc: &DeviceDesc) {
        self.graph.mark_changed(node);
        for named in named(desc) {
            let Some(times) = self.named.get_mut(&named) else { continue };
            *times -= 1;
            if *times == 0 {
                self.named.remove(&named);
                self.graph.mark_changed(named);
            }
        }
    }

    /// Re-evaluates the nodes whose use may have begun or ended. Called after each change of the graph or of the devices;
    /// the next call makes up for a missed one.
    pub(super) fn tidy(&mut self, supplies: &Supplies) {
        let mut touched = self.graph.take_changed();
        touched.extend(core::mem::take(&mut self.kept));
        // First, since marking nodes unused may evict others.
        touched.retain(|node| {
            let used = self.by_node.contains_key(node) || self.named.contains_key(node) || self.graph.contains(*node);
            if used {
                self.nodes.mark_used(*node);
            }
            !used
        });
        for node in touched.drain(..) {
            // Lock order: the registry comes before the supplies. A release of a pinned supply is not reported here, so
            // such nodes are checked again by each call.
            if supplies.is_pinned_at(node) {
                self.nodes.mark_used(node);
                self.kept.insert(node);
            } else {
                self.nodes.mark_unused(node);
            }
        }
        self.graph.reuse(touched);
    }
}
