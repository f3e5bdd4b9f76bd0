//! Register layout of the R-Car SATA controller (Gen3).
//!
//! Source: Linux `drivers/ata/sata_rcar.c`. All registers are accessed with 32 bits. The PHY registers of Gen1 (0x200 on)
//! and Gen2 (0x1700 on) do not exist.

/// Bytes of the register window (device tree).
pub const WINDOW: u64 = 0x20_0000;

/// ATAPI control 1: the DMA engine and the controller's reset.
pub(crate) const CONTROL1: u32 = 0x180;
pub(crate) const START: u32 = 1 << 0;
pub(crate) const STOP: u32 = 1 << 1;
/// Direction: 1 = device to memory.
pub(crate) const RW: u32 = 1 << 2;
/// Descriptor mode.
pub(crate) const DESE: u32 = 1 << 3;
pub(crate) const RESET: u32 = 1 << 7;
/// Descriptors end with bit 0 of the address word.
pub(crate) const DTA32M: u32 = 1 << 11;
/// SATA, not ATAPI, register mode.
pub(crate) const ISM: u32 = 1 << 16;
pub(crate) const CONTROL1_BITS: u32 = START | STOP | RW | DESE | RESET | DTA32M | ISM;

/// ATAPI status. NEND, ERR, DEVTRM and DNEND are cleared by writing 0 to them and by START; the others show the
/// current state.
pub(crate) const STATUS: u32 = 0x184;
/// The engine is active.
pub(crate) const ACT: u32 = 1 << 0;
/// A transfer ended normally.
pub(crate) const NEND: u32 = 1 << 1;
/// A transfer ended with an error on the bus.
pub(crate) const ERR: u32 = 1 << 2;
/// The device requests an interrupt.
pub(crate) const DEVINT: u32 = 1 << 4;
/// The device terminated the transfer before the end of the descriptor table.
pub(crate) const DEVTRM: u32 = 1 << 5;
/// The last descriptor is used up.
pub(crate) const DNEND: u32 = 1 << 6;
/// An unmasked bit of SATAINTSTAT is set.
pub(crate) const SATAINT: u32 = 1 << 11;
/// The bits that stay until they are cleared.
pub(crate) const LATCHED: u32 = NEND | ERR | DEVTRM | DNEND;
pub(crate) const STATUS_BITS: u32 = LATCHED | ACT | DEVINT | SATAINT;

/// Interrupt enable: status bits that raise the interrupt line.
pub(crate) const INT_ENABLE: u32 = 0x188;
/// Address of the descriptor table, as the device sees memory.
pub(crate) const DTB_ADR: u32 = 0x198;
/// Current address of the transfer.
pub(crate) const DMA_START_ADR: u32 = 0x19c;
/// Bytes left in the current segment.
pub(crate) const DMA_TRANS_CNT: u32 = 0x1a0;
pub(crate) const CONTROL2: u32 = 0x1a4;
pub(crate) const SIG_ST: u32 = 0x1b0;
pub(crate) const BYTE_SWAP: u32 = 0x1bc;

/// The ATA command block: register n at 4n.
pub(crate) const TASK_FILE: u32 = 0x1100;
pub(crate) const TASK_FILE_END: u32 = 0x1120;
/// Device control (write), alternate status (read).
pub(crate) const SSDEVCON: u32 = 0x1204;

pub(crate) const SSTATUS: u32 = 0x1400;
pub(crate) const SERROR: u32 = 0x1404;
pub(crate) const SCONTROL: u32 = 0x1408;
pub(crate) const SACTIVE: u32 = 0x140c;
/// Everything from here on belongs to the SATA core, which CONTROL1.RESET holds in reset.
pub(crate) const SATA_CORE: u32 = 0x1000;

/// Interrupt status of the SATA core. A bit is acknowledged by writing 0 to it.
pub(crate) const SATAINTSTAT: u32 = 0x1508;
/// The device requested an interrupt.
pub(crate) const INT_ATA: u32 = 1 << 0;
/// A DMA access failed.
pub(crate) const INT_ERR: u32 = 1 << 2;
/// `SError` has new bits.
pub(crate) const INT_SERR: u32 = 1 << 3;
/// 1 = masked.
pub(crate) const SATAINTMASK: u32 = 0x150c;
/// The bits that exist on Gen2 and Gen3.
pub(crate) const INT_BITS: u32 = 0xfff;

/// Bytes of one descriptor: address word, length word, little endian.
pub(crate) const PRD_BYTES: u64 = 8;
/// In the address word: this is the last descriptor.
pub(crate) const PRD_END: u32 = 1 << 0;
/// Most bytes in one segment: 512 MiB.
pub(crate) const PRD_MAX: u32 = 0x2000_0000;

// SStatus and SError (Serial ATA 3.x, 14.1).
/// Device present, communication up, generation 1 speed, interface active: `SStatus 113` of the real board's log.
pub(crate) const SSTATUS_UP: u32 = 0x113;
pub(crate) const SSTATUS_OFFLINE: u32 = 0x004;
/// Exchanged, COMWAKE, `PhyRdy` change: set when the link comes up.
pub(crate) const SERROR_CAME_UP: u32 = 1 << 26 | 1 << 18 | 1 << 16;
/// `PhyRdy` change.
pub(crate) const SERROR_WENT_DOWN: u32 = 1 << 16;
pub(crate) const SCONTROL_DET: u32 = 0xf;
pub(crate) const DET_NONE: u32 = 0;
pub(crate) const DET_COMRESET: u32 = 1;
pub(crate) const DET_OFFLINE: u32 = 4;
