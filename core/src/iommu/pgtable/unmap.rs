//! Unmapping of a range: checks and counts first, then clears, splits and unlinks, which cannot fail any more.

use alloc::vec::Vec;

use super::page_table::{MAX_KEPT, Piece, descend, pieces, run};
use super::spec::{self, ENTRIES, Level};
use super::table::Table;
use super::{Format, PageTable};
use crate::addr::{DeviceAddr, PAGE_SIZE};
use crate::env::{Barrier, Memory};
use crate::iommu::{Gather, MapError};

impl<F: Format> PageTable<F> {
    /// Unmaps a range whose bounds and alignment are checked.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
    #[inline(always)]
    pub(super) fn unmap_checked(&mut self, iova: u64, len: u64, gather: &mut Gather) -> Result<(), MapError> {
        let clean = !self.config.coherent_walk;
        let room = gather.keeps_tables() && self.kept < MAX_KEPT;
        // The usual case: one table of the last level holds the whole range, and more, or may stay when it is empty.
        if let Some((table, (first, last))) = self.leaf(iova, len)
            && (room || !table.used().only_within(first, last))
        {
            if let Err(index) = table.clear_used(first, last) {
                return Err(MapError::Missing(DeviceAddr(iova + (index - first) as u64 * PAGE_SIZE)));
            }
            if clean {
                table.clean(first, last);
            }
            let empty = room && table.used().is_empty();
            self.kept += usize::from(empty);
            gather.add(DeviceAddr(iova), len);
            self.sync_entries();
            return Ok(());
        }
        self.unmap_tables(iova, len, clean, gather)
    }

    /// As [`unmap_checked`](Self::unmap_checked), of any range.
    #[cold]
    fn unmap_tables(&mut self, iova: u64, len: u64, clean: bool, gather: &mut Gather) -> Result<(), MapError> {
        let (table, level) = self.lowest(iova, len);
        let count = plan(table, level, iova, len)?;
        let (first, last) = run(level, iova, len);
        // A table that may become empty is unlinked by its parent, so the walk starts at the root.
        let from = if table.used().only_within(first, last) { self.start_level } else { level };
        let mut eraser = Eraser { spare: self.spare_tables(count)?, clean, memory: &*self.memory, gather };
        if let Some(table) = descend(&mut self.root, self.start_level, from, iova) {
            // The root stays, empty or not; any other table at which the walk starts does not become empty.
            eraser.erase::<F>(table, from, iova, len);
        }
        gather.add(DeviceAddr(iova), len);
        self.sync_entries();
        Ok(())
    }
}

/// Checks that all of the range is mapped, and returns the number of tables needed to split blocks at its edges.
fn plan(table: &Table, level: Level, iova: u64, len: u64) -> Result<usize, MapError> {
    if level == spec::LAST_LEVEL {
        let (first, last) = run(level, iova, len);
        return match table.used().first_free(first, last).or_else(|| table.first_leased(first, last)) {
            Some(index) => Err(MapError::Missing(DeviceAddr(iova + (index - first) as u64 * PAGE_SIZE))),
            None => Ok(0),
        };
    }
    let mut count = 0;
    for piece in pieces(level, iova, len) {
        count += match table.child(piece.index) {
            Some(child) => plan(child, level + 1, piece.iova, piece.len)?,
            None if table.used().contains(piece.index) => tables_to_split(level, &piece),
            None => return Err(MapError::Missing(DeviceAddr(piece.iova))),
        };
    }
    Ok(count)
}

/// Number of tables needed to unmap part of a block of `level`: one for each block that is split.
fn tables_to_split(level: Level, piece: &Piece) -> usize {
    if piece.whole || level == spec::LAST_LEVEL {
        return 0;
    }
    1 + pieces(level + 1, piece.iova, piece.len).map(|part| tables_to_split(level + 1, &part)).sum::<usize>()
}

/// Eraser of the entries that [`plan`] has checked.
pub(super) struct Eraser<'a> {
    pub(super) spare: Vec<Table>,
    pub(super) clean: bool,
    pub(super) memory: &'a dyn Memory,
    pub(super) gather: &'a mut Gather,
}

impl Eraser<'_> {
    /// Clears a range of one table. On `true` the table has no other entries and its parent must unlink it; its entries
    /// may then be unchanged, because they are dropped with it.
    pub(super) fn erase<F: Format>(&mut self, table: &mut Table, level: Level, iova: u64, len: u64) -> bool {
        if level == spec::LAST_LEVEL {
            let (first, last) = run(level, iova, len);
            if table.used().only_within(first, last) {
                return true;
            }
            table.clear(first, last);
            self.clean(table, Some((first, last)));
            return false;
        }
        let mut changed: Option<(usize, usize)> = None;
        for piece in pieces(level, iova, len) {
            let index = piece.index;
            if let Some(child) = table.child_mut(index) {
                if !piece.whole && !self.erase::<F>(child, level + 1, piece.iova, piece.len) {
                    self.clean(table, changed.take());
                    continue;
                }
                table.unlink(index, self.gather);
            } else if piece.whole {
                table.clear(index, index);
            } else {
                self.split::<F>(table, level, &piece);
            }
            changed = Some((changed.map_or(index, |(first, _)| first), index));
        }
        self.clean(table, changed);
        table.used().is_empty()
    }

    /// Replaces a block by a table of smaller ones that lacks the piece.
    ///
    /// The entry changes in one store. The rest translates the same by the old entry and by the new one; the whole
    /// block is gathered, because the hardware may cache it as one.
    fn split<F: Format>(&mut self, table: &mut Table, level: Level, piece: &Piece) {
        // `plan` counted this table, so it is there.
        let Some(mut child) = self.spare.pop() else { return debug_assert!(false, "a table was not counted") };
        let block = table.entry(piece.index);
        child.fill::<F>((0, ENTRIES - 1), level + 1, F::phys(block), F::prot(block));
        self.clean(&child, Some((0, ENTRIES - 1)));
        self.erase::<F>(&mut child, level + 1, piece.iova, piece.len);
        // The walker must not find the new table before it can find what is in it.
        self.memory.barrier(Barrier::Write);
        table.link(piece.index, F::table(child.base()), child);
        self.gather.add(DeviceAddr(piece.iova & !(spec::size(level) - 1)), spec::size(level));
    }

    fn clean(&self, table: &Table, entries: Option<(usize, usize)>) {
        if let Some((first, last)) = entries
            && self.clean
        {
            table.clean(first, last);
        }
    }
}
