use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec;

const ALL: DeviceAddr = DeviceAddr(u64::MAX);
const MASK32: DeviceAddr = DeviceAddr(0xffff_ffff);

fn space32() -> IovaSpace {
    IovaSpace::new(DeviceAddr(0), MASK32, &[])
}

#[test]
fn the_first_page_of_a_32_bit_space_is_its_last() {
    let space = space32();
    assert_eq!(space.alloc(1, MASK32), Ok(DeviceAddr(0xffff_f000)));
    assert_eq!(space.alloc(1, MASK32), Ok(DeviceAddr(0xffff_e000)));
    assert_eq!(space.alloc(17, MASK32), Ok(DeviceAddr(0xfffc_0000)));
}

#[test]
fn a_mask_limits_one_allocation_and_not_the_next() {
    let space = IovaSpace::new(DeviceAddr(0), DeviceAddr((1 << 48) - 1), &[]);
    assert_eq!(space.alloc(1, ALL), Ok(DeviceAddr((1 << 48) - 4096)));
    assert_eq!(space.alloc(1, MASK32), Ok(DeviceAddr(0xffff_f000)));
    assert_eq!(space.alloc(1, DeviceAddr(0xff_ffff)), Ok(DeviceAddr(0xff_f000)));
    assert_eq!(space.alloc(1, DeviceAddr(0xff_fffe)), Ok(DeviceAddr(0xff_e000)));
    assert!(space.alloc(1, ALL).unwrap() > MASK32);
}

#[test]
fn address_0_is_never_allocated() {
    let space = IovaSpace::new(DeviceAddr(0), DeviceAddr(0x3fff), &[]);
    for expected in [0x3000, 0x2000, 0x1000] {
        assert_eq!(space.alloc(1, ALL), Ok(DeviceAddr(expected)));
    }
    assert_eq!(space.alloc(1, ALL), Err(IovaError::Exhausted { pages: 1, limit: ALL }));
}

#[test]
fn no_page_that_touches_a_reserved_range_is_allocated() {
    let reserved =
        [(DeviceAddr(0x8fff), DeviceAddr(0x9000)), (DeviceAddr(0), DeviceAddr(0x7fff)), (ALL, DeviceAddr(0))];
    let space = IovaSpace::new(DeviceAddr(0x1), DeviceAddr(0xbfff), &reserved);
    assert_eq!(space.alloc(1, ALL), Ok(DeviceAddr(0xb000)));
    assert_eq!(space.alloc(1, ALL), Ok(DeviceAddr(0xa000)));
    assert!(space.alloc(1, ALL).is_err());
    let nothing = IovaSpace::new(DeviceAddr(0), ALL, &[(DeviceAddr(0), ALL)]);
    assert!(nothing.alloc(1, ALL).is_err());
}

#[test]
fn a_range_that_is_not_one_allocation_is_not_freed() {
    let space = space32();
    let addr = space.alloc(4, MASK32).unwrap();
    for (a, pages) in [(addr, 3), (addr, 5), (addr + 4096, 3), (DeviceAddr(addr.0 + 1), 4), (addr, 0), (ALL, u64::MAX)]
    {
        assert_eq!(space.free(a, pages), Err(IovaError::NotAllocated { addr: a, pages }));
    }
    assert_eq!(space.in_use(), 4);
    space.free(addr, 4).unwrap();
    assert!(space.free(addr, 4).is_err());
    assert_eq!(space.in_use(), 0);
}

#[test]
fn absurd_sizes_and_limits_are_refused() {
    let space = space32();
    for (pages, limit) in [(0, ALL), (u64::MAX, ALL), (1 << 20, ALL), (1, DeviceAddr(0)), (2, DeviceAddr(0x1fff))] {
        assert_eq!(space.alloc(pages, limit), Err(IovaError::Exhausted { pages, limit }));
    }
    assert!(space.alloc(1 << 19, ALL).is_ok());
}

/// A small deterministic generator, so that the occupancy reached is the same everywhere.
fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn a_32_bit_space_fills_to_97_percent_before_the_first_failure() {
    let space = if cfg!(miri) { IovaSpace::new(DeviceAddr(0), DeviceAddr(0xff_ffff), &[]) } else { space32() };
    let total = if cfg!(miri) { 1 << 12 } else { 1 << 20 };
    let orders = if cfg!(miri) { 4 } else { 10 };
    let (mut seed, mut live) = (0x9e37_79b9_7f4a_7c15, vec![]);
    // Churn first: one of three is freed, at random, so that holes of every size exist.
    let occupied = loop {
        let pages = 1 << (xorshift(&mut seed) % orders);
        match space.alloc(pages, MASK32) {
            Ok(addr) => live.push((addr, pages)),
            Err(_) => break space.in_use(),
        }
        if xorshift(&mut seed).is_multiple_of(3) {
            let (addr, pages) = live.swap_remove(xorshift(&mut seed) as usize % live.len());
            space.free(addr, pages).unwrap();
        }
    };
    assert!(occupied * 100 >= total * 97, "first failure at {occupied} of {total} pages");
    for (addr, pages) in live {
        space.free(addr, pages).unwrap();
    }
    assert!(space.alloc(total / 2, ALL).is_ok(), "holes joined again");
}

