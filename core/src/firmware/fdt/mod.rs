//! Device tree blobs.
//!
//! [`describe`] reads a blob and says which devices there are, what each occupies and what each needs. It follows what
//! Linux makes of the same tree (which nodes become platform devices, how they are called, which properties name
//! suppliers), and adds the suppliers that Linux leaves to chance: `iommus`, `iommu-map` and `dmas`.
//!
//! A blob may be wrong in any way. What makes it unreadable is an [`FdtError`]; what concerns one property is left out
//! of the description and becomes a [`Note`]. Time and memory are bounded by the size of the blob.

mod address;
mod description;
mod devices;
mod dma;
mod error;
mod interrupt;
mod iommu_map;
mod log;
mod memory;
mod nexus;
mod note;
mod region;
mod shape;
mod supplier;
mod tree;

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::description::{NodeId, Nodes};

pub use description::{Description, OtherNode, Reserved};
pub use error::FdtError;
pub use note::{MAX_NOTES, Note, NoteKind};

use log::Log;
use note::NoteKind as Kind;
use tree::{Idx, Tree};

/// Reads a device tree blob. Bytes behind the blob's own size are ignored.
///
/// Every node of the tree is entered in `nodes`, with its label and whether it is enabled. A `/` in `nodes` from an
/// earlier tree is the same node as this one's.
///
/// A device whose `iommus` cannot be resolved is described without an IOMMU among its suppliers, but with the property
/// among its [`properties`](crate::device::DeviceDesc::properties): whoever configures its DMA can tell that from a
/// device that has none.
pub fn describe(blob: &[u8], nodes: &mut Nodes) -> Result<Description, FdtError> {
    let tree = Tree::read(blob)?;
    let mut log = Log::new(blob.len(), tree.paths(blob.len())?);
    tree.note_oddities(&mut log);
    let ids = enter(&tree, &log, nodes);
    labels(&tree, &mut log, nodes);

    let kinds = devices::classify(&tree);
    let regions = region::regions(&tree, &mut log);
    let devices = devices::describe(&tree, &mut log, &kinds, &ids, &regions)?;
    let others = devices::others(&tree, &mut log, &kinds, &ids);
    let memory = memory::banks(&tree, &mut log);
    let reserved = memory::reserved(&tree, &mut log, &ids, &regions);
    let aliases = aliases(&tree, &mut log, nodes);
    let root = Tree::ROOT;
    let model = tree.strings(root, "model").next().and_then(Result::ok).map(Arc::from);
    let compatible = devices::compatible(&tree, &mut log, root);
    let (notes, notes_left_out) = log.finish();
    Ok(Description { model, compatible, devices, others, memory, reserved, aliases, notes, notes_left_out })
}

/// Enters every node; the answer maps a node's place in the tree to its number.
fn enter(tree: &Tree<'_>, log: &Log, nodes: &mut Nodes) -> Vec<NodeId> {
    let mut ids = Vec::with_capacity(tree.len());
    for node in tree.all() {
        let id = nodes.add_firmware(log.path(node));
        nodes.get_mut(id).enabled = tree.enabled(node);
        ids.push(id);
    }
    ids
}

/// Gives nodes the labels that `dtc -@` kept in `/__symbols__`. The first one of a node wins.
fn labels(tree: &Tree<'_>, log: &mut Log, nodes: &mut Nodes) {
    let Some(symbols) = tree.child(Tree::ROOT, "__symbols__") else { return };
    for (label, value) in tree.props(symbols) {
        let path = tree::strings(value).next().and_then(Result::ok);
        match path.and_then(|p| nodes.find(p)) {
            Some(id) => {
                let info = nodes.get_mut(id);
                if info.label.is_none() {
                    info.label = Some(label.into());
                }
            }
            None => log.note(symbols, label, Kind::NoSuchPath),
        }
    }
}

/// Names of `/aliases`, in the blob's order.
fn aliases(tree: &Tree<'_>, log: &mut Log, nodes: &Nodes) -> Vec<(Arc<str>, NodeId)> {
    let Some(node) = tree.child(Tree::ROOT, "aliases") else { return Vec::new() };
    let mut found = Vec::new();
    for (alias, value) in tree.props(node) {
        if is_bookkeeping(alias) {
            continue;
        }
        let path = tree::strings(value).next().and_then(Result::ok);
        match path.and_then(|p| nodes.find(p)) {
            Some(id) => found.push((Arc::from(alias), id)),
            None => log.note(node, alias, Kind::NoSuchPath),
        }
    }
    found
}

/// Properties that the compiler adds to any node.
fn is_bookkeeping(name: &str) -> bool {
    matches!(name, "name" | "phandle" | "linux,phandle")
}

/// The number of `node`, by the list that [`enter`] made.
fn id(ids: &[NodeId], node: Idx) -> NodeId {
    ids[node.0 as usize]
}
