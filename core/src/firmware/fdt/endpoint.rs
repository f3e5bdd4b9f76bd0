//! Endpoints of graphs: links between the ports of devices (`remote-endpoint`).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::tree::{Idx, Tree};

/// The endpoints of a tree.
pub(super) struct Endpoints {
    /// The nearest node at or above each node that has a `compatible`: the owner of its ports.
    owners: Vec<Option<Idx>>,
    /// Enabled endpoints that name another one, by owner, with the other one's phandle.
    named: BTreeMap<Idx, Vec<(Idx, u32)>>,
}

impl Endpoints {
    /// Finds all endpoints: nodes with a `remote-endpoint`, wherever they stand below their device.
    pub(super) fn of(tree: &Tree<'_>) -> Self {
        let mut owners: Vec<Option<Idx>> = Vec::with_capacity(tree.len());
        let mut named: BTreeMap<Idx, Vec<(Idx, u32)>> = BTreeMap::new();
        for node in tree.all() {
            let above = tree.parent(node).and_then(|p| owners[p.0 as usize]);
            let owner = if tree.has(node, "compatible") { Some(node) } else { above };
            owners.push(owner);
            if let (Some(owner), Some(remote)) = (above, tree.u32(node, "remote-endpoint"))
                && tree.enabled(node)
            {
                named.entry(owner).or_default().push((node, remote));
            }
        }
        Self { owners, named }
    }

    /// The endpoints of `device` that name another one, with its phandle.
    pub(super) fn of_device(&self, device: Idx) -> &[(Idx, u32)] {
        self.named.get(&device).map_or(&[], Vec::as_slice)
    }

    /// The node whose port has `endpoint`.
    pub(super) fn owner(&self, endpoint: Idx) -> Option<Idx> {
        self.owners[endpoint.0 as usize]
    }
}
