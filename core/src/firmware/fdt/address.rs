//! Translation of `reg` through the `ranges` of every parent bus to CPU addresses.
//!
//! Facts are those of Linux's `drivers/of/address.c`: cells are counted by the parent (a PCI bus always has 3 and 2, an
//! ISA bus 2 and 1), a bus with a third address cell keeps flags in the first one, a bus without `ranges` does not
//! translate, one with empty `ranges` is an identity mapping, and a bus without size cells does not translate.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::FdtError;
use super::log::Log;
use super::note::NoteKind;
use super::tree::{Idx, Tree};
use crate::addr::PhysAddr;
use crate::description::Resource;

/// Most cells of an address or a size.
const MAX_CELLS: u32 = 4;

/// Format of addresses in the `reg` of a bus's children and on the left of its `ranges`.
#[derive(Clone, Copy)]
pub(super) struct Space {
    /// Bytes of an address, flags included.
    pub(super) address: usize,
    /// Bytes of a size. 0 means that the addresses are not memory addresses.
    pub(super) size: usize,
    /// Mask of the flags in the first cell that must match; `None` when it has no flags.
    flags: Option<u32>,
}

/// Address on a bus, with flags.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) flags: u32,
    pub(super) at: u64,
}

impl Space {
    /// The space that `bus` gives its children.
    pub(super) fn of(tree: &Tree<'_>, bus: Idx) -> Result<Self, NoteKind> {
        let (address, size, flags) = if tree.is_pci(bus) || tree.base_name(bus) == "pcie" {
            (3, 2, Some(0x0300_0000)) // the two bits that distinguish I/O from memory
        } else if tree.base_name(bus) == "isa" {
            (2, 1, Some(1)) // I/O or memory
        } else {
            let (address, size) = tree.child_cells(bus);
            (address, size, (address == 3).then_some(u32::MAX))
        };
        match [address, size].into_iter().find(|n| *n > MAX_CELLS) {
            Some(count) => Err(NoteKind::BadCellCount(count)),
            None => Ok(Self { address: address as usize * 4, size: size as usize * 4, flags }),
        }
    }

    /// Parses an address of [`address`](Self::address) bytes.
    pub(super) fn place(&self, bytes: &[u8]) -> Option<Place> {
        let (flags, rest) = match self.flags {
            Some(mask) => (bytes.first_chunk::<4>().map_or(0, |b| u32::from_be_bytes(*b)) & mask, bytes.get(4..)?),
            None => (0, bytes),
        };
        Some(Place { flags, at: number(rest)? })
    }
}

/// Parses a big-endian number of any length; `None` when it does not fit 64 bits.
pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    let (high, low) = bytes.split_at(bytes.len().saturating_sub(8));
    let low = low.iter().fold(0, |n, b| n << 8 | u64::from(*b));
    high.iter().all(|b| *b == 0).then_some(low)
}

