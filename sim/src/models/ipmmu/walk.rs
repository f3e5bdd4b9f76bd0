//! The IPMMU's own page-table walk: Arm long descriptors (LPAE), 32-bit input, 4 KiB granule, stage 1.
//!
//! Source: Arm ARM (DDI 0406C) B3.6, and the requirements of the IPMMU that Linux documents: it demands `NSTable` in every table
//! descriptor and NS in every block and page. The walk is not coherent: it reads RAM, not the CPU's cache.

use bindery::addr::PhysAddr;

use super::cache::Walks;
use crate::memory::Ram;

const VALID: u64 = 1 << 0;
/// At levels 1 and 2 the descriptor is a table, at level 3 it is a page.
const TABLE_OR_PAGE: u64 = 1 << 1;
const ATTR_INDEX_HIGH: u64 = 1 << 4;
const NS: u64 = 1 << 5;
const AP_UNPRIVILEGED: u64 = 1 << 6;
const AP_READ_ONLY: u64 = 1 << 7;
const AF: u64 = 1 << 10;
const AP_TABLE_NO_UNPRIVILEGED: u64 = 1 << 61;
const AP_TABLE_READ_ONLY: u64 = 1 << 62;
const NS_TABLE: u64 = 1 << 63;
/// Output address bits: 40-bit physical addresses.
const ADDRESS: u64 = 0xff_ffff_f000;
/// Address bits 40 to 47, which must be zero with 40-bit physical addresses.
const ADDRESS_TOO_HIGH: u64 = 0xff << 40;

/// Translation found by a walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mapping {
    /// First input address covered.
    pub(crate) iova: u64,
    /// Bytes covered: 4 KiB, 2 MiB or 1 GiB.
    pub(crate) size: u64,
    /// Physical address of `iova`.
    pub(crate) phys: PhysAddr,
    pub(crate) writable: bool,
}

/// Failure of a walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WalkError {
    /// No valid descriptor at this level.
    Invalid,
    /// Table memory is not RAM, or an address has more than 40 bits.
    Abort,
    /// NS or `NSTable` is missing.
    Secure,
    /// The access flag is clear, or unprivileged access is not allowed at all.
    Access,
    /// A descriptor has a combination of bits that the architecture reserves. The hardware's behaviour is undefined.
    Reserved(u64),
}

/// Walks the tables at `base` for `iova`. An error comes with its level. Table pointers are cached in `walks`, so that a
/// table that was removed without a flush is still walked.
pub(crate) fn walk(ram: &Ram, base: u64, iova: u64, walks: &mut Walks) -> Result<Mapping, (u32, WalkError)> {
    let (mut level, mut table, mut read_only) = (1, PhysAddr(base), false);
    if let Some(cached) = walks.deepest(iova) {
        (level, table, read_only) = (cached.level, cached.table, cached.read_only);
    }
    loop {
        // Bits of the input address that the levels below this one translate.
        let shift = 39 - 9 * level;
        let index = iova >> shift & if level == 1 { 3 } else { 0x1ff };
        let mut word = [0; 8];
        ram.dma_read(table + index * 8, &mut word, false).map_err(|_| (level, WalkError::Abort))?;
        let entry = u64::from_le_bytes(word);
        let fail = |why| Err((level, why));
        if entry & VALID == 0 {
            return fail(WalkError::Invalid);
        }
        if entry & ADDRESS_TOO_HIGH != 0 {
            return fail(WalkError::Abort);
        }
        let is_table = level < 3 && entry & TABLE_OR_PAGE != 0;
        if is_table {
            if entry & NS_TABLE == 0 {
                return fail(WalkError::Secure);
            }
            if entry & AP_TABLE_NO_UNPRIVILEGED != 0 {
                return fail(WalkError::Access);
            }
            read_only |= entry & AP_TABLE_READ_ONLY != 0;
            table = PhysAddr(entry & ADDRESS);
            level += 1;
            walks.add(level, iova >> shift, table, read_only);
            continue;
        }
        // At level 3 only the page form is valid; bits of a block's address below its size are reserved.
        if level == 3 && entry & TABLE_OR_PAGE == 0 {
            return fail(WalkError::Reserved(entry));
        }
        let size = 1_u64 << shift;
        if entry & ADDRESS & (size - 1) != 0 || entry & ATTR_INDEX_HIGH != 0 {
            return fail(WalkError::Reserved(entry));
        }
        if entry & NS == 0 {
            return fail(WalkError::Secure);
        }
        if entry & AF == 0 || entry & AP_UNPRIVILEGED == 0 {
            return fail(WalkError::Access);
        }
        let writable = !read_only && entry & AP_READ_ONLY == 0;
        return Ok(Mapping { iova: iova & !(size - 1), size, phys: PhysAddr(entry & ADDRESS), writable });
    }
}
