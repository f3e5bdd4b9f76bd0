//! Builders of small trees.

use bindery::device::{DeviceDesc, Nodes};
use bindery::firmware::fdt::{self, Description, FdtError};
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

/// One property: name and raw value.
pub(crate) type Prop = (&'static str, Vec<u8>);

/// A value of 32-bit cells.
pub(crate) fn cells(cells: &[u32]) -> Vec<u8> {
    cells.iter().flat_map(|c| c.to_be_bytes()).collect()
}

/// A value of texts.
pub(crate) fn text(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|t| t.bytes().chain([0])).collect()
}

/// A property without a value.
pub(crate) fn flag(name: &'static str) -> Prop {
    (name, Vec::new())
}

/// A node.
pub(crate) fn node(name: &str, props: Vec<Prop>, children: Vec<DeviceTreeNode>) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(name);
    for (name, value) in props {
        node.add_property(DeviceTreeProperty::new_unchecked(name, value));
    }
    for child in children {
        node.add_child(child);
    }
    node
}

/// A device: a node with a `compatible` (its name without the unit address) and these properties.
pub(crate) fn dev(name: &str, mut props: Vec<Prop>) -> DeviceTreeNode {
    let kind = name.split('@').next().unwrap_or(name);
    props.insert(0, ("compatible", text(&[&format!("test,{kind}")])));
    node(name, props, Vec::new())
}

/// A bus that maps its children 1:1, with one cell each for address and size.
pub(crate) fn bus(name: &str, mut props: Vec<Prop>, children: Vec<DeviceTreeNode>) -> DeviceTreeNode {
    props.push(("compatible", text(&["simple-bus"])));
    node(name, props, children)
}

/// A GIC with phandle 1.
pub(crate) fn gic() -> DeviceTreeNode {
    let props = vec![
        ("compatible", text(&["arm,gic-400"])),
        ("phandle", cells(&[1])),
        ("#interrupt-cells", cells(&[3])),
        ("#address-cells", cells(&[0])),
        flag("interrupt-controller"),
    ];
    node("gic", props, Vec::new())
}

/// A whole blob; addresses and sizes below the root have one cell.
pub(crate) fn blob(mut props: Vec<Prop>, children: Vec<DeviceTreeNode>) -> Vec<u8> {
    let mut all = vec![("#address-cells", cells(&[1])), ("#size-cells", cells(&[1]))];
    all.append(&mut props);
    let mut tree = DeviceTree::new();
    tree.root = node("", all, children);
    tree.to_dtb()
}

/// Description with its nodes.
pub(crate) struct Described {
    pub(crate) all: Description,
    pub(crate) nodes: Nodes,
}

/// Describes a valid blob.
pub(crate) fn describe(blob: &[u8]) -> Described {
    let mut nodes = Nodes::new();
    match fdt::describe(blob, &mut nodes) {
        Ok(all) => Described { all, nodes },
        Err(e) => panic!("{e}"),
    }
}

/// Error of an invalid blob.
pub(crate) fn error(blob: &[u8]) -> FdtError {
    match fdt::describe(blob, &mut Nodes::new()) {
        Ok(_) => panic!("it was read"),
        Err(e) => e,
    }
}

impl Described {
    /// Describes a tree with these nodes below the root.
    pub(crate) fn of(children: Vec<DeviceTreeNode>) -> Self {
        describe(&blob(Vec::new(), children))
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.all.devices.iter().map(|d| &*d.name).collect()
    }

    pub(crate) fn device(&self, name: &str) -> &DeviceDesc {
        self.all.devices.iter().find(|d| &*d.name == name).unwrap_or_else(|| panic!("{name} not in {:?}", self.names()))
    }

    /// Suppliers of a device as `property -> path (args)`.
    pub(crate) fn suppliers(&self, name: &str) -> Vec<String> {
        let show =
            |s: &bindery::device::Supplier| format!("{} -> {} {:?}", s.property, self.nodes.get(s.node).path, s.args);
        self.device(name).suppliers.iter().map(show).collect()
    }

    /// Notes as text.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.all.notes.iter().map(ToString::to_string).collect()
    }
}
