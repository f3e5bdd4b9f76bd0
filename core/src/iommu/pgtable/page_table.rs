//! Page table: construction, checks common to all calls, and lookup of an address.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use super::lpae::Registers;
use super::spec::{self, BLOCK_SIZES, ENTRIES, INDEX_BITS, Level};
use super::table::Table;
use super::{Format, Lpae32, Lpae64, TablePages, VtdSecondStage};
use crate::addr::{DeviceAddr, PAGE_SHIFT, PAGE_SIZE, PhysAddr};
use crate::env::{Barrier, Memory};
use crate::iommu::{Gather, MapError, Prot};

/// Configuration of a page table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Bits of a device address.
    pub input_bits: u32,
    /// Bits of a physical address.
    pub output_bits: u32,
    /// Sizes of the blocks that the hardware can map with one entry, a bit for each (bit 21: 2 MiB), beside pages of 4 KiB:
    /// [`BLOCK_SIZES`], fewer, or 0. One that maps 1 GiB maps 2 MiB, too.
    pub block_sizes: u64,
    /// True when the walker snoops the CPU's caches. Otherwise written entries are cleaned to RAM.
    pub coherent_walk: bool,
}

impl Config {
    /// Checks a range of device addresses.
    #[inline]
    pub(super) fn check(&self, iova: DeviceAddr, len: u64) -> Result<(), MapError> {
        if len == 0 || !len.is_multiple_of(PAGE_SIZE) || !iova.is_aligned(PAGE_SIZE) {
            return Err(MapError::Unaligned(iova));
        }
        let end = iova.0.checked_add(len).ok_or(MapError::Unaligned(iova))?;
        if end > 1 << self.input_bits { Err(MapError::OutOfRange(iova)) } else { Ok(()) }
    }

    /// Checks a range that is to be mapped.
    #[inline]
    pub(super) fn check_map(&self, iova: DeviceAddr, phys: PhysAddr, len: u64, prot: Prot) -> Result<(), MapError> {
        self.check(iova, len)?;
        if !phys.is_aligned(PAGE_SIZE) {
            return Err(MapError::Unaligned(iova));
        }
        if phys.0.checked_add(len).is_none_or(|end| end > 1 << self.output_bits) {
            return Err(MapError::OutOfRange(iova));
        }
        if !prot.intersects(Prot::READ | Prot::WRITE) {
            return Err(MapError::NoAccess(iova));
        }
        Ok(())
    }
}

/// Error of making a page table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TableError {
    /// The format does not support these address sizes.
    #[error("{format} does not translate {input_bits} to {output_bits} bits")]
    Sizes {
        /// Name of the format.
        format: &'static str,
        /// Bits of a device address asked for.
        input_bits: u32,
        /// Bits of a physical address asked for.
        output_bits: u32,
    },
    /// Blocks of these sizes cannot be mapped, or not without smaller ones.
    #[error("{format} has no such blocks: sizes {sizes:#x}")]
    Blocks {
        /// Name of the format.
        format: &'static str,
        /// [`Config::block_sizes`] asked for.
        sizes: u64,
    },
    /// No memory for the root table.
    #[error("no memory for the root table")]
    OutOfMemory,
}

/// Most tables that are kept empty: 128 KiB, for 64 MiB of device addresses.
pub(super) const MAX_KEPT: usize = 32;

/// Page table in format `F`, and the pages that it consists of.
///
/// Changes are atomic: everything that can fail, such as the allocation of table pages, happens before the first entry
/// is written, so a failed call was never visible to the device.
///
/// Dropping it frees all table pages at once. Before that its owner has disabled the translation context, with
/// confirmation by the hardware (P2).
pub struct PageTable<F> {
    pub(super) root: Table,
    pub(super) start_level: Level,
    pub(super) config: Config,
    pub(super) memory: Arc<dyn Memory>,
    /// Tables of the last level that are kept although they are empty, at most [`MAX_KEPT`].
    pub(super) kept: usize,
    /// Tables of the last level with leased entries.
    pub(super) leased: usize,
    pages: Arc<dyn TablePages>,
    format: PhantomData<fn() -> F>,
}

