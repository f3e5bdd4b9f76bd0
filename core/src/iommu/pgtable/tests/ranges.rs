//! Blocks, splits, errors, and the release of table pages.

use std::format;
use std::vec::Vec;

use super::board::*;
use crate::addr::{DeviceAddr, PhysAddr};
use crate::env::CacheOp;
use crate::iommu::pgtable::{BLOCK_SIZES, Format, Lpae32, Lpae64, PageTable, VtdSecondStage};
use crate::iommu::{Gather, MapError, Prot};

const AT: DeviceAddr = DeviceAddr(G1);

/// Walk results of the pages that the tests change.
fn snapshot<F: Format>(board: &Board, table: &PageTable<F>) -> Vec<Option<(u64, u64, PhysAddr)>> {
    let probes = (0..1024).map(|n| n * K4).chain((0..1024).map(|n| n * M2 / 2));
    probes.map(|offset| board.walk(table, AT + offset)).collect()
}

#[test]
fn the_largest_blocks_that_both_addresses_allow_are_used() {
    let board = Board::new();
    let mut table = board.table::<Lpae64>(48, true);
    table.map(DeviceAddr(G1 - M2 - K4), PhysAddr(3 * G1 - M2 - K4), G1 + 2 * M2 + 2 * K4, RW).unwrap();
    let level = |iova| board.walk(&table, DeviceAddr(iova)).unwrap().1;
    assert_eq!((level(G1 - M2 - K4), level(G1 - M2), level(G1), level(2 * G1), level(2 * G1 + M2)), (3, 2, 1, 2, 3));
    assert_eq!(table.resolve(DeviceAddr(G1 + 0x1234)).unwrap().0, PhysAddr(3 * G1 + 0x1234));
    // root, level 1, two of level 2, two of level 3
    assert_eq!(board.frames.in_use(), 6);
}

#[test]
fn no_block_is_larger_than_the_hardware_maps() {
    // Level of the first and of the last byte; tables: the root, two below it, and those of 2 MiB entries and of pages.
    for (block_sizes, len, levels, tables) in
        [(BLOCK_SIZES, G1 + M2, (1, 2), 3 + 1), (M2, G1 + M2, (2, 2), 3 + 2), (0, 2 * M2, (3, 3), 3 + 1 + 2)]
    {
        let board = Board::new();
        let mut table = board.table_of::<VtdSecondStage>(57, block_sizes, true);
        table.map(AT, PhysAddr(2 * G1), len, RW).unwrap();
        let walk = |table: &PageTable<_>, offset| board.walk(table, AT + offset);
        let level = |table: &PageTable<_>, offset| walk(table, offset).unwrap().1;
        assert_eq!((level(&table, 0), level(&table, len - 1)), levels, "{block_sizes:#x}");
        assert_eq!(board.frames.in_use(), tables, "{block_sizes:#x}");
        // A block is split into those that the hardware has.
        let mut gather = Gather::new();
        table.unmap(AT + K4, K4, &mut gather).unwrap();
        gather.free_tables();
        assert_eq!((level(&table, 0), walk(&table, K4)), (3, None));
        let smaller = if block_sizes == 0 { 3 } else { 2 };
        assert_eq!(walk(&table, M2 + K4).map(|w| (w.1, w.2)), Some((smaller, PhysAddr(2 * G1 + M2 + K4))));
    }
}

#[test]
fn addresses_with_different_alignment_get_smaller_blocks() {
    let board = Board::new();
    let mut table = board.table::<Lpae32>(32, true);
    table.map(AT, PhysAddr(2 * G1 + M2), G1, RW).unwrap();
    assert_eq!(board.walk(&table, AT).unwrap().1, 2);
    table.map(DeviceAddr(0), PhysAddr(K4), M2, RW).unwrap();
    assert_eq!(board.walk(&table, DeviceAddr(M2 - 1)).map(|w| (w.1, w.2)), Some((3, PhysAddr(M2 + K4 - 1))));
}

