//! Random maps and unmaps against a map of pages.

use std::collections::BTreeMap;
use std::vec::Vec;

use proptest::prelude::*;

use super::board::*;
use crate::addr::{DeviceAddr, PhysAddr};
use crate::env::Barrier;
use crate::iommu::pgtable::{BLOCK_SIZES, Format, Lpae32, Lpae64, VtdSecondStage};
use crate::iommu::{Gather, MapError, Prot};

/// Pages are numbered in a window of eight 2 MiB blocks across a 1 GiB boundary.
const FIRST: u64 = G1 - 4 * M2;
const PAGES: u64 = 8 * 512;

#[derive(Clone, Debug)]
enum Op {
    Map {
        page: u64,
        pages: u64,
        phys: u64,
        prot: Prot,
    },
    /// Runs: physical page and pages of each.
    MapRuns {
        page: u64,
        runs: Vec<(u64, u64)>,
    },
    Unmap {
        page: u64,
        pages: u64,
    },
    UnmapExisting {
        nth: usize,
        skip: u64,
        pages: u64,
    },
}

/// A length that is often one page, a run, or a block and something.
fn length() -> impl Strategy<Value = u64> {
    prop_oneof![1u64..8, 1u64..600, Just(512u64), Just(1024u64)]
}

fn place() -> impl Strategy<Value = u64> {
    prop_oneof![0..PAGES, (0..PAGES / 512).prop_map(|b| b * 512)]
}

fn prot() -> impl Strategy<Value = Prot> {
    prop_oneof![Just(Prot::READ), Just(Prot::WRITE), Just(RW)]
}

fn op() -> impl Strategy<Value = Op> {
    // The physical page is congruent with the device page half of the time, so that blocks occur.
    let map = (place(), length(), any::<bool>(), 0u64..1024, prot()).prop_map(|(page, pages, alike, shift, prot)| {
        Op::Map { page, pages, phys: if alike { page + (shift & 3) * 512 } else { page + shift }, prot }
    });
    // At most two blocks in all.
    let runs = proptest::collection::vec((0u64..PAGES, 1u64..17), 1..64);
    prop_oneof![
        3 => map,
        2 => (place(), runs).prop_map(|(page, runs)| Op::MapRuns { page, runs }),
        1 => (place(), length()).prop_map(|(page, pages)| Op::Unmap { page, pages }),
        3 => (any::<usize>(), 0u64..4, length()).prop_map(|(nth, skip, pages)| Op::UnmapExisting { nth, skip, pages }),
    ]
}

fn at(page: u64) -> DeviceAddr {
    DeviceAddr(FIRST + page * K4)
}

