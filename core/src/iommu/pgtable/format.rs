//! Interface of a page table format.

use super::spec::Level;
use crate::addr::PhysAddr;
use crate::iommu::Prot;

/// Page table format: entries of 8 bytes, 512 in a 4 KiB table, levels from -1 up to 3, which maps pages. An entry of 0 is
/// invalid, and the only one that is.
pub trait Format: Send + Sync + 'static {
    /// Name in errors and reports.
    const NAME: &'static str;
    /// Narrowest and widest device address, in bits.
    const INPUT_BITS: (u32, u32);
    /// Widest physical address, in bits.
    const OUTPUT_BITS: u32;
    /// True when an entry of the last level is the physical address, in place, with bits that depend on the access rights alone. Such
    /// entries can be [leased](crate::iommu::Translation::lease).
    const IN_PLACE: bool = false;

    /// The entry of `level` that maps the page or block at `phys`.
    fn leaf(phys: PhysAddr, level: Level, prot: Prot) -> u64;

    /// The entry that points to the table at `phys`.
    fn table(phys: PhysAddr) -> u64;

    /// Physical address in a leaf or table entry.
    fn phys(entry: u64) -> PhysAddr;

    /// Access rights of a leaf entry.
    fn prot(entry: u64) -> Prot;
}
