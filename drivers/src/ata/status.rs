//! The Status and Error fields.

use core::fmt;

bitflags::bitflags! {
    /// The Status field (ACS-3, 6.2; BSY and DRQ: ATA8-APT).
    #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
    pub struct Status: u8 {
        /// The command ended with an error, see the Error field.
        const ERR = 1 << 0;
        /// The device is ready to transfer data.
        const DRQ = 1 << 3;
        /// Device fault, whatever the command.
        const DF = 1 << 5;
        /// The device accepts commands.
        const DRDY = 1 << 6;
        /// The device is busy; the other bits are invalid.
        const BSY = 1 << 7;
    }
}

bitflags::bitflags! {
    /// The Error field (ACS-3, 6.3).
    #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
    pub struct ErrorBits: u8 {
        /// The device did not carry the command out: it does not know it, or will not.
        const ABRT = 1 << 2;
        /// There is no such sector.
        const IDNF = 1 << 4;
        /// The sector's data cannot be read.
        const UNC = 1 << 6;
        /// The data was damaged between host and device.
        const ICRC = 1 << 7;
    }
}

impl Status {
    /// The device waits for a command.
    pub fn ready(self) -> bool {
        self & (Self::BSY | Self::DRQ | Self::DRDY) == Self::DRDY
    }

    /// The command ended with an error.
    pub fn failed(self) -> bool {
        self.intersects(Self::ERR | Self::DF)
    }
}

macro_rules! show {
    ($($name:ident)*) => { $(
        impl fmt::Display for $name {
            /// The names of the bits that are set, and those without a name as a number.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                if self.is_empty() {
                    return f.write_str("0");
                }
                bitflags::parser::to_writer(self, f)
            }
        }
    )* };
}

show!(Status ErrorBits);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_floating_bus_and_a_busy_device_are_not_ready() {
        for (bits, ready) in [(0x50, true), (0x40, true), (0x7f, false), (0xff, false), (0x80, false), (0, false)] {
            assert_eq!(Status::from_bits_retain(bits).ready(), ready, "{bits:#x}");
        }
        assert!(Status::from_bits_retain(0x51).failed());
        assert!(Status::from_bits_retain(0x60).failed(), "device fault");
        assert!(!Status::from_bits_retain(0x50).failed());
    }

    #[test]
    fn bits_print_by_name_and_unknown_ones_by_value() {
        assert_eq!((ErrorBits::UNC | ErrorBits::ABRT).to_string(), "ABRT | UNC");
        assert_eq!(ErrorBits::from_bits_retain(1).to_string(), "0x1");
        assert_eq!(ErrorBits::empty().to_string(), "0");
    }
}