#[test]
fn a_refused_map_or_unmap_names_the_address_and_changes_nothing() {
    let board = Board::new();
    let mut table = board.table::<Lpae32>(32, true);
    table.map(AT + 3 * K4, PhysAddr(0x9000_0000), K4, RW).unwrap();
    table.map(AT + 2 * M2, PhysAddr(0x9020_0000), M2, RW).unwrap();
    let (before, tables) = (snapshot(&board, &table), board.frames.in_use());
    let past = DeviceAddr(0xffff_f000);
    let maps = [
        (AT, 0x1000, 8 * K4, RW, MapError::Exists(AT + 3 * K4)),
        (AT + M2, 0x20_0000, 4 * M2, RW, MapError::Exists(AT + 2 * M2)),
        (AT + 2 * M2 + 5 * K4, 0x1000, K4, RW, MapError::Exists(AT + 2 * M2 + 5 * K4)),
        (DeviceAddr(0), 0, 2 * G1, RW, MapError::Exists(AT + 3 * K4)),
        (AT + 1, 0x1000, K4, RW, MapError::Unaligned(AT + 1)),
        (AT, 0x1001, K4, RW, MapError::Unaligned(AT)),
        (AT, 0x1000, K4 + 1, RW, MapError::Unaligned(AT)),
        (AT, 0x1000, 0, RW, MapError::Unaligned(AT)),
        (DeviceAddr(!0xfff), 0x1000, 2 * K4, RW, MapError::Unaligned(DeviceAddr(!0xfff))),
        (past, 0x1000, 2 * K4, RW, MapError::OutOfRange(past)),
        (DeviceAddr(1 << 32), 0x1000, K4, RW, MapError::OutOfRange(DeviceAddr(1 << 32))),
        (AT, (1 << 40) - K4, 2 * K4, RW, MapError::OutOfRange(AT)),
        (AT, !0xfff, K4, RW, MapError::OutOfRange(AT)),
        (AT, 0x1000, K4, Prot::COHERENT, MapError::NoAccess(AT)),
    ];
    for (iova, phys, len, prot, error) in maps {
        assert_eq!(table.map(iova, PhysAddr(phys), len, prot), Err(error));
    }
    let unmaps = [
        (AT + 2 * K4, 2 * K4, MapError::Missing(AT + 2 * K4)),
        (AT + 3 * K4, 2 * K4, MapError::Missing(AT + 4 * K4)),
        (AT + 2 * M2, 2 * M2, MapError::Missing(AT + 3 * M2)),
        (DeviceAddr(0), K4, MapError::Missing(DeviceAddr(0))),
        (AT, 3, MapError::Unaligned(AT)),
        (AT, !0xfff, MapError::Unaligned(AT)),
        (past, 2 * K4, MapError::OutOfRange(past)),
    ];
    let mut gather = Gather::new();
    for (iova, len, error) in unmaps {
        assert_eq!(table.unmap(iova, len, &mut gather), Err(error));
    }
    assert!(gather.is_empty());
    assert_eq!((snapshot(&board, &table), board.frames.in_use()), (before, tables));
    assert_eq!(table.resolve(DeviceAddr(1 << 32)), None);
}

#[test]
fn a_failed_allocation_of_a_table_page_changes_nothing() {
    // Ranges that need several tables: a map over empty space, and an unmap that cuts through two blocks.
    let change = |table: &mut PageTable<Lpae64>, gather: &mut Gather, unmap: bool| {
        if unmap {
            table.unmap(AT + M2 + K4, G1, gather)
        } else {
            table.map(AT + (3 * G1 - K4), PhysAddr(K4), 2 * M2, RW)
        }
    };
    for (unmap, needed) in [(false, 5), (true, 4)] {
        let board = Board::new();
        let mut table = board.table::<Lpae64>(48, true);
        table.map(AT, PhysAddr(4 * G1), 2 * G1, RW).unwrap();
        let (before, tables) = (snapshot(&board, &table), board.frames.in_use());
        let mut gather = Gather::new();
        for allowed in 0..needed {
            board.pages.allow(allowed);
            assert_eq!(change(&mut table, &mut gather, unmap), Err(MapError::OutOfMemory), "{allowed} allowed");
            assert_eq!((snapshot(&board, &table), board.frames.in_use()), (before.clone(), tables));
            assert!(gather.is_empty());
        }
        board.pages.allow(needed);
        change(&mut table, &mut gather, unmap).unwrap();
        gather.free_tables();
    }
}

