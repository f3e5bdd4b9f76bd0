//! Leases: the holder's maps and unmaps, what others may not do meanwhile, and the end.

use std::vec::Vec;

use super::board::*;
use crate::addr::{DeviceAddr, PhysAddr};
use crate::env::CacheOp;
use crate::iommu::pgtable::lease::MAX_LEASED;
use crate::iommu::pgtable::{Format, Lpae32, Lpae64};
use crate::iommu::{Gather, MapError, Prot};

const AT: DeviceAddr = DeviceAddr(G1);
const RAM_AT: PhysAddr = PhysAddr(0x9000_0000);

#[test]
fn what_a_lease_maps_is_what_a_walk_finds_and_what_the_table_would_have_written() {
    let board = Board::new();
    let (mut table, mut other) = (board.table::<Lpae32>(32, true), board.table::<Lpae32>(32, true));
    let mut lease = table.lease(AT, 16 * K4).unwrap();
    assert_eq!((board.walk(&table, AT), table.resolve(AT)), (None, None), "nothing is mapped yet");
    for pages in [1, 2, 9, 16] {
        for prot in [RW, Prot::READ, Prot::WRITE | Prot::COHERENT, RW | Prot::MMIO] {
            lease.map(RAM_AT, pages * K4, prot).unwrap();
            other.map(AT, RAM_AT, pages * K4, prot).unwrap();
            for page in 0..17 {
                let at = AT + page * K4;
                assert_eq!(board.walk(&table, at), board.walk(&other, at), "{pages} pages, {prot:?}");
                assert_eq!(table.resolve(at), other.resolve(at));
            }
            let (mut own, mut gather) = (Gather::new(), Gather::new());
            assert_eq!(lease.unmap(pages * K4, &mut own), Ok(true));
            other.unmap(AT, pages * K4, &mut gather).unwrap();
            assert_eq!(own.range(), gather.range());
            assert!((0..16).all(|page| board.walk(&table, AT + page * K4).is_none()), "P2");
            own.free_tables();
            gather.free_tables();
        }
    }
}

#[test]
fn a_list_is_mapped_as_a_whole_or_not_at_all() {
    let board = Board::new();
    let mut table = board.table::<Lpae64>(48, true);
    let mut lease = table.lease(AT, 8 * K4).unwrap();
    let runs = [(RAM_AT, K4), (RAM_AT + 8 * K4, 3 * K4), (RAM_AT, 2 * K4)];
    lease.map_runs(runs.into_iter(), RW).unwrap();
    let phys: Vec<_> = (0..8).map(|page| table.resolve(AT + page * K4).map(|(phys, _)| phys.0 - RAM_AT.0)).collect();
    let pages = [0, 8, 9, 10, 0, 1].map(|page| Some(page * K4));
    assert_eq!(phys[..6], pages);
    assert_eq!(phys[6..], [None, None]);
    assert_eq!(lease.map_runs([(RAM_AT, K4)].into_iter(), RW), Err(MapError::Exists(AT)));
    let mut gather = Gather::new();
    assert_eq!(lease.unmap(7 * K4, &mut gather), Err(MapError::Missing(AT + 6 * K4)), "a hole");
    assert!(gather.is_empty() && table.resolve(AT).is_some(), "it changed nothing");
    assert_eq!(lease.unmap(6 * K4, &mut gather), Ok(true));
    let bad = [
        (Vec::from([(RAM_AT, 4 * K4), (RAM_AT, 5 * K4)]), MapError::OutOfRange(AT + 4 * K4)),
        (Vec::from([(RAM_AT, K4), (RAM_AT + 1, K4)]), MapError::Unaligned(AT + K4)),
        (Vec::from([(RAM_AT, K4), (RAM_AT, 5)]), MapError::Unaligned(AT + K4)),
        (Vec::from([(RAM_AT, K4), (PhysAddr((1 << 40) - K4), 2 * K4)]), MapError::OutOfRange(AT + K4)),
        (Vec::from([(RAM_AT, K4), (RAM_AT, 0)]), MapError::Unaligned(AT + K4)),
    ];
    for (runs, error) in bad {
        let mapped = lease.map_runs(runs.clone().into_iter(), RW);
        assert_eq!(mapped, Err(error), "{runs:?}");
        assert!((0..8).all(|page| board.walk(&table, AT + page * K4).is_none()), "{runs:?} changed something");
    }
    assert_eq!(lease.map_runs([(RAM_AT, K4)].into_iter(), Prot::COHERENT), Err(MapError::NoAccess(AT)));
    gather.free_tables();
}