impl<F: Format> PageTable<F> {
    /// An empty table. Its pages come from `pages` and are written through `memory`.
    ///
    /// # Errors
    ///
    /// [`TableError::Sizes`] for unsupported address sizes, [`TableError::Blocks`] for blocks that are no power of 512 pages,
    /// [`TableError::OutOfMemory`].
    pub fn new(pages: Arc<dyn TablePages>, memory: Arc<dyn Memory>, config: Config) -> Result<Self, TableError> {
        let Config { input_bits, output_bits, .. } = config;
        let (narrowest, widest) = F::INPUT_BITS;
        if !(narrowest..=widest).contains(&input_bits) || !(32..=F::OUTPUT_BITS).contains(&output_bits) {
            return Err(TableError::Sizes { format: F::NAME, input_bits, output_bits });
        }
        let sizes = config.block_sizes;
        // A block is split into those of the next size, or into pages.
        if ![0, spec::size(2), BLOCK_SIZES].contains(&sizes) {
            return Err(TableError::Blocks { format: F::NAME, sizes });
        }
        let start_level = spec::LAST_LEVEL + 1 - (input_bits - PAGE_SHIFT).div_ceil(INDEX_BITS).cast_signed();
        let root = Table::new(&*pages, &memory, output_bits).ok_or(TableError::OutOfMemory)?;
        Ok(Self { root, start_level, config, memory, kept: 0, leased: 0, pages, format: PhantomData })
    }

    /// Physical address of the root table.
    pub fn root(&self) -> PhysAddr {
        self.root.base()
    }

    /// Configuration of the table.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Maps `len` bytes at `iova` to `phys`, in the largest blocks that both addresses allow.
    ///
    /// Atomic: an error changes nothing.
    ///
    /// # Errors
    ///
    /// [`MapError::Exists`] if any part is mapped already, whatever it maps to; [`MapError::Unaligned`],
    /// [`MapError::OutOfRange`], [`MapError::NoAccess`], [`MapError::OutOfMemory`].
    pub fn map(&mut self, iova: DeviceAddr, phys: PhysAddr, len: u64, prot: Prot) -> Result<(), MapError> {
        self.config.check_map(iova, phys, len, prot)?;
        self.map_checked(iova.0, phys, len, prot)
    }

    /// Maps `runs` (address and bytes of each) one behind the other from `iova` on, for
    /// [`Translation::map_runs`](crate::iommu::Translation::map_runs).
    ///
    /// # Errors
    ///
    /// Bytes that were mapped before the run that failed, and its error, as of [`map`](Self::map). They stay mapped.
    pub fn map_runs(
        &mut self,
        iova: DeviceAddr,
        runs: &mut dyn Iterator<Item = (PhysAddr, u64)>,
        prot: Prot,
    ) -> Result<(), (u64, MapError)> {
        let mut done = 0;
        let mapped = self.map_each(iova, runs, prot, &mut done);
        self.sync_entries();
        mapped.map_err(|e| (done, e))
    }

