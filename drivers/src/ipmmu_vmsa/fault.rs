//! What a fault status says.

use super::regs;

/// The fault in words, and whether the access was a write as far as the status tells: it only tells when a mapping
/// forbids the access, and mappings forbid nothing but writes.
pub(super) fn decode(imstr: u32) -> (&'static str, bool) {
    match imstr {
        s if s & regs::IMSTR_MHIT != 0 => ("more than one cached translation", false),
        s if s & regs::IMSTR_ABORT != 0 => ("the page tables could not be read", false),
        s if s & regs::IMSTR_PF != 0 => match s & regs::IMSTR_CODE {
            regs::IMSTR_CODE_SECURE => ("the page tables are not marked non-secure", false),
            regs::IMSTR_CODE_PERMISSION => ("not permitted", true),
            _ => ("not permitted", false),
        },
        _ => ("no translation", false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_bit_gives_the_reason() {
        assert_eq!(decode(1), ("no translation", false));
        assert_eq!(decode(1 << 1 | 4 << 8), ("not permitted", true));
        assert_eq!(decode(1 << 1 | 5 << 8), ("the page tables are not marked non-secure", false));
        assert_eq!(decode(1 << 2 | 1).0, "the page tables could not be read");
        assert_eq!(decode(1 << 4 | 1 << 2).0, "more than one cached translation");
    }
}