#[derive(Clone, Debug)]
enum Op {
    Alloc(u64, u64),
    Free(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (1u64..20, 1u64..140).prop_map(|(p, l)| Op::Alloc(p, l)),
        2 => any::<usize>().prop_map(Op::Free),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 3 } else { ProptestConfig::default().cases.max(300) }, failure_persistence: None, ..ProptestConfig::default()
    })]
    #[test]
    fn agrees_with_a_page_by_page_oracle(
        reserved in proptest::collection::vec((0u64..128, 0u64..8), 0..4),
        ops in proptest::collection::vec(op(), 1..150),
    ) {
        const PAGES: u64 = 128;
        let byte = |p: u64| DeviceAddr(p * PAGE_SIZE);
        let holes: std::vec::Vec<_> = reserved.iter().map(|&(p, n)| (byte(p), DeviceAddr(byte(p + n).0 + 1))).collect();
        let space = IovaSpace::new(byte(0), DeviceAddr(byte(PAGES).0 - 1), &holes);
        let mut live: BTreeMap<u64, u64> = BTreeMap::new();
        for op in ops {
            let free = |live: &BTreeMap<u64, u64>, page: u64| {
                page != 0
                    && !reserved.iter().any(|&(p, n)| p <= page && page <= p + n)
                    && !live.iter().any(|(&s, &n)| s <= page && page < s + n)
            };
            match op {
                Op::Alloc(pages, limit) => {
                    let got = space.alloc(pages, DeviceAddr(byte(limit).0 - 1));
                    // A place exists if an aligned block of the rounded size is free as far as the range itself needs
                    // pages below the limit; blocks cut short by the limit count with what lies below it.
                    let size = pages.next_power_of_two();
                    let fits = (0..PAGES).step_by(size as usize).any(|p| {
                        p + pages <= PAGES.min(limit) && (p..p + size).all(|q| q < PAGES && free(&live, q))
                    });
                    prop_assert_eq!(got.is_ok(), fits);
                    if let Ok(addr) = got {
                        let page = addr.0 / PAGE_SIZE;
                        prop_assert!(page.is_multiple_of(size) && page + pages <= PAGES.min(limit));
                        prop_assert!((page..page + pages).all(|q| free(&live, q)));
                        live.insert(page, pages);
                    }
                }
                Op::Free(n) if !live.is_empty() => {
                    let (&page, &pages) = live.iter().nth(n % live.len()).unwrap();
                    prop_assert!(space.free(byte(page), pages + 1).is_err());
                    prop_assert_eq!(space.free(byte(page), pages), Ok(()));
                    prop_assert!(space.free(byte(page), pages).is_err());
                    live.remove(&page);
                }
                Op::Free(_) => {}
            }
            prop_assert_eq!(space.in_use(), live.values().sum::<u64>());
        }
    }
}

#[test]
fn addresses_are_allocated_inside_the_windows_of_the_bus_only() {
    let at = |a: u64, b: u64| (DeviceAddr(a), DeviceAddr(b));
    let space = IovaSpace::new(DeviceAddr(0), MASK32, &[at(0x8_0000, 0x8_0fff)]);
    // The highest window is not page aligned, the lowest begins below the space and has a reserved page.
    let windows = space
        .intersect([at(0, 0x1fff), at(0x8_0000, 0x8_1fff), at(0x10_0800, 0x10_27ff), at(1 << 40, 1 << 41)].into_iter());
    assert_eq!(windows.len(), 3, "{windows:?}");
    let reach = AddressingLimits { limit: MASK32, windows: &windows };
    let got: Vec<_> = core::iter::from_fn(|| space.alloc_limited(1, reach).ok()).map(|a| a.0).collect();
    assert_eq!(got, [0x10_1000, 0x8_1000, 0x1000]);
    assert_eq!(space.in_use(), 3, "pages below a window were freed again");
    space.free(DeviceAddr(0x8_1000), 1).unwrap();
    let low = AddressingLimits { limit: DeviceAddr(0x8_1ffe), windows: &windows };
    assert!(space.alloc_limited(1, low).is_err(), "the mask ends within the page");
    assert_eq!(space.alloc_limited(1, reach), Ok(DeviceAddr(0x8_1000)));
    assert!(space.intersect([at(1 << 33, u64::MAX), at(0x800, 0x17ff)].into_iter()).is_empty());
}

proptest! {
    /// Each free page of a window is allocated, whatever was allocated and freed before, and none outside.
    #[test]
    fn every_free_page_of_a_window_is_allocated_and_none_outside(
        first in 1_u64..200,
        len in 1_u64..100,
        others in proptest::collection::vec((1_u64..20, any::<bool>()), 0..30),
    ) {
        let space = IovaSpace::new(DeviceAddr(0), DeviceAddr((1 << 20) - 1), &[]);
        let mut out = BTreeMap::new();
        for (pages, freed) in others {
            let Ok(addr) = space.alloc(pages, DeviceAddr(u64::MAX)) else { continue };
            if freed {
                space.free(addr, pages).unwrap();
            } else {
                out.insert(addr.0 >> 12, pages);
            }
        }
        let last = (first + len - 1).min(255);
        prop_assume!(first <= last);
        let window = [(DeviceAddr(first << 12), DeviceAddr((last << 12) + 4095))];
        let reach = AddressingLimits { limit: DeviceAddr(u64::MAX), windows: &window };
        let taken = |page: u64| out.iter().any(|(at, n)| (*at..at + n).contains(&page));
        let free: Vec<u64> = (first..=last).filter(|page| !taken(*page)).collect();
        let mut got: Vec<u64> = core::iter::from_fn(|| space.alloc_limited(1, reach).ok()).map(|a| a.0 >> 12).collect();
        got.sort_unstable();
        prop_assert_eq!(got, free);
    }
}