#[test]
fn a_lease_refuses_what_the_table_refuses() {
    let board = Board::new();
    let mut table = board.table::<Lpae64>(48, true);
    let mut lease = table.lease(AT, 4 * K4).unwrap();
    let maps = [
        (RAM_AT, 5 * K4, RW, MapError::OutOfRange(AT)),
        (RAM_AT, 0, RW, MapError::Unaligned(AT)),
        (RAM_AT, K4 + 1, RW, MapError::Unaligned(AT)),
        (RAM_AT + 1, K4, RW, MapError::Unaligned(AT)),
        (PhysAddr(1 << 40), K4, RW, MapError::OutOfRange(AT)),
        (PhysAddr((1 << 40) - K4), 2 * K4, RW, MapError::OutOfRange(AT)),
        (PhysAddr(!0xfff), 2 * K4, RW, MapError::OutOfRange(AT)),
        (RAM_AT, K4, Prot::COHERENT, MapError::NoAccess(AT)),
    ];
    for (phys, len, prot, error) in maps {
        assert_eq!(lease.map(phys, len, prot), Err(error), "{phys} + {len:#x}");
    }
    lease.map(RAM_AT, 2 * K4, RW).unwrap();
    assert_eq!(lease.map(RAM_AT, 4 * K4, RW), Err(MapError::Exists(AT)), "mapped twice");
    let mut gather = Gather::new();
    for len in [0, 3 * K4, 5 * K4, K4 + 1] {
        assert!(lease.unmap(len, &mut gather).is_err(), "{len:#x}");
    }
    assert!(gather.is_empty());
    assert_eq!(lease.unmap(2 * K4, &mut gather), Ok(true));
    assert_eq!(lease.unmap(K4, &mut gather), Err(MapError::Missing(AT)), "unmapped twice");
    gather.free_tables();
}

#[test]
fn leased_entries_are_nobody_elses() {
    let board = Board::new();
    let mut table = board.table::<Lpae64>(48, true);
    table.map(AT, RAM_AT, K4, RW).unwrap();
    assert!(table.lease(AT, 2 * K4).is_none(), "something is mapped there");
    let mut lease = table.lease(AT + K4, 2 * K4).unwrap();
    assert!(table.lease(AT + 2 * K4, 2 * K4).is_none(), "leased already");
    let mut gather = Gather::new();
    for mapped in [false, true] {
        if mapped {
            lease.map(RAM_AT, 2 * K4, RW).unwrap();
        }
        assert_eq!(table.map(AT + 2 * K4, RAM_AT, 2 * K4, RW), Err(MapError::Exists(AT + 2 * K4)));
        assert_eq!(table.map(DeviceAddr(0), PhysAddr(0), 2 * G1, RW), Err(MapError::Exists(AT)));
        let run = &mut [(RAM_AT, K4); 3].into_iter();
        assert_eq!(table.map_runs(AT + 2 * K4, run, RW), Err((0, MapError::Exists(AT + 2 * K4))));
        assert_eq!(table.unmap(AT + K4, K4, &mut gather), Err(MapError::Missing(AT + K4)));
        assert_eq!(table.unmap(AT, 3 * K4, &mut gather), Err(MapError::Missing(AT + K4)));
        assert_eq!(table.resolve(AT + K4).is_some(), mapped);
    }
    assert!(gather.is_empty());
    // The whole of a table cannot go either.
    table.map(AT + 3 * K4, RAM_AT + 3 * K4, M2 - 3 * K4, RW).unwrap();
    assert_eq!(table.unmap(AT, M2, &mut gather), Err(MapError::Missing(AT + K4)));
    table.unmap(AT, K4, &mut gather).unwrap();
    table.unmap(AT + 3 * K4, M2 - 3 * K4, &mut gather).unwrap();
    assert!(!gather.tables_freed(), "the lease keeps its table");
    assert_eq!(lease.unmap(2 * K4, &mut gather), Ok(true));
    gather.free_tables();
}

