//! Firmware nodes of a machine, which identify devices and their suppliers.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;

/// Number of a firmware node in the machine's [`Nodes`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u32);

/// Path, label and status of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeInfo {
    /// Full path: `/soc/sata@ee300000`.
    pub path: Arc<str>,
    /// Source label, when the blob has it (`__symbols__`): `sata`.
    pub label: Option<Arc<str>>,
    /// Names in `/aliases` that end in a number (`serial0`), in the tree's order.
    pub aliases: Vec<Arc<str>>,
    /// False when the node, or one above it, has a `status` other than `okay`.
    pub enabled: bool,
}

/// Most unused nodes that are kept. A device that is plugged in again soon gets its number back, while memory stays
/// bounded.
const MAX_UNUSED: usize = 1024;

#[derive(Clone, Debug)]
struct Known {
    info: NodeInfo,
    /// It comes from a device tree, and is never removed.
    firmware: bool,
    /// Key in [`Nodes::idle`] while it is unused.
    idle: Option<u64>,
}

/// The firmware nodes of a machine, by number and by path.
///
/// A node of a device tree is never removed. Of the others, those in use and the last 1024 that became unused are kept.
/// A node is in use while a device has it, a device's description or a link names it, a device waits for it, or
/// supplies are pinned for it. Numbers are not reused (before 2^32 others), so a stale number names no node, never a
/// different one.
///
/// ```
/// use bindery::device::Nodes;
///
/// let mut nodes = Nodes::new();
/// let uart = nodes.find_or_add("/soc/serial@1000");
/// assert_eq!(nodes.find_or_add("/soc/serial@1000"), uart);
/// nodes.get_mut(uart).label = Some("uart0".into());
/// assert_eq!(nodes.name(uart), "uart0 (/soc/serial@1000)");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Nodes {
    known: BTreeMap<NodeId, Known>,
    by_path: BTreeMap<Arc<str>, NodeId>,
    /// Unused nodes, in the order in which they became unused.
    idle: BTreeMap<u64, NodeId>,
    /// Number of times that a node became unused.
    releases: u64,
    next: u32,
}

impl Nodes {
    /// No nodes.
    pub const fn new() -> Self {
        Self { known: BTreeMap::new(), by_path: BTreeMap::new(), idle: BTreeMap::new(), releases: 0, next: 0 }
    }

    /// Number of the node at `path`, which is added (enabled, without label) when it does not exist.
    pub fn find_or_add(&mut self, path: &str) -> NodeId {
        if let Some(id) = self.by_path.get(path) {
            return *id;
        }
        loop {
            let id = NodeId(self.next);
            self.next = self.next.wrapping_add(1);
            if !self.known.contains_key(&id) {
                self.insert(id, path);
                return id;
            }
        }
    }

    fn insert(&mut self, id: NodeId, path: &str) {
        let path: Arc<str> = path.into();
        self.by_path.entry(Arc::clone(&path)).or_insert(id);
        let info = NodeInfo { path, label: None, aliases: Vec::new(), enabled: true };
        self.known.insert(id, Known { info, firmware: false, idle: None });
    }

    /// Number of the device tree node at `path`.
    pub(crate) fn add_firmware(&mut self, path: &str) -> NodeId {
        let id = self.find_or_add(path);
        self.mark_used(id);
        if let Some(node) = self.known.get_mut(&id) {
            node.firmware = true;
        }
        id
    }

    /// Adds a node that was removed again under its old number `id`.
    pub(crate) fn restore(&mut self, id: NodeId, path: &str) {
        if !self.known.contains_key(&id) {
            self.insert(id, path);
        }
    }

    /// Number of the node at `path`, if it exists.
    pub fn find(&self, path: &str) -> Option<NodeId> {
        self.by_path.get(path).copied()
    }

    /// Path, label and status of a node.
    ///
    /// # Panics
    ///
    /// If `id` names no node: it is from another machine, or its node was removed. See [`info`](Self::info).
    pub fn get(&self, id: NodeId) -> &NodeInfo {
        &self.known[&id].info
    }

