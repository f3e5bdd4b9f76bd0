//! Register layout of the IPMMU generations.
//!
//! Source: Linux `drivers/iommu/ipmmu-vmsa.c` (offsets, fields, what differs between generations) and
//! `renesas,ipmmu-vmsa.yaml`; the manuals are not public.

use core::time::Duration;

use alloc::vec::Vec;

use bindery::addr::PhysAddr;
use bindery::binding::{MmioHandle, Register, RegisterWindow, ResourceError};
use bindery::env::IoError;

/// Context register: control.
pub(super) const IMCTR: Register<u32, 0x00> = Register::new();
/// IMCTR: translate.
pub(super) const IMCTR_MMUEN: u32 = 1 << 0;
/// IMCTR: invalidate all cached translations of the context. Reads 1 until that is done.
pub(super) const IMCTR_FLUSH: u32 = 1 << 1;
/// IMCTR: interrupt on faults.
pub(super) const IMCTR_INTEN: u32 = 1 << 2;

/// Context register: translation table base control.
pub(super) const IMTTBCR: Register<u32, 0x08> = Register::new();
/// IMTTBCR: long descriptors (LPAE).
pub(super) const IMTTBCR_EAE: u32 = 1 << 31;
/// IMTTBCR: walks start at level 1. Two bits at \[7:6\].
pub(super) const IMTTBCR_SL0_LEVEL_1: u32 = 2 << 6;

/// Context register: table base, low word.
pub(super) const IMTTLBR0: Register<u32, 0x10> = Register::new();
/// Context register: table base, high word.
pub(super) const IMTTUBR0: Register<u32, 0x14> = Register::new();

/// Context register: fault status. Writing 0 to a bit clears it.
pub(super) const IMSTR: Register<u32, 0x20> = Register::new();
/// IMSTR: no translation.
pub(super) const IMSTR_TF: u32 = 1 << 0;
/// IMSTR: not permitted.
pub(super) const IMSTR_PF: u32 = 1 << 1;
/// IMSTR: the table walk failed on the bus.
pub(super) const IMSTR_ABORT: u32 = 1 << 2;
/// IMSTR: more than one cached translation for the address.
pub(super) const IMSTR_MHIT: u32 = 1 << 4;
/// IMSTR: any fault.
pub(super) const IMSTR_FAULTS: u32 = IMSTR_TF | IMSTR_PF | IMSTR_ABORT | IMSTR_MHIT;
/// IMSTR: cause of the fault, at \[10:8\].
pub(super) const IMSTR_CODE: u32 = 7 << 8;
/// IMSTR: the mapping does not allow the access.
pub(super) const IMSTR_CODE_PERMISSION: u32 = 4 << 8;
/// IMSTR: the tables are not marked non-secure.
pub(super) const IMSTR_CODE_SECURE: u32 = 5 << 8;

/// Context register: memory attributes.
pub(super) const IMMAIR0: Register<u32, 0x28> = Register::new();
/// Context register: address of the fault, low word. Valid until IMSTR is cleared.
pub(super) const IMELAR: Register<u32, 0x30> = Register::new();
/// Context register: address of the fault, high word.
pub(super) const IMEUAR: Register<u32, 0x34> = Register::new();

/// Micro-TLB register: control.
const IMUCTR: Register<u32, 0x00> = Register::new();
/// Micro-TLB register: address space.
const IMUASID: Register<u32, 0x08> = Register::new();
/// Micro-TLB control: translate, through the context in \[7:4\]. When 0 addresses pass through unchanged.
pub(super) const IMUCTR_MMUEN: u32 = 1 << 0;
/// Micro-TLB control: invalidate cached translations.
pub(super) const IMUCTR_FLUSH: u32 = 1 << 1;

/// IMUCTR: selects context `number`.
pub(super) const fn imuctr_context(number: u8) -> u32 {
    (number as u32) << 4
}