#[test]
fn unmapping_part_of_a_block_preserves_the_rest() {
    let board = Board::new();
    let mut table = board.table::<Lpae64>(48, true);
    table.map(AT, PhysAddr(4 * G1), G1, Prot::READ | Prot::COHERENT).unwrap();
    let mut gather = Gather::new();
    table.unmap(AT + 5 * M2 + 7 * K4, 2 * K4, &mut gather).unwrap();
    // The hardware may cache the block as one entry.
    assert_eq!(gather.range(), Some((AT, AT + (G1 - 1))));
    gather.free_tables();
    for (offset, level) in [(0, 2), (5 * M2, 3), (5 * M2 + 6 * K4, 3), (5 * M2 + 9 * K4, 3), (6 * M2, 2), (G1 - 1, 2)] {
        let (entry, got, phys) = board.walk(&table, AT + offset).unwrap();
        assert_eq!((got, phys), (level, PhysAddr(4 * G1 + offset)));
        assert_eq!(Lpae64::prot(entry), Prot::READ | Prot::COHERENT);
    }
    for offset in [5 * M2 + 7 * K4, 5 * M2 + 8 * K4 + 4095] {
        assert_eq!(board.walk(&table, AT + offset), None);
    }
    let mut gather = Gather::new();
    table.unmap(AT + 9 * M2 + K4, M2 - K4, &mut gather).unwrap();
    assert_eq!(gather.range(), Some((AT + 9 * M2, AT + (10 * M2 - 1))));
    gather.free_tables();
    assert_eq!(board.walk(&table, AT + 9 * M2).unwrap().2, PhysAddr(4 * G1 + 9 * M2));
}

/// Whatever a device may do with a block, it may with what is left of it, and nothing else.
fn keeps_all_rights_in_a_split<F: Format>(input_bits: u32) {
    let kinds = [Prot::empty(), Prot::COHERENT, Prot::MMIO];
    let rights = [Prot::READ, Prot::WRITE, RW];
    for prot in kinds.iter().flat_map(|kind| rights.map(|right| right | *kind)) {
        for (block, part) in [(M2, K4), (G1, M2), (G1, K4)] {
            let board = Board::new();
            let mut table = board.table::<F>(input_bits, true);
            table.map(AT, PhysAddr(2 * G1), block, prot).unwrap();
            let whole = F::prot(board.walk(&table, AT).unwrap().0);
            assert!(whole.contains(prot & RW));
            let mut gather = Gather::new();
            table.unmap(AT + part, part, &mut gather).unwrap();
            gather.free_tables();
            for offset in [0, part - 1, 2 * part, block - 1] {
                let case = format!("{} {prot:?}, {block:#x} without {part:#x} at {offset:#x}", F::NAME);
                let found = board.walk(&table, AT + offset).map(|(entry, _, phys)| (phys, F::prot(entry)));
                assert_eq!(found, Some((PhysAddr(2 * G1 + offset), whole)), "{case}");
                assert_eq!(table.resolve(AT + offset), found, "{case}");
            }
        }
    }
}

#[test]
fn a_split_keeps_all_rights_that_a_format_has() {
    keeps_all_rights_in_a_split::<Lpae32>(32);
    keeps_all_rights_in_a_split::<Lpae64>(48);
    keeps_all_rights_in_a_split::<VtdSecondStage>(48);
}

#[test]
fn empty_tables_are_freed_after_the_flush() {
    let board = Board::new();
    let mut table = board.table::<Lpae32>(32, false);
    table.map(AT, PhysAddr(0x9000_0000), 3 * K4, RW).unwrap();
    table.map(AT + M2, PhysAddr(0x9000_0000), K4, RW).unwrap();
    assert_eq!(board.frames.in_use(), 4);
    let mut gather = Gather::new();
    table.unmap(AT, K4, &mut gather).unwrap();
    assert!(!gather.tables_freed());
    table.unmap(AT + K4, 2 * K4, &mut gather).unwrap();
    assert!(gather.tables_freed());
    table.unmap(AT + M2, K4, &mut gather).unwrap();
    assert_eq!(board.word(table.root(), 1), 0);
    assert_eq!(board.frames.in_use(), 4, "P2: not before the flush");
    assert_eq!(gather.range(), Some((AT, AT + (M2 + K4 - 1))));
    gather.free_tables();
    assert_eq!(board.frames.in_use(), 1);
    drop(table);
    assert_eq!(board.frames.in_use(), 0);
}