    /// Path, label and status of a node, if it exists.
    pub fn info(&self, id: NodeId) -> Option<&NodeInfo> {
        self.known.get(&id).map(|node| &node.info)
    }

    /// Mutable access to a node, to set label and status.
    ///
    /// # Panics
    ///
    /// If `id` names no node, as [`get`](Self::get).
    #[expect(clippy::expect_used, reason = "documented; the caller has the number from these nodes")]
    pub fn get_mut(&mut self, id: NodeId) -> &mut NodeInfo {
        &mut self.known.get_mut(&id).expect("a node of these").info
    }

    /// Name for messages: label and path, or the path; the number when the node does not exist.
    pub fn name(&self, id: NodeId) -> String {
        match self.info(id) {
            None => format!("node {}", id.0),
            Some(NodeInfo { path, label: Some(label), .. }) => format!("{label} ({path})"),
            Some(NodeInfo { path, .. }) => String::from(&**path),
        }
    }

    /// All nodes, unused ones too, in the order of numbers.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &NodeInfo)> {
        self.known.iter().map(|(id, node)| (*id, &node.info))
    }

    /// Names of the nodes directly below the one at `path`, where the root's path is empty.
    pub(crate) fn below<'n>(&'n self, path: &str) -> impl Iterator<Item = &'n str> + use<'n> {
        let prefix = format!("{path}/");
        let after = prefix.len();
        let all = self.by_path.range::<str, _>((Bound::Excluded(&*prefix), Bound::Unbounded));
        let all: Vec<&str> = all.map(|(p, _)| &**p).take_while(|p| p.starts_with(&prefix)).collect();
        all.into_iter().map(move |p| &p[after..]).filter(|name| !name.is_empty() && !name.contains('/'))
    }

    /// Number of nodes in use.
    pub fn len(&self) -> usize {
        self.known.len() - self.idle.len()
    }

    /// True when there is no node, not even an unused one.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Marks a node as used.
    pub(crate) fn mark_used(&mut self, id: NodeId) {
        if let Some(since) = self.known.get_mut(&id).and_then(|node| node.idle.take()) {
            self.idle.remove(&since);
        }
    }

    /// Marks a node as unused. The one that has been unused for longest may be removed.
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
    fn unused_nodes_are_bounded_and_their_numbers_are_not_reused() {
        let mut nodes = Nodes::new();
        let tree = nodes.add_firmware("/soc");
        let busy = nodes.find_or_add("/devices/busy");
        nodes.mark_unused(tree);
        let first = nodes.find_or_add("/devices/0");
        nodes.mark_unused(first);
        assert_eq!(nodes.find_or_add("/devices/0"), first, "a recently unused node keeps its number");
        for n in 0..3 * MAX_UNUSED {
            let id = nodes.find_or_add(&format!("/devices/{n}"));
            nodes.mark_unused(id);
        }
        assert_eq!((nodes.len(), nodes.iter().count()), (2, 2 + MAX_UNUSED));
        assert_eq!(nodes.by_path.len(), 2 + MAX_UNUSED);
        assert_eq!((nodes.info(first), nodes.name(first)), (None, format!("node {}", first.0)));
        assert!(nodes.find_or_add("/devices/0") > busy, "numbers are not reused");
        assert_eq!(nodes.find("/soc"), Some(tree), "device tree nodes are never removed");
    }

    #[test]
    fn a_node_that_is_used_again_is_not_removed() {
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
    fn a_removed_node_is_restored_under_its_old_number() {
        let mut nodes = Nodes::new();
        nodes.restore(NodeId(7), "/devices/a");
        assert_eq!((nodes.find("/devices/a"), nodes.name(NodeId(7))), (Some(NodeId(7)), "/devices/a".into()));
        nodes.restore(NodeId(8), "/devices/a");
        assert_eq!(nodes.find("/devices/a"), Some(NodeId(7)));
        nodes.mark_unused(NodeId(8));
        assert!((0..20).all(|n| nodes.find_or_add(&format!("/{n}")) != NodeId(7)));
    }
}