/// Translates a region of `len` bytes (at least 1) in the space of `bus` through the `ranges` of the parent buses to
/// the root. `node` and `property` are for notes. As on Linux the first entry that contains the first byte decides; but
/// a region that a bus does not map contiguously as a whole is refused.
fn to_root(
    tree: &Tree<'_>,
    log: &mut Log,
    (node, property): (Idx, &str),
    mut bus: Idx,
    (mut place, len): (Place, u64),
) -> Result<Result<u64, NoteKind>, FdtError> {
    let lost = |log: &Log, bus| Ok(Err(NoteKind::NotTranslatable(Arc::clone(log.path(bus)))));
    let mut space = match Space::of(tree, bus) {
        Ok(space) => space,
        Err(e) => return Ok(Err(e)),
    };
    while let Some(parent) = tree.parent(bus) {
        let upper = match Space::of(tree, parent) {
            Ok(upper) => upper,
            Err(e) => return Ok(Err(e)),
        };
        if space.size == 0 || space.address == 0 || upper.address == 0 {
            return lost(log, bus);
        }
        place = match tree.prop(bus, "ranges") {
            None => return lost(log, bus),
            Some([]) => Place { flags: 0, at: place.at },
            Some(ranges) => {
                let entries = ranges.chunks_exact(space.address + upper.address + space.size);
                let first = |place| entries.clone().find_map(|e| through(e, space, upper, place));
                log.spend(node, property, entries.len())?;
                let Some((start, mut carried)) = first(place) else { return lost(log, bus) };
                // Each iteration passes an entry, so there are at most as many as entries.
                while carried < len {
                    log.spend(node, property, entries.len())?;
                    let onwards = |p: Place| Some(Place { at: p.at.checked_add(carried)?, ..p });
                    match onwards(place).and_then(first).zip(onwards(start)) {
                        Some(((next, more), end)) if next == end => carried = carried.saturating_add(more),
                        _ => return Ok(Err(NoteKind::PartlyMapped(Arc::clone(log.path(bus))))),
                    }
                }
                start
            }
        };
        log.spend(node, property, 1)?;
        (bus, space) = (parent, upper);
    }
    Ok(if space.size == 0 { lost(log, bus)? } else { Ok(place.at) })
}

/// Translates `place` by one entry of `ranges`, if it contains it; also returns the number of bytes that the entry maps
/// from there.
fn through(entry: &[u8], space: Space, upper: Space, place: Place) -> Option<(Place, u64)> {
    let from = space.place(&entry[..space.address])?;
    let to = upper.place(&entry[space.address..space.address + upper.address])?;
    let len = number(&entry[space.address + upper.address..])?;
    let offset = place.at.checked_sub(from.at)?;
    (from.flags == place.flags && offset < len).then_some(())?;
    Some((Place { flags: to.flags, at: to.at.checked_add(offset)? }, len - offset))
}

/// CPU address of the first entry of `reg`, for a device's name; nothing is noted.
pub(super) fn first_address(tree: &Tree<'_>, log: &mut Log, node: Idx) -> Result<Option<u64>, FdtError> {
    let (Some(reg), Some(bus)) = (tree.prop(node, "reg"), tree.parent(node)) else { return Ok(None) };
    let place = Space::of(tree, bus).ok().and_then(|s| s.place(reg.get(..s.address)?));
    let Some(place) = place else { return Ok(None) };
    Ok(to_root(tree, log, (node, "reg"), bus, (place, 1))?.ok())
}

/// The registers of `node`, up to the first entry that cannot be used, so that no index changes.
pub(super) fn registers(tree: &Tree<'_>, log: &mut Log, node: Idx) -> Result<Vec<Resource>, FdtError> {
    let mut found = Vec::new();
    let (Some(reg), Some(bus)) = (tree.prop(node, "reg"), tree.parent(node)) else { return Ok(found) };
    let space = match Space::of(tree, bus) {
        // Addresses without sizes are other numbers: a chip select, an index.
        Ok(space) if space.size == 0 || space.address == 0 => return Ok(found),
        Ok(space) => space,
        Err(e) => {
            log.note(node, "reg", e);
            return Ok(found);
        }
    };
    let mut entries = reg.chunks_exact(space.address + space.size);
    for entry in entries.by_ref() {
        let (place, len) = (space.place(&entry[..space.address]), number(&entry[space.address..]));
        let odd = match (place, len) {
            (Some(_), Some(0)) => NoteKind::Empty,
            (Some(place), Some(len)) => match to_root(tree, log, (node, "reg"), bus, (place, len))? {
                Ok(base) if base.checked_add(len - 1).is_some() => {
                    found.push(Resource::Mem { base: PhysAddr(base), len });
                    continue;
                }
                Ok(_) => NoteKind::Wraps,
                Err(e) => e,
            },
            _ => NoteKind::Wraps,
        };
        log.note(node, "reg", odd);
        return Ok(found);
    }
    if !entries.remainder().is_empty() {
        log.note(node, "reg", NoteKind::Truncated);
    }
    Ok(found)
}
