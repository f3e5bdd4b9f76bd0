//! What the walker asks of a table format.

use crate::addr::PhysAddr;
use crate::iommu::Prot;

/// One layout of table entries: 8 bytes each, 512 to a 4 KiB table, levels counted down to 3, which maps pages.
/// An entry of 0 translates nothing.
pub trait Format: Send + Sync + 'static {
    /// Name in errors and reports.
    const NAME: &'static str;
    /// Narrowest and widest device address, in bits.
    const INPUT_BITS: (u32, u32);
    /// Widest physical address, in bits.
    const OUTPUT_BITS: u32;

    /// The entry of `level` that maps the page or block at `phys`.
    fn leaf(phys: PhysAddr, level: u32, prot: Prot) -> u64;

    /// The entry that points to the table at `phys`.
    fn table(phys: PhysAddr) -> u64;

    /// Where a leaf or table entry points.
    fn phys(entry: u64) -> PhysAddr;

    /// What a leaf entry allows.
    fn prot(entry: u64) -> Prot;
}
