//! The nodes of a machine: what devices and their suppliers are called by.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

/// A firmware node, by its number in the machine's [`Nodes`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u32);

/// What reports say of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeInfo {
    /// Full path: `/soc/sata@ee300000`.
    pub path: Arc<str>,
    /// Source label, when the blob kept it (`__symbols__`): `sata`.
    pub label: Option<Arc<str>>,
    /// False when the node, or one above it, has a `status` other than `okay`.
    pub enabled: bool,
}

/// Nodes out of use that a machine still knows. Whoever holds the number of a device that has just left finds the node
/// again when the device comes back, while names of long ago cost nothing.
const MAX_UNUSED: usize = 1024;

#[derive(Clone, Debug)]
struct Known {
    info: NodeInfo,
    /// It stands in a device tree, and stays.
    firmware: bool,
    /// Since when it has been out of use, in goings out of use.
    idle: Option<u64>,
}

/// The nodes of a machine, each with a number of its own.
///
/// A node of a device tree stays for good. Any other is known until it has gone out of use, and for some time after that:
/// the last 1024 are remembered. A node is in use while a device is at it, a device's description or a link names it,
/// somebody waits for it, or lines are kept on for it. A number is not given out again (not before four thousand million
/// others), so one that is kept for longer names no node, and never another one.
#[derive(Clone, Debug, Default)]
pub struct Nodes {
    known: BTreeMap<NodeId, Known>,
    by_path: BTreeMap<Arc<str>, NodeId>,
    /// Those out of use, longest first.
    idle: BTreeMap<u64, NodeId>,
    /// Goings out of use so far.
    releases: u64,
    next: u32,
}

impl Nodes {
    /// No nodes.
    pub const fn new() -> Self {
        Self { known: BTreeMap::new(), by_path: BTreeMap::new(), idle: BTreeMap::new(), releases: 0, next: 0 }
    }

    /// The node at `path`, made (enabled, without label) when it does not exist.
    pub fn find_or_add(&mut self, path: &str) -> NodeId {
        if let Some(id) = self.by_path.get(path) {
            return *id;
        }
        loop {
            let id = NodeId(self.next);
            self.next = self.next.wrapping_add(1);
            if !self.known.contains_key(&id) {
                self.enter(id, path);
                return id;
            }
        }
    }

    fn enter(&mut self, id: NodeId, path: &str) {
        let path: Arc<str> = path.into();
        self.by_path.entry(Arc::clone(&path)).or_insert(id);
        let info = NodeInfo { path, label: None, enabled: true };
        self.known.insert(id, Known { info, firmware: false, idle: None });
    }

    /// The node of a device tree at `path`.
    pub(crate) fn add_firmware(&mut self, path: &str) -> NodeId {
        let id = self.find_or_add(path);
        self.mark_used(id);
        if let Some(node) = self.known.get_mut(&id) {
            node.firmware = true;
        }
        id
    }

    /// Makes `id` known, as the node at `path`, when it is not any more.
    pub(crate) fn restore(&mut self, id: NodeId, path: &str) {
        if !self.known.contains_key(&id) {
            self.enter(id, path);
        }
    }

    /// The node at `path`, if there is one.
    pub fn find(&self, path: &str) -> Option<NodeId> {
        self.by_path.get(path).copied()
    }

    /// What is known of a node.
    ///
    /// # Panics
    ///
    /// When `id` is of no node: it comes from another machine, or its node went out of use long ago. See
    /// [`info`](Self::info).
    pub fn get(&self, id: NodeId) -> &NodeInfo {
        &self.known[&id].info
    }

    /// What is known of a node, if it is one of these.
    pub fn info(&self, id: NodeId) -> Option<&NodeInfo> {
        self.known.get(&id).map(|node| &node.info)
    }

    /// As [`get`](Self::get), to fill in label and status.
    ///
    /// # Panics
    ///
    /// When `id` is of no node, as [`get`](Self::get).
    #[expect(clippy::expect_used, reason = "documented; the caller has the number from these nodes")]
    pub fn get_mut(&mut self, id: NodeId) -> &mut NodeInfo {
        &mut self.known.get_mut(&id).expect("a node of these").info
    }

