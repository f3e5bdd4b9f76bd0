//! Nexus nodes: sockets and connectors that map references to the controller behind them (`gpio-map`, `pwm-map`).
//!
//! Facts are those of the Devicetree Specification v0.4, 2.5, and of Linux's `of_parse_phandle_with_args_map`. Interrupts
//! have a map of their own, which includes unit addresses; `iommu-map` and `msi-map` translate requester IDs.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::FdtError;
use super::log::Log;
use super::note::NoteKind;
use super::supplier::{Broken, Cells, MAX_ARGS};
use super::tree::{Idx, Tree};

/// Limit of maps that one reference passes.
const MAX_HOPS: usize = 16;

/// Follows a reference to `target` with the specifier `args` through maps to a node that has none. `who` is the node
/// and property that the reference is from.
pub(super) fn follow(
    tree: &Tree<'_>,
    log: &mut Log,
    who: (Idx, &str),
    cells: Cells,
    mut target: Idx,
    mut args: Vec<u32>,
) -> Result<Result<(Idx, Vec<u32>), NoteKind>, FdtError> {
    let (Cells::Named(count) | Cells::NamedOrNone(count)) = cells else { return Ok(Ok((target, args))) };
    let Some(stem) = count.strip_prefix('#').and_then(|name| name.strip_suffix("-cells")) else {
        return Ok(Ok((target, args)));
    };
    if matches!(stem, "iommu" | "msi" | "interrupt") {
        return Ok(Ok((target, args)));
    }
    let property = format!("{stem}-map");
    for _ in 0..MAX_HOPS {
        let Some(map) = tree.prop(target, &property) else { return Ok(Ok((target, args))) };
        let word = |name: &str, nth: usize| {
            let (words, _) = tree.prop(target, name)?.as_chunks::<4>();
            words.get(nth).map(|w| u32::from_be_bytes(*w))
        };
        let mask: Vec<u32> =
            (0..args.len()).map(|n| word(&format!("{property}-mask"), n).unwrap_or(u32::MAX)).collect();
        let (words, _) = map.as_chunks::<4>();
        let words: Vec<u32> = words.iter().map(|w| u32::from_be_bytes(*w)).collect();
        log.spend(who.0, who.1, words.len())?;
        let found = match entry(tree, &words, count, &args, &mask) {
            Ok(found) => found,
            Err(e) => return Ok(Err(e.note(log))),
        };
        let Some((next, mut passed)) = found else {
            return Ok(Err(NoteKind::NoMapEntry(Arc::clone(log.path(target)), log.word(&property))));
        };
        for (n, cell) in passed.iter_mut().enumerate() {
            let pass = word(&format!("{property}-pass-thru"), n).unwrap_or(0);
            *cell = (*cell & !pass) | (args.get(n).copied().unwrap_or(0) & pass);
        }
        (target, args) = (next, passed);
    }
    Ok(Err(NoteKind::MapCycle))
}

/// The first entry of a map that matches `args` under `mask` and has an enabled target: the target and its specifier.
fn entry(
    tree: &Tree<'_>,
    mut map: &[u32],
    count: &'static str,
    args: &[u32],
    mask: &[u32],
) -> Result<Option<(Idx, Vec<u32>)>, Broken> {
    while !map.is_empty() {
        let (key, rest) = map.split_at_checked(args.len()).ok_or(Broken::Truncated)?;
        let (phandle, rest) = rest.split_first().ok_or(Broken::Truncated)?;
        let target = tree.phandle(*phandle).ok_or(Broken::Dangling(*phandle))?;
        let cells = tree.u32(target, count).ok_or(Broken::NoCells(target, count))?;
        if cells > MAX_ARGS {
            return Err(Broken::BadCellCount(cells));
        }
        let (specifier, rest) = rest.split_at_checked(cells as usize).ok_or(Broken::Truncated)?;
        let matches = key.iter().zip(args).zip(mask).all(|((key, arg), mask)| (key ^ arg) & mask == 0);
        if matches && tree.enabled(target) {
            return Ok(Some((target, Vec::from(specifier))));
        }
        map = rest;
    }
    Ok(None)
}
