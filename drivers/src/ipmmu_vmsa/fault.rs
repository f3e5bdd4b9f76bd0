//! Decoding of the fault status.

use super::regs;

/// Reason of the fault, and true if the access is known to be a write. The status tells so only for permission faults,
/// as mappings forbid nothing but writes.
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
    fn the_most_severe_bit_gives_the_reason() {
        assert_eq!(decode(1), ("no translation", false));
        assert_eq!(decode(1 << 1 | 4 << 8), ("not permitted", true));
        assert_eq!(decode(1 << 1 | 5 << 8), ("the page tables are not marked non-secure", false));
        assert_eq!(decode(1 << 2 | 1).0, "the page tables could not be read");
        assert_eq!(decode(1 << 4 | 1 << 2).0, "more than one cached translation");
    }
}
