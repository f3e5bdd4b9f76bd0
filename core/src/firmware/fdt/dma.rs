//! DMA properties of a device: coherence, and the windows of its parent buses.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::address::{Place, Space, number};
use super::log::Log;
use super::note::NoteKind;
use super::tree::{Idx, MAX_DEPTH, Tree};
use super::{FdtError, supplier};
use crate::addr::PhysAddr;
use crate::description::{DmaDesc, DmaRange};

/// Limit of windows of one bus.
const MAX_WINDOWS: usize = 64;

/// DMA properties of `node`. The nearest `dma-coherent` or `dma-noncoherent` on the path to memory decides; without
/// any, DMA is not coherent (Linux: `of_dma_is_coherent`). Windows are those of the nearest bus with a non-empty
/// `dma-ranges`, translated by its parent buses (Linux: `of_dma_get_range`). The device's own bus may lack
/// `dma-ranges`, and so may all buses from one on up to the root, which are identity mappings; one in between is a
/// [`Gap`].
pub(super) fn describe(tree: &Tree<'_>, log: &mut Log, node: Idx) -> Result<DmaDesc, FdtError> {
    let mut desc = DmaDesc::default();
    let (mut coherence_known, mut windows_known) = (false, false);
    let mut at = Some(node);
    for _ in 0..=MAX_DEPTH {
        let Some(here) = at else { break };
        if !coherence_known && (tree.has(here, "dma-coherent") || tree.has(here, "dma-noncoherent")) {
            desc.coherent = tree.has(here, "dma-coherent");
            coherence_known = true;
        }
        // A device's own `dma-ranges` are about its children.
        if here != node && !windows_known && tree.prop(here, "dma-ranges").is_some_and(|r| !r.is_empty()) {
            windows_known = true;
            // Never the windows of a bus closer to memory: they do not describe this bus's translation.
            let (at, read) = match gap(tree, log, node)? {
                Some(gap) => (gap.at, across(tree, log, here, &gap)?),
                None => (here, windows(tree, log, here)?),
            };
            match read {
                Ok(ranges) => desc.ranges = ranges,
                Err(e) => desc.unreadable = Some(format!("{}: dma-ranges: {e}", log.path(at)).into()),
            }
        }
        at = onwards(tree, log, node, here)?;
    }
    Ok(desc)
}

/// A bus without `dma-ranges` below a bus that has windows.
struct Gap {
    at: Idx,
    /// The next bus towards memory that has windows.
    beyond: Idx,
    /// True when no bus between the device and the gap has windows.
    is_first: bool,
}

/// The first bus above that of `node` which has no `dma-ranges` although one closer to memory has windows. Linux treats
/// it as an identity mapping: without windows when no bus before it has any (`of_dma_get_range` gives up), else into
/// the windows beyond (`of_translate_one`).
fn gap(tree: &Tree<'_>, log: &mut Log, node: Idx) -> Result<Option<Gap>, FdtError> {
    let (mut absent, mut is_first) = (None, true);
    let Some(own) = onwards(tree, log, node, node)? else { return Ok(None) };
    let mut at = Some(own);
    for _ in 0..=MAX_DEPTH {
        // The root has no parent, so windows there have no meaning.
        let Some(here) = at.filter(|here| tree.parent(*here).is_some()) else { break };
        match (tree.prop(here, "dma-ranges"), absent) {
            (None, None) if here != own => absent = Some(here),
            (Some(windows), Some(at)) if !windows.is_empty() => return Ok(Some(Gap { at, beyond: here, is_first })),
            (Some(windows), None) if !windows.is_empty() => is_first = false,
            _ => {}
        }
        at = onwards(tree, log, node, here)?;
    }
    Ok(None)
}

/// The windows of a device with a gap on its path to memory; the nearest windows are those of `nearest`. Where all
/// windows beyond the gap are identity mappings (as on every i.MX8M) the result is that of Linux, with a note; else the
/// translation is unknown.
fn across(
    tree: &Tree<'_>,
    log: &mut Log,
    nearest: Idx,
    gap: &Gap,
) -> Result<Result<Vec<DmaRange>, NoteKind>, FdtError> {
    let is_flat = windows(tree, log, gap.beyond)?.is_ok_and(|all| all.iter().all(|w| w.bus == w.phys.0));
    let kind = NoteKind::NoWindows(Arc::clone(log.path(gap.beyond)));
    log.note_once(gap.at, "dma-ranges", kind.clone());
    match (is_flat, gap.is_first) {
        (false, _) => Ok(Err(kind)),
        (true, true) => Ok(Ok(Vec::new())),
        (true, false) => windows(tree, log, nearest),
    }
}

/// One step on the path of `node` to memory, deducted from the budget.
fn onwards(tree: &Tree<'_>, log: &mut Log, node: Idx, here: Idx) -> Result<Option<Idx>, FdtError> {
    let sizes = ["interconnects", "interconnect-names"].map(|p| tree.prop(here, p).map_or(0, <[u8]>::len));
    log.spend(node, "interconnects", 1 + sizes.iter().sum::<usize>() / 4)?;
    Ok(way_to_memory(tree, here))
}

/// The next node on the path to memory: the interconnect named `dma-mem`, else the parent.
fn way_to_memory(tree: &Tree<'_>, node: Idx) -> Option<Idx> {
    let by_name = || {
        let nth = tree.strings(node, "interconnect-names").position(|s| s == Ok("dma-mem"))?;
        supplier::nth_reference(tree, node, "interconnects", "#interconnect-cells", nth)
    };
    by_name().or_else(|| tree.parent(node))
}