    /// The shortest name that people recognise: the label, else the path; the bare number when nothing else is known.
    pub fn name(&self, id: NodeId) -> String {
        match self.info(id) {
            None => format!("node {}", id.0),
            Some(NodeInfo { path, label: Some(label), .. }) => format!("{label} ({path})"),
            Some(NodeInfo { path, .. }) => String::from(&**path),
        }
    }

    /// Every node that is known, those out of use too, in the order of numbers.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &NodeInfo)> {
        self.known.iter().map(|(id, node)| (*id, &node.info))
    }

    /// Number of nodes, without those that are only remembered.
    pub fn len(&self) -> usize {
        self.known.len() - self.idle.len()
    }

    /// True when none is known, not even one that is out of use.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Somebody uses the node.
    pub(crate) fn mark_used(&mut self, id: NodeId) {
        if let Some(since) = self.known.get_mut(&id).and_then(|node| node.idle.take()) {
            self.idle.remove(&since);
        }
    }

    /// Nobody uses the node any more. The one that has been out of use for longest may be forgotten.
    pub(crate) fn mark_unused(&mut self, id: NodeId) {
        let Some(node) = self.known.get_mut(&id).filter(|node| !node.firmware && node.idle.is_none()) else { return };
        self.releases += 1;
        node.idle = Some(self.releases);
        self.idle.insert(self.releases, id);
        while self.idle.len() > MAX_UNUSED {
            let Some((_, oldest)) = self.idle.pop_first() else { break };
            if let Some(node) = self.known.remove(&oldest)
                && self.by_path.get(&node.info.path) == Some(&oldest)
            {
                self.by_path.remove(&node.info.path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_long_ago_cost_nothing_and_their_numbers_are_nobodys() {
        let mut nodes = Nodes::new();
        let tree = nodes.add_firmware("/soc");
        let busy = nodes.find_or_add("/devices/busy");
        nodes.mark_unused(tree);
        let first = nodes.find_or_add("/devices/0");
        nodes.mark_unused(first);
        assert_eq!(nodes.find_or_add("/devices/0"), first, "one that has just left is found again");
        for n in 0..3 * MAX_UNUSED {
            let id = nodes.find_or_add(&format!("/devices/{n}"));
            nodes.mark_unused(id);
        }
        assert_eq!((nodes.len(), nodes.iter().count()), (2, 2 + MAX_UNUSED));
        assert_eq!(nodes.by_path.len(), 2 + MAX_UNUSED);
        assert_eq!((nodes.info(first), nodes.name(first)), (None, format!("node {}", first.0)));
        assert!(nodes.find_or_add("/devices/0") > busy, "a number is not given out again");
        assert_eq!(nodes.find("/soc"), Some(tree), "the device tree stands");
    }

    #[test]
    fn a_node_that_is_used_again_is_not_forgotten() {
        let mut nodes = Nodes::new();
        let node = nodes.find_or_add("/devices/back");
        nodes.mark_unused(node);
        nodes.mark_used(node);
        for n in 0..2 * MAX_UNUSED {
            let id = nodes.find_or_add(&format!("/devices/{n}"));
            nodes.mark_unused(id);
        }
        assert_eq!((nodes.find("/devices/back"), nodes.len()), (Some(node), 1));
    }

    #[test]
    fn a_number_that_was_kept_for_too_long_is_of_the_device_that_comes_with_it() {
        let mut nodes = Nodes::new();
        nodes.restore(NodeId(7), "/devices/a");
        assert_eq!((nodes.find("/devices/a"), nodes.name(NodeId(7))), (Some(NodeId(7)), "/devices/a".into()));
        nodes.restore(NodeId(8), "/devices/a");
        assert_eq!(nodes.find("/devices/a"), Some(NodeId(7)));
        nodes.mark_unused(NodeId(8));
        assert!((0..20).all(|n| nodes.find_or_add(&format!("/{n}")) != NodeId(7)));
    }
}
