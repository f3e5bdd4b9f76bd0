//! Bit patterns, computed by hand from the manual's figures.

use super::board::*;
use crate::addr::{DeviceAddr, PhysAddr};
use crate::iommu::pgtable::{
    BLOCK_SIZES, Config, Format, Lpae32, Lpae64, PageTable, Registers, TableError, VtdSecondStage,
};
use crate::iommu::{Gather, Prot};

#[test]
fn lpae64_leaves_match_the_manual() {
    let phys = PhysAddr(0x7_4800_1000);
    // XN 54:53 | address | nG 11 | AF 10 | SH 9:8 = 2 | AP 7:6 = 01 | AttrIndx = 0 | page
    assert_eq!(Lpae64::leaf(phys, 3, RW), 0x0060_0007_4800_1e43);
    // SH = 3, AP = 11 (read only), AttrIndx = 1
    assert_eq!(Lpae64::leaf(phys, 3, Prot::READ | Prot::COHERENT), 0x0060_0007_4800_1fc7);
    // AttrIndx = 2 (device)
    assert_eq!(Lpae64::leaf(phys, 3, RW | Prot::MMIO), 0x0060_0007_4800_1e4b);
    // A block has bit 1 clear.
    assert_eq!(Lpae64::leaf(PhysAddr(0x7_4000_0000), 1, RW), 0x0060_0007_4000_0e41);
    assert_eq!(Lpae64::leaf(PhysAddr(0x7_4020_0000), 2, RW), 0x0060_0007_4020_0e41);
    assert_eq!(Lpae64::table(phys), 0x0000_0007_4800_1003);
}

#[test]
fn lpae32_entries_are_non_secure_at_every_level() {
    let phys = PhysAddr(0x7_4800_1000);
    // NS is bit 5 of leaves, NSTable bit 63 of tables.
    assert_eq!(Lpae32::leaf(phys, 3, RW), 0x0000_0007_4800_1e63);
    assert_eq!(Lpae32::leaf(phys, 3, Prot::READ), 0x0000_0007_4800_1ee3);
    assert_eq!(Lpae32::leaf(PhysAddr(0x4000_0000), 1, RW | Prot::COHERENT), 0x0000_0000_4000_0f65);
    assert_eq!(Lpae32::table(phys), 0x8000_0007_4800_1003);
}

#[test]
fn vtd_entries_match_the_manual() {
    let phys = PhysAddr(0x7_4800_1000);
    // W 1 | R 0
    assert_eq!(VtdSecondStage::leaf(phys, 3, RW), 0x0000_0007_4800_1003);
    assert_eq!(VtdSecondStage::leaf(phys, 3, Prot::READ | Prot::COHERENT), 0x0000_0007_4800_1001);
    assert_eq!(VtdSecondStage::leaf(phys, 3, Prot::WRITE | Prot::MMIO), 0x0000_0007_4800_1002);
    // PS 7: 1 GiB and 2 MiB
    assert_eq!(VtdSecondStage::leaf(PhysAddr(0xf_ffff_c000_0000), 1, RW), 0x000f_ffff_c000_0083);
    assert_eq!(VtdSecondStage::leaf(PhysAddr(0x7_4020_0000), 2, RW), 0x0000_0007_4020_0083);
    assert_eq!(VtdSecondStage::table(phys), 0x0000_0007_4800_1003);
    assert_eq!(VtdSecondStage::prot(0x1002), Prot::WRITE);
}

#[test]
fn vtd_walks_have_three_to_five_levels() {
    let board = Board::new();
    for (bits, width, index) in [(39, 1, 511), (40, 2, 1), (48, 2, 511), (49, 3, 1), (57, 3, 511)] {
        let mut table = board.table::<VtdSecondStage>(bits, true);
        assert_eq!(table.address_width(), width, "{bits} bits");
        let last = DeviceAddr((1 << bits) - K4);
        table.map(last, PhysAddr(0x7_1234_5000), K4, RW).unwrap();
        assert_ne!(board.word(table.root(), index), 0, "{bits} bits");
        assert_eq!(board.walk(&table, last + 5), Some((0x7_1234_5003, 3, PhysAddr(0x7_1234_5005))), "{bits} bits");
        assert_eq!(table.resolve(last + 5), Some((PhysAddr(0x7_1234_5005), RW)));
        let past = DeviceAddr(1 << bits);
        assert_eq!(table.map(past, PhysAddr(0), K4, RW), Err(crate::iommu::MapError::OutOfRange(past)));
        assert_eq!(table.resolve(past), None);
        let mut gather = Gather::new();
        assert_eq!(table.remove(last, K4, &mut gather), Ok(true));
        gather.free_tables();
        assert_eq!(board.frames.in_use(), 1, "only the root is left");
    }
}

