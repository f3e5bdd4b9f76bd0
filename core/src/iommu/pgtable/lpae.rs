//! The Arm LPAE stage 1 formats, and the register values that go with them.

use super::spec::Level;
use super::{Config, Format, spec};
use crate::addr::PhysAddr;
use crate::iommu::Prot;

/// 64-bit stage 1, for the SMMU: device addresses of 32 to 48 bits, physical ones of up to 48.
#[derive(Debug)]
pub enum Lpae64 {}

/// 32-bit stage 1, for the IPMMU: device addresses of 32 bits, physical ones of up to 40. Every entry is marked
/// non-secure, without which the IPMMU raises secure-access faults.
#[derive(Debug)]
pub enum Lpae32 {}

impl Format for Lpae64 {
    const NAME: &'static str = "LPAE 64-bit stage 1";
    const INPUT_BITS: (u32, u32) = (32, 48);
    const OUTPUT_BITS: u32 = 48;
    const IN_PLACE: bool = true;

    fn leaf(phys: PhysAddr, level: Level, prot: Prot) -> u64 {
        // Devices may mark accesses as instruction fetches; nothing that is mapped for DMA is code.
        leaf(phys, level, prot) | spec::XN
    }

    fn table(phys: PhysAddr) -> u64 {
        table(phys)
    }

    fn phys(entry: u64) -> PhysAddr {
        PhysAddr(entry & spec::ADDRESS)
    }

    fn prot(entry: u64) -> Prot {
        prot(entry)
    }
}

impl Format for Lpae32 {
    const NAME: &'static str = "LPAE 32-bit stage 1";
    const INPUT_BITS: (u32, u32) = (32, 32);
    const OUTPUT_BITS: u32 = 40;
    const IN_PLACE: bool = true;

    fn leaf(phys: PhysAddr, level: Level, prot: Prot) -> u64 {
        leaf(phys, level, prot) | spec::NS
    }

    fn table(phys: PhysAddr) -> u64 {
        table(phys) | spec::NS_TABLE
    }

    fn phys(entry: u64) -> PhysAddr {
        PhysAddr(entry & spec::ADDRESS)
    }

    fn prot(entry: u64) -> Prot {
        prot(entry)
    }
}

fn leaf(phys: PhysAddr, level: Level, prot: Prot) -> u64 {
    let kind = if level == spec::LAST_LEVEL { spec::VALID | spec::TABLE_OR_PAGE } else { spec::VALID };
    let attributes = if prot.contains(Prot::MMIO) {
        spec::ATTR_DEVICE
    } else if prot.contains(Prot::COHERENT) {
        spec::ATTR_NORMAL_WB
    } else {
        spec::ATTR_NORMAL_NC
    };
    let share = if prot.contains(Prot::COHERENT) { spec::SH_INNER } else { spec::SH_OUTER };
    let access = if prot.contains(Prot::WRITE) { 0 } else { spec::AP_READ_ONLY };
    (phys.0 & spec::ADDRESS)
        | kind
        | attributes << spec::ATTR_INDEX_SHIFT
        | spec::AP_UNPRIVILEGED
        | access
        | share
        | spec::AF
        | spec::NG
}

fn table(phys: PhysAddr) -> u64 {
    (phys.0 & spec::ADDRESS) | spec::VALID | spec::TABLE_OR_PAGE
}

fn prot(entry: u64) -> Prot {
    let mut prot = Prot::READ;
    prot.set(Prot::WRITE, entry & spec::AP_READ_ONLY == 0);
    prot.set(Prot::COHERENT, entry & spec::SH_INNER == spec::SH_INNER);
    prot.set(Prot::MMIO, (entry & spec::ATTR_INDEX) >> spec::ATTR_INDEX_SHIFT == spec::ATTR_DEVICE);
    prot
}

/// Register values with which hardware walks a table of one of these formats. Fields are values, not yet shifted into
/// place, because each IOMMU has its own registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registers {
    /// TTBR: physical address of the root table.
    pub ttbr: u64,
    /// MAIR0, or the low half of MAIR: [`spec::MAIR`].
    pub mair: u32,
    /// T0SZ: 64 (or 32, for a 32-bit TCR) minus the bits of a device address.
    pub t0sz: u8,
    /// Level at which the walk starts.
    pub start_level: u8,
    /// Shareability of walks, as TCR.SH0 has it.
    pub sh: u8,
    /// Outer cacheability of walks, as TCR.ORGN0 has it.
    pub orgn: u8,
    /// Inner cacheability of walks, as TCR.IRGN0 has it.
    pub irgn: u8,
    /// Size of physical addresses, as TCR.IPS has it. Meaningless for 32-bit formats.
    pub ips: u8,
}

impl Registers {
    pub(super) fn of(root: PhysAddr, config: &Config, start_level: Level, address_bits: u32) -> Self {
        let (sh, region) = if config.coherent_walk {
            (spec::TCR_SH_INNER, spec::TCR_RGN_WB)
        } else {
            (spec::TCR_SH_OUTER, spec::TCR_RGN_NC)
        };
        Self {
            ttbr: root.0,
            mair: spec::MAIR,
            t0sz: (address_bits - config.input_bits) as u8,
            start_level: start_level.unsigned_abs() as u8,
            sh,
            orgn: region,
            irgn: region,
            ips: spec::tcr_ips(config.output_bits),
        }
    }
}
