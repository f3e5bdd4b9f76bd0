//! The device on the link: task file and commands.

use super::identify;
use crate::disk::{Disk, SECTOR};

/// Status register (ATA8-ACS 6.2).
pub(crate) const BSY: u8 = 1 << 7;
pub(crate) const DRDY: u8 = 1 << 6;
pub(crate) const DSC: u8 = 1 << 4;
pub(crate) const DRQ: u8 = 1 << 3;
pub(crate) const CHK: u8 = 1 << 0;
pub(crate) const READY: u8 = DRDY | DSC;
/// Status when no device is on the link.
pub(crate) const NO_DEVICE: u8 = 0x7f;

/// Error register (ATA8-ACS 6.3).
pub(crate) const ABRT: u8 = 1 << 2;
pub(crate) const IDNF: u8 = 1 << 4;
pub(crate) const UNC: u8 = 1 << 6;

/// Device control register.
pub(crate) const HOB: u8 = 1 << 7;
pub(crate) const SRST: u8 = 1 << 2;
pub(crate) const NIEN: u8 = 1 << 1;
/// Always 1 in old standards; hosts still set it.
pub(crate) const OBSOLETE_ONE: u8 = 1 << 3;

/// Device register: use LBA; device 1 of the two that a parallel cable could have.
const LBA: u8 = 1 << 6;
const DEVICE_1: u8 = 1 << 4;

/// Task file register numbers.
pub(crate) const DATA: u32 = 0;
pub(crate) const FEATURE: u32 = 1;
pub(crate) const NSECT: u32 = 2;
pub(crate) const LBAL: u32 = 3;
pub(crate) const LBAM: u32 = 4;
pub(crate) const LBAH: u32 = 5;
pub(crate) const DEVICE: u32 = 6;
pub(crate) const COMMAND: u32 = 7;

const READ_DMA_EXT: u8 = 0x25;
const WRITE_DMA_EXT: u8 = 0x35;
const STANDBY_IMMEDIATE: u8 = 0xe0;
const IDLE_IMMEDIATE: u8 = 0xe1;
const FLUSH_CACHE: u8 = 0xe7;
const FLUSH_CACHE_EXT: u8 = 0xea;
const IDENTIFY_DEVICE: u8 = 0xec;
const SET_FEATURES: u8 = 0xef;

/// Activity of the device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Phase {
    /// None, or a command that waits for its timer.
    #[default]
    Idle,
    /// A block of 256 words is ready; this many were read.
    PioIn(u16),
    /// Data transfer by the controller's DMA.
    Dma(Transfer),
}

/// State of a data transfer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Transfer {
    /// Memory to disk.
    pub(crate) write: bool,
    /// Next byte on the disk.
    pub(crate) at: u64,
    /// Bytes left.
    pub(crate) left: u64,
}

/// Outcome of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Done,
    /// With this error register.
    Failed(u8),
    /// Data is ready in the PIO buffer.
    Pio,
    Transfer(Transfer),
}

/// The device's registers.
#[derive(Hash, Debug)]
pub(crate) struct Ata {
    /// Current and previous value of each register, as the two writes of LBA48 leave them.
    file: [[u8; 2]; 7],
    pub(crate) control: u8,
    pub(crate) status: u8,
    pub(crate) error: u8,
    pub(crate) command: u8,
    pub(crate) phase: Phase,
    /// The device requests an interrupt.
    pub(crate) interrupt: bool,
    buffer: [u16; 256],
}

impl Default for Ata {
    fn default() -> Self {
        Self {
            file: [[0; 2]; 7],
            control: 0,
            status: NO_DEVICE,
            error: 0,
            command: 0,
            phase: Phase::Idle,
            interrupt: false,
            buffer: [0; 256],
        }
    }
}

impl Ata {
    /// The registers while the host holds the reset bit of `control`.
    pub(crate) fn in_reset(control: u8) -> Self {
        Self { control, status: BSY, ..Self::default() }
    }

    /// Sets the registers to the signature of an ATA disk, after a reset.
    pub(crate) fn set_signature(&mut self) {
        self.file = [[0; 2]; 7];
        self.file[NSECT as usize][0] = 1;
        self.file[LBAL as usize][0] = 1;
        self.error = 1;
        self.status = READY;
        self.phase = Phase::Idle;
        self.interrupt = false;
    }

    pub(crate) fn busy(&self) -> bool {
        self.status & (BSY | DRQ) != 0 && self.status != NO_DEVICE
    }

    /// Returns true when the host has selected device 1, which does not exist on a SATA link.
    pub(crate) fn absent_device_selected(&self) -> bool {
        self.file[DEVICE as usize][0] & DEVICE_1 != 0
    }

    /// Writes a register, 1 to 6.
    pub(crate) fn set(&mut self, register: u32, value: u8) {
        self.control &= !HOB;
        let [current, previous] = &mut self.file[register as usize];
        *previous = std::mem::replace(current, value);
    }

