//! How a device does DMA: coherence and the windows of the buses above it.

use alloc::vec::Vec;

use super::address::{Space, Windows, number, to_root};
use super::log::Log;
use super::note::NoteKind;
use super::tree::{Idx, MAX_DEPTH, Tree};
use super::{FdtError, supplier};
use crate::addr::PhysAddr;
use crate::device::{DmaDesc, DmaRange};

/// Windows of one bus that are read.
const MAX_WINDOWS: usize = 64;

/// DMA of `node`. The nearest `dma-coherent` or `dma-noncoherent` on the way to memory decides; without any, DMA is not
/// coherent (Linux: `of_dma_is_coherent`). Windows are those of the nearest bus with a `dma-ranges` that is not empty,
/// translated by the buses above it (Linux: `of_dma_get_range`).
pub(super) fn describe(tree: &Tree<'_>, log: &mut Log, node: Idx) -> Result<DmaDesc, FdtError> {
    let mut desc = DmaDesc::default();
    let mut coherence_known = false;
    let mut at = Some(node);
    for _ in 0..=MAX_DEPTH {
        let Some(here) = at else { break };
        if !coherence_known && (tree.has(here, "dma-coherent") || tree.has(here, "dma-noncoherent")) {
            desc.coherent = tree.has(here, "dma-coherent");
            coherence_known = true;
        }
        // A device's own `dma-ranges` are for what hangs below it.
        if here != node && desc.ranges.is_empty() && tree.prop(here, "dma-ranges").is_some_and(|r| !r.is_empty()) {
            desc.ranges = windows(tree, log, here)?;
        }
        let sizes = ["interconnects", "interconnect-names"].map(|p| tree.prop(here, p).map_or(0, <[u8]>::len));
        log.spend(node, "interconnects", 1 + sizes.iter().sum::<usize>() / 4)?;
        at = way_to_memory(tree, here);
    }
    Ok(desc)
}

/// The next node on the way to memory: the interconnect named `dma-mem`, else the parent.
fn way_to_memory(tree: &Tree<'_>, node: Idx) -> Option<Idx> {
    let by_name = || {
        let nth = tree.strings(node, "interconnect-names").position(|s| s == Ok("dma-mem"))?;
        supplier::nth_reference(tree, node, "interconnects", "#interconnect-cells", nth)
    };
    by_name().or_else(|| tree.parent(node))
}

/// The windows in the `dma-ranges` of `bus`.
fn windows(tree: &Tree<'_>, log: &mut Log, bus: Idx) -> Result<Vec<DmaRange>, FdtError> {
    let mut found = Vec::new();
    let (Some(ranges), Some(parent)) = (tree.prop(bus, "dma-ranges"), tree.parent(bus)) else { return Ok(found) };
    let (space, upper) = match (Space::of(tree, bus), Space::of(tree, parent)) {
        (Ok(space), Ok(upper)) => (space, upper),
        (Err(e), _) | (_, Err(e)) => {
            log.note(bus, "dma-ranges", e);
            return Ok(found);
        }
    };
    if space.address == 0 || space.size == 0 || upper.address == 0 {
        return Ok(found);
    }
    let mut entries = ranges.chunks_exact(space.address + upper.address + space.size);
    for entry in entries.by_ref() {
        if found.len() == MAX_WINDOWS {
            log.note(bus, "dma-ranges", NoteKind::TooMany(MAX_WINDOWS));
            return Ok(found);
        }
        let from = space.place(&entry[..space.address]);
        let to = upper.place(&entry[space.address..space.address + upper.address]);
        let len = number(&entry[space.address + upper.address..]);
        let odd = match (from, to, len) {
            (Some(_), Some(_), Some(0)) => NoteKind::Empty,
            (Some(from), Some(to), Some(len)) => {
                match to_root(tree, log, (bus, "dma-ranges"), Windows::Dma, parent, to)? {
                    Ok(phys) if phys.checked_add(len - 1).is_some() && from.at.checked_add(len - 1).is_some() => {
                        found.push(DmaRange { bus: from.at, phys: PhysAddr(phys), len });
                        continue;
                    }
                    Ok(_) => NoteKind::Wraps,
                    Err(e) => e,
                }
            }
            _ => NoteKind::Wraps,
        };
        log.note(bus, "dma-ranges", odd);
    }
    if !entries.remainder().is_empty() {
        log.note(bus, "dma-ranges", NoteKind::CutOff);
    }
    Ok(found)
}
