//! The device tree below `/sys/firmware`, as far as the machine keeps it: all nodes, and the properties of devices.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::node::{Dir, File, Node};
use crate::device::Device;
use crate::machine::Machine;

/// Directory of the firmware node of `device`; none for a device that firmware does not describe.
pub(super) fn dir_of(machine: &Machine, device: &Device) -> Option<Dir> {
    device.desc().node.map(|node| dir(&machine.node_info(node).path))
}

/// Directory of the node at `path`, where `/` is the root.
fn dir(path: &str) -> Dir {
    Dir::OfNode(path.trim_end_matches('/').into())
}

/// Nodes and properties below the node at `path`.
pub(super) fn list(machine: &Machine, path: &str) -> Vec<(String, Node)> {
    let mut list: Vec<(String, Node)> = Vec::new();
    if let Some(device) = machine.device_at(path) {
        let properties = &device.desc().properties;
        let file = |(name, value): &(Arc<str>, Vec<u8>)| {
            (name.to_string(), Node::File(File::Property(value.as_slice().into())))
        };
        list.extend(properties.iter().map(file));
    }
    let own = path.rsplit('/').next().unwrap_or_default();
    let own = own.split('@').next().unwrap_or_default();
    let name = own.bytes().chain([0]).collect();
    list.push(("name".into(), Node::File(File::Property(name))));
    for child in machine.nodes_below(path) {
        if list.iter().all(|(name, _)| *name != child) {
            let node = Node::Dir(Dir::OfNode(alloc::format!("{path}/{child}").into()));
            list.push((child, node));
        }
    }
    list
}
