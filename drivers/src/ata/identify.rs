//! Data of IDENTIFY DEVICE (ACS-3, 7.12.7).

use alloc::string::String;

use super::TaskFile;

/// Words of IDENTIFY DEVICE data.
const WORDS: usize = 256;
/// Largest sector size that is accepted, in bytes.
const MAX_SECTOR: u32 = 64 << 10;

/// Identification of a disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Model number.
    pub model: String,
    /// Serial number.
    pub serial: String,
    /// Firmware revision.
    pub firmware: String,
    /// Number of sectors.
    pub sectors: u64,
    /// Bytes in a sector.
    pub sector_size: u32,
    /// Highest Ultra DMA mode that the disk supports (0 to 6).
    pub ultra_dma: Option<u8>,
    /// A write may stay in the disk's cache until it is flushed.
    pub write_cache: bool,
}

/// Reason for which IDENTIFY DEVICE data is rejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IdentityError {
    /// Word 0 says that this is not an ATA device, or that the answer is incomplete.
    #[error("word 0 of the identification is {0:#06x}: not a complete answer of an ATA disk")]
    General(u16),
    /// The checksum in word 255 does not fit the data.
    #[error("the checksum of the identification is wrong by {0:#04x}")]
    Checksum(u8),
    /// The disk lacks something that this driver needs.
    #[error("the disk does not support {0}")]
    Unsupported(&'static str),
    /// The disk has no sectors, or more than 48 bits can address.
    #[error("the disk claims {0} sectors")]
    Capacity(u64),
    /// The size of a sector is not a power of two between 512 bytes and 64 KiB.
    #[error("the disk claims sectors of {0} bytes")]
    SectorSize(u64),
}

impl Identity {
    /// Decodes the 256 words of the device's answer.
    ///
    /// # Errors
    ///
    /// When the data is incomplete or inconsistent, or lacks a feature that the driver needs.
    pub fn decode(words: &[u16; WORDS]) -> Result<Self, IdentityError> {
        // Bit 15: not ATA. Bit 2: incomplete.
        if words[0] & (1 << 15 | 1 << 2) != 0 {
            return Err(IdentityError::General(words[0]));
        }
        checksum(words)?;
        // Word 49: bit 9 LBA, bit 8 DMA. Words 83 and 86: valid when bits 15 and 14 of word 83 are 01.
        let valid = words[83] & 0xc000 == 0x4000;
        for (supported, what) in [
            (words[49] & 1 << 9 != 0, "LBA"),
            (words[49] & 1 << 8 != 0, "DMA"),
            (valid && words[83] & 1 << 10 != 0, "48-bit addresses"),
            (valid && words[83] & 1 << 13 != 0, "FLUSH CACHE EXT"),
        ] {
            if !supported {
                return Err(IdentityError::Unsupported(what));
            }
        }
        let sectors = (0..4).fold(0, |n, i| n | u64::from(words[100 + i]) << (16 * i));
        if sectors == 0 || sectors > TaskFile::MAX_LBA {
            return Err(IdentityError::Capacity(sectors));
        }
        let modes = words[88] & 0x7f;
        let ultra_dma = (words[53] & 1 << 2 != 0 && modes != 0).then(|| modes.ilog2() as u8);
        Ok(Self {
            model: text(&words[27..47]),
            serial: text(&words[10..20]),
            firmware: text(&words[23..27]),
            sectors,
            sector_size: sector_size(words)?,
            ultra_dma,
            write_cache: words[85] & 1 << 5 != 0,
        })
    }
}

/// Difference between two identifications that should be of the same disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Difference {
    /// The model.
    #[error("another disk is connected: its model differs")]
    Model,
    /// The serial number.
    #[error("another disk is connected: its serial number differs")]
    Serial,
    /// The number of sectors.
    #[error("the disk has {now} sectors now, it had {before}")]
    Sectors {
        /// Sectors before.
        before: u64,
        /// Sectors now.
        now: u64,
    },
    /// The size of a sector in bytes.
    #[error("the disk has sectors of {now} bytes now, they had {before}")]
    SectorSize {
        /// Bytes before.
        before: u32,
        /// Bytes now.
        now: u32,
    },
}

impl Difference {
    /// A static description of the difference, without its numbers.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Model => "another disk is connected: its model differs",
            Self::Serial => "another disk is connected: its serial number differs",
            Self::Sectors { .. } => "the disk has another size now",
            Self::SectorSize { .. } => "the disk has sectors of another size now",
        }
    }
}

impl Identity {
    /// Checks that `now` is the same disk with the same geometry. Firmware, modes and cache may differ.
    ///
    /// # Errors
    ///
    /// The first difference found.
    pub fn same_disk(&self, now: &Self) -> Result<(), Difference> {
        if self.model != now.model {
            return Err(Difference::Model);
        }
        if self.serial != now.serial {
            return Err(Difference::Serial);
        }
        if self.sector_size != now.sector_size {
            return Err(Difference::SectorSize { before: self.sector_size, now: now.sector_size });
        }
        if self.sectors != now.sectors {
            return Err(Difference::Sectors { before: self.sectors, now: now.sectors });
        }
        Ok(())
    }
}

/// Verifies word 255: when its low byte is 0xa5, all bytes add up to 0.
fn checksum(words: &[u16; WORDS]) -> Result<(), IdentityError> {
    let sum = words.iter().flat_map(|w| w.to_le_bytes()).fold(0, u8::wrapping_add);
    if words[255] & 0xff == 0xa5 && sum != 0 { Err(IdentityError::Checksum(sum)) } else { Ok(()) }
}

