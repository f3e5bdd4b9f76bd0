//! Tables of 512 entries, which all formats have, and the bits and values of Arm long-descriptor (LPAE) stage 1, 4 KiB granule.
//!
//! Arm ARM DDI 0487, D8.3 "Translation table descriptor formats" (VMSAv8-64), and DDI 0406, B3.6 "Long-descriptor
//! translation table format" (32-bit).

/// Binary logarithm of a table's entries: 512 of 8 bytes fill a page.
pub const INDEX_BITS: u32 = 9;
/// Entries of a whole table.
pub const ENTRIES: usize = 1 << INDEX_BITS;
/// Bytes of an entry.
pub const ENTRY_BYTES: u64 = 8;
/// Number of a level, as Arm counts them: the walk of 48 bits begins at 0, that of 57 bits at -1.
pub type Level = i32;
/// The level whose entries map pages.
pub const LAST_LEVEL: Level = 3;
/// Sizes of blocks, a bit for each, that all formats have with pages of 4 KiB: 2 MiB and 1 GiB (D8.3.1).
pub const BLOCK_SIZES: u64 = 1 << 21 | 1 << 30;

/// Bytes, as a power of two, that one entry of `level` translates.
pub const fn shift(level: Level) -> u32 {
    12 + INDEX_BITS * (LAST_LEVEL - level).unsigned_abs()
}

/// Bytes that one entry of `level` translates.
pub const fn size(level: Level) -> u64 {
    1 << shift(level)
}

/// Bit 0: the entry is valid (D8.3.1).
pub const VALID: u64 = 1;
/// Bit 1: at levels 0 to 2 the entry points to a table, at level 3 it maps a page (and must be set); clear for a block.
pub const TABLE_OR_PAGE: u64 = 1 << 1;
/// Bits 47:12: output address, or address of the next table.
pub const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// Bits 4:2: index of the memory attributes in MAIR (D8.3.2, "Stage 1 attribute fields").
pub const ATTR_INDEX_SHIFT: u32 = 2;
/// Bits 4:2 in place.
pub const ATTR_INDEX: u64 = 7 << ATTR_INDEX_SHIFT;
/// Bit 5: the output address is in the non-secure space.
pub const NS: u64 = 1 << 5;
/// Bit 6, `AP[1]`: unprivileged accesses are allowed, which is what devices make.
pub const AP_UNPRIVILEGED: u64 = 1 << 6;
/// Bit 7, `AP[2]`: no writes.
pub const AP_READ_ONLY: u64 = 1 << 7;
/// Bits 9:8: outer shareable.
pub const SH_OUTER: u64 = 2 << 8;
/// Bits 9:8: inner shareable.
pub const SH_INNER: u64 = 3 << 8;
/// Bit 10: access flag; clear, the first access faults.
pub const AF: u64 = 1 << 10;
/// Bit 11: the translation belongs to one address space (ASID).
pub const NG: u64 = 1 << 11;
/// Bits 54:53: no instruction fetches, unprivileged and privileged.
pub const XN: u64 = 3 << 53;
/// Bit 63 of a table entry: everything below is non-secure.
pub const NS_TABLE: u64 = 1 << 63;

/// MAIR attribute: normal memory, not cached.
pub const MAIR_NORMAL_NC: u8 = 0x44;
/// MAIR attribute: normal memory, write-back, read and write allocate, inner and outer.
pub const MAIR_NORMAL_WB: u8 = 0xff;
/// MAIR attribute: device memory, nGnRE.
pub const MAIR_DEVICE: u8 = 0x04;
/// MAIR attribute: inner not cached, outer write-back, read and write allocate.
pub const MAIR_INNER_NC_OUTER_WB: u8 = 0xf4;

/// Index in [`MAIR`] of [`MAIR_NORMAL_NC`].
pub const ATTR_NORMAL_NC: u64 = 0;
/// Index in [`MAIR`] of [`MAIR_NORMAL_WB`].
pub const ATTR_NORMAL_WB: u64 = 1;
/// Index in [`MAIR`] of [`MAIR_DEVICE`].
pub const ATTR_DEVICE: u64 = 2;

/// The memory attributes that entries refer to, for MAIR0 (32-bit) or the low half of MAIR (64-bit): 0xf404ff44.
pub const MAIR: u32 = u32::from_le_bytes([MAIR_NORMAL_NC, MAIR_NORMAL_WB, MAIR_DEVICE, MAIR_INNER_NC_OUTER_WB]);

/// `TCR.SHn`: outer shareable walks.
pub const TCR_SH_OUTER: u8 = 2;
/// `TCR.SHn`: inner shareable walks.
pub const TCR_SH_INNER: u8 = 3;
/// `TCR.ORGNn` and `IRGNn`: walks are not cached.
pub const TCR_RGN_NC: u8 = 0;
/// `TCR.ORGNn` and `IRGNn`: walks look up write-back, write-allocate caches.
pub const TCR_RGN_WB: u8 = 1;

/// TCR.IPS, the size of output addresses: 32, 36, 40, 42, 44 or 48 bits (D24.2, `TCR_EL1`).
pub const fn tcr_ips(output_bits: u32) -> u8 {
    match output_bits {
        0..=32 => 0,
        33..=36 => 1,
        37..=40 => 2,
        41..=42 => 3,
        43..=44 => 4,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The manual's table: the smallest size that holds so many bits.
    #[test]
    fn the_size_of_output_addresses_is_the_next_one_of_the_manual() {
        for bits in 1..=48 {
            let sizes = [32, 36, 40, 42, 44, 48];
            let expected = sizes.iter().position(|size| bits <= *size);
            assert_eq!(Some(usize::from(tcr_ips(bits))), expected, "{bits}");
        }
    }
}
