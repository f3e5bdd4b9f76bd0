//! Entries of `iommu-map`: first requester ID, IOMMU, specifier, number of IDs.
//!
//! The specifier has as many cells as the IOMMU's `#iommu-cells` says. Trees in use write one cell for an IOMMU with two
//! (dt-schema `pci-iommu.yaml` had no other form for years), so entries of four cells are read where the others do not
//! fit.

use alloc::vec::Vec;

use super::note::NoteKind;
use super::supplier::{Broken, MAX_ARGS};
use super::tree::{Idx, Tree};

const CELLS: &str = "#iommu-cells";

/// One entry.
pub(super) struct Entry {
    pub(super) iommu: Idx,
    /// First requester ID, specifier, number of IDs.
    pub(super) args: Vec<u32>,
    /// Defect of the entry that was worked around.
    pub(super) odd: Option<NoteKind>,
}

/// Entries of a map, up to the first that cannot be parsed.
pub(super) fn entries(tree: &Tree<'_>, value: &[u8]) -> Vec<Result<Entry, Broken>> {
    let (words, rest) = value.as_chunks::<4>();
    let words: Vec<u32> = words.iter().map(|w| u32::from_be_bytes(*w)).collect();
    let mut found = read(tree, &words, None);
    let is_whole = |found: &[Result<Entry, Broken>]| found.iter().all(Result::is_ok);
    if !is_whole(&found) {
        let short = read(tree, &words, Some(1));
        if is_whole(&short) {
            found = short;
        }
    }
    if !rest.is_empty() {
        found.push(Err(Broken::Truncated));
    }
    found
}

/// Parses entries whose specifiers have `cells` cells, or as many as `#iommu-cells` of their IOMMU.
fn read(tree: &Tree<'_>, mut words: &[u32], cells: Option<u32>) -> Vec<Result<Entry, Broken>> {
    let mut found = Vec::new();
    while !words.is_empty() {
        let entry = entry(tree, words, cells);
        match entry {
            Ok((entry, rest)) => {
                words = rest;
                found.push(Ok(entry));
            }
            Err(e) => {
                found.push(Err(e));
                break;
            }
        }
    }
    found
}

fn entry<'w>(tree: &Tree<'_>, words: &'w [u32], cells: Option<u32>) -> Result<(Entry, &'w [u32]), Broken> {
    let [first, phandle, rest @ ..] = words else { return Err(Broken::Truncated) };
    let iommu = tree.phandle(*phandle).ok_or(Broken::Dangling(*phandle))?;
    let own = tree.u32(iommu, CELLS).ok_or(Broken::NoCells(iommu, CELLS))?;
    if own > MAX_ARGS {
        return Err(Broken::BadCellCount(own));
    }
    let count = cells.unwrap_or(own);
    let (rest, after) = rest.split_at_checked(count as usize + 1).ok_or(Broken::Truncated)?;
    let args = core::iter::once(*first).chain(rest.iter().copied()).collect();
    let odd = (count != own).then_some(NoteKind::OneCellMap(own));
    Ok((Entry { iommu, args, odd }, after))
}
