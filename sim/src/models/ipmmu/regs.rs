//! Register layout of the IPMMU on R-Car Gen3.
//!
//! Source: Linux `drivers/iommu/ipmmu-vmsa.c` (offsets, fields, the order of use); binding
//! `renesas,ipmmu-vmsa.yaml` (window of 0x1000 bytes, two interrupts at the root: non-secure, secure).

/// Bytes of one instance's register window.
pub const WINDOW: u64 = 0x1000;
/// Translation contexts. Context 0 is reserved on Gen3.
pub const CONTEXTS: usize = 8;
/// Micro-TLBs per leaf.
pub(crate) const UTLBS: usize = 48;

/// Context registers: context n starts here.
pub(crate) const CONTEXT_STRIDE: u32 = 0x40;

/// Control.
pub(crate) const IMCTR: u32 = 0x00;
pub(crate) const IMCTR_MMUEN: u32 = 1 << 0;
pub(crate) const IMCTR_FLUSH: u32 = 1 << 1;
pub(crate) const IMCTR_INTEN: u32 = 1 << 2;

/// Translation table base control. On Gen3: EAE, SL0 in [7:6] (2 = start at level 1). The cacheability fields of Gen2
/// ([13:8]) and its SL0 ([5:4]) do not exist.
pub(crate) const IMTTBCR: u32 = 0x08;
pub(crate) const IMTTBCR_EAE: u32 = 1 << 31;
pub(crate) const IMTTBCR_SL0: u32 = 3 << 6;
pub(crate) const IMTTBCR_SL0_LEVEL_1: u32 = 2 << 6;

/// Translation table base, low and high word.
pub(crate) const IMTTLBR0: u32 = 0x10;
pub(crate) const IMTTUBR0: u32 = 0x14;

/// Fault status. A bit is cleared by writing 0 to it; writing 1 leaves it as it is.
pub(crate) const IMSTR: u32 = 0x20;
pub(crate) const IMSTR_TF: u32 = 1 << 0;
pub(crate) const IMSTR_PF: u32 = 1 << 1;
pub(crate) const IMSTR_ABORT: u32 = 1 << 2;
pub(crate) const IMSTR_MHIT: u32 = 1 << 4;
pub(crate) const IMSTR_FAULTS: u32 = IMSTR_TF | IMSTR_PF | IMSTR_ABORT | IMSTR_MHIT;
/// Cause of the fault, in [10:8], and level of the walk, in [13:12].
pub(crate) const IMSTR_CODE_FORMAT: u32 = 1 << 8;
pub(crate) const IMSTR_CODE_PERMISSION: u32 = 4 << 8;
pub(crate) const IMSTR_CODE_SECURE: u32 = 5 << 8;
pub(crate) const IMSTR_LEVEL_SHIFT: u32 = 12;

/// Memory attributes 0 to 3.
pub(crate) const IMMAIR0: u32 = 0x28;
/// Fault address, low and high word: valid until IMSTR is cleared, 0 afterwards.
pub(crate) const IMELAR: u32 = 0x30;
pub(crate) const IMEUAR: u32 = 0x34;

/// Micro-TLB control of the first 32 and of the others.
const IMUCTR_LOW: u32 = 0x300;
const IMUCTR_HIGH: u32 = 0x600;
pub(crate) const IMUCTR_MMUEN: u32 = 1 << 0;
pub(crate) const IMUCTR_FLUSH: u32 = 1 << 1;
/// Context number in [7:4].
pub(crate) const IMUCTR_TTSEL: u32 = 15 << 4;

/// One register, decoded from its offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Register {
    /// Context, offset inside the context's block.
    Context(usize, u32),
    /// Control register of a micro-TLB.
    UtlbControl(usize),
    /// Address space number of a micro-TLB.
    UtlbAsid(usize),
}

/// The register at `offset`, if one is there.
pub(crate) fn decode(offset: u32) -> Option<Register> {
    let utlb = |first: usize, from: u32, count: usize| {
        let n = ((offset - from) / 16) as usize;
        (n < count).then_some(())?;
        match (offset - from) % 16 {
            0 => Some(Register::UtlbControl(first + n)),
            8 => Some(Register::UtlbAsid(first + n)),
            _ => None,
        }
    };
    match offset {
        0..IMUCTR_LOW => {
            let context = (offset / CONTEXT_STRIDE) as usize;
            let register = offset % CONTEXT_STRIDE;
            let known = matches!(register, IMCTR | IMTTBCR | IMTTLBR0 | IMTTUBR0 | IMSTR | IMMAIR0 | IMELAR | IMEUAR);
            (context < CONTEXTS && known).then_some(Register::Context(context, register))
        }
        IMUCTR_LOW..IMUCTR_HIGH => utlb(0, IMUCTR_LOW, 32),
        _ => utlb(32, IMUCTR_HIGH, UTLBS - 32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_decode_as_the_table_says() {
        assert_eq!(decode(0x40), Some(Register::Context(1, IMCTR)));
        assert_eq!(decode(0x1e0), Some(Register::Context(7, IMSTR)));
        assert_eq!(decode(0x320), Some(Register::UtlbControl(2)));
        assert_eq!(decode(0x328), Some(Register::UtlbAsid(2)));
        assert_eq!(decode(0x600), Some(Register::UtlbControl(32)));
        assert_eq!(decode(0x6f8), Some(Register::UtlbAsid(47)));
        for hole in [0x04, 0x0c, 0x200, 0x304, 0x500, 0x700, 0xffc] {
            assert_eq!(decode(hole), None, "{hole:#x}");
        }
    }
}
