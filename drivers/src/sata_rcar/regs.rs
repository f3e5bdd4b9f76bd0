//! Register layout of the R-Car Gen3 SATA controller, and of its descriptor table.
//!
//! Sources: names, offsets and bits are those of Linux `drivers/ata/sata_rcar.c`; the link registers are those of Serial
//! ATA 3.x, 14.1. Every register is accessed with 32 bits.

use bindery::binding::{Mmio, Register, RegisterArray, RegisterWindow};
use bindery::register_flags;

/// Bytes of registers, up to the last one that the driver uses.
pub(super) const SIZE: u64 = 0x1510;

/// The registers.
pub(super) type Regs<'b> = RegisterWindow<Mmio<'b>, SIZE>;

/// ATAPI control 1.
pub(super) const CONTROL1: Register<Control1, 0x180> = Register::new();
/// ATAPI status. Latched bits are cleared by writing 0 to them.
pub(super) const STATUS: Register<Engine, 0x184> = Register::new();
/// Interrupt enable: bits of STATUS that raise the interrupt line.
pub(super) const INT_ENABLE: Register<Engine, 0x188> = Register::new();
/// Device address of the descriptor table, a multiple of 4.
pub(super) const DTB_ADR: Register<u32, 0x198> = Register::new();

/// The command block, by the register numbers of [`task_file`].
pub(super) const TASK_FILE: RegisterArray<u32, 0x1100, 4, 8> = RegisterArray::new();
/// Device control when written; alternate status, which does not acknowledge the interrupt, when read.
pub(super) const SSDEVCON: Register<u32, 0x1204> = Register::new();

/// `SStatus`.
pub(super) const SSTATUS: Register<u32, 0x1400> = Register::new();
/// `SError`; a bit is cleared by writing 1 to it.
pub(super) const SERROR: Register<u32, 0x1404> = Register::new();
/// `SControl`.
pub(super) const SCONTROL: Register<u32, 0x1408> = Register::new();

/// Interrupt status of the SATA core. A bit is acknowledged by writing 0 to it.
pub(super) const INT_STATUS: Register<Int, 0x1508> = Register::new();
/// Interrupt mask of the SATA core: 1 = masked.
pub(super) const INT_MASK: Register<Int, 0x150c> = Register::new();

/// Register numbers in the command block.
pub(super) mod task_file {
    /// A word of data.
    pub(in super::super) const DATA: usize = 0;
    /// Features when written, Error when read.
    pub(in super::super) const FEATURES: usize = 1;
    /// LBA bits 7:0, or 31:24. Count is the register before, LBA mid and high the two after.
    pub(in super::super) const LBA_LOW: usize = 3;
    /// Device.
    pub(in super::super) const DEVICE: usize = 6;
    /// Command when written; Status, whose reading acknowledges the device's interrupt, when read.
    pub(in super::super) const COMMAND: usize = 7;
}

bitflags::bitflags! {
    /// [`CONTROL1`].
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(super) struct Control1: u32 {
        /// Starts the DMA engine.
        const START = 1 << 0;
        /// Stops it. Never together with START.
        const STOP = 1 << 1;
        /// Direction: device to memory.
        const TO_MEMORY = 1 << 2;
        /// Transfers by descriptor table.
        const DESE = 1 << 3;
        /// Holds the controller in reset.
        const RESET = 1 << 7;
        /// Descriptors have 32 address bits and end with bit 0 of the address word.
        const DTA32M = 1 << 11;
        /// SATA, not parallel ATAPI.
        const ISM = 1 << 16;
        /// Operating mode of this driver.
        const MODE = Self::DESE.bits() | Self::DTA32M.bits() | Self::ISM.bits();
    }
}

bitflags::bitflags! {
    /// [`STATUS`] and [`INT_ENABLE`].
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(super) struct Engine: u32 {
        /// The engine is active.
        const ACT = 1 << 0;
        /// A memory access failed. Latched.
        const ERR = 1 << 2;
        /// The device terminated the transfer before the end of the descriptor table. Latched.
        const DEVTRM = 1 << 5;
        /// An unmasked bit of [`INT_STATUS`] is set.
        const SATAINT = 1 << 11;
    }
}

bitflags::bitflags! {
    /// [`INT_STATUS`] and [`INT_MASK`].
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(super) struct Int: u32 {
        /// Interrupt of the device.
        const ATA = 1 << 0;
        /// `SError` has new bits.
        const SERR = 1 << 3;
        /// Every bit that exists on Gen2 and Gen3.
        const ALL = 0xfff;
    }
}

bitflags::bitflags! {
    /// Device control (ATA8-APT).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(super) struct DeviceControl: u32 {
        /// Holds the device in soft reset.
        const SRST = 1 << 2;
        /// 1 in old standards; hosts still set it.
        const OBSOLETE = 1 << 3;
        /// The command block reads the values written first.
        const HOB = 1 << 7;
    }
}

register_flags!(u32: Control1, Engine, Int);

/// `SControl`: no power-save states of the link, any speed, no action.
pub(super) const SCONTROL_RUN: u32 = 0x300;
/// `SControl`: the same, and send COMRESET for as long as this stands.
pub(super) const SCONTROL_COMRESET: u32 = 0x301;

/// `SError` bits of a link that went down or came up since they were cleared: `PhyRdy` changed (N), and device
/// exchanged (X) (Serial ATA 3.x, 14.1.2). The connected disk may be another one than before.
pub(super) const SERROR_LINK_CHANGED: u32 = 1 << 16 | 1 << 26;

/// Returns true when `SStatus` shows a device with communication established (DET = 3) and an active link (IPM = 1).
pub(super) const fn link_is_up(sstatus: u32) -> bool {
    sstatus & 0xf0f == 0x103
}

/// Entries in a descriptor table: 2,048 bytes.
pub(super) const PRD_ENTRIES: usize = 256;
/// In the address word: the last descriptor.
const PRD_END: u32 = 1 << 0;

/// One descriptor: address word, then length word, little endian. A segment is word aligned, has an even length, and
/// does not cross a multiple of 512 MiB.
pub(super) const fn prd(addr: u32, bytes: u32, last: bool) -> u64 {
    let word = if last { addr | PRD_END } else { addr };
    word as u64 | (bytes as u64) << 32
}
