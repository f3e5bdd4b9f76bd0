//! Leases of entries of the last level: [`Translation::lease`](crate::iommu::Translation::lease) of a page table.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::page_table::{MAX_KEPT, PageTable, descend, index, run};
use super::table::Table;
use super::unmap::Eraser;
use super::{Format, spec};
use crate::addr::{DeviceAddr, PhysAddr};
use crate::env::Barrier;
use crate::iommu::{Gather, Lease, MapError, Prot};
use crate::translation::{EntryFormat, LeafPath, Step};

/// Most tables with leased entries: 2 MiB, for 1 GiB of device addresses. They stay even while nothing is mapped.
pub(super) const MAX_LEASED: usize = if cfg!(test) { 8 } else { 512 };

impl<F: Format> PageTable<F> {
    /// Leases the entries of `len` bytes at `iova`, for [`Translation::lease`](crate::iommu::Translation::lease).
    ///
    /// `None` when the format's entries are not [in place](Format::IN_PLACE), when the range is in use or does not lie in one table of the
    /// last level, when that table cannot be made, or when a bounded number of tables has leases.
    pub fn lease(&mut self, iova: DeviceAddr, len: u64) -> Option<Lease> {
        if !F::IN_PLACE {
            return None;
        }
        self.config.check(iova, len).ok()?;
        let (first, last) = run(spec::LAST_LEVEL, iova.0, len);
        if (iova.0 ^ (iova.0 + (len - 1))) >> spec::shift(spec::LAST_LEVEL - 1) != 0 {
            return None;
        }
        // A table is not made for a lease that is refused.
        let leased = self.leaf(iova.0, len).is_some_and(|(table, _)| !table.leased().is_empty());
        if !leased && self.leased == MAX_LEASED {
            return None;
        }
        self.make_leaf(iova.0)?;
        let path = self.path(iova.0)?;
        let (table, _) = self.leaf(iova.0, len)?;
        let was_kept = table.used().is_empty();
        table.lease(first, last)?;
        self.leased += usize::from(!leased);
        self.kept = self.kept.saturating_sub(usize::from(was_kept));
        Some(Lease::new(path, iova, first, last - first + 1))
    }

    /// Ends the lease of `len` bytes at `iova`, which nobody uses any more, for
    /// [`Translation::end_lease`](crate::iommu::Translation::end_lease). What is mapped there is unmapped, and added to `gather`. False
    /// when the first page is still translated (P2).
    ///
    /// # Errors
    ///
    /// [`MapError::Missing`] when the range is not leased as a whole; [`MapError::Unaligned`], [`MapError::OutOfRange`].
    pub fn end_lease(&mut self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<bool, MapError> {
        self.config.check(iova, len)?;
        let clean = !self.config.coherent_walk;
        let room = self.kept < MAX_KEPT;
        let (table, (first, last)) = self.leaf(iova.0, len).ok_or(MapError::Missing(iova))?;
        let mapped = table.end_lease(first, last, clean).ok_or(MapError::Missing(iova))?;
        let (leases, empty) = (!table.leased().is_empty(), table.used().is_empty());
        self.leased -= usize::from(!leases);
        if empty && room {
            self.kept += 1;
        } else if empty {
            let mut eraser = Eraser { spare: Vec::new(), clean, memory: &*self.memory, gather };
            eraser.erase::<F>(&mut self.root, self.start_level, iova.0, len);
        }
        if mapped || (empty && !room) {
            gather.add(iova, len);
        }
        self.sync_entries();
        Ok(!self.translates(iova.0))
    }

    /// Makes the tables down to the last level for `iova`, empty. `None` when there is no memory, or a block maps it.
    fn make_leaf(&mut self, iova: u64) -> Option<()> {
        let (table, level) = self.lowest(iova, crate::addr::PAGE_SIZE);
        if level == spec::LAST_LEVEL {
            return Some(());
        }
        if table.used().contains(index(iova, level)) {
            return None;
        }
        let clean = !self.config.coherent_walk;
        let mut spare = self.spare_tables((spec::LAST_LEVEL - level).unsigned_abs() as usize).ok()?;
        let mut child = spare.pop()?;
        for level in (level + 1..spec::LAST_LEVEL).rev() {
            let parent = spare.pop()?;
            child = link::<F>(parent, index(iova, level), child, clean);
        }
        // The entries of the new tables must be visible to the walker before the entry that points to them.
        self.sync_entries();
        let parent = descend(&mut self.root, self.start_level, level, iova)?;
        let at = index(iova, level);
        parent.link(at, F::table(child.base()), child);
        if clean {
            parent.clean(at, at);
        }
        // It counts until something is leased in it.
        self.kept += 1;
        self.memory.barrier(Barrier::Write);
        Some(())
    }

    /// The way to the table of the last level for `iova`, which exists.
    fn path(&mut self, iova: u64) -> Option<Arc<LeafPath>> {
        let leaf = descend(&mut self.root, self.start_level, spec::LAST_LEVEL, iova)?;
        if let Some(path) = leaf.path() {
            return Some(Arc::clone(path));
        }
        let (mut table, mut steps) = (&self.root, Vec::new());
        for level in self.start_level..spec::LAST_LEVEL {
            let at = index(iova, level);
            steps.push(Step { page: Arc::clone(table.page()), index: at, entry: table.entry(at) });
            table = table.child(at)?;
        }
        let format = EntryFormat {
            bits: core::array::from_fn(|prot| {
                F::leaf(PhysAddr(0), spec::LAST_LEVEL, Prot::from_bits_truncate(prot as u32))
            }),
            output_bits: self.config.output_bits,
            clean: !self.config.coherent_walk,
        };
        let path = Arc::new(LeafPath { steps: steps.into_boxed_slice(), leaf: Arc::clone(table.page()), format });
        let leaf = descend(&mut self.root, self.start_level, spec::LAST_LEVEL, iova)?;
        leaf.set_path(Arc::clone(&path));
        Some(path)
    }
}

/// Links `child` under entry `at` of a new table.
fn link<F: Format>(mut parent: Table, at: usize, child: Table, clean: bool) -> Table {
    parent.link(at, F::table(child.base()), child);
    if clean {
        parent.clean(at, at);
    }
    parent
}
