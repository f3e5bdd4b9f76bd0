use super::*;
use crate::addr::PAGE_SIZE;
use crate::mem::Caching;
use crate::mem::fake::FakeMemory;
use crate::mem::{PhysMemory, access};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec::Vec;

const BASE: u64 = 0x4800_0000;

fn memory(pages: u64) -> Arc<FakeMemory> {
    FakeMemory::new(&[(BASE, pages * PAGE_SIZE, RamUse::Frames)])
}

fn of_frames(memory: Arc<dyn Memory>) -> BuddyAllocator {
    BuddyAllocator::new("frames", memory, RamUse::Frames)
}

fn frames(pages: u64) -> BuddyAllocator {
    of_frames(memory(pages).dynamic())
}

fn request(pages: u64, align: u64, limit: u64) -> PageRequest {
    PageRequest { pages, align, limit: PhysAddr(limit) }
}

#[test]
fn allocated_pages_are_zero_in_cache_and_in_ram() {
    let memory = memory(8);
    let frames = of_frames(memory.clone());
    let base = frames.alloc(&PageRequest::new(3)).unwrap();
    let mut bytes = [1; 3 * 4096];
    access::read_bytes(&*memory, base, &mut bytes, Caching::Cached).unwrap();
    assert!(bytes.iter().all(|&b| b == 0));
    assert_eq!(memory.take_cache_ops(), [(crate::mem::CacheOp::Clean, base, 3 * 4096)]);
}

#[test]
fn a_wrong_free_is_refused_and_changes_nothing() {
    let frames = frames(64);
    let run = frames.alloc(&PageRequest::new(4)).unwrap();
    let next = frames.alloc(&PageRequest::new(4)).unwrap();
    let low = run.min(next);
    let wrong = [
        (low, 3),
        (low, 5),
        (low, 8),
        (low, 0),
        (low, u64::MAX),
        (low + PAGE_SIZE, 3),
        (PhysAddr(low.0 + 1), 4),
        (PhysAddr(0), 4),
        (PhysAddr(!4095), 4),
        (PhysAddr(BASE), 1),
    ];
    for (base, pages) in wrong {
        assert_eq!(frames.free(FreedRun::new(base, pages)), Err(ForeignPages { allocator: "frames", base, pages }));
        assert_eq!(frames.in_use(), 8);
    }
    frames.free(FreedRun::new(run, 4)).unwrap();
    assert!(frames.free(FreedRun::new(run, 4)).is_err());
    assert_eq!(frames.in_use(), 4);
}

#[test]
fn impossible_requests_fail_without_a_panic() {
    let frames = frames(16);
    for pages in [0, 17, u64::MAX / 4096, u64::MAX] {
        assert!(frames.alloc(&request(pages, 4096, u64::MAX)).is_err(), "{pages} pages");
    }
    for align in [0, 3, 4097, 1 << 63] {
        assert!(frames.alloc(&request(1, align, u64::MAX)).is_err(), "align {align:#x}");
    }
    for limit in [0, 4094, BASE - 1, BASE + 4094] {
        assert!(frames.alloc(&request(1, 4096, limit)).is_err(), "limit {limit:#x}");
    }
    assert_eq!(frames.in_use(), 0);
    assert_eq!(frames.alloc(&request(1, 4096, BASE + 4095)), Ok(PhysAddr(BASE)));
}

#[test]
fn a_region_of_any_size_and_place_can_be_allocated_as_one_run() {
    let memory = FakeMemory::new(&[(BASE + 3 * PAGE_SIZE, 21 * PAGE_SIZE, RamUse::Contiguous)]);
    let phys = PhysMemory::new(memory.dynamic());
    let cma = phys.cma().unwrap();
    assert_eq!(cma.alloc(&PageRequest::new(21)), Ok(PhysAddr(BASE + 3 * PAGE_SIZE)));
    assert!(phys.frames().alloc(&PageRequest::new(1)).is_err());
}

#[test]
fn an_allocator_refuses_pages_of_another_one() {
    let memory = FakeMemory::new(&[(BASE, 0x1_0000, RamUse::Frames), (BASE + 0x1_0000, 0x1_0000, RamUse::Contiguous)]);
    let phys = PhysMemory::new(memory.dynamic());
    let (frames, cma) = (phys.frames(), phys.cma().unwrap());
    let (a, b) = (frames.alloc(&PageRequest::new(1)).unwrap(), cma.alloc(&PageRequest::new(1)).unwrap());
    assert_eq!(cma.free(FreedRun::new(a, 1)), Err(ForeignPages { allocator: "cma", base: a, pages: 1 }));
    assert_eq!(frames.free(FreedRun::new(b, 1)), Err(ForeignPages { allocator: "frames", base: b, pages: 1 }));
    assert_eq!((frames.in_use(), cma.in_use()), (1, 1));
}

