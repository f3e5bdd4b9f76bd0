//! A blob as an array of nodes. Only this module uses the parser library.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use dtoolkit::error::FdtErrorKind;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node as _, Property as _};

use super::log::Log;
use super::note::NoteKind;
use super::{FdtError, shape};

/// Limit of levels below the root (as Linux: `drivers/of/fdt.c`, `FDT_MAX_DEPTH`).
pub(super) const MAX_DEPTH: usize = 64;

/// Path bytes per byte of blob. A tree of one-letter nodes nested to the limit needs 11.
const PATH_BYTES_PER_BYTE: usize = 16;

/// Index of a node in document order. 0 is the root.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Idx(pub(super) u32);

struct Node<'a> {
    name: &'a str,
    parent: Option<Idx>,
    /// Index after its last descendant.
    end: u32,
    /// Its properties, in the blob's order.
    props: Range<u32>,
    enabled: bool,
    /// Cells of an address and of a size in its children's `reg`.
    cells: (u32, u32),
    pci: bool,
}

/// All nodes and properties of a blob, borrowed from it.
pub(super) struct Tree<'a> {
    nodes: Vec<Node<'a>>,
    props: Vec<(&'a str, &'a [u8])>,
    /// Indices of each node's properties, sorted by name.
    sorted: Vec<u32>,
    by_phandle: BTreeMap<u32, Idx>,
    reservations: Vec<(u64, u64)>,
}

impl<'a> Tree<'a> {
    /// Reads all nodes of `blob`.
    pub(super) fn read(blob: &'a [u8]) -> Result<Self, FdtError> {
        let (blob, fdt) = open(blob)?;
        let reservations = fdt.memory_reservations().map(|r| (r.address(), r.size())).collect();
        let mut tree = Self {
            nodes: Vec::new(),
            props: Vec::new(),
            sorted: Vec::new(),
            by_phandle: BTreeMap::new(),
            reservations,
        };
        let root = fdt.root();
        let mut open = alloc::vec![(tree.add(blob, &root, None), root.children())];
        while let Some((parent, children)) = open.last_mut() {
            let parent = *parent;
            if let Some(child) = children.next() {
                if open.len() > MAX_DEPTH {
                    return Err(FdtError::TooDeep { node: tree.path_to(parent), limit: MAX_DEPTH });
                }
                open.push((tree.add(blob, &child, Some(parent)), child.children()));
            } else {
                tree.nodes[parent.0 as usize].end = tree.nodes.len() as u32;
                open.pop();
            }
        }
        Ok(tree)
    }

