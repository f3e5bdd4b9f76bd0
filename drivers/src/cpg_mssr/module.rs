//! Module numbers.

use super::regs::BANKS;

/// Modules whose clock must not stop: the watchdog that restarts a hung system, and the interrupt controller.
const CRITICAL: [u32; 2] = [402, 408];

/// A module with a stop bit and a reset line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Module(u32);

impl Module {
    /// The module with this number in device trees: register times 100 plus bit. `None` when there is no such bit.
    pub(super) fn new(number: u32) -> Option<Self> {
        (number / 100 < BANKS as u32 && number % 100 < 32).then_some(Self(number))
    }

    /// Index of its register.
    pub(super) fn bank(self) -> usize {
        (self.0 / 100) as usize
    }

    /// Its bit in that register.
    pub(super) fn bit(self) -> u32 {
        1 << (self.0 % 100)
    }

    /// Returns true when the system hangs without its clock.
    pub(super) fn is_critical(self) -> bool {
        CRITICAL.contains(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_register_times_100_plus_bit() {
        let sata = Module::new(815).unwrap();
        assert_eq!((sata.bank(), sata.bit()), (8, 1 << 15));
        assert_eq!(Module::new(1131).map(Module::bank), Some(11));
        for bad in [32, 99, 1200, 832, u32::MAX] {
            assert_eq!(Module::new(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_interrupt_controllers_clock_is_critical() {
        assert!(Module::new(408).unwrap().is_critical());
        assert!(!Module::new(815).unwrap().is_critical());
    }
}
