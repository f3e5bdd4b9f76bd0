//! A page table as a whole: set-up, the checks that every call starts with, and looking up an address.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use super::lpae::Registers;
use super::spec::{self, INDEX_BITS};
use super::table::Table;
use super::{Format, Lpae32, Lpae64, TablePages};
use crate::addr::{DeviceAddr, PAGE_SHIFT, PAGE_SIZE, PhysAddr};
use crate::env::{Barrier, Memory};
use crate::iommu::{Gather, MapError, Prot};

/// How a page table is to be laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Bits of a device address.
    pub input_bits: u32,
    /// Bits of a physical address.
    pub output_bits: u32,
    /// Whether the walker snoops the CPU's caches. When not, what is written is cleaned to RAM.
    pub coherent_walk: bool,
}

/// Why a page table could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TableError {
    /// The format has no such address sizes.
    #[error("{format} does not translate {input_bits} to {output_bits} bits")]
    Sizes {
        /// Name of the format.
        format: &'static str,
        /// Bits of a device address asked for.
        input_bits: u32,
        /// Bits of a physical address asked for.
        output_bits: u32,
    },
    /// No memory for the root table.
    #[error("no memory for the root table")]
    OutOfMemory,
}

/// A page table in format `F`, and the pages that it is made of.
///
/// Changes are all or nothing: everything that can fail, including the taking of table pages, happens before the first
/// entry is written, so a refused call was never visible to the device.
///
/// Dropping it gives all table pages back at once. Its owner has switched the translation context off, and has the
/// hardware's word for it, before that (P2).
pub struct PageTable<F> {
    pub(super) root: Table,
    pub(super) start_level: u32,
    pub(super) config: Config,
    pub(super) memory: Arc<dyn Memory>,
    pages: Arc<dyn TablePages>,
    format: PhantomData<fn() -> F>,
}

impl<F: Format> PageTable<F> {
    /// An empty table. Its pages come from `pages` and are written through `memory`.
    pub fn new(pages: Arc<dyn TablePages>, memory: Arc<dyn Memory>, config: Config) -> Result<Self, TableError> {
        let Config { input_bits, output_bits, .. } = config;
        let (narrowest, widest) = F::INPUT_BITS;
        if !(narrowest..=widest).contains(&input_bits) || !(32..=F::OUTPUT_BITS).contains(&output_bits) {
            return Err(TableError::Sizes { format: F::NAME, input_bits, output_bits });
        }
        let start_level = spec::LAST_LEVEL + 1 - (input_bits - PAGE_SHIFT).div_ceil(INDEX_BITS);
        let root = Table::new(&*pages, &memory, output_bits).ok_or(TableError::OutOfMemory)?;
        Ok(Self { root, start_level, config, memory, pages, format: PhantomData })
    }

    /// Physical address of the root table.
    pub fn root(&self) -> PhysAddr {
        self.root.base()
    }

    /// What the table was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Maps `len` bytes at `iova` to `phys`, in the largest blocks that both addresses allow.
    ///
    /// All or nothing. Any part that is mapped already is [`MapError::Exists`], whatever it maps to.
    pub fn map(&mut self, iova: DeviceAddr, phys: PhysAddr, len: u64, prot: Prot) -> Result<(), MapError> {
        self.check(iova, len)?;
        if !phys.is_aligned(PAGE_SIZE) {
            return Err(MapError::Unaligned(iova));
        }
        if phys.0.checked_add(len).is_none_or(|end| end > 1 << self.config.output_bits) {
            return Err(MapError::OutOfRange(iova));
        }
        if !prot.intersects(Prot::READ | Prot::WRITE) {
            return Err(MapError::NoAccess(iova));
        }
        self.map_checked(iova.0, phys, len, prot)
    }