#[test]
fn empty_tables_are_kept_within_a_bound_if_the_caller_asks_for_it() {
    let board = Board::new();
    let mut table = board.table::<Lpae64>(48, true);
    let places: Vec<_> = (0..40_u64).map(|n| DeviceAddr(n * M2)).collect();
    for at in &places {
        table.map(*at, PhysAddr(0x9000_0000), K4, RW).unwrap();
    }
    let all = board.frames.in_use();
    for at in &places {
        let mut gather = Gather::keeping_tables();
        table.unmap(*at, K4, &mut gather).unwrap();
        gather.free_tables();
        assert_eq!((table.resolve(*at), board.walk(&table, *at)), (None, None), "P2");
    }
    assert_eq!(all - board.frames.in_use(), 8, "32 of 40 are kept");
    table.map(places[0], PhysAddr(0x9000_0000), K4, RW).unwrap();
    assert_eq!(all - board.frames.in_use(), 8, "its table was kept");
    let mut gather = Gather::new();
    table.unmap(places[0], K4, &mut gather).unwrap();
    gather.free_tables();
    assert_eq!(all - board.frames.in_use(), 9, "another caller keeps none");
}

#[test]
fn dropping_a_table_frees_every_page() {
    let board = Board::new();
    let mut table = board.table::<Lpae64>(48, true);
    for n in 0..20u64 {
        table.map(DeviceAddr(n * (G1 + M2 + K4) * 5), PhysAddr(K4 * n), 3 * K4, RW).unwrap();
    }
    assert!(board.frames.in_use() > 40);
    drop(table);
    assert_eq!(board.frames.in_use(), 0);
}

#[test]
fn each_run_of_entries_is_cleaned_once_when_the_walker_does_not_snoop() {
    let board = Board::new();
    let mut table = board.table::<Lpae32>(32, false);
    table.map(AT, PhysAddr(0x9000_0000), K4, RW).unwrap();
    let level3 = PhysAddr(board.word(PhysAddr(board.word(table.root(), 1) & 0xff_ffff_f000), 0) & 0xff_ffff_f000);
    board.memory.take_cache_ops();
    table.map(AT + 4 * K4, PhysAddr(0x9000_0000), 100 * K4, RW).unwrap();
    assert_eq!(board.memory.take_cache_ops(), [(CacheOp::Clean, level3 + 32, 800)]);
    let mut gather = Gather::new();
    table.unmap(AT + 4 * K4, 50 * K4, &mut gather).unwrap();
    assert_eq!(board.memory.take_cache_ops(), [(CacheOp::Clean, level3 + 32, 400)]);
    gather.free_tables();

    let mut snooping = board.table::<Lpae32>(32, true);
    snooping.map(AT, PhysAddr(0x9000_0000), K4, RW).unwrap();
    board.memory.take_cache_ops();
    snooping.map(AT + 4 * K4, PhysAddr(0x9000_0000), 100 * K4, RW).unwrap();
    assert!(board.memory.take_cache_ops().is_empty());
}

#[test]
fn a_table_is_cleaned_before_the_entry_that_points_to_it() {
    let board = Board::new();
    let mut table = board.table::<Lpae32>(32, false);
    board.memory.take_cache_ops();
    table.map(AT, PhysAddr(0x9000_0000), K4, RW).unwrap();
    let level2 = PhysAddr(board.word(table.root(), 1) & 0xff_ffff_f000);
    let level3 = PhysAddr(board.word(level2, 0) & 0xff_ffff_f000);
    let ops = board.memory.take_cache_ops();
    let entries: Vec<_> = ops.into_iter().filter(|op| op.2 != K4).collect();
    let clean = |at| (CacheOp::Clean, at, 8);
    assert_eq!(entries, [clean(level3), clean(level2), clean(table.root() + 8)]);
}

/// The rest of the block is translated by the new table the moment the entry points to it: what the walker finds in RAM then is all.
#[test]
fn a_split_cleans_the_new_table_what_is_erased_of_it_and_the_entry_and_nothing_else() {
    let board = Board::new();
    let mut table = board.table::<Lpae32>(32, false);
    table.map(AT, PhysAddr(0x9000_0000), M2, RW).unwrap();
    board.memory.take_cache_ops();
    let mut gather = Gather::new();
    table.unmap(AT + 5 * K4, 2 * K4, &mut gather).unwrap();
    gather.free_tables();
    let level2 = PhysAddr(board.word(table.root(), 1) & 0xff_ffff_f000);
    let level3 = PhysAddr(board.word(level2, 0) & 0xff_ffff_f000);
    let clean = |at, len| (CacheOp::Clean, at, len);
    let mut ops = board.memory.take_cache_ops();
    // Once more when it was zeroed.
    ops.dedup();
    assert_eq!(ops, [clean(level3, K4), clean(level3 + 40, 16), clean(level2, 8)]);
}
