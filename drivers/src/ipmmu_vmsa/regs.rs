//! Register layout of the IPMMU generations.
//!
//! Source: Linux `drivers/iommu/ipmmu-vmsa.c` (offsets, fields, what differs between generations) and
//! `renesas,ipmmu-vmsa.yaml`; the manuals are not public.

use core::time::Duration;

use bindery::addr::PhysAddr;
use bindery::binding::MmioHandle;
use bindery::env::IoError;

/// Context register: control.
pub(super) const IMCTR: u64 = 0x00;
/// IMCTR: translate.
pub(super) const IMCTR_MMUEN: u32 = 1 << 0;
/// IMCTR: invalidate all cached translations of the context. Reads 1 until that is done.
pub(super) const IMCTR_FLUSH: u32 = 1 << 1;
/// IMCTR: interrupt on faults.
pub(super) const IMCTR_INTEN: u32 = 1 << 2;

/// Context register: translation table base control.
pub(super) const IMTTBCR: u64 = 0x08;
/// IMTTBCR: long descriptors (LPAE).
pub(super) const IMTTBCR_EAE: u32 = 1 << 31;
/// IMTTBCR: walks start at level 1. Two bits at \[7:6\].
pub(super) const IMTTBCR_SL0_LEVEL_1: u32 = 2 << 6;

/// Context register: table base, low word.
pub(super) const IMTTLBR0: u64 = 0x10;
/// Context register: table base, high word.
pub(super) const IMTTUBR0: u64 = 0x14;

/// Context register: fault status. Writing 0 to a bit clears it.
pub(super) const IMSTR: u64 = 0x20;
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
pub(super) const IMMAIR0: u64 = 0x28;
/// Context register: address of the fault, low word. Valid until IMSTR is cleared.
pub(super) const IMELAR: u64 = 0x30;
/// Context register: address of the fault, high word.
pub(super) const IMEUAR: u64 = 0x34;

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
    /// Smallest size of a register window, in bytes.
    pub(super) window: u64,
}

/// R-Car Gen3 and RZ/G2.
pub(super) static GEN3: Layout = Layout { contexts: 8, utlbs: 48, context: (0, 0x40), utlb: 0, window: 0x700 };
/// R-Car Gen4.
pub(super) static GEN4: Layout =
    Layout { contexts: 16, utlbs: 64, context: (0x10000, 0x1040), utlb: 0x3000, window: 0x20200 };

impl Layout {
    /// The contexts that software may use: 0 is reserved.
    pub(super) fn usable(&self) -> core::ops::Range<u8> {
        1..self.contexts
    }

    /// Offset of a register of context `number`.
    pub(super) const fn context(&self, number: u8, register: u64) -> u64 {
        let gap = if number > 7 { 0x600 } else { 0 };
        self.context.0 + number as u64 * self.context.1 + gap + register
    }

    /// Offset of the control register of micro-TLB `number`.
    pub(super) const fn imuctr(&self, number: u32) -> u64 {
        let number = number as u64;
        self.utlb + if number < 32 { 0x300 + 16 * number } else { 0x600 + 16 * (number - 32) }
    }

    /// Offset of the address space register of micro-TLB `number`.
    pub(super) const fn imuasid(&self, number: u32) -> u64 {
        self.imuctr(number) + 8
    }
}

/// The registers of one instance.
pub(super) struct Regs {
    io: MmioHandle,
    pub(super) layout: &'static Layout,
}

impl Regs {
    pub(super) fn new(io: MmioHandle, layout: &'static Layout) -> Self {
        Self { io, layout }
    }

    /// Reads a register of a context.
    pub(super) fn read(&self, context: u8, register: u64) -> Result<u32, IoError> {
        self.io.read32(self.layout.context(context, register))
    }

    /// Writes a register of a context.
    pub(super) fn write(&self, context: u8, register: u64, value: u32) -> Result<(), IoError> {
        self.io.write32(self.layout.context(context, register), value)
    }

    /// Invalidates a micro-TLB and makes it translate through `context`; without one, it passes addresses through.
    pub(super) fn set_utlb(&self, utlb: u32, context: Option<u8>) -> Result<(), IoError> {
        let Some(context) = context else { return self.io.write32(self.layout.imuctr(utlb), 0) };
        self.io.write32(self.layout.imuasid(utlb), 0)?;
        self.io.write32(self.layout.imuctr(utlb), imuctr_context(context) | IMUCTR_FLUSH | IMUCTR_MMUEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_those_of_the_generation() {
        assert_eq!((GEN3.context(1, IMCTR), GEN3.context(7, IMSTR)), (0x40, 0x1e0));
        assert_eq!((GEN3.imuctr(2), GEN3.imuasid(2), GEN3.imuctr(32), GEN3.imuasid(47)), (0x320, 0x328, 0x600, 0x6f8));
        assert_eq!((GEN4.context(0, IMCTR), GEN4.context(8, IMSTR)), (0x10000, 0x10000 + 8 * 0x1040 + 0x600 + 0x20));
        assert_eq!((GEN4.imuctr(0), GEN4.imuctr(63)), (0x3300, 0x3600 + 16 * 31));
        for layout in [&GEN3, &GEN4] {
            let last = layout.context(layout.contexts - 1, IMEUAR).max(layout.imuasid(layout.utlbs - 1));
            assert!(last + 4 <= layout.window, "{last:#x}");
        }
    }
}