/// Longest duration of a flush.
pub(super) const FLUSH_LIMIT: Duration = Duration::from_micros(100);
/// Bits of a device address.
pub(super) const INPUT_BITS: u32 = 32;
/// Bits of a physical address.
pub(super) const OUTPUT_BITS: u32 = 40;
/// Highest physical address that the table walker reads.
pub(super) const TABLE_LIMIT: PhysAddr = PhysAddr((1 << OUTPUT_BITS) - 1);

/// Register layout of one generation.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Layout {
    /// Contexts, the reserved one (number 0) included.
    pub(super) contexts: u8,
    /// Micro-TLBs of one instance.
    pub(super) utlbs: u32,
    /// Offset of context 0, and distance from each to the next.
    context: (u64, u64),
    /// Addend of the micro-TLB offsets.
    utlb: u64,
}

/// R-Car Gen3 and RZ/G2.
pub(super) static GEN3: Layout = Layout { contexts: 8, utlbs: 48, context: (0, 0x40), utlb: 0 };
/// R-Car Gen4.
pub(super) static GEN4: Layout = Layout { contexts: 16, utlbs: 64, context: (0x10000, 0x1040), utlb: 0x3000 };

impl Layout {
    /// The contexts that software may use: 0 is reserved.
    pub(super) fn usable(&self) -> core::ops::Range<u8> {
        1..self.contexts
    }

    /// Offset of the registers of context `number`.
    const fn context(&self, number: u8) -> u64 {
        let gap = if number > 7 { 0x600 } else { 0 };
        self.context.0 + number as u64 * self.context.1 + gap
    }

    /// Offset of the registers of micro-TLB `number`.
    const fn micro_tlb(&self, number: u32) -> u64 {
        let number = number as u64;
        self.utlb + if number < 32 { 0x300 + 16 * number } else { 0x600 + 16 * (number - 32) }
    }
}

/// The registers of one instance.
pub(super) struct Regs {
    /// By number.
    contexts: Vec<RegisterWindow<MmioHandle, 0x40>>,
    /// By number.
    utlbs: Vec<RegisterWindow<MmioHandle, 0x10>>,
    pub(super) layout: &'static Layout,
}

impl Regs {
    /// The registers of an instance of this generation. An error when `io` does not hold all of them.
    pub(super) fn new(io: &MmioHandle, layout: &'static Layout) -> Result<Self, ResourceError> {
        let contexts = (0..layout.contexts).map(|n| io.window(layout.context(n))).collect::<Result<_, _>>()?;
        let utlbs = (0..layout.utlbs).map(|n| io.window(layout.micro_tlb(n))).collect::<Result<_, _>>()?;
        Ok(Self { contexts, utlbs, layout })
    }

    /// Reads a register of a context.
    pub(super) fn read<const R: u64>(&self, context: u8, register: Register<u32, R>) -> Result<u32, IoError> {
        self.contexts[context as usize].read(register)
    }

    /// Writes a register of a context.
    pub(super) fn write<const R: u64>(&self, context: u8, reg: Register<u32, R>, value: u32) -> Result<(), IoError> {
        self.contexts[context as usize].write(reg, value)
    }

    /// Invalidates a micro-TLB and makes it translate through `context`; without one, it passes addresses through.
    pub(super) fn set_utlb(&self, utlb: u32, context: Option<u8>) -> Result<(), IoError> {
        let regs = &self.utlbs[utlb as usize];
        let Some(context) = context else { return regs.write(IMUCTR, 0) };
        regs.write(IMUASID, 0)?;
        regs.write(IMUCTR, imuctr_context(context) | IMUCTR_FLUSH | IMUCTR_MMUEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_those_of_the_generation() {
        assert_eq!((GEN3.context(1), GEN3.context(7)), (0x40, 0x1c0));
        assert_eq!((GEN3.micro_tlb(2), GEN3.micro_tlb(32), GEN3.micro_tlb(47)), (0x320, 0x600, 0x6f0));
        assert_eq!((GEN4.context(0), GEN4.context(8)), (0x10000, 0x10000 + 8 * 0x1040 + 0x600));
        assert_eq!((GEN4.micro_tlb(0), GEN4.micro_tlb(63)), (0x3300, 0x3600 + 16 * 31));
    }
}