    fn add(&mut self, blob: &'a [u8], node: &FdtNode<'a>, parent: Option<Idx>) -> Idx {
        let idx = Idx(self.nodes.len() as u32);
        let first = self.props.len() as u32;
        for p in node.properties() {
            // The value of a property always is a run of bytes: the conversion cannot fail.
            self.props.push((within(blob, p.name()), p.value_as::<&'a [u8]>().unwrap_or_default()));
        }
        let props = first..self.props.len() as u32;
        self.sorted.extend(props.clone());
        let all = &self.props;
        self.sorted[first as usize..].sort_by_key(|i| all[*i as usize].0);

        let (above, inherited) = parent.map_or((true, (1, 1)), |p| {
            let p = &self.nodes[p.0 as usize];
            (p.enabled, p.cells)
        });
        self.nodes.push(Node {
            name: node.name(),
            parent,
            end: 0,
            props,
            enabled: above,
            cells: inherited,
            pci: false,
        });
        let okay = self.status(idx).is_none_or(|s| matches!(s, b"okay" | b"ok"));
        let cells = (
            self.u32(idx, "#address-cells").unwrap_or(inherited.0),
            self.u32(idx, "#size-cells").unwrap_or(inherited.1),
        );
        let pci = self.strings(idx, "device_type").any(|s| matches!(s, Ok("pci" | "pciex")));
        let phandle = self.own_phandle(idx).map(|(_, p)| p);
        let new = &mut self.nodes[idx.0 as usize];
        (new.enabled, new.cells, new.pci) = (above && okay, cells, pci);
        if let Some(phandle) = phandle.filter(|p| is_phandle(*p)) {
            self.by_phandle.entry(phandle).or_insert(idx);
        }
        idx
    }

    /// The first word of `status`; the others do not count (Linux: `__of_device_is_status`, `drivers/of/base.c`).
    fn status(&self, node: Idx) -> Option<&'a [u8]> {
        Some(self.prop(node, "status")?.split(|b| *b == 0).next().unwrap_or_default())
    }

    fn own_phandle(&self, node: Idx) -> Option<(&'static str, u32)> {
        ["phandle", "linux,phandle"].into_iter().find_map(|name| Some((name, self.u32(node, name)?)))
    }

    /// Full paths of all nodes, by index. A node with the name of an earlier sibling gets the suffix `#1`, `#2`, ...
    pub(super) fn paths(&self, blob_len: usize) -> Result<Vec<Arc<str>>, FdtError> {
        let mut left = blob_len.saturating_mul(PATH_BYTES_PER_BYTE);
        let mut paths: Vec<Arc<str>> = Vec::with_capacity(self.len());
        let mut seen: BTreeMap<Arc<str>, u32> = BTreeMap::new();
        for node in self.all() {
            let mut path: Arc<str> = match self.parent(node) {
                None => "/".into(),
                Some(Idx(0)) => format!("/{}", self.name(node)).into(),
                Some(p) => format!("{}/{}", paths[p.0 as usize], self.name(node)).into(),
            };
            let times = seen.entry(Arc::clone(&path)).and_modify(|n| *n += 1).or_insert(0);
            if *times > 0 {
                path = format!("{path}#{times}").into();
                seen.insert(Arc::clone(&path), 0);
            }
            left = left.checked_sub(path.len()).ok_or_else(|| FdtError::LongPaths {
                node: self.parent(node).map_or("/".into(), |p| paths[p.0 as usize].clone()),
            })?;
            paths.push(path);
        }
        Ok(paths)
    }

    /// Notes duplicate names and phandles, and unknown values of `status`.
    pub(super) fn note_oddities(&self, log: &mut Log) {
        for node in self.all() {
            if !log.path(node).ends_with(self.name(node)) {
                log.note(node, "name", NoteKind::DuplicateNode);
            }
            if let Some(status) = self.status(node) {
                let known = matches!(status, b"okay" | b"ok" | b"disabled" | b"reserved" | b"fail" | b"");
                if !known && !status.starts_with(b"fail-") {
                    let word = log.word(&String::from_utf8_lossy(status));
                    log.note(node, "status", NoteKind::UnknownStatus(word));
                }
            }
            if let Some((property, phandle)) = self.own_phandle(node) {
                match self.by_phandle.get(&phandle) {
                    Some(owner) if *owner == node => {}
                    Some(_) => log.note(node, property, NoteKind::DuplicatePhandle(phandle)),
                    None => log.note(node, property, NoteKind::BadPhandle(phandle)),
                }
            }
        }
    }

    /// Path of a node, from the names of its ancestors.
    fn path_to(&self, node: Idx) -> Arc<str> {
        let mut names = Vec::new();
        let mut at = Some(node);
        while let Some(node) = at {
            names.push(self.name(node));
            at = self.parent(node);
        }
        let path: String = names.iter().rev().skip(1).fold(String::new(), |path, name| path + "/" + name);
        if path.is_empty() { "/".into() } else { path.into() }
    }

    fn node(&self, node: Idx) -> &Node<'a> {
        &self.nodes[node.0 as usize]
    }

    /// Number of nodes.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// All nodes in document order.
    pub(super) fn all(&self) -> impl Iterator<Item = Idx> + use<> {
        (0..self.nodes.len() as u32).map(Idx)
    }

    /// The root.
    pub(super) const ROOT: Idx = Idx(0);

