//! Reader of device tree blobs.
//!
//! [`describe`] turns a blob into descriptions of devices, with their resources and suppliers. It follows Linux (which
//! nodes become platform devices, their names, which properties name suppliers), and adds the suppliers that Linux does
//! not enforce by default: `iommus`, `iommu-map` and `dmas`.
//!
//! A blob may be malformed in any way. When it cannot be parsed at all, the result is an [`FdtError`]; a defect of a
//! single property is a [`Note`], and the property is left out of the description. Time and memory are bounded by the
//! size of the blob.

mod address;
mod description;
mod devices;
mod dma;
mod early;
mod endpoint;
mod error;
mod interrupt;
mod iommu_map;
mod log;
mod memory;
mod messages;
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

/// Reads a device tree blob. Bytes after the size in the blob's header are ignored.
///
/// All nodes of the tree are added to `nodes`, with label and status. Paths that are in `nodes` already, from an
/// earlier tree, denote the same node.
///
/// A device whose `iommus` cannot be resolved has no IOMMU among its suppliers, but an entry in
/// [`unmet`](crate::device::DeviceDesc::unmet), which keeps it from being probed.
///
/// # Errors
///
/// [`FdtError`] when the blob is malformed, nested too deeply, or takes work out of proportion to its size.
///
/// ```
/// use bindery::device::{Nodes, Resource, SupplierKind};
/// use bindery::firmware::fdt;
///
/// let blob = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../sim/boards/salvator-xs.dtb"));
/// let mut nodes = Nodes::new();
/// let board = fdt::describe(blob, &mut nodes)?;
/// let sata = board.devices.iter().find(|d| &*d.name == "ee300000.sata").expect("it is on this board");
/// assert!(matches!(sata.resources[0], Resource::Mem { len: 0x20_0000, .. }));
/// let iommu = sata.suppliers.iter().find(|s| s.kind == SupplierKind::Iommu).expect("it is behind an IOMMU");
/// assert_eq!(nodes.name(iommu.node), "ipmmu_hc (/soc/mmu@e6570000)");
/// # Ok::<(), fdt::FdtError>(())
/// ```
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

/// Adds every node; the result maps a node's index in the tree to its number.
fn enter(tree: &Tree<'_>, log: &Log, nodes: &mut Nodes) -> Vec<NodeId> {
    let mut ids = Vec::with_capacity(tree.len());
    for node in tree.all() {
        let id = nodes.add_firmware(log.path(node));
        let info = nodes.get_mut(id);
        info.enabled = tree.enabled(node);
        info.aliases.clear();
        ids.push(id);
    }
    ids
}

/// Sets the labels of nodes from `/__symbols__` (`dtc -@`). The first label of a node counts.
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

/// Entries of `/aliases`, in the blob's order.
fn aliases(tree: &Tree<'_>, log: &mut Log, nodes: &mut Nodes) -> Vec<(Arc<str>, NodeId)> {
    let Some(node) = tree.child(Tree::ROOT, "aliases") else { return Vec::new() };
    let mut found = Vec::new();
    for (alias, value) in tree.props(node) {
        if is_bookkeeping(alias) {
            continue;
        }
        let path = tree::strings(value).next().and_then(Result::ok);
        match path.and_then(|p| nodes.find(p)) {
            Some(id) => {
                let alias: Arc<str> = Arc::from(alias);
                // Linux keeps those that end in a number (`of_alias_scan`).
                if alias.ends_with(|c: char| c.is_ascii_digit()) {
                    nodes.get_mut(id).aliases.push(Arc::clone(&alias));
                }
                found.push((alias, id));
            }
            None => log.note(node, alias, Kind::NoSuchPath),
        }
    }
    found
}

/// Properties that the device tree compiler adds to nodes.
fn is_bookkeeping(name: &str) -> bool {
    matches!(name, "name" | "phandle" | "linux,phandle")
}

/// The number of `node`, from the result of [`enter`].
fn id(ids: &[NodeId], node: Idx) -> NodeId {
    ids[node.0 as usize]
}