    /// Reads a register, 1 to 6: the current or, with HOB, the previous value.
    pub(crate) fn get(&self, register: u32) -> u8 {
        match register {
            FEATURE => self.error,
            DEVICE => self.file[DEVICE as usize][0],
            _ => self.file[register as usize][usize::from(self.control & HOB != 0)],
        }
    }

    fn lba(&self) -> u64 {
        let byte = |register: u32, which: usize| u64::from(self.file[register as usize][which]);
        byte(LBAL, 0)
            | byte(LBAM, 0) << 8
            | byte(LBAH, 0) << 16
            | byte(LBAL, 1) << 24
            | byte(LBAM, 1) << 32
            | byte(LBAH, 1) << 40
    }

    /// Stores the address of a failed sector in the LBA registers.
    pub(crate) fn report_lba(&mut self, lba: u64) {
        let b = lba.to_le_bytes();
        self.file[LBAL as usize] = [b[0], b[3]];
        self.file[LBAM as usize] = [b[1], b[4]];
        self.file[LBAH as usize] = [b[2], b[5]];
    }

    /// Reads the next word of a PIO block; true with the last one. `None` when no data is ready.
    pub(crate) fn read_word(&mut self) -> Option<(u16, bool)> {
        let Phase::PioIn(taken) = self.phase else { return None };
        let word = self.buffer[taken as usize];
        let last = taken == 255;
        self.phase = if last { Phase::Idle } else { Phase::PioIn(taken + 1) };
        if last {
            self.status = READY;
        }
        Some((word, last))
    }

    /// Executes the command in the command register. IDENTIFY DEVICE reports `capacity` sectors, if given.
    pub(crate) fn execute(&mut self, disk: &mut Disk, capacity: Option<u64>) -> Outcome {
        match self.command {
            IDENTIFY_DEVICE => {
                self.buffer = identify::words(capacity.unwrap_or(disk.sectors()));
                Outcome::Pio
            }
            READ_DMA_EXT => self.transfer(disk, false),
            WRITE_DMA_EXT if disk.writable() => self.transfer(disk, true),
            FLUSH_CACHE | FLUSH_CACHE_EXT if disk.flush().is_ok() => Outcome::Done,
            STANDBY_IMMEDIATE | IDLE_IMMEDIATE => Outcome::Done,
            SET_FEATURES if self.feature_is_known() => Outcome::Done,
            _ => Outcome::Failed(ABRT),
        }
    }

    /// Returns true for write cache on and off, read look-ahead on and off, and the transfer modes that IDENTIFY reports.
    fn feature_is_known(&self) -> bool {
        match self.file[FEATURE as usize][0] {
            0x02 | 0x82 | 0x55 | 0xaa => true,
            0x03 => matches!(self.file[NSECT as usize][0], 0x00 | 0x08..=0x0c | 0x20..=0x22 | 0x40..=0x46),
            _ => false,
        }
    }

    fn transfer(&mut self, disk: &Disk, write: bool) -> Outcome {
        let [low, high] = self.file[NSECT as usize];
        let sectors = match u16::from_le_bytes([low, high]) {
            0 => 0x1_0000,
            n => u64::from(n),
        };
        if self.file[DEVICE as usize][0] & LBA == 0 {
            return Outcome::Failed(ABRT);
        }
        let lba = self.lba();
        if lba + sectors > disk.sectors() {
            self.report_lba(lba.max(disk.sectors()));
            return Outcome::Failed(IDNF);
        }
        Outcome::Transfer(Transfer { write, at: lba * SECTOR, left: sectors * SECTOR })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_writes_make_a_48_bit_address_and_hob_reads_the_first_one_back() {
        let mut ata = Ata::default();
        for (register, first, second) in [(LBAL, 4, 1), (LBAM, 5, 2), (LBAH, 6, 3)] {
            ata.set(register, first);
            ata.set(register, second);
        }
        assert_eq!(ata.lba(), 0x0605_0403_0201);
        assert_eq!(ata.get(LBAL), 1);
        ata.control |= HOB;
        assert_eq!(ata.get(LBAL), 4);
        ata.set(NSECT, 0);
        assert_eq!(ata.get(LBAL), 1, "writing a register clears HOB");
    }

    #[test]
    fn a_count_of_zero_is_65536_sectors() {
        let mut ata = Ata::default();
        ata.set(DEVICE, LBA);
        ata.command = READ_DMA_EXT;
        let mut disk = Disk::memory(vec![0; 0x1_0000 * 512]);
        assert_eq!(
            ata.execute(&mut disk, None),
            Outcome::Transfer(Transfer { write: false, at: 0, left: 0x1_0000 * 512 })
        );
        ata.set(LBAL, 0);
        ata.set(LBAL, 1);
        assert_eq!(ata.execute(&mut disk, None), Outcome::Failed(IDNF), "one sector past the end");
    }
}