/// The windows in the `dma-ranges` of `bus`; the error is the reason why none of them can be used. A value that ends
/// within an entry contradicts the cell counts, so no entry of it is used.
fn windows(tree: &Tree<'_>, log: &mut Log, bus: Idx) -> Result<Result<Vec<DmaRange>, NoteKind>, FdtError> {
    let (Some(ranges), Some(parent)) = (tree.prop(bus, "dma-ranges"), tree.parent(bus)) else {
        return Ok(Ok(Vec::new()));
    };
    let (space, upper) = match (Space::of(tree, bus), Space::of(tree, parent)) {
        (Ok(space), Ok(upper)) => (space, upper),
        (Err(e), _) | (_, Err(e)) => return Ok(Err(note(log, bus, e))),
    };
    if space.address == 0 || space.size == 0 || upper.address == 0 {
        let lost = NoteKind::NotTranslatable(Arc::clone(log.path(bus)));
        return Ok(Err(note(log, bus, lost)));
    }
    let entry = space.address + upper.address + space.size;
    if !ranges.len().is_multiple_of(entry) {
        return Ok(Err(note(log, bus, NoteKind::Truncated)));
    }
    let mut found = Vec::new();
    let mut odd = None;
    for entry in ranges.chunks_exact(entry) {
        match Window::read(entry, space, upper) {
            Ok(window) if found.len() < MAX_WINDOWS => found.push(window),
            Ok(_) => {
                note(log, bus, NoteKind::TooMany(MAX_WINDOWS));
                break;
            }
            Err(e) => odd = Some(note(log, bus, e)),
        }
    }
    let found = match to_memory(tree, log, bus, parent, upper, found)? {
        Ok(found) => found,
        Err(e) => return Ok(Err(note(log, bus, e))),
    };
    Ok(if found.is_empty() { Err(odd.unwrap_or(NoteKind::Empty)) } else { Ok(found) })
}

/// Translates windows in the space of `at` through the `dma-ranges` of the parent buses. A window is reduced to the
/// part that each bus maps.
fn to_memory(
    tree: &Tree<'_>,
    log: &mut Log,
    bus: Idx,
    mut at: Idx,
    mut space: Space,
    mut windows: Vec<Window>,
) -> Result<Result<Vec<DmaRange>, NoteKind>, FdtError> {
    let lost = |log: &Log, at| Ok(Err(NoteKind::NotTranslatable(Arc::clone(log.path(at)))));
    while let Some(parent) = tree.parent(at) {
        let upper = match Space::of(tree, parent) {
            Ok(upper) => upper,
            Err(e) => return Ok(Err(e)),
        };
        if space.size == 0 || space.address == 0 || upper.address == 0 {
            return lost(log, at);
        }
        log.spend(bus, "dma-ranges", 1)?;
        if let Some(ranges) = tree.prop(at, "dma-ranges").filter(|r| !r.is_empty()) {
            let entry = space.address + upper.address + space.size;
            if !ranges.len().is_multiple_of(entry) {
                return lost(log, at);
            }
            let entries: Vec<Window> =
                ranges.chunks_exact(entry).filter_map(|e| Window::read(e, space, upper).ok()).collect();
            log.spend(bus, "dma-ranges", entries.len() * windows.len())?;
            let mut carried: Vec<Window> =
                windows.iter().flat_map(|w| entries.iter().filter_map(|e| w.through(e))).collect();
            if carried.is_empty() && !windows.is_empty() {
                return lost(log, at);
            }
            if carried.len() > MAX_WINDOWS {
                note(log, bus, NoteKind::TooMany(MAX_WINDOWS));
                carried.truncate(MAX_WINDOWS);
            }
            windows = carried;
        } else {
            for window in &mut windows {
                window.to.flags = 0;
            }
        }
        (at, space) = (parent, upper);
    }
    if space.size == 0 {
        return lost(log, at);
    }
    Ok(Ok(windows.iter().map(|w| DmaRange { bus: w.from.at, phys: PhysAddr(w.to.at), len: w.len }).collect()))
}

/// Adds a note about the `dma-ranges` of `bus`, and returns its kind.
fn note(log: &mut Log, bus: Idx, kind: NoteKind) -> NoteKind {
    log.note(bus, "dma-ranges", kind.clone());
    kind
}

/// One entry of `dma-ranges`: `len` bytes (at least 1) from `from` on the bus are those from `to` on the bus above.
#[derive(Clone, Copy)]
struct Window {
    from: Place,
    to: Place,
    len: u64,
}

impl Window {
    fn read(entry: &[u8], space: Space, upper: Space) -> Result<Self, NoteKind> {
        let from = space.place(&entry[..space.address]).ok_or(NoteKind::Wraps)?;
        let to = upper.place(&entry[space.address..space.address + upper.address]).ok_or(NoteKind::Wraps)?;
        let len = number(&entry[space.address + upper.address..]).ok_or(NoteKind::Wraps)?;
        let last = len.checked_sub(1).ok_or(NoteKind::Empty)?;
        (from.at.checked_add(last).and(to.at.checked_add(last))).ok_or(NoteKind::Wraps)?;
        Ok(Self { from, to, len })
    }

    /// The part of the window that `above`, an entry of the parent bus, maps.
    fn through(&self, above: &Self) -> Option<Self> {
        if self.to.flags != above.from.flags {
            return None;
        }
        let first = self.to.at.max(above.from.at);
        let last = (self.to.at + (self.len - 1)).min(above.from.at + (above.len - 1));
        let len = last.checked_sub(first)?.checked_add(1)?;
        let from = Place { flags: self.from.flags, at: self.from.at + (first - self.to.at) };
        let to = Place { flags: above.to.flags, at: above.to.at + (first - above.from.at) };
        Some(Self { from, to, len })
    }
}
