//! Reserved regions: `memory-region` of a device, and `iommu-addresses` of the region.
//!
//! Facts are those of the `reserved-memory` binding of dt-schema and of Linux's `drivers/iommu/of_iommu.c`
//! (`of_iommu_get_resv_regions`): an entry is a device, and the first address and the size of a range of its device
//! addresses, in the cells of its bus. A range that equals the region's own `reg` is identity-mapped; any other one,
//! and
//! one of a region without `reg`, is only reserved.

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::address::{Space, number};
use super::log::Log;
use super::note::NoteKind;
use super::tree::{Idx, Tree};
use crate::addr::DeviceAddr;
use crate::description::{DmaRange, RegionKind, ReservedRegion, SupplierKind, Unmet};

const ADDRESSES: &str = "iommu-addresses";

/// Contents of a region's `iommu-addresses`.
#[derive(Default)]
pub(super) struct Region {
    /// Device and range.
    entries: Vec<(Idx, ReservedRegion)>,
    /// Entries that cannot be parsed, with their device if it is known; else they may be about any device.
    broken: Vec<(Option<Idx>, NoteKind)>,
}

impl Region {
    /// True when a device uses its memory from boot on.
    pub(super) fn is_direct(&self) -> bool {
        self.entries.iter().any(|(_, r)| r.kind.is_direct())
    }
}

/// All regions with `iommu-addresses`, by index. Defects are noted here, once.
pub(super) fn regions(tree: &Tree<'_>, log: &mut Log) -> BTreeMap<Idx, Region> {
    let mut found = BTreeMap::new();
    for node in tree.all().filter(|n| tree.enabled(*n)) {
        if let Some(value) = tree.prop(node, ADDRESSES) {
            found.insert(node, read(tree, log, node, value));
        }
    }
    found
}

/// Reads the entries of `iommu-addresses`, up to the first whose length is unknown.
fn read(tree: &Tree<'_>, log: &mut Log, node: Idx, value: &[u8]) -> Region {
    let mut region = Region::default();
    let memory = memory(tree, node);
    let mut rest = value;
    while !rest.is_empty() {
        let (device, entry, after) = match split(tree, rest) {
            Ok(parts) => parts,
            Err((device, e)) => {
                log.note(node, ADDRESSES, e.clone());
                region.broken.push((device, e));
                break;
            }
        };
        rest = after;
        let range = match (entry, &memory) {
            (Ok((_, 0)), _) => Err(NoteKind::Empty),
            (Ok((first, len)), _) if first.checked_add(len - 1).is_none() => Err(NoteKind::Wraps),
            (Ok((first, len)), Ok(memory)) => {
                let kind = if memory.contains(&(first, len)) { RegionKind::Direct } else { RegionKind::Reserved };
                if kind == RegionKind::Reserved && !memory.is_empty() {
                    log.note(node, ADDRESSES, NoteKind::NotIdentity);
                }
                Ok(ReservedRegion { first: DeviceAddr(first), last: DeviceAddr(first + (len - 1)), kind })
            }
            (Ok(_), Err(e)) => Err(e.clone()),
            (Err(e), _) => Err(e),
        };
        match range {
            Ok(range) => {
                if !lists(tree, device, node) {
                    log.note(node, ADDRESSES, NoteKind::NotListed(Arc::clone(log.path(device))));
                }
                region.entries.push((device, range));
            }
            Err(e) => {
                log.note(node, ADDRESSES, e.clone());
                // An empty range requests nothing (firmware leaves such entries when it found no display).
                if e != NoteKind::Empty {
                    region.broken.push((Some(device), e));
                }
            }
        }
    }
    region
}

/// First address and size.
type Range = Result<(u64, u64), NoteKind>;

/// Device of an entry that cannot be parsed, if known, and the reason.
type Lost = (Option<Idx>, NoteKind);

