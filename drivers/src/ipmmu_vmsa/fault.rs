//! Faults of a root's contexts: found by its interrupt handler, reported and cleared by the threaded part.

use alloc::sync::Arc;

use bindery::addr::DeviceAddr;
use bindery::env::IoError;
use bindery::iommu::{Accessor, FaultReporter, RefusedAccess, Translation};

use super::Root;
use super::regs;

impl Root {
    /// Returns true when a context has a fault.
    pub(super) fn has_fault(&self) -> bool {
        let faults = |number| self.regs.read(number, regs::IMSTR).is_ok_and(|status| status & regs::IMSTR_FAULTS != 0);
        self.layout().usable().any(faults)
    }

    /// Reports and clears all faults.
    pub(super) fn handle_faults(&self, reporter: &FaultReporter) -> Result<(), IoError> {
        for number in self.layout().usable() {
            let status = self.regs.read(number, regs::IMSTR)?;
            if status & regs::IMSTR_FAULTS == 0 {
                continue;
            }
            // Read before the status is cleared, which clears the address as well.
            let low = self.regs.read(number, regs::IMELAR)?;
            let high = self.regs.read(number, regs::IMEUAR)?;
            self.regs.write(number, regs::IMSTR, 0)?;
            let addr = DeviceAddr(u64::from(high) << 32 | u64::from(low));
            let (reason, write) = decode(status);
            match self.context(number) {
                Some(context) => {
                    let translation: Arc<dyn Translation> = context;
                    let by = Accessor::Through(&translation);
                    reporter.report(&RefusedAccess { by, addr, write, reason });
                }
                None => reporter.log(format_args!("context {number}, which is not in use: {addr}: {reason}")),
            }
        }
        Ok(())
    }
}

/// Reason of the fault, and true if the access is known to be a write. The status tells so only for permission faults,
/// as mappings forbid nothing but writes.
fn decode(imstr: u32) -> (&'static str, bool) {
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