#[test]
fn memory_below_4_gib_is_used_only_when_the_limit_demands_it() {
    let high = 0x1_0000_0000;
    let memory = FakeMemory::new(&[(BASE, 0x4000, RamUse::Frames), (high, 0x10_0000, RamUse::Frames)]);
    let frames = of_frames(memory.dynamic());
    assert!(frames.alloc(&PageRequest::new(1)).unwrap().0 >= high);
    assert!(frames.alloc(&request(1, 4096, 0xffff_ffff)).unwrap().0 < high);
    let low = frames.alloc(&request(1, 4096, 0xffff_ffff)).unwrap();
    frames.free(FreedRun::new(low, 1)).unwrap();
    assert!(frames.alloc(&PageRequest::new(1)).unwrap().0 >= high);
}

#[derive(Clone, Debug)]
enum Op {
    Take(u64, u32, u64),
    Give(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (1u64..40, 0u32..5, 1u64..200).prop_map(|(p, a, l)| Op::Take(p, a, l)),
        2 => any::<usize>().prop_map(Op::Give),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 3 } else { ProptestConfig::default().cases.max(200) }, failure_persistence: None, ..ProptestConfig::default()
    })]
    /// The oracle knows which pages are allocated; a refusal is right only if no fitting run of free pages exists.
    #[test]
    fn runs_never_overlap_and_a_free_run_is_always_found(ops in proptest::collection::vec(op(), 1..if cfg!(miri) { 8 } else { 120 })) {
        const PAGES: u64 = 150;
        let frames = frames(PAGES);
        let mut live: BTreeMap<u64, u64> = BTreeMap::new();
        for op in ops {
            let free = |live: &BTreeMap<u64, u64>, page: u64| !live.iter().any(|(&s, &n)| s <= page && page < s + n);
            match op {
                Op::Take(pages, align, limit) => {
                    let got = frames.alloc(&request(pages, PAGE_SIZE << align, BASE + limit * PAGE_SIZE - 1));
                    let first_page = BASE / PAGE_SIZE;
                    let fits = (0..PAGES.min(limit)).any(|p| {
                        p + pages <= PAGES.min(limit)
                            && (first_page + p).is_multiple_of(1 << align)
                            && (p..p + pages).all(|q| free(&live, q))
                    });
                    prop_assert_eq!(got.is_ok(), fits);
                    if let Ok(base) = got {
                        let page = (base.0 - BASE) / PAGE_SIZE;
                        prop_assert!(base.is_aligned(PAGE_SIZE << align));
                        prop_assert!(page + pages <= PAGES.min(limit));
                        prop_assert!((page..page + pages).all(|q| free(&live, q)));
                        live.insert(page, pages);
                    }
                }
                Op::Give(n) if !live.is_empty() => {
                    let (&page, &pages) = live.iter().nth(n % live.len()).unwrap();
                    let base = PhysAddr(BASE + page * PAGE_SIZE);
                    prop_assert!(frames.free(FreedRun::new(base, pages + 1)).is_err());
                    prop_assert_eq!(frames.free(FreedRun::new(base, pages)), Ok(()));
                    live.remove(&page);
                }
                Op::Give(_) => {}
            }
            prop_assert_eq!(frames.in_use(), live.values().sum::<u64>());
        }
        for (page, pages) in live {
            frames.free(FreedRun::new(PhysAddr(BASE + page * PAGE_SIZE), pages)).unwrap();
        }
        prop_assert!(frames.alloc(&PageRequest::new(PAGES)).is_ok());
    }
}

#[test]
fn concurrent_allocations_and_frees_lose_no_page() {
    let frames = frames(256);
    let rounds = if cfg!(miri) { 1 } else { 200 };
    std::thread::scope(|s| {
        for t in 1..4u64 {
            let frames = &frames;
            s.spawn(move || {
                for i in 0..rounds {
                    let runs: Vec<_> = (1..6)
                        .map(|n| (frames.alloc(&PageRequest::new((n * t + i) % 7 + 1)), (n * t + i) % 7 + 1))
                        .collect();
                    for (run, pages) in runs {
                        frames.free(FreedRun::new(run.unwrap(), pages)).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(frames.in_use(), 0);
    assert!(frames.alloc(&PageRequest::new(256)).is_ok());
}
