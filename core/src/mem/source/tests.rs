//! What the core takes from a source, and what it refuses.

use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::PageSource;
use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::mem::fake::FakeMemory;
use crate::mem::{
    AllocError, BadRun, BuddyAllocator, FreedRun, PageRequest, PageRun, PhysMemory, RamUse, RunFault, access,
};
use crate::sync::Mutex;

const RAM: u64 = 0x4000_0000;
const CMA: u64 = 0x5000_0000;

fn ram() -> Arc<FakeMemory> {
    FakeMemory::new(&[(RAM, 64 << 12, RamUse::Frames), (CMA, 4 << 12, RamUse::Contiguous)])
}

/// A source that gives what it is told to, and then nothing.
#[derive(Default)]
struct Scripted {
    gives: Mutex<VecDeque<u64>>,
    taken_back: Mutex<Vec<(u64, u64)>>,
}

impl PageSource for Scripted {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn take(&self, _: &PageRequest) -> Option<PhysAddr> {
        self.gives.lock().pop_front().map(PhysAddr)
    }

    fn give_back(&self, run: FreedRun) {
        self.taken_back.lock().push((run.base().0, run.pages()));
    }

    fn withdraw(&self, _: PhysAddr, _: PhysAddr) -> bool {
        false
    }
}

#[test]
fn a_source_that_lies_is_refused_by_name_and_place_and_nothing_of_it_is_used() {
    let source = Arc::new(Scripted::default());
    let phys = PhysMemory::with_source(ram().dynamic(), Arc::clone(&source) as _);
    let take = |base: u64, request: PageRequest| {
        source.gives.lock().push_back(base);
        PageRun::alloc(phys.frames(), &request)
    };
    let limit = PhysAddr(RAM + 0x4_0000);
    let kept = take(RAM + 0x1_0000, PageRequest::new(4)).unwrap();
    assert_eq!((kept.allocator(), phys.frames().in_use()), ("kernel", 4));
    let given = RunFault::Overlaps { at: PhysAddr(RAM + 0x1_0000), of: "kernel" };
    let (any, aligned) = (PageRequest::new(2), PageRequest { align: 0x4000, ..PageRequest::new(2) });
    let low = PageRequest { limit, ..PageRequest::new(2) };
    let cases = [
        (RAM + 0x1_0000, any, given),
        (RAM + 0xf000, any, given),
        (RAM + 0x1_3000, any, given),
        (RAM + 0x800, any, RunFault::Misaligned),
        (RAM + 0x3_f000, any, RunFault::NotRam),
        (0x1000, any, RunFault::NotRam),
        (!0xfff, any, RunFault::Size),
        (CMA + 0x1000, any, RunFault::Managed(RamUse::Contiguous)),
        (RAM + 0x2000, aligned, RunFault::Unaligned(0x4000)),
        (
            RAM + 0x2_0000,
            PageRequest { limit: PhysAddr(RAM + 0x2_1ffe), ..low },
            RunFault::AboveLimit(PhysAddr(RAM + 0x2_1ffe)),
        ),
    ];
    for (base, request, fault) in cases {
        let bad = BadRun { owner: "kernel", base: PhysAddr(base), pages: 2, fault };
        let refused = take(base, request).unwrap_err();
        assert_eq!(refused, AllocError::BadRun(bad));
        let words = refused.to_string();
        assert!(words.contains("kernel") && words.contains(&PhysAddr(base).to_string()), "{words}");
        assert_eq!(phys.frames().in_use(), 4);
    }
    // What could be a run of its own goes back; what is somebody else's does not.
    assert_eq!(*source.taken_back.lock(), [(RAM + 0x2000, 2), (RAM + 0x2_0000, 2)]);
    let exact = take(RAM + 0x2_0000, PageRequest { limit: PhysAddr(RAM + 0x2_1fff), ..low }).unwrap();
    assert!(matches!(PageRun::alloc(phys.frames(), &any), Err(AllocError::OutOfMemory(e)) if e.allocator == "kernel"));
    assert!(matches!(take(RAM, PageRequest { align: 3, ..any }), Err(AllocError::OutOfMemory(_))), "not asked");
    drop((kept, exact));
    assert_eq!((phys.frames().in_use(), source.taken_back.lock().len()), (0, 4));
    source.gives.lock().clear();
    drop(take(RAM + 0x1_0000, PageRequest::new(4)).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 64 }, failure_persistence: None, ..ProptestConfig::default()
    })]
    /// The core's allocator as a source: as many runs as without the look at them, each zeroed, none with pages of another.
    #[test]
    fn the_cores_own_allocator_is_a_source_like_any_other(
        steps in prop::collection::vec((1_u64..9, 0_u32..4, prop::bool::ANY), 1..60),
    ) {
        let (memory, plain) = (ram(), PhysMemory::new(ram().dynamic()));
        let source = BuddyAllocator::new("own", memory.clone().dynamic(), RamUse::Frames);
        let phys = PhysMemory::with_source(memory.clone().dynamic(), Arc::new(source));
        let mut live: Vec<(PageRun, PageRun)> = Vec::new();
        for (pages, order, frees) in steps {
            if frees && !live.is_empty() {
                drop(live.remove(pages as usize % live.len()));
                continue;
            }
            let request = PageRequest { align: PAGE_SIZE << order, ..PageRequest::new(pages) };
            match (PageRun::alloc(phys.frames(), &request), PageRun::alloc(plain.frames(), &request)) {
                (Ok(run), Ok(other)) => {
                    prop_assert_eq!(run.base(), other.base());
                    let mut bytes = std::vec![1; run.len() as usize];
                    access::read_bytes(&*memory, run.base(), &mut bytes, crate::mem::Caching::Cached).unwrap();
                    prop_assert!(bytes.iter().all(|byte| *byte == 0), "P12");
                    access::write_bytes(&*memory, run.base(), &std::vec![7; run.len() as usize], crate::mem::Caching::Cached).unwrap();
                    live.push((run, other));
                }
                (Err(AllocError::OutOfMemory(_)), Err(AllocError::OutOfMemory(_))) => {}
                (got, expected) => prop_assert!(false, "{:?}, not {:?}", got, expected),
            }
            prop_assert_eq!(phys.frames().in_use(), live.iter().map(|(run, _)| run.pages()).sum::<u64>());
        }
        live.clear();
        prop_assert_eq!(phys.frames().in_use(), 0);
    }
}
