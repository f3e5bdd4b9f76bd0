//! Named conditions: what a driver can wait for that is no device.
//!
//! A firmware file that comes with a file system, a key that a user types, a network that is up. A condition has a node of
//! its own in the link graph, so that a deferral on it is told, listed and woken like one on a supplier. It holds nobody:
//! a binding that was made while it was fulfilled stays when it is not any more.

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
        // It is in use while it is fulfilled or waited for, not because it was asked for.
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
    /// States that the condition called `name` is fulfilled from now on, until [`unfulfil`](Self::unfulfil). Exactly the
    /// devices that wait for it are woken: the next [`settle`](Self::settle) probes them. Returns how many of them miss
    /// nothing any more. To be called from anywhere, also before anybody waits.
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
        self.tell_woken(&NodeInfo::condition_path(name).into(), &wakes);
        wakes.iter().filter(|(_, ready)| *ready).count()
    }

    /// States that the condition called `name` is not fulfilled any more: who probes from now on waits again. Bindings
    /// stay. True when it was.
    pub fn unfulfil(&self, name: &str) -> bool {
        let mut r = self.registry.lock();
        let Some(node) = r.find_condition(name) else { return false };
        let was = r.graph.supplier_leaves(node);
        r.graph.supplier_gone(node);
        r.tidy(self.supplies());
        was
    }

    /// Whether the condition called `name` is fulfilled.
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

    /// What a driver waits for, as a node.
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
    /// Where the node of a condition stands: no path of a firmware node begins like this.
    pub(crate) fn condition_path(name: &str) -> String {
        format!("condition {name}")
    }

    pub(crate) fn is_condition(&self) -> bool {
        self.path.starts_with("condition ")
    }
}