/// Decodes word 106, valid when bits 15 and 14 are 01: with bit 12 set, words 117 and 118 hold the sector size in 16-bit
/// words.
fn sector_size(words: &[u16; WORDS]) -> Result<u32, IdentityError> {
    if words[106] & 0xc000 != 0x4000 || words[106] & 1 << 12 == 0 {
        return Ok(512);
    }
    let bytes = 2 * (u64::from(words[117]) | u64::from(words[118]) << 16);
    match u32::try_from(bytes) {
        Ok(size) if size.is_power_of_two() && (512..=MAX_SECTOR).contains(&size) => Ok(size),
        _ => Err(IdentityError::SectorSize(bytes)),
    }
}

/// Decodes an ATA string: two characters a word, the first in the high byte, padded with spaces. Characters that are not
/// printable become question marks.
fn text(words: &[u16]) -> String {
    let bytes = words.iter().flat_map(|w| w.to_be_bytes());
    let all: String = bytes.map(|b| if (b' '..=b'~').contains(&b) { b as char } else { '?' }).collect();
    all.trim_matches([' ', '?']).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(words: &mut [u16], text: &str) {
        let mut bytes = text.bytes().chain(core::iter::repeat(b' '));
        for w in words {
            *w = u16::from_be_bytes([bytes.next().unwrap(), bytes.next().unwrap()]);
        }
    }

    fn disk() -> [u16; WORDS] {
        let mut w = [0; WORDS];
        w[0] = 0x0040;
        put(&mut w[10..20], "S2R4NX0H123456");
        put(&mut w[23..27], "1B6Q");
        put(&mut w[27..47], "Samsung SSD 850 PRO");
        w[49] = 0x0f00;
        w[53] = 0x0006;
        w[83] = 0x7400;
        w[85] = 1 << 5;
        w[88] = 0x407f;
        (w[100], w[101], w[102]) = (0x6db0, 0x3b9e, 0x0001);
        w
    }

    fn sign(mut w: [u16; WORDS]) -> [u16; WORDS] {
        w[255] = 0x00a5;
        let sum = w.iter().flat_map(|x| x.to_le_bytes()).fold(0, u8::wrapping_add);
        w[255] |= u16::from(sum.wrapping_neg()) << 8;
        w
    }

    #[test]
    fn strings_are_swapped_and_trimmed_and_the_capacity_has_48_bits() {
        let id = Identity::decode(&sign(disk())).unwrap();
        assert_eq!((&*id.model, &*id.serial, &*id.firmware), ("Samsung SSD 850 PRO", "S2R4NX0H123456", "1B6Q"));
        assert_eq!((id.sectors, id.sector_size, id.ultra_dma), (0x1_3b9e_6db0, 512, Some(6)));
        assert!(id.write_cache);
        assert!(Identity::decode(&disk()).is_ok(), "a checksum is not obligatory");
    }

    #[test]
    fn characters_that_are_not_printable_are_replaced() {
        let mut w = disk();
        w[27] = 0x1b5b;
        w[28] = 0x0041;
        assert!(Identity::decode(&w).unwrap().model.starts_with("[?A"));
        w[27..47].fill(0);
        assert_eq!(Identity::decode(&w).unwrap().model, "");
    }

    #[test]
    fn each_missing_feature_and_invalid_field_is_named() {
        let with = |change: fn(&mut [u16; WORDS])| {
            let mut w = disk();
            change(&mut w);
            Identity::decode(&w).unwrap_err()
        };
        assert_eq!(with(|w| w[0] = 0x8580), IdentityError::General(0x8580));
        assert_eq!(with(|w| w[0] = 0x0044), IdentityError::General(0x0044));
        assert_eq!(with(|w| w[49] = 0x0100), IdentityError::Unsupported("LBA"));
        assert_eq!(with(|w| w[49] = 0x0200), IdentityError::Unsupported("DMA"));
        assert_eq!(with(|w| w[83] = 0x7000), IdentityError::Unsupported("48-bit addresses"));
        assert_eq!(with(|w| w[83] = 0xffff), IdentityError::Unsupported("48-bit addresses"), "word 83 is not valid");
        assert_eq!(with(|w| w[83] = 0x5400), IdentityError::Unsupported("FLUSH CACHE EXT"));
        assert_eq!(with(|w| w[100..104].fill(0)), IdentityError::Capacity(0));
        assert_eq!(with(|w| w[103] = 2), IdentityError::Capacity(0x2_0001_3b9e_6db0));
        let mut w = sign(disk());
        w[255] = w[255].wrapping_add(0x0100);
        assert_eq!(Identity::decode(&w), Err(IdentityError::Checksum(1)));
    }

    #[test]
    fn large_sectors_are_accepted_and_absurd_sizes_refused() {
        let sized = |words: u32| {
            let mut w = disk();
            w[106] = 0x5000;
            (w[117], w[118]) = (words as u16, (words >> 16) as u16);
            Identity::decode(&w).map(|id| id.sector_size)
        };
        assert_eq!(sized(2048), Ok(4096));
        assert_eq!(sized(0), Err(IdentityError::SectorSize(0)));
        assert_eq!(sized(300), Err(IdentityError::SectorSize(600)));
        assert_eq!(sized(u32::MAX), Err(IdentityError::SectorSize(0x1_ffff_fffe)));
    }

    #[test]
    fn decoding_random_words_never_panics() {
        let mut seed = 1_u64;
        for _ in 0..10_000 {
            let mut w = disk();
            for _ in 0..8 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                w[(seed >> 56) as usize] = (seed >> 24) as u16;
            }
            if let Ok(id) = Identity::decode(&w) {
                assert!(id.sectors > 0 && id.sector_size >= 512);
            }
        }
    }
}