    /// Unmaps `len` bytes at `iova`, and adds to `gather` what the hardware may still remember of them.
    ///
    /// All or nothing: a hole anywhere in the range is [`MapError::Missing`]. A block that is unmapped in part is split,
    /// and `gather` then covers the whole of it. Tables that become empty are cut off and handed to `gather`.
    pub fn unmap(&mut self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<(), MapError> {
        self.check(iova, len)?;
        self.unmap_checked(iova.0, len, gather)
    }

    /// What `iova` translates to, and what the device may do there. Stage 1 has no write-only mappings: one that was
    /// asked for may be read as well.
    pub fn resolve(&self, iova: DeviceAddr) -> Option<(PhysAddr, Prot)> {
        if iova.0 >> self.config.input_bits != 0 {
            return None;
        }
        let mut table = &self.root;
        let mut level = self.start_level;
        loop {
            let index = index(iova.0, level);
            if let Some(kid) = table.kid(index) {
                table = kid;
                level += 1;
                continue;
            }
            let offset = iova.0 & (spec::size(level) - 1);
            let entry = table.used().contains(index).then(|| table.entry(index))?;
            return Some((F::phys(entry) + offset, F::prot(entry)));
        }
    }

    fn check(&self, iova: DeviceAddr, len: u64) -> Result<(), MapError> {
        if len == 0 || !len.is_multiple_of(PAGE_SIZE) || !iova.is_aligned(PAGE_SIZE) {
            return Err(MapError::Unaligned(iova));
        }
        let end = iova.0.checked_add(len).ok_or(MapError::Unaligned(iova))?;
        if end > 1 << self.config.input_bits { Err(MapError::OutOfRange(iova)) } else { Ok(()) }
    }

    /// Takes `count` tables before anything is written.
    pub(super) fn spare_tables(&self, count: usize) -> Result<Vec<Table>, MapError> {
        let table = || Table::new(&*self.pages, &self.memory, self.config.output_bits);
        (0..count).map(|_| table().ok_or(MapError::OutOfMemory)).collect()
    }

    /// The lowest table that translates all of a range, and its level.
    pub(super) fn lowest(&self, iova: u64, len: u64) -> (&Table, u32) {
        let (mut table, mut level) = (&self.root, self.start_level);
        loop {
            let (first, last) = run(level, iova, len);
            match table.kid(first) {
                Some(kid) if first == last => table = kid,
                _ => return (table, level),
            }
            level += 1;
        }
    }

    /// Makes entries that were written visible to the walker before anything that follows.
    pub(super) fn settle(&self) {
        self.memory.barrier(Barrier::Write);
    }
}

impl PageTable<Lpae64> {
    /// What to program so that the hardware walks this table; T0SZ counts from 64.
    pub fn registers(&self) -> Registers {
        Registers::of(self.root(), &self.config, self.start_level, 64)
    }
}

impl PageTable<Lpae32> {
    /// What to program so that the hardware walks this table; T0SZ counts from 32.
    pub fn registers(&self) -> Registers {
        Registers::of(self.root(), &self.config, self.start_level, 32)
    }
}

impl<F: Format> fmt::Debug for PageTable<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageTable({}, {} bits, root {})", F::NAME, self.config.input_bits, self.root())
    }
}

/// The entry of a table of `level` that translates `iova`.
pub(super) const fn index(iova: u64, level: u32) -> usize {
    (iova >> spec::shift(level)) as usize & (spec::ENTRIES - 1)
}

/// The table of `level` on the way to `iova`, from a root of `start_level`.
pub(super) fn descend(root: &mut Table, start_level: u32, level: u32, iova: u64) -> Option<&mut Table> {
    (start_level..level).try_fold(root, |table, level| table.kid_mut(index(iova, level)))
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
    /// Whether it is everything that the entry translates.
    pub(super) whole: bool,
}

/// Cuts a range into the parts that the entries of one table of `level` translate.
pub(super) fn pieces(level: u32, iova: u64, len: u64) -> impl Iterator<Item = Piece> {
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
pub(super) fn run(level: u32, iova: u64, len: u64) -> (usize, usize) {
    (index(iova, level), index(iova + (len - 1), level))
}
