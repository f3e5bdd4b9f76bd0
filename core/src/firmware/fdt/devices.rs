//! Creation of platform devices: selection of nodes, names, contents.
//!
//! Facts are those of Linux's `drivers/of/platform.c`: `of_platform_populate` makes a platform device of every enabled
//! node with a `compatible` below the root and below the buses of its match table, of those below `/firmware`, and of a
//! few kinds of reserved memory; `of_device_make_bus_id` names it.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::endpoint::Endpoints;
use super::log::Log;
use super::note::NoteKind;
use super::region::{self, Region};
use super::supplier::Collector;
use super::tree::{Idx, Tree};
use super::{FdtError, OtherNode, address, dma, early, id, interrupt, is_bookkeeping, messages};
use crate::description::{BusKind, DeviceDesc, NodeId};

/// Buses that are descended (`of_default_bus_match_table`).
const BUSES: [&str; 4] = ["simple-bus", "simple-mfd", "isa", "arm,amba-bus"];
/// Nodes that are never devices (`of_skipped_node_table`).
const SKIPPED: [&str; 1] = ["operating-points-v2"];
/// Reserved memory that is a device (`reserved_mem_matches`).
const MEMORY_DEVICES: [&str; 6] =
    ["qcom,rmtfs-mem", "qcom,cmd-db", "qcom,smem", "ramoops", "nvmem-rmem", "google,open-dice"];
/// Longest value of a property that is copied into a description, in bytes.
const MAX_VALUE: usize = 256;

/// Classification of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Disabled, or without a `compatible`.
    None,
    /// A platform device, and a bus with devices below it.
    Bus,
    /// A platform device.
    Device,
    /// It has a `compatible`, but is not a platform device.
    Other,
}

impl Kind {
    const fn is_device(self) -> bool {
        matches!(self, Self::Bus | Self::Device)
    }
}

/// Classifies all nodes, by index.
pub(super) fn classify(tree: &Tree<'_>) -> Vec<Kind> {
    let firmware = tree.child(Tree::ROOT, "firmware");
    let mut kinds: Vec<Kind> = Vec::with_capacity(tree.len());
    for node in tree.all() {
        let Some(parent) = tree.parent(node) else {
            kinds.push(Kind::None);
            continue;
        };
        let on_bus = parent == Tree::ROOT || kinds[parent.0 as usize] == Kind::Bus;
        let is = |words: &[&str]| tree.strings(node, "compatible").any(|s| s.is_ok_and(|s| words.contains(&s)));
        kinds.push(if !tree.enabled(node) || !tree.has(node, "compatible") {
            Kind::None
        } else if is(&SKIPPED) {
            Kind::Other
        } else if on_bus && is(&BUSES) && !is(&["arm,primecell"]) {
            Kind::Bus
        } else if on_bus || Some(parent) == firmware || is(&MEMORY_DEVICES) {
            Kind::Device
        } else {
            Kind::Other
        });
    }
    kinds
}

/// True for a peripheral of the bus `amba` (`of_platform_bus_create`).
fn is_primecell(tree: &Tree<'_>, node: Idx) -> bool {
    tree.strings(node, "compatible").any(|s| s == Ok("arm,primecell"))
}

/// Describes every platform device, parents before children.
pub(super) fn describe(
    tree: &Tree<'_>,
    log: &mut Log,
    kinds: &[Kind],
    ids: &[NodeId],
    regions: &BTreeMap<Idx, Region>,
) -> Result<Vec<DeviceDesc>, FdtError> {
    let mut owners: Vec<Option<Idx>> = Vec::with_capacity(tree.len());
    for node in tree.all() {
        let above = tree.parent(node).and_then(|p| owners[p.0 as usize]);
        owners.push(if kinds[node.0 as usize].is_device() { Some(node) } else { above });
    }
    let gics = interrupt::gics(tree, log)?;
    let early = early::nodes(tree);
    let endpoints = Endpoints::of(tree);
    let mut names = BTreeMap::new();
    let mut found = Vec::new();
    for node in tree.all().filter(|n| kinds[n.0 as usize].is_device()) {
        let name = unique_name(tree, log, &mut names, node)?;
        let interrupts = interrupt::interrupts(tree, log, node)?;
        let mut resources = address::registers(tree, log, node)?;
        resources.extend(interrupt::lines(log, &gics, ids, node, &interrupts));
        let interrupt_map = interrupt::behind(tree, log, &gics, ids, node)?;
        let message_map = messages::behind(tree, log, ids, node)?;
        let messages = if message_map.is_some() { None } else { messages::own(tree, ids, node) };
        let mut needs = Collector::new(tree, log, &owners, ids, &endpoints).suppliers(node, &interrupts)?;
        let mut dma = dma::describe(tree, log, node)?;
        let (reserved, lost) = region::of_device(tree, log, regions, node, &dma.ranges);
        dma.reserved = reserved;
        needs.unmet.extend(lost);
        found.push(DeviceDesc {
            name,
            node: Some(id(ids, node)),
            parent: tree.parent(node).and_then(|p| owners[p.0 as usize]).map(|p| id(ids, p)),
            bus: match early[node.0 as usize] {
                true => BusKind::Early,
                false if is_primecell(tree, node) => BusKind::Amba,
                false => BusKind::Platform,
            },
            compatible: compatible(tree, log, node),
            pci: None,
            resources,
            interrupt_map,
            messages,
            message_map,
            suppliers: needs.suppliers,
            unmet: needs.unmet,
            unmet_behind: needs.unmet_behind,
            dma,
            properties: properties(tree, log, node),
        });
    }
    Ok(found)
}