    /// Unmaps `len` bytes at `iova`, and adds to `gather` the range that the hardware may still cache.
    ///
    /// Atomic: an error changes nothing. A block that is unmapped in part is split, and `gather` then covers all of it.
    /// Tables that become empty are unlinked and moved to `gather`, or kept, a bounded number of them, if the gather
    /// [asks for it](Gather::keeps_tables).
    ///
    /// # Errors
    ///
    /// [`MapError::Missing`] for a hole or leased entry anywhere in the range; [`MapError::Unaligned`], [`MapError::OutOfRange`],
    /// [`MapError::OutOfMemory`] when a block cannot be split.
    pub fn unmap(&mut self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<(), MapError> {
        self.config.check(iova, len)?;
        self.unmap_checked(iova.0, len, gather)
    }

    /// Unmaps as [`unmap`](Self::unmap) does, and looks the first page up again, from the root and by the entry that hardware reads.
    /// False when that is still translated (P2).
    ///
    /// # Errors
    ///
    /// As [`unmap`](Self::unmap).
    pub fn remove(&mut self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<bool, MapError> {
        self.config.check(iova, len)?;
        self.unmap_checked(iova.0, len, gather)?;
        Ok(!self.translates(iova.0))
    }

    /// True when `iova` (inside the table's range) is translated.
    #[inline]
    pub(super) fn translates(&self, iova: u64) -> bool {
        let (mut table, mut shift) = (&self.root, spec::shift(self.start_level));
        loop {
            let index = (iova >> shift) as usize & (ENTRIES - 1);
            match table.child(index) {
                Some(child) => table = child,
                None => return table.maps(index),
            }
            shift -= INDEX_BITS;
        }
    }

    /// Physical address and access rights of `iova`. Arm's stage 1 has no write-only mappings: these can be read as well.
    pub fn resolve(&self, iova: DeviceAddr) -> Option<(PhysAddr, Prot)> {
        if iova.0 >> self.config.input_bits != 0 {
            return None;
        }
        let (mut table, mut shift) = (&self.root, spec::shift(self.start_level));
        loop {
            let index = (iova.0 >> shift) as usize & (ENTRIES - 1);
            if let Some(child) = table.child(index) {
                table = child;
                shift -= INDEX_BITS;
                continue;
            }
            let offset = iova.0 & ((1 << shift) - 1);
            let entry = table.used().contains(index).then(|| table.entry(index)).filter(|entry| *entry != 0)?;
            return Some((F::phys(entry) + offset, F::prot(entry)));
        }
    }

    /// Allocates `count` tables before anything is written.
    pub(super) fn spare_tables(&self, count: usize) -> Result<Vec<Table>, MapError> {
        let table = || Table::new(&*self.pages, &self.memory, self.config.output_bits);
        (0..count).map(|_| table().ok_or(MapError::OutOfMemory)).collect()
    }

    /// The lowest table that translates all of a range, and its level.
    pub(super) fn lowest(&self, iova: u64, len: u64) -> (&Table, Level) {
        let (mut table, mut level) = (&self.root, self.start_level);
        loop {
            let (first, last) = run(level, iova, len);
            match table.child(first) {
                Some(child) if first == last => table = child,
                _ => return (table, level),
            }
            level += 1;
        }
    }

    /// The table of the last level that holds all of a range, if there is one, and the entries of the range, first and last.
    #[inline]
    pub(super) fn leaf(&mut self, iova: u64, len: u64) -> Option<(&mut Table, (usize, usize))> {
        let within = (iova ^ (iova + (len - 1))) >> spec::shift(spec::LAST_LEVEL - 1) == 0;
        let table = within.then(|| descend(&mut self.root, self.start_level, spec::LAST_LEVEL, iova))??;
        Some((table, run(spec::LAST_LEVEL, iova, len)))
    }

    /// Write barrier: makes written entries visible to the walker before later writes.
    pub(super) fn sync_entries(&self) {
        self.memory.barrier(Barrier::Write);
    }
}

impl PageTable<Lpae64> {
    /// Register values with which hardware walks this table; T0SZ counts from 64.
    pub fn registers(&self) -> Registers {
        Registers::of(self.root(), &self.config, self.start_level, 64)
    }
}

impl PageTable<Lpae32> {
    /// Register values with which hardware walks this table; T0SZ counts from 32.
    pub fn registers(&self) -> Registers {
        Registers::of(self.root(), &self.config, self.start_level, 32)
    }
}

impl PageTable<VtdSecondStage> {
    /// Value of the field "address width" (AW) of a context entry or PASID entry with which hardware walks this table: 1 for three
    /// levels (39 bits), 2 for four, 3 for five (Intel VT-d 4.1, 9.3). The table's address is [`root`](Self::root).
    pub fn address_width(&self) -> u8 {
        (spec::LAST_LEVEL - 1 - self.start_level).unsigned_abs() as u8
    }
}

impl<F: Format> fmt::Debug for PageTable<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageTable({}, {} bits, root {})", F::NAME, self.config.input_bits, self.root())
    }
}

/// The entry of a table of `level` that translates `iova`.
pub(super) const fn index(iova: u64, level: Level) -> usize {
    (iova >> spec::shift(level)) as usize & (spec::ENTRIES - 1)
}

/// The table of `level` in the walk of `iova`, from a root of `start_level`.
#[inline]
pub(super) fn descend(root: &mut Table, start_level: Level, level: Level, iova: u64) -> Option<&mut Table> {
    let (mut table, mut shift, end) = (root, spec::shift(start_level), spec::shift(level));
    while shift != end {
        table = table.child_mut((iova >> shift) as usize & (ENTRIES - 1))?;
        shift -= INDEX_BITS;
    }
    Some(table)
}

/// The part of a range that one entry translates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// The entry's index in its table.
    pub(super) index: usize,
    /// First byte of the part.
    pub(super) iova: u64,
    /// Bytes of the part.
    pub(super) len: u64,
    /// True when it is the whole range of the entry.
    pub(super) whole: bool,
}

/// Splits a range into the parts that the entries of one table of `level` translate.
pub(super) fn pieces(level: Level, iova: u64, len: u64) -> impl Iterator<Item = Piece> {
    let size = spec::size(level);
    let end = iova + len;
    let mut at = iova;
    core::iter::from_fn(move || {
        let piece_end = ((at & !(size - 1)) + size).min(end);
        let piece = Piece { index: index(at, level), iova: at, len: piece_end - at, whole: piece_end - at == size };
        let more = at < end;
        at = piece_end;
        more.then_some(piece)
    })
}

/// The entries, first and last, of a table of `level` that a range uses.
pub(super) fn run(level: Level, iova: u64, len: u64) -> (usize, usize) {
    (index(iova, level), index(iova + (len - 1), level))
}