/// Splits off the first entry: its device, its range, and the rest. The error has the device when it is known.
fn split<'v>(tree: &Tree<'_>, value: &'v [u8]) -> Result<(Idx, Range, &'v [u8]), Lost> {
    let (phandle, rest) = value.split_first_chunk::<4>().ok_or((None, NoteKind::Truncated))?;
    let phandle = u32::from_be_bytes(*phandle);
    let device = tree.phandle(phandle).ok_or((None, NoteKind::Dangling(phandle)))?;
    let space = tree.parent(device).map(|bus| Space::of(tree, bus)).transpose().map_err(|e| (Some(device), e))?;
    let space = space.filter(|s| s.address > 0 && s.size > 0).ok_or((Some(device), NoteKind::BadCellCount(0)))?;
    let (address, rest) = rest.split_at_checked(space.address).ok_or((Some(device), NoteKind::Truncated))?;
    let (size, rest) = rest.split_at_checked(space.size).ok_or((Some(device), NoteKind::Truncated))?;
    let range = space.place(address).map(|p| p.at).zip(number(size)).ok_or(NoteKind::Wraps);
    Ok((device, range, rest))
}

/// Ranges of the region in memory: first byte and size. None when it has no `reg`.
fn memory(tree: &Tree<'_>, node: Idx) -> Result<Vec<(u64, u64)>, NoteKind> {
    let (Some(reg), Some(bus)) = (tree.prop(node, "reg"), tree.parent(node)) else { return Ok(Vec::new()) };
    let space = Space::of(tree, bus)?;
    if space.address == 0 || space.size == 0 || !reg.len().is_multiple_of(space.address + space.size) {
        return Err(NoteKind::Truncated);
    }
    let entries = reg.chunks_exact(space.address + space.size);
    entries.map(|e| number(&e[..space.address]).zip(number(&e[space.address..])).ok_or(NoteKind::Wraps)).collect()
}

/// The regions that `device` lists; zeros are skipped.
fn listed(tree: &Tree<'_>, device: Idx) -> impl Iterator<Item = Result<Idx, NoteKind>> {
    let value = tree.prop(device, "memory-region").unwrap_or_default();
    let (words, rest) = value.as_chunks::<4>();
    let words = words.iter().map(|w| u32::from_be_bytes(*w)).filter(|w| *w != 0);
    let cut = (!rest.is_empty()).then_some(Err(NoteKind::Truncated));
    words.map(|w| tree.phandle(w).ok_or(NoteKind::Dangling(w))).chain(cut)
}

fn lists(tree: &Tree<'_>, device: Idx, region: Idx) -> bool {
    listed(tree, device).any(|r| r == Ok(region))
}

/// The reserved regions of `device`, whose bus has these windows, and the dependencies on regions that cannot be
/// parsed. A device behind no IOMMU has none, because it uses physical addresses.
pub(super) fn of_device(
    tree: &Tree<'_>,
    log: &mut Log,
    regions: &BTreeMap<Idx, Region>,
    device: Idx,
    windows: &[DmaRange],
) -> (Vec<ReservedRegion>, Vec<Unmet>) {
    let (mut found, mut unmet) = (Vec::new(), Vec::new());
    if !tree.has(device, "iommus") {
        return (found, unmet);
    }
    let mut lost = |log: &mut Log, e: &NoteKind| {
        let (property, reason) = (log.word("memory-region"), e.to_string().into());
        unmet.push(Unmet { property, kind: SupplierKind::Iommu, reason });
    };
    for region in listed(tree, device) {
        let node = match region {
            Ok(node) => node,
            Err(e) => {
                // The device may be reading from this region at this moment.
                log.note(device, "memory-region", e.clone());
                lost(log, &e);
                continue;
            }
        };
        let Some(region) = regions.get(&node) else {
            if tree.has(node, ADDRESSES) {
                // A disabled region is not reserved in memory either, so it must not be mapped.
                log.note(device, "memory-region", NoteKind::Disabled(Arc::clone(log.path(node))));
            }
            continue;
        };
        for (_, e) in region.broken.iter().filter(|(whose, _)| whose.is_none_or(|d| d == device)) {
            lost(log, e);
        }
        for (_, range) in region.entries.iter().filter(|(whose, _)| *whose == device) {
            let inside = |w: &DmaRange| w.bus <= range.first.0 && range.last.0 - w.bus < w.len;
            if windows.is_empty() || windows.iter().any(inside) {
                found.push(*range);
                continue;
            }
            let e = NoteKind::OutsideWindows;
            log.note(node, ADDRESSES, e.clone());
            if range.kind.is_direct() {
                lost(log, &e);
            } else {
                found.push(*range);
            }
        }
    }
    (found, unmet)
}
