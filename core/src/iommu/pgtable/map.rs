//! Mapping of a range: checks and counts first, then writes, which cannot fail any more.

use alloc::vec::Vec;

use super::page_table::{Piece, descend, pieces, run};
use super::spec::{self, Level};
use super::table::Table;
use super::{Format, PageTable};
use crate::addr::{DeviceAddr, PAGE_SIZE, PhysAddr};
use crate::env::Barrier;
use crate::iommu::{MapError, Prot};

impl<F: Format> PageTable<F> {
    /// Maps a range whose bounds and alignment are checked.
    #[inline]
    pub(super) fn map_checked(&mut self, iova: u64, phys: PhysAddr, len: u64, prot: Prot) -> Result<(), MapError> {
        let clean = !self.config.coherent_walk;
        // The usual case: a table of the last level exists and holds the whole range.
        if let Some((table, (first, last))) = self.leaf(iova, len) {
            let was_kept = table.used().is_empty();
            table.map_free::<F>(DeviceAddr(iova), (first, last), phys, prot, clean)?;
            if was_kept {
                self.kept = self.kept.saturating_sub(1);
            }
            self.sync_entries();
            return Ok(());
        }
        self.map_tables(iova, phys, len, prot, clean)
    }

    /// Maps `runs` from `iova` on, and counts the bytes that are mapped in `done`. The caller makes them visible to the walker.
    pub(super) fn map_each(
        &mut self,
        iova: DeviceAddr,
        runs: &mut dyn Iterator<Item = (PhysAddr, u64)>,
        prot: Prot,
        done: &mut u64,
    ) -> Result<(), MapError> {
        let config = self.config;
        let clean = !config.coherent_walk;
        let mut run = runs.next();
        while let Some((phys, len)) = run {
            let at = iova + *done;
            config.check_map(at, phys, len, prot)?;
            let Some((table, mut entries)) = self.leaf(at.0, len) else {
                self.map_tables(at.0, phys, len, prot, clean)?;
                *done += len;
                run = runs.next();
                continue;
            };
            // One walk for all runs that the table holds.
            let was_kept = table.used().is_empty();
            let first = *done;
            let mut mapped = table.map_free::<F>(at, entries, phys, prot, clean);
            *done += if mapped.is_ok() { len } else { 0 };
            run = runs.next();
            while let (Ok(()), Some((phys, len))) = (mapped, run) {
                let at = iova + *done;
                entries = match entries.1.checked_add((len / PAGE_SIZE) as usize) {
                    Some(last) if last < spec::ENTRIES => (entries.1 + 1, last),
                    _ => break,
                };
                mapped = config.check_map(at, phys, len, prot);
                mapped = mapped.and_then(|()| table.map_free::<F>(at, entries, phys, prot, clean));
                if mapped.is_ok() {
                    *done += len;
                    run = runs.next();
                }
            }
            if was_kept && *done != first {
                self.kept = self.kept.saturating_sub(1);
            }
            mapped?;
        }
        Ok(())
    }

    /// As [`map_checked`](Self::map_checked), of any range.
    #[cold]
    fn map_tables(&mut self, iova: u64, phys: PhysAddr, len: u64, prot: Prot, clean: bool) -> Result<(), MapError> {
        let target = Target { delta: phys.0.wrapping_sub(iova), prot, blocks: self.config.block_sizes };
        let (table, level) = self.lowest(iova, len);
        let count = plan(Some(table), level, iova, len, target)?;
        let spare = self.spare_tables(count)?;
        let mut writer = Writer { target, spare, clean, memory: &*self.memory, filled: 0 };
        if let Some(table) = descend(&mut self.root, self.start_level, level, iova) {
            writer.write::<F>(table, level, iova, len);
        }
        let filled = writer.filled;
        self.kept = self.kept.saturating_sub(filled);
        self.sync_entries();
        Ok(())
    }
}

/// Target of a range of device addresses.
#[derive(Clone, Copy)]
struct Target {
    /// Physical minus device address, modulo 2^64.
    delta: u64,
    prot: Prot,
    /// Sizes of blocks that may be mapped, a bit for each.
    blocks: u64,
}

impl Target {
    fn phys(self, iova: u64) -> PhysAddr {
        PhysAddr(iova.wrapping_add(self.delta))
    }

    /// True when one entry of `level` can map the piece as a block.
    fn is_block(self, level: Level, piece: &Piece) -> bool {
        piece.whole && self.blocks & spec::size(level) != 0 && self.delta & (spec::size(level) - 1) == 0
    }
}

/// Checks that nothing in the range is mapped, and returns the number of missing tables. `table` is `None` below a free
/// entry.
fn plan(table: Option<&Table>, level: Level, iova: u64, len: u64, target: Target) -> Result<usize, MapError> {
    if level == spec::LAST_LEVEL {
        let (first, last) = run(level, iova, len);
        return match table.and_then(|table| table.used().first_used(first, last)) {
            Some(index) => Err(MapError::Exists(DeviceAddr(iova + (index - first) as u64 * PAGE_SIZE))),
            None => Ok(0),
        };
    }
    let mut count = 0;
    for piece in pieces(level, iova, len) {
        let child = table.and_then(|table| table.child(piece.index));
        if child.is_none() {
            if table.is_some_and(|table| table.used().contains(piece.index)) {
                return Err(MapError::Exists(DeviceAddr(piece.iova)));
            }
            if target.is_block(level, &piece) {
                continue;
            }
            count += 1;
        }
        count += plan(child, level + 1, piece.iova, piece.len, target)?;
    }
    Ok(count)
}

/// Writer of the entries that [`plan`] has checked.
struct Writer<'a> {
    target: Target,
    spare: Vec<Table>,
    clean: bool,
    memory: &'a dyn crate::env::Memory,
    /// Kept tables that are not empty any more.
    filled: usize,
}

impl Writer<'_> {
    fn write<F: Format>(&mut self, table: &mut Table, level: Level, iova: u64, len: u64) {
        let target = self.target;
        if level == spec::LAST_LEVEL {
            let (first, last) = run(level, iova, len);
            table.fill::<F>((first, last), level, target.phys(iova), target.prot);
            return self.clean(table, Some((first, last)));
        }
        let mut changed: Option<(usize, usize)> = None;
        for piece in pieces(level, iova, len) {
            let index = piece.index;
            if let Some(child) = table.child_mut(index) {
                self.filled += usize::from(level + 1 == spec::LAST_LEVEL && child.used().is_empty());
                self.write::<F>(child, level + 1, piece.iova, piece.len);
                self.clean(table, changed.take());
                continue;
            }
            if target.is_block(level, &piece) {
                table.fill::<F>((index, index), level, target.phys(piece.iova), target.prot);
            } else {
                // `plan` counted this table, so it is there.
                let Some(mut child) = self.spare.pop() else { return debug_assert!(false, "a table was not counted") };
                self.write::<F>(&mut child, level + 1, piece.iova, piece.len);
                // The entries of the new table must be visible to the walker before the entry that points to the table.
                self.memory.barrier(Barrier::Write);
                table.link(index, F::table(child.base()), child);
            }
            changed = Some((changed.map_or(index, |(first, _)| first), index));
        }
        self.clean(table, changed);
    }

    fn clean(&self, table: &Table, entries: Option<(usize, usize)>) {
        if let Some((first, last)) = entries
            && self.clean
        {
            table.clean(first, last);
        }
    }
}
