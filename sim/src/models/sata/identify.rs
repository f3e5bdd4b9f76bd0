//! The disk's data for IDENTIFY DEVICE (ACS-3, 7.12).

const MODEL: &str = "BINDERY SIMULATED DISK";
const SERIAL: &str = "SIM0000000000001";
const FIRMWARE: &str = "1.0";

/// The 256 words for a disk of `sectors` sectors.
pub(crate) fn words(sectors: u64) -> [u16; 256] {
    let mut w = [0_u16; 256];
    let lba28 = sectors.min(0x0fff_ffff) as u32;
    w[0] = 0x0040;
    text(&mut w[10..20], SERIAL);
    text(&mut w[23..27], FIRMWARE);
    text(&mut w[27..47], MODEL);
    w[47] = 0x8000;
    w[48] = 0x4000;
    // LBA, DMA, IORDY.
    w[49] = 0x0f00;
    w[50] = 0x4000;
    // Words 64 to 70 and 88 are valid.
    w[53] = 0x0006;
    w[60] = lba28 as u16;
    w[61] = (lba28 >> 16) as u16;
    w[63] = 0x0007;
    w[64] = 0x0003;
    w[65..69].fill(120);
    // SATA generations 1 to 3.
    w[76] = 0x000e;
    // ATA-4 to ATA8-ACS.
    w[80] = 0x01f0;
    // Supported, then enabled: look-ahead, write cache; FLUSH CACHE (EXT), LBA48.
    w[82] = 0x0060;
    w[83] = 0x7400;
    w[84] = 0x4000;
    w[85] = w[82];
    w[86] = 0x3400;
    w[87] = 0x4000;
    // UDMA 0 to 6 supported, 6 selected: UDMA/133.
    w[88] = 0x407f;
    for (i, word) in w[100..104].iter_mut().enumerate() {
        *word = (sectors >> (16 * i)) as u16;
    }
    w[106] = 0x4000;
    // No rotation.
    w[217] = 1;
    let sum = w[..255].iter().fold(0xa5_u8, |s, x| s.wrapping_add(*x as u8).wrapping_add((x >> 8) as u8));
    w[255] = u16::from(sum.wrapping_neg()) << 8 | 0xa5;
    w
}

/// Encodes an ATA string: two characters a word, the first in the high byte, padded with spaces.
fn text(words: &mut [u16], text: &str) {
    let mut bytes = text.bytes().chain(std::iter::repeat(b' '));
    for word in words {
        let pair = [bytes.next().unwrap_or(b' '), bytes.next().unwrap_or(b' ')];
        *word = u16::from_be_bytes(pair);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identify_data_has_capacity_names_and_a_checksum() {
        let w = words(0x1234_5678_9abc);
        assert_eq!((w[100], w[101], w[102], w[103]), (0x9abc, 0x5678, 0x1234, 0));
        assert_eq!((w[60], w[61]), (0xffff, 0x0fff));
        assert_eq!(w[27].to_be_bytes(), *b"BI");
        let sum = w.iter().fold(0_u8, |s, x| s.wrapping_add(*x as u8).wrapping_add((x >> 8) as u8));
        assert_eq!(sum, 0);
    }
}
