//! Second-stage tables of Intel VT-d (*Intel Virtualization Technology for Directed I/O*, revision 4.1, 9.8).

use super::Format;
use super::spec::{self, Level};
use crate::addr::PhysAddr;
use crate::iommu::Prot;

/// Second stage: device addresses of 32 to 57 bits, physical ones of up to 52. The walk has three levels up to 39 bits, four up to 48,
/// else five; which of these the hardware has, and which blocks (2 MiB, 1 GiB), its capability register tells (SAGAW, SLLPS).
///
/// A device's requests snoop the CPU's caches unless they say that they do not, and memory types come from the CPU's tables: so
/// [`Prot::COHERENT`] and [`Prot::MMIO`] leave no trace in an entry. Bit 11 (SNP), which would force snooping, stays clear; it is reserved
/// where the hardware cannot (ECAP.SC).
#[derive(Debug)]
pub enum VtdSecondStage {}

/// Bit 0: reads.
const READ: u64 = 1 << 0;
/// Bit 1: writes. An entry that permits neither is not present.
const WRITE: u64 = 1 << 1;
/// Bit 7: the entry maps a block, not a table.
const PAGE_SIZE: u64 = 1 << 7;
/// Bits 51:12: address of the page, block or table.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

impl Format for VtdSecondStage {
    const NAME: &'static str = "VT-d second stage";
    const INPUT_BITS: (u32, u32) = (32, 57);
    const OUTPUT_BITS: u32 = 52;

    fn leaf(phys: PhysAddr, level: Level, prot: Prot) -> u64 {
        let read = if prot.contains(Prot::READ) { READ } else { 0 };
        let write = if prot.contains(Prot::WRITE) { WRITE } else { 0 };
        let block = if level == spec::LAST_LEVEL { 0 } else { PAGE_SIZE };
        (phys.0 & ADDRESS) | block | write | read
    }

    fn table(phys: PhysAddr) -> u64 {
        (phys.0 & ADDRESS) | WRITE | READ
    }

    fn phys(entry: u64) -> PhysAddr {
        PhysAddr(entry & ADDRESS)
    }

    fn prot(entry: u64) -> Prot {
        let mut prot = Prot::empty();
        prot.set(Prot::READ, entry & READ != 0);
        prot.set(Prot::WRITE, entry & WRITE != 0);
        prot
    }
}