#[test]
fn a_lease_that_ends_leaves_nothing_mapped_and_no_table() {
    for mapped in [0, 1, 4] {
        let board = Board::new();
        let mut table = board.table::<Lpae64>(48, true);
        let mut lease = table.lease(AT, 4 * K4).unwrap();
        assert_eq!(board.frames.in_use(), 4, "the tables on the way are made");
        if mapped != 0 {
            lease.map(RAM_AT, mapped * K4, RW).unwrap();
        }
        drop(lease);
        let mut gather = Gather::new();
        assert_eq!(table.end_lease(AT, 5 * K4, &mut gather), Err(MapError::Missing(AT)), "not leased as a whole");
        assert_eq!(table.end_lease(AT, 4 * K4, &mut gather), Ok(true));
        assert_eq!(gather.range().is_some(), mapped != 0, "what was mapped is flushed");
        assert!((0..4).all(|page| board.walk(&table, AT + page * K4).is_none()), "P2");
        assert_eq!(table.end_lease(AT, 4 * K4, &mut gather), Err(MapError::Missing(AT)), "it has ended");
        gather.free_tables();
        assert_eq!((table.kept, table.leased), (1, 0), "its table is kept for the next one");
        table.map(AT, RAM_AT, K4, RW).unwrap();
        assert_eq!(table.kept, 0);
        drop(table);
        assert_eq!(board.frames.in_use(), 0, "P4");
    }
}

#[test]
fn tables_of_leases_that_ended_are_kept_within_the_bound_and_the_others_wait_for_a_flush() {
    let board = Board::new();
    let mut table = board.table::<Lpae64>(48, true);
    // As many as are kept, of callers who asked for it.
    for n in 0..32_u64 {
        let mut gather = Gather::keeping_tables();
        table.map(AT + (100 + n) * M2, RAM_AT, K4, RW).unwrap();
        table.unmap(AT + (100 + n) * M2, K4, &mut gather).unwrap();
        gather.free_tables();
    }
    let before = board.frames.in_use();
    drop(table.lease(AT, K4).unwrap());
    let mut gather = Gather::new();
    table.end_lease(AT, K4, &mut gather).unwrap();
    assert!(gather.tables_freed() && gather.range().is_some(), "the walk to it is flushed");
    assert_eq!(board.frames.in_use(), before + 1, "P2: not before");
    gather.free_tables();
    assert_eq!((board.frames.in_use(), table.kept), (before, 32));
}

/// P2: the page of the table is lost with the lease (P9), and the hardware may have the way to it, at which the page is mapped still.
#[test]
fn the_way_to_a_table_that_a_forgotten_lease_refers_to_is_flushed_when_it_is_unlinked() {
    let board = Board::new();
    let mut table = board.table::<Lpae64>(48, true);
    core::mem::forget(table.lease(AT, K4).unwrap());
    table.map(AT + K4, RAM_AT, K4, RW).unwrap();
    let mut gather = Gather::new();
    table.end_lease(AT, K4, &mut gather).unwrap();
    assert!(!gather.tables_freed(), "it is linked");
    table.unmap(AT + K4, K4, &mut gather).unwrap();
    assert_eq!(board.walk(&table, AT + K4), None);
    assert!(gather.tables_freed(), "a walk cache has the way to the table");
    gather.free_tables();
}