/// All nodes with a `compatible` that are not devices, with their nearest ancestor that is a device or in this list.
pub(super) fn others(tree: &Tree<'_>, log: &mut Log, kinds: &[Kind], ids: &[NodeId]) -> Vec<OtherNode> {
    let mut nearest: Vec<Option<Idx>> = Vec::with_capacity(tree.len());
    let mut found = Vec::new();
    for node in tree.all() {
        let above = tree.parent(node).and_then(|p| nearest[p.0 as usize]);
        let kind = kinds[node.0 as usize];
        nearest.push(if kind == Kind::None { above } else { Some(node) });
        if kind == Kind::Other {
            let parent = above.map(|p| id(ids, p));
            found.push(OtherNode { node: id(ids, node), parent, compatible: compatible(tree, log, node) });
        }
    }
    found
}

/// Values of `compatible`.
pub(super) fn compatible(tree: &Tree<'_>, log: &mut Log, node: Idx) -> Vec<Arc<str>> {
    let mut found = Vec::new();
    for word in tree.strings(node, "compatible") {
        match word {
            Ok(word) => found.push(log.word(word)),
            Err(e) => log.note(node, "compatible", e),
        }
    }
    found
}

/// Copies the properties of a device up to [`MAX_VALUE`] bytes.
fn properties(tree: &Tree<'_>, log: &mut Log, node: Idx) -> Vec<(Arc<str>, Vec<u8>)> {
    let small = tree.props(node).filter(|(name, value)| value.len() <= MAX_VALUE && !is_bookkeeping(name));
    small.map(|(name, value)| (log.word(name), value.to_vec())).collect()
}

/// Name of a device, with a number appended when it is taken.
fn unique_name(
    tree: &Tree<'_>,
    log: &mut Log,
    names: &mut BTreeMap<Arc<str>, u32>,
    node: Idx,
) -> Result<Arc<str>, FdtError> {
    let mut name: Arc<str> = name(tree, log, node)?.into();
    while let Some(times) = names.get_mut(&name) {
        log.spend(node, "reg", 1)?;
        *times += 1;
        let numbered = format!("{name}#{times}").into();
        log.note(node, "reg", NoteKind::DuplicateName(name));
        name = numbered;
    }
    names.insert(Arc::clone(&name), 0);
    Ok(name)
}

/// `ee300000.sata` from the first address that the CPU sees; without one, the node's own name behind that of the node
/// above it, and so on up to a node with an address: `soc:name`, `fd000000.syscon:name`.
fn name(tree: &Tree<'_>, log: &mut Log, node: Idx) -> Result<String, FdtError> {
    let mut name = String::new();
    let mut at = node;
    while let Some(parent) = tree.parent(at) {
        let colon = if name.is_empty() { "" } else { ":" };
        if let Some(address) = address::first_address(tree, log, at)? {
            // Several devices may share a register, each with a bit of it.
            let bit = tree.u32(at, "mask").map(|mask| format!("{:x}.", mask.trailing_zeros())).unwrap_or_default();
            return Ok(format!("{address:x}.{bit}{}{colon}{name}", tree.base_name(at)));
        }
        name = format!("{}{colon}{name}", tree.name(at));
        at = parent;
    }
    Ok(name)
}