    /// Name with unit address: `sata@ee300000`.
    pub(super) fn name(&self, node: Idx) -> &'a str {
        self.node(node).name
    }

    /// Name without unit address: `sata`.
    pub(super) fn base_name(&self, node: Idx) -> &'a str {
        let name = self.name(node);
        name.split_once('@').map_or(name, |(base, _)| base)
    }

    /// The parent.
    pub(super) fn parent(&self, node: Idx) -> Option<Idx> {
        self.node(node).parent
    }

    /// The children.
    pub(super) fn children(&self, node: Idx) -> impl Iterator<Item = Idx> + '_ {
        let end = self.node(node).end;
        let within = move |at: u32| (at < end).then_some(Idx(at));
        core::iter::successors(within(node.0 + 1), move |at| within(self.node(*at).end))
    }

    /// The child called `name`, unit address included.
    pub(super) fn child(&self, node: Idx, name: &str) -> Option<Idx> {
        self.children(node).find(|c| self.name(*c) == name)
    }

    /// True when `node` is `above` or a descendant of it.
    pub(super) fn contains(&self, above: Idx, node: Idx) -> bool {
        above <= node && node.0 < self.node(above).end
    }

    /// False when the node or an ancestor has a `status` other than `okay`.
    pub(super) fn enabled(&self, node: Idx) -> bool {
        self.node(node).enabled
    }

    /// Cells of an address and of a size in the `reg` of `node`'s children. As on Linux they are inherited from the
    /// nearest ancestor that states them; the default is 1 and 1.
    pub(super) fn child_cells(&self, node: Idx) -> (u32, u32) {
        self.node(node).cells
    }

    /// True when the node is a PCI bus by its `device_type`.
    pub(super) fn is_pci(&self, node: Idx) -> bool {
        self.node(node).pci
    }

    /// Properties in the blob's order.
    pub(super) fn props(&self, node: Idx) -> impl Iterator<Item = (&'a str, &'a [u8])> + '_ {
        let range = self.node(node).props.clone();
        self.props[range.start as usize..range.end as usize].iter().copied()
    }

    /// Value of a property. Of several with one name the first counts.
    pub(super) fn prop(&self, node: Idx, name: &str) -> Option<&'a [u8]> {
        let range = self.node(node).props.clone();
        let sorted = &self.sorted[range.start as usize..range.end as usize];
        let first = sorted.partition_point(|i| self.props[*i as usize].0 < name);
        let (found, value) = self.props[*sorted.get(first)? as usize];
        (found == name).then_some(value)
    }

    /// True when the node has the property.
    pub(super) fn has(&self, node: Idx, name: &str) -> bool {
        self.prop(node, name).is_some()
    }

    /// First cell of a property.
    pub(super) fn u32(&self, node: Idx, name: &str) -> Option<u32> {
        self.prop(node, name)?.first_chunk::<4>().map(|b| u32::from_be_bytes(*b))
    }

    /// Strings of a property. See [`strings`].
    pub(super) fn strings(&self, node: Idx, name: &str) -> impl Iterator<Item = Result<&'a str, NoteKind>> + use<'a> {
        strings(self.prop(node, name).unwrap_or_default())
    }

    /// True when `compatible` contains `word`.
    pub(super) fn compatible(&self, node: Idx, word: &str) -> bool {
        self.strings(node, "compatible").any(|s| s == Ok(word))
    }

    /// The node with a phandle.
    pub(super) fn phandle(&self, phandle: u32) -> Option<Idx> {
        self.by_phandle.get(&phandle).copied()
    }

    /// Entries of the memory reservation block: first byte and length.
    pub(super) fn reservations(&self) -> &[(u64, u64)] {
        &self.reservations
    }
}

/// Strings in a value, each ended by a zero byte; empty ones are skipped.
pub(super) fn strings(value: &[u8]) -> impl Iterator<Item = Result<&str, NoteKind>> {
    value
        .split(|b| *b == 0)
        .filter(|s| !s.is_empty())
        .map(|s| core::str::from_utf8(s).ok().filter(|s| !s.contains(char::is_control)).ok_or(NoteKind::NotText))
}

/// True when the value is valid as a phandle.
const fn is_phandle(value: u32) -> bool {
    value != 0 && value != u32::MAX
}

/// Opens the blob; the result has it without trailing bytes.
fn open(blob: &[u8]) -> Result<(&[u8], Fdt<'_>), FdtError> {
    let total = blob.get(4..8).and_then(<[u8]>::first_chunk::<4>).map_or(0, |b| u32::from_be_bytes(*b) as usize);
    let blob = blob.get(..total).unwrap_or(blob);
    match Fdt::new(blob) {
        Ok(fdt) => Ok((blob, fdt)),
        Err(e) if matches!(e.kind, FdtErrorKind::InvalidNodeName | FdtErrorKind::InvalidPropertyName) => {
            shape::check(blob)?;
            Ok((blob, Fdt::new_unchecked(blob)))
        }
        Err(e) => Err(FdtError::Unreadable(e.to_string())),
    }
}

/// The same string with the blob's lifetime: the library's borrow of a property's name ends with the property.
fn within<'a>(blob: &'a [u8], part: &str) -> &'a str {
    let start = part.as_ptr().addr().wrapping_sub(blob.as_ptr().addr());
    let bytes = blob.get(start..start.saturating_add(part.len())).unwrap_or_default();
    core::str::from_utf8(bytes).unwrap_or_default()
}