fn agrees<F: Format>(
    (input_bits, block_sizes): (u32, u64),
    coherent: bool,
    keep: bool,
    ops: Vec<Op>,
) -> Result<(), TestCaseError> {
    let board = Board::new();
    if !coherent {
        // The walker finds only what was cleaned.
        board.memory.separate_ram();
    }
    let mut table = board.table_of::<F>(input_bits, block_sizes, coherent);
    let mut oracle: BTreeMap<u64, (PhysAddr, Prot)> = BTreeMap::new();
    let unmap = |table: &mut crate::iommu::pgtable::PageTable<F>, oracle: &mut BTreeMap<_, _>, page, pages| {
        let mut gather = if keep { Gather::keeping_tables() } else { Gather::new() };
        // `true`: it is not found any more.
        let got = table.remove(at(page), pages * K4, &mut gather);
        let expected = match (page..page + pages).find(|p| !oracle.contains_key(p)) {
            Some(hole) => Err(MapError::Missing(at(hole))),
            None => Ok(true),
        };
        prop_assert_eq!(got, expected);
        if got.is_ok() {
            oracle.retain(|p, _| !(page..page + pages).contains(p));
            let (first, last) = gather.range().unwrap();
            prop_assert!(first <= at(page) && last >= DeviceAddr(at(page + pages).0 - 1));
        } else {
            prop_assert!(gather.is_empty());
        }
        gather.free_tables();
        Ok(())
    };
    for op in ops {
        board.memory.take_barriers();
        let changed;
        match op {
            Op::Map { page, pages, phys, prot } => {
                let got = table.map(at(page), PhysAddr(at(phys).0), pages * K4, prot);
                let expected = match (page..page + pages).find(|p| oracle.contains_key(p)) {
                    Some(taken) => Err(MapError::Exists(at(taken))),
                    None => Ok(()),
                };
                prop_assert_eq!(got, expected);
                changed = got.is_ok();
                if changed {
                    // Arm's formats have nothing that cannot be read.
                    let prot = if F::NAME == VtdSecondStage::NAME { prot } else { prot | Prot::READ };
                    oracle.extend((0..pages).map(|n| (page + n, (PhysAddr(at(phys + n).0), prot))));
                }
            }
            Op::MapRuns { page, runs } => {
                let mut list = runs.iter().map(|(phys, pages)| (PhysAddr(at(*phys).0), pages * K4));
                let got = table.map_runs(at(page), &mut list, RW);
                let (mut done, mut expected) = (0, Ok(()));
                changed = got.is_ok();
                for (phys, pages) in runs {
                    let first = page + done;
                    if let Some(taken) = (first..first + pages).find(|p| oracle.contains_key(p)) {
                        expected = Err((done * K4, MapError::Exists(at(taken))));
                        break;
                    }
                    oracle.extend((0..pages).map(|n| (first + n, (PhysAddr(at(phys + n).0), RW))));
                    done += pages;
                }
                prop_assert_eq!(got, expected);
            }
            Op::Unmap { page, pages } => {
                let before = oracle.len();
                unmap(&mut table, &mut oracle, page, pages)?;
                changed = oracle.len() != before;
            }
            Op::UnmapExisting { nth, skip, pages } if !oracle.is_empty() => {
                let from = *oracle.keys().nth(nth % oracle.len()).unwrap() + skip;
                let run = (from..from + pages).take_while(|p| oracle.contains_key(p)).count() as u64;
                changed = run > 0;
                if changed {
                    unmap(&mut table, &mut oracle, from, run)?;
                }
            }
            Op::UnmapExisting { .. } => changed = false,
        }
        let (barriers, cleans) = (board.memory.take_barriers(), board.memory.take_cache_ops());
        // What is written, and cleaned, is ordered before what the caller does next: it tells the walker.
        prop_assert!(!changed || barriers.last() == Some(&(Barrier::Write, cleans.len())), "{barriers:?}, {cleans:?}");
        for (_, base, len) in cleans {
            prop_assert!(base.page_offset() + len <= K4, "{len:#x} bytes at {base} are cleaned: more than a table");
        }
        let step = if cfg!(miri) { 1009 } else { 1 };
        for page in (0..PAGES + 1100).step_by(step) {
            let expected = oracle.get(&page).map(|&(phys, prot)| (phys + 5, prot));
            prop_assert_eq!(table.resolve(at(page) + 5), expected);
            let walked = board.walk(&table, at(page) + 5).map(|(entry, _, phys)| (phys, F::prot(entry)));
            prop_assert_eq!(walked, expected);
        }
    }
    while let Some(&page) = oracle.keys().next() {
        // Miri would take an hour page by page.
        let run =
            if cfg!(miri) { (page..page + PAGES).take_while(|p| oracle.contains_key(p)).count() as u64 } else { 1 };
        unmap(&mut table, &mut oracle, page, run)?;
    }
    if keep {
        // The blocks of the window and behind it, and what is above them: of five levels at most.
        prop_assert_eq!(table.kept, table.root.empty_below());
        prop_assert!(table.kept <= 12 && board.frames.in_use() <= 1 + 4 + table.kept as u64);
    } else {
        prop_assert_eq!(board.frames.in_use(), 1, "only the root is left");
    }
    drop(table);
    prop_assert_eq!(board.frames.in_use(), 0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 48 }, failure_persistence: None, ..ProptestConfig::default()
    })]
    #[test]
    fn lpae32_agrees_with_a_map_of_pages(
        keep in any::<bool>(),
        ops in proptest::collection::vec(op(), 1..if cfg!(miri) { 3 } else { 30 }),
    ) {
        agrees::<Lpae32>((32, BLOCK_SIZES), false, keep, ops)?;
    }

    #[test]
    fn lpae64_agrees_with_a_map_of_pages(
        keep in any::<bool>(),
        ops in proptest::collection::vec(op(), 1..if cfg!(miri) { 3 } else { 30 }),
    ) {
        agrees::<Lpae64>((48, BLOCK_SIZES), true, keep, ops)?;
    }

    #[test]
    fn vtd_agrees_with_a_map_of_pages(
        bits in 39u32..58,
        sizes in prop_oneof![Just(0), Just(M2), Just(BLOCK_SIZES)],
        coherent in any::<bool>(),
        keep in any::<bool>(),
        ops in proptest::collection::vec(op(), 1..if cfg!(miri) { 3 } else { 30 }),
    ) {
        agrees::<VtdSecondStage>((bits, sizes), coherent, keep, ops)?;
    }
}