#[test]
fn tables_with_leases_are_bounded() {
    let board = Board::new();
    let mut table = board.table::<Lpae64>(48, true);
    let leases: Vec<_> = (0..MAX_LEASED as u64 + 4).filter_map(|n| table.lease(AT + n * M2, K4)).collect();
    assert_eq!((leases.len(), table.leased), (MAX_LEASED, MAX_LEASED));
    let frames = board.frames.in_use();
    assert!(table.lease(AT + 100 * M2, K4).is_none());
    assert_eq!(board.frames.in_use(), frames, "no table is made for a lease that is refused");
    assert!(table.lease(AT + K4, K4).is_some(), "another one in a table that has leases");
    let last = leases.last().unwrap().iova();
    drop(leases);
    let mut gather = Gather::new();
    table.end_lease(last, K4, &mut gather).unwrap();
    assert!(table.lease(AT + 100 * M2, K4).is_some(), "there is room again");
    gather.free_tables();
}

#[test]
fn a_range_that_cannot_be_leased_is_refused_and_changes_nothing() {
    let board = Board::new();
    let mut table = board.table::<Lpae64>(48, true);
    table.map(AT + M2, PhysAddr(8 * G1), M2, RW).unwrap();
    let frames = board.frames.in_use();
    let bad = [
        (AT, 0),
        (AT, K4 + 1),
        (AT + 1, K4),
        (AT + (M2 - K4), 2 * K4),
        (AT + M2, K4),
        (DeviceAddr(1 << 48), K4),
        (DeviceAddr((1 << 48) - K4), 2 * K4),
    ];
    for (at, len) in bad {
        assert!(table.lease(at, len).is_none(), "{at} + {len:#x}");
        assert!(table.end_lease(at, len, &mut Gather::new()).is_err(), "{at} + {len:#x}");
    }
    board.pages.allow(0);
    assert!(table.lease(AT + 5 * G1, K4).is_none(), "no memory for a table");
    assert_eq!((board.frames.in_use(), table.kept, table.leased), (frames, 0, 0));
}

#[test]
fn a_lease_whose_table_is_not_linked_any_more_does_not_say_that_a_page_is_gone() {
    let board = Board::new();
    let mut table = board.table::<Lpae64>(48, true);
    let mut lease = table.lease(AT, K4).unwrap();
    lease.map(RAM_AT, K4, RW).unwrap();
    // Somebody else writes to the entry of the root that leads to the table.
    let at = table.root() + (AT.0 >> 39) * 8;
    let entry = board.word(table.root(), AT.0 >> 39);
    crate::mem::access::store_u64(&*board.memory, at, entry + K4, crate::env::Caching::Cached).unwrap();
    let mut gather = Gather::new();
    assert_eq!(lease.unmap(K4, &mut gather), Ok(false));
    crate::mem::access::store_u64(&*board.memory, at, entry, crate::env::Caching::Cached).unwrap();
    gather.free_tables();
}

#[test]
fn entries_of_a_lease_are_cleaned_once_when_the_walker_does_not_snoop() {
    let board = Board::new();
    board.memory.separate_ram();
    let mut table = board.table::<Lpae32>(32, false);
    let mut lease = table.lease(AT + 4 * K4, 64 * K4).unwrap();
    let level3 = PhysAddr(board.word(PhysAddr(board.word(table.root(), 1) & 0xff_ffff_f000), 0) & 0xff_ffff_f000);
    board.memory.take_cache_ops();
    lease.map(RAM_AT, 10 * K4, RW).unwrap();
    assert_eq!(board.memory.take_cache_ops(), [(CacheOp::Clean, level3 + 32, 80)]);
    let walked = board.walk(&table, AT + 13 * K4).map(|(entry, _, phys)| (phys, Lpae32::prot(entry)));
    assert_eq!(walked, Some((RAM_AT + 9 * K4, RW)));
    let mut gather = Gather::new();
    assert_eq!(lease.unmap(10 * K4, &mut gather), Ok(true));
    assert_eq!(board.memory.take_cache_ops(), [(CacheOp::Clean, level3 + 32, 80)]);
    assert_eq!(board.walk(&table, AT + 4 * K4), None);
    lease.map(RAM_AT, K4, RW).unwrap();
    drop(lease);
    table.end_lease(AT + 4 * K4, 64 * K4, &mut gather).unwrap();
    assert_eq!(board.walk(&table, AT + 4 * K4), None, "P2");
    gather.free_tables();
}
