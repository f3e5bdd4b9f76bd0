//! Named conditions: prerequisites of a probe that are not devices.
//!
//! Examples: a firmware file on a file system that is not mounted yet, a key that a user types, a network that is up. A
//! condition has a node of its own in the link graph, so that a deferral on it is reported, listed and woken like one on a
//! supplier. It does not end bindings: one made while the condition was fulfilled stays when it no longer is.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Machine;
use super::registry::Registry;
use crate::device::{NodeId, NodeInfo};
use crate::driver::{Missing, ProbeError};

impl Registry {
    /// The node of the condition called `name`.
    pub(super) fn condition(&mut self, name: &str) -> NodeId {
        let node = self.nodes.find_or_add(&NodeInfo::condition_path(name));
        // A lookup alone does not keep the node in use; being fulfilled or waited for does.
        self.graph.mark_changed(node);
        node
    }

    fn find_condition(&self, name: &str) -> Option<NodeId> {
        self.nodes.find(&NodeInfo::condition_path(name))
    }

    pub(super) fn is_condition(&self, node: NodeId) -> bool {
        self.nodes.info(node).is_some_and(NodeInfo::is_condition)
    }
}

impl Machine {
    /// Marks the condition called `name` as fulfilled, until [`unfulfil`](Self::unfulfil). Exactly the devices that wait
    /// for it are woken: the next [`settle`](Self::settle) probes them. Returns the number of them that no longer miss
    /// anything. May be called in any context, also before a device waits.
    pub fn fulfil(&self, name: &str) -> usize {
        let wakes = {
            let mut r = self.registry.lock();
            let node = r.condition(name);
            if r.graph.is_available(node) {
                return 0;
            }
            let wakes = r.graph.supplier_arrives(node);
            r.tidy(self.supplies());
            for wake in wakes.iter().filter(|w| w.ready) {
                r.enqueue(wake.consumer);
            }
            wakes.into_iter().filter_map(|w| Some((r.device(w.consumer)?.clone(), w.ready))).collect::<Vec<_>>()
        };
        self.report_woken(&NodeInfo::condition_path(name).into(), &wakes);
        wakes.iter().filter(|(_, ready)| *ready).count()
    }

    /// Marks the condition called `name` as no longer fulfilled: later probes defer on it again. Bindings stay. True when
    /// it was fulfilled.
    pub fn unfulfil(&self, name: &str) -> bool {
        let mut r = self.registry.lock();
        let Some(node) = r.find_condition(name) else { return false };
        let was = r.graph.supplier_leaves(node);
        r.graph.supplier_gone(node);
        r.tidy(self.supplies());
        was
    }

    /// True when the condition called `name` is fulfilled.
    pub fn is_fulfilled(&self, name: &str) -> bool {
        let r = self.registry.lock();
        r.find_condition(name).is_some_and(|node| r.graph.is_available(node))
    }

    /// Names of the devices that wait for the condition called `name`, in order.
    pub fn waiting_for(&self, name: &str) -> Vec<String> {
        let r = self.registry.lock();
        let Some(node) = r.find_condition(name) else { return Vec::new() };
        let waits = |n: &NodeId| r.graph.missing(*n).contains(&node);
        let mut names: Vec<String> = r
            .graph
            .consumers_of(node)
            .into_iter()
            .filter(waits)
            .filter_map(|n| r.device(n).map(|d| d.name().into()))
            .collect();
        names.sort();
        names
    }

    /// Replaces the condition that a deferral names by its node.
    pub(super) fn with_node(&self, error: ProbeError) -> ProbeError {
        match error {
            ProbeError::Defer { on: Missing::Condition(name) } => {
                ProbeError::Defer { on: Missing::Node(self.registry.lock().condition(name)) }
            }
            error => error,
        }
    }
}

impl NodeInfo {
    /// Path of the node of a condition. No path of a firmware node begins like this.
    pub(crate) fn condition_path(name: &str) -> String {
        format!("condition {name}")
    }

    pub(crate) fn is_condition(&self) -> bool {
        self.path.starts_with("condition ")
    }
}
