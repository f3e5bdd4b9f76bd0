//! Addresses of functions, and access to their configuration space.

use core::fmt;

use crate::env::{IoError, Width};

/// Place of a function: segment, bus, device, function.
///
/// ```
/// use bindery::pci::FunctionId;
///
/// let disk = FunctionId { segment: 0, bus: 1, device: 31, function: 2 };
/// assert_eq!(disk.to_string(), "0000:01:1f.2");
/// assert_eq!(disk.requester_id(), 0x01fa);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FunctionId {
    /// Segment group, one for each host bridge or more.
    pub segment: u16,
    /// Bus number.
    pub bus: u8,
    /// Device number, below 32.
    pub device: u8,
    /// Function number, below 8.
    pub function: u8,
}

impl FunctionId {
    /// The ID by which the function's requests are known to an IOMMU: bus, device and function in 16 bits.
    pub const fn requester_id(self) -> u16 {
        (self.bus as u16) << 8 | (self.device as u16 & 31) << 3 | (self.function as u16 & 7)
    }
}

impl fmt::Display for FunctionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.segment, self.bus, self.device, self.function)
    }
}

/// Access to the configuration space of the functions behind a host bridge.
pub trait ConfigSpace {
    /// Bytes that each function has: 256, or 4096 with the extended part.
    fn size(&self) -> u16;

    /// Reads `width` at `offset`, which is aligned and below [`size`](Self::size). Where no function is, every bit is set.
    ///
    /// # Errors
    ///
    /// The host bridge does not answer.
    fn read(&self, at: FunctionId, offset: u16, width: Width) -> Result<u32, IoError>;

    /// Writes the low `width` of `value`.
    ///
    /// # Errors
    ///
    /// The host bridge does not answer.
    fn write(&self, at: FunctionId, offset: u16, width: Width, value: u32) -> Result<(), IoError>;
}

/// Registers of the header.
pub(super) mod reg {
    pub(crate) const VENDOR: u16 = 0x00;
    pub(crate) const COMMAND: u16 = 0x04;
    pub(crate) const STATUS: u16 = 0x06;
    pub(crate) const CLASS_REVISION: u16 = 0x08;
    pub(crate) const HEADER_TYPE: u16 = 0x0e;
    pub(crate) const BAR0: u16 = 0x10;
    pub(crate) const SUBSYSTEM: u16 = 0x2c;
    pub(crate) const CAPABILITIES: u16 = 0x34;
    pub(crate) const INTERRUPT_LINE: u16 = 0x3c;
    pub(crate) const INTERRUPT_PIN: u16 = 0x3d;
    // Header type 1.
    pub(crate) const BUS_NUMBERS: u16 = 0x18;
    pub(crate) const IO_WINDOW: u16 = 0x1c;
    pub(crate) const MEMORY_WINDOW: u16 = 0x20;
    pub(crate) const PREFETCH_WINDOW: u16 = 0x24;
    pub(crate) const PREFETCH_BASE_HIGH: u16 = 0x28;
    pub(crate) const PREFETCH_LIMIT_HIGH: u16 = 0x2c;
    pub(crate) const IO_WINDOW_HIGH: u16 = 0x30;
    pub(crate) const BRIDGE_CONTROL: u16 = 0x3e;

    /// Command: answers I/O accesses, and memory accesses.
    pub(crate) const DECODE_IO: u32 = 1;
    pub(crate) const DECODE_MEMORY: u32 = 2;
    /// Command: does not assert its interrupt pin.
    pub(crate) const NO_PIN: u32 = 1 << 10;
    /// Command: tells of uncorrectable errors (PCI Express 5.0, 7.5.1.1.3: SERR# enable).
    pub(crate) const TELL_ERRORS: u32 = 1 << 8;
    /// Command: accesses memory on its own.
    pub(crate) const BUS_MASTER: u32 = 4;
    /// Status: there is a capability list.
    pub(crate) const HAS_CAPABILITIES: u32 = 1 << 4;
    /// Bridge control: the bus behind it is in reset.
    pub(crate) const SECONDARY_RESET: u32 = 1 << 6;
    /// Bridge control: it passes on messages of errors (PCI Express 5.0, 7.5.1.3.13: SERR# enable).
    pub(crate) const PASS_ERRORS: u32 = 1 << 1;
    /// Header type: the device has more functions than the first.
    pub(crate) const MULTI_FUNCTION: u32 = 0x80;
}
