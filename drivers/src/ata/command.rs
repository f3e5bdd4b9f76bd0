//! Commands and the register contents that encode them.

use core::fmt;

/// A command code (ACS-3, 7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Command {
    /// READ DMA EXT.
    ReadDmaExt = 0x25,
    /// WRITE DMA EXT.
    WriteDmaExt = 0x35,
    /// FLUSH CACHE EXT.
    FlushCacheExt = 0xea,
    /// IDENTIFY DEVICE.
    IdentifyDevice = 0xec,
    /// SET FEATURES.
    SetFeatures = 0xef,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadDmaExt => "READ DMA EXT",
            Self::WriteDmaExt => "WRITE DMA EXT",
            Self::FlushCacheExt => "FLUSH CACHE EXT",
            Self::IdentifyDevice => "IDENTIFY DEVICE",
            Self::SetFeatures => "SET FEATURES",
        })
    }
}

/// SET FEATURES subcommand: set the transfer mode that Count names (ACS-3, 7.45.6).
const SET_TRANSFER_MODE: u16 = 0x03;
/// Count for an Ultra DMA mode: this, plus the mode.
const ULTRA_DMA: u16 = 0x40;
/// Device field: the LBA bit, which the 48-bit commands want set (ACS-3, 7.25.3).
const LBA: u8 = 1 << 6;

/// One command as written to the device's registers.
///
/// The fields are 16 or 48 bits wide and the registers 8: each register is written twice, first with
/// [`first`](Self::first), then with [`second`](Self::second); then Device, then the command itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskFile {
    /// The command.
    pub command: Command,
    features: u16,
    count: u16,
    lba: u64,
}

impl TaskFile {
    /// Most sectors that one command moves.
    pub const MAX_SECTORS: u32 = 0x1_0000;
    /// Number of sectors that 48 bits can address.
    pub const MAX_LBA: u64 = 1 << 48;

    /// A data transfer of `sectors` sectors (1 to 65,536) from `lba` on. `None` when the range does not fit into 48 bits.
    pub fn transfer(command: Command, lba: u64, sectors: u32) -> Option<Self> {
        let fits = (1..=Self::MAX_SECTORS).contains(&sectors)
            && lba.checked_add(u64::from(sectors)).is_some_and(|end| end <= Self::MAX_LBA);
        // 65,536 is written as 0.
        fits.then_some(Self { command, features: 0, count: sectors as u16, lba })
    }

    /// A command without parameters.
    pub const fn without_parameters(command: Command) -> Self {
        Self { command, features: 0, count: 0, lba: 0 }
    }

    /// Selects Ultra DMA mode `mode` (0 to 6).
    pub const fn set_ultra_dma(mode: u8) -> Self {
        let count = ULTRA_DMA | (mode & 7) as u16;
        Self { command: Command::SetFeatures, features: SET_TRANSFER_MODE, count, lba: 0 }
    }

    /// First sector.
    pub const fn lba(&self) -> u64 {
        self.lba
    }

    /// Upper halves of Features, Count, LBA low, mid and high, which are written first.
    pub const fn first(&self) -> [u8; 5] {
        let [_, _, _, l3, l4, l5, _, _] = self.lba.to_le_bytes();
        [self.features.to_le_bytes()[1], self.count.to_le_bytes()[1], l3, l4, l5]
    }

    /// Lower halves of the same registers, which are written second.
    pub const fn second(&self) -> [u8; 5] {
        let [l0, l1, l2, ..] = self.lba.to_le_bytes();
        [self.features.to_le_bytes()[0], self.count.to_le_bytes()[0], l0, l1, l2]
    }

    /// Contents of Device.
    pub const fn device(&self) -> u8 {
        LBA
    }

    /// The sector address in LBA low, mid and high, as read with the HOB bit clear (`low`) and set (`high`).
    pub const fn lba_of(low: [u8; 3], high: [u8; 3]) -> u64 {
        u64::from_le_bytes([low[0], low[1], low[2], high[0], high[1], high[2], 0, 0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_in_two_halves_and_reassembled() {
        let tf = TaskFile::transfer(Command::ReadDmaExt, 0x0605_0403_0201, 0x0807).unwrap();
        assert_eq!(tf.first(), [0, 8, 4, 5, 6]);
        assert_eq!(tf.second(), [0, 7, 1, 2, 3]);
        let ([_, _, high @ ..], [_, _, low @ ..]) = (tf.first(), tf.second());
        assert_eq!(TaskFile::lba_of(low, high), tf.lba());
    }

    #[test]
    fn a_range_beyond_48_bits_is_refused() {
        let of = |lba, sectors| TaskFile::transfer(Command::WriteDmaExt, lba, sectors);
        assert_eq!(of(0, 0), None);
        assert_eq!(of(0, 0x1_0001), None);
        assert_eq!(of(TaskFile::MAX_LBA - 1, 2), None);
        assert_eq!(of(u64::MAX, 1), None);
        assert!(of(TaskFile::MAX_LBA - 1, 1).is_some());
        let whole = of(0, 0x1_0000).unwrap();
        assert_eq!((whole.first()[1], whole.second()[1]), (0, 0), "65,536 is 0");
    }

    #[test]
    fn ultra_dma_133_is_mode_46() {
        let tf = TaskFile::set_ultra_dma(6);
        assert_eq!((tf.second()[0], tf.second()[1], tf.first()), (3, 0x46, [0; 5]));
    }
}