#[test]
fn every_entry_in_the_walk_of_a_page_matches_the_manual() {
    let board = Board::new();
    let mut table = board.table::<Lpae32>(32, true);
    table.map(DeviceAddr(0xffff_f000), PhysAddr(0x7_1234_5000), K4, RW).unwrap();
    // The root has four entries of 1 GiB; the IOVA's are 3, 511, 511.
    let level1 = board.word(table.root(), 3);
    let level2 = board.word(PhysAddr(level1 & 0xff_ffff_f000), 511);
    assert_eq!((level1 >> 40, level1 & 0xfff), (0x80_0000, 3));
    assert_eq!((level2 >> 40, level2 & 0xfff), (0x80_0000, 3));
    assert_eq!(board.word(PhysAddr(level2 & 0xff_ffff_f000), 511), 0x0000_0007_1234_5e63);
    for index in 0..3 {
        assert_eq!(board.word(table.root(), index), 0);
    }
}

#[test]
fn registers_tell_the_walker_size_start_and_cacheability() {
    let board = Board::new();
    let t32 = board.table::<Lpae32>(32, false);
    let mair = 0xf404_ff44;
    let ttbr = t32.root().0;
    let expected = Registers { ttbr, mair, t0sz: 0, start_level: 1, sh: 2, orgn: 0, irgn: 0, ips: 2 };
    assert_eq!(t32.registers(), expected);
    let t64 = board.table::<Lpae64>(48, true);
    let ttbr = t64.root().0;
    let expected = Registers { ttbr, mair, t0sz: 16, start_level: 0, sh: 3, orgn: 1, irgn: 1, ips: 2 };
    assert_eq!(t64.registers(), expected);
    assert_eq!(board.table::<Lpae64>(39, true).registers().start_level, 1);
    assert_eq!(board.table::<Lpae64>(40, true).registers().start_level, 0);
}

#[test]
fn sizes_that_a_format_does_not_have_are_refused() {
    let board = Board::new();
    let make64 = |input_bits, output_bits| {
        let config = Config { input_bits, output_bits, block_sizes: BLOCK_SIZES, coherent_walk: true };
        PageTable::<Lpae64>::new(board.pages.clone(), board.memory.clone(), config).map(|_| ())
    };
    for (input_bits, output_bits) in [(49, 48), (31, 40), (0, 40), (u32::MAX, 40), (48, 49), (48, 0), (48, 31)] {
        let format = Lpae64::NAME;
        assert_eq!(make64(input_bits, output_bits), Err(TableError::Sizes { format, input_bits, output_bits }));
    }
    let config = Config { input_bits: 36, output_bits: 40, block_sizes: BLOCK_SIZES, coherent_walk: true };
    assert!(PageTable::<Lpae32>::new(board.pages.clone(), board.memory.clone(), config).is_err());
    board.pages.allow(0);
    assert_eq!(make64(48, 48), Err(TableError::OutOfMemory));
    assert_eq!(board.frames.in_use(), 0);
}

#[test]
fn what_a_device_may_do_survives_the_encoding() {
    let board = Board::new();
    let mut table = board.table::<Lpae64>(48, true);
    for prot in [RW, Prot::READ, RW | Prot::COHERENT, Prot::READ | Prot::MMIO] {
        table.map(DeviceAddr(M2), PhysAddr(M2), K4, prot).unwrap();
        assert_eq!(table.resolve(DeviceAddr(M2 + 5)), Some((PhysAddr(M2 + 5), prot)));
        let mut gather = Gather::new();
        table.unmap(DeviceAddr(M2), K4, &mut gather).unwrap();
        gather.free_tables();
    }
}

#[test]
fn blocks_that_cannot_be_mapped_or_split_are_refused() {
    let board = Board::new();
    for sizes in [G1, 1 << 39 | BLOCK_SIZES, K4, 1 << 16, u64::MAX] {
        let config = Config { input_bits: 48, output_bits: 48, block_sizes: sizes, coherent_walk: true };
        let made = PageTable::<VtdSecondStage>::new(board.pages.clone(), board.memory.clone(), config);
        assert_eq!(made.map(|_| ()).unwrap_err(), TableError::Blocks { format: VtdSecondStage::NAME, sizes });
    }
}
