//! Memory banks and reserved memory.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::address::{Space, number};
use super::log::Log;
use super::note::NoteKind;
use super::region::Region;
use super::tree::{Idx, Tree};
use super::{Reserved, id};
use crate::addr::PhysAddr;
use crate::description::NodeId;

/// Banks of RAM: the enabled children of the root with the `device_type` `memory`
/// (Linux: `early_init_dt_scan_memory`).
pub(super) fn banks(tree: &Tree<'_>, log: &mut Log) -> Vec<(PhysAddr, u64)> {
    let mut banks = Vec::new();
    for node in tree.children(Tree::ROOT).filter(|n| tree.enabled(*n)) {
        if tree.strings(node, "device_type").next() == Some(Ok("memory")) {
            let property = if tree.has(node, "linux,usable-memory") { "linux,usable-memory" } else { "reg" };
            banks.extend(regions(tree, log, node, property));
        }
    }
    banks
}

/// Reserved memory: the reservation block, then the enabled children of `/reserved-memory`, then other regions that a
/// device uses from boot on (`iommu-addresses`), which are never reusable.
pub(super) fn reserved(tree: &Tree<'_>, log: &mut Log, ids: &[NodeId], used: &BTreeMap<Idx, Region>) -> Vec<Reserved> {
    let blank = Reserved {
        node: None,
        base: None,
        len: 0,
        align: 0,
        within: Vec::new(),
        reusable: false,
        no_map: false,
        cma: false,
        cma_default: false,
    };
    let block = tree.reservations().iter().filter(|(_, len)| *len > 0);
    let mut found: Vec<Reserved> =
        block.map(|(base, len)| Reserved { base: Some(PhysAddr(*base)), len: *len, ..blank.clone() }).collect();

    let group = tree.child(Tree::ROOT, "reserved-memory");
    let inside = group.into_iter().flat_map(|g| tree.children(g)).filter(|n| tree.enabled(*n));
    let is_used = |node: &Idx| used.get(node).is_some_and(Region::is_direct);
    let outside = used.keys().copied().filter(|n| is_used(n) && tree.parent(*n) != group);
    for node in inside.chain(outside) {
        let mut reusable = tree.has(node, "reusable");
        if reusable && is_used(&node) {
            log.note(node, "reusable", NoteKind::NotReusable);
            reusable = false;
        }
        let cma = reusable && tree.compatible(node, "shared-dma-pool");
        let region = Reserved {
            node: Some(id(ids, node)),
            reusable,
            no_map: tree.has(node, "no-map"),
            cma,
            cma_default: cma && tree.has(node, "linux,cma-default"),
            ..blank.clone()
        };
        if tree.has(node, "reg") {
            let places = regions(tree, log, node, "reg").into_iter();
            found.extend(places.map(|(base, len)| Reserved { base: Some(base), len, ..region.clone() }));
        } else if let Some(size) = tree.prop(node, "size") {
            match number(size) {
                Some(0) => log.note(node, "size", NoteKind::Empty),
                None => log.note(node, "size", NoteKind::Wraps),
                Some(len) => {
                    let align = tree.prop(node, "alignment").and_then(number).unwrap_or(0);
                    let within = regions(tree, log, node, "alloc-ranges");
                    found.push(Reserved { len, align, within, ..region });
                }
            }
        }
    }
    found
}

/// Pairs of address and length in a property, which are CPU addresses: no bus translates them.
fn regions(tree: &Tree<'_>, log: &mut Log, node: Idx, property: &str) -> Vec<(PhysAddr, u64)> {
    let mut found = Vec::new();
    let (Some(value), Some(parent)) = (tree.prop(node, property), tree.parent(node)) else { return found };
    let space = match Space::of(tree, parent) {
        Ok(space) if space.address > 0 && space.size > 0 => space,
        Ok(_) => return found,
        Err(e) => {
            log.note(node, property, e);
            return found;
        }
    };
    let mut entries = value.chunks_exact(space.address + space.size);
    for entry in entries.by_ref() {
        match (number(&entry[..space.address]), number(&entry[space.address..])) {
            // The boot loader fills in the size of a bank; until then it is 0.
            (_, Some(0)) => {}
            (Some(base), Some(len)) if base.checked_add(len - 1).is_some() => found.push((PhysAddr(base), len)),
            _ => log.note(node, property, NoteKind::Wraps),
        }
    }
    if !entries.remainder().is_empty() {
        log.note(node, property, NoteKind::Truncated);
    }
    found
}
