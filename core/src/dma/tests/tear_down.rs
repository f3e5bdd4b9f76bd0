//! Tear-down of bindings with any resources for DMA, looked at between any two of them.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use alloc::{format, vec};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use proptest::prelude::*;
use proptest::sample::select;

use super::board::{ProbeData, ProbeDatum, TestBoard, ToyMmu, Watch};
use crate::addr::{DeviceAddr, PAGE_SIZE, PhysAddr};
use crate::binding::Bound;
use crate::dma::{Direction, DmaBuffer, DmaError};
use crate::driver::ProbeError;
use crate::env::fake::FakeEnv;
use crate::env::{Env, Instant};
use crate::iommu::{Domain, DomainKind};
use crate::machine::Handle;
use crate::mem::{PageRequest, PageRun};

/// What a driver acquires.
#[derive(Clone, Copy, Debug)]
enum What {
    Mapping,
    List,
    Coherent,
    Pool,
    /// With buffers that were mapped and unmapped before, and some that still are.
    Arena {
        ended: usize,
        live: usize,
        list: bool,
    },
}

/// What it does with the handle.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Then {
    Keep,
    Drop,
    Forget,
}

/// A resource, of buffers of so many pages, above the mask or not.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    what: What,
    pages: u64,
    high: bool,
    then: Then,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum On {
    Direct,
    Listed(DomainKind),
    Leased(DomainKind, Watch),
}

impl On {
    fn board(self) -> TestBoard {
        match self {
            Self::Direct => TestBoard::direct(),
            Self::Listed(kind) => TestBoard::translated(kind),
            Self::Leased(kind, watch) => TestBoard::leasing(kind, watch),
        }
    }
}

/// Who looks on.
struct Observer {
    env: Arc<FakeEnv>,
    machine: Handle,
    mmu: Arc<ToyMmu>,
    on: On,
    /// Without an IOMMU: pages whose addresses the device was given, and that it has until it is stopped.
    given: Mutex<BTreeSet<u64>>,
    /// Those of the bindings.
    domains: Mutex<Vec<Arc<Domain>>>,
    found: Mutex<Vec<String>>,
}

impl Observer {
    /// Pages of device addresses that the device reaches by the table or the IOTLB, and of memory.
    fn reached(&self) -> BTreeMap<u64, u64> {
        let mut state = self.mmu.state.lock().unwrap();
        let pages = (0x10_0000 - 256..0x10_0000).map(|page| DeviceAddr(page * PAGE_SIZE));
        let mut reach = |at: DeviceAddr| match self.on {
            On::Direct => None,
            On::Listed(_) => state.dma_reachable(at),
            On::Leased(..) => state.access(at),
        };
        pages.filter_map(|at| Some((at.0, reach(at)?.0))).collect()
    }

    /// What is free is reached by no device (P2), by what the allocators give.
    fn look(&self, when: &str) {
        let (reached, given) = (self.reached(), self.given.lock().unwrap().clone());
        let frames = self.machine.memory().frames();
        let free: Vec<PageRun> = core::iter::from_fn(|| PageRun::alloc(frames, &PageRequest::new(1)).ok()).collect();
        let taken = |page: &u64| free.iter().any(|run| run.base().0 == *page);
        for page in reached.values().chain(&given).filter(|page| taken(page)) {
            self.found.lock().unwrap().push(format!("{page:#x} is free {when}, and reached"));
        }
        drop(free);
        let Some(domain) = self.domain() else { return };
        // Small free ranges are given before large ones are split.
        let free: Vec<DeviceAddr> =
            (0..300).filter_map(|_| domain.space().alloc(1, DeviceAddr(u64::MAX)).ok()).collect();
        for at in &free {
            if let Some(phys) = reached.get(&at.0) {
                self.found.lock().unwrap().push(format!("{at} is free {when}, and leads to {phys:#x}"));
            }
        }
        for at in free {
            domain.space().free(at, 1).unwrap();
        }
    }

    /// The IOMMU answers again, which the core sees in time, or when it is asked to look: nothing is in quarantine any more.
    fn answered(&self, asks: bool) {
        if asks {
            self.machine.quarantine_table().retry(&self.machine);
        } else {
            self.env.advance(Instant(self.env.now().0 + 20_000_000));
        }
        self.look("when the IOMMU has answered");
        let held = self.machine.quarantine();
        if self.on != On::Direct && !held.is_empty() {
            self.found.lock().unwrap().push(format!("{held:?} when the IOMMU has answered"));
        }
    }

    fn domain(&self) -> Option<Arc<Domain>> {
        self.machine.iommus().groups().first().and_then(|group| group.domain())
    }

    /// Notes the pages that the device can access without an IOMMU.
    fn gave(&self, at: DeviceAddr, pages: u64) {
        if self.on == On::Direct {
            self.given.lock().unwrap().extend((0..pages).map(|page| at.page_start().0 + page * PAGE_SIZE));
        } else {
            // In the IOTLB from now on.
            self.reached();
        }
    }
}

/// One buffer, which a device with a mask of 32 bits cannot access if `high`.
fn buffer(dev: Bound<'_>, wanted: &Wanted) -> Result<DmaBuffer, DmaError> {
    let len = wanted.pages * PAGE_SIZE;
    if wanted.high { dev.state.system().dma_buffer(len) } else { dev.dma().buffer(len) }
}

fn acquire<'b>(dev: Bound<'b>, wanted: &Wanted, to: &Observer) -> Result<Box<dyn ProbeDatum + 'b>, ProbeError> {
    let (dma, pages, both) = (dev.dma(), wanted.pages, Direction::Bidirectional);
    Ok(match wanted.what {
        What::Mapping => {
            let mapped = dma.map(buffer(dev, wanted)?, both)?;
            to.gave(mapped.device_addr(), pages);
            Box::new(mapped)
        }
        What::List => {
            let mapped = dma.map_sg(vec![buffer(dev, wanted)?, buffer(dev, wanted)?], both)?;
            mapped.segments().for_each(|(at, len)| to.gave(at, len / PAGE_SIZE));
            Box::new(mapped)
        }
        What::Coherent => {
            let coherent = dma.coherent(pages * PAGE_SIZE)?;
            to.gave(coherent.device_addr(), pages);
            Box::new(coherent)
        }
        What::Pool => {
            let pool = dma.pool("items", 256, 64, 0)?;
            let items = (0..3).map(|_| pool.alloc()).collect::<Result<Vec<_>, _>>()?;
            for item in &items {
                to.gave(item.device_addr(), 1);
            }
            Box::new((pool, items))
        }
        What::Arena { ended, live, list } => {
            let mut arena = dma.arena(4)?;
            for n in 0..ended + live {
                let mut buffers = vec![buffer(dev, wanted)?];
                let slot = if list {
                    buffers.push(buffer(dev, wanted)?);
                    arena.map_sg(&mut buffers, both)?
                } else {
                    arena.map(buffers.remove(0), both)?
                };
                if n < ended && to.on == On::Direct {
                    // The driver's word that the device has done with it.
                    arena.unmap_many([slot], &mut buffers)?;
                    continue;
                }
                arena.segments(slot)?.for_each(|(at, len)| to.gave(at, len / PAGE_SIZE));
                if n < ended {
                    arena.unmap_many([slot], &mut buffers)?;
                }
            }
            Box::new(arena)
        }
    })
}

/// The IOMMU hangs when it maps; it still does afterwards.
fn hang_in_map(dev: Bound<'_>, wanted: &Wanted, to: &Observer) {
    let broken = |is: bool| {
        let mut state = to.mmu.state.lock().unwrap();
        (state.maps_left, state.partial_maps, state.unresponsive) = (is.then_some(0), is, true);
    };
    broken(true);
    let refused = acquire(dev, wanted, to).is_err();
    to.look("when a map has failed");
    assert!(refused || matches!(wanted.what, What::Arena { ended: 0, live: 0, .. }), "{wanted:?}");
    broken(false);
}

/// Acquires all of `wanted`, with a look in the tear-down before and after each. The IOMMU hangs in the tear-down from the look `hang`
/// on, and when it maps the one of number `half`.
fn probe<'b>(
    dev: Bound<'b>,
    wanted: &[Wanted],
    (hang, half): (Option<usize>, Option<usize>),
    to: &Arc<Observer>,
) -> Result<ProbeData<'b>, ProbeError> {
    let mut kept = Vec::new();
    to.domains.lock().unwrap().extend(to.domain());
    for (n, wanted) in wanted.iter().enumerate() {
        let observer = Arc::clone(to);
        dev.action("look", move || observer.look(&format!("when {n} has ended")))?;
        if half == Some(n) && matches!(to.on, On::Listed(_)) {
            hang_in_map(dev, wanted, to);
            if hang.is_some() {
                return Ok(kept);
            }
            to.mmu.state.lock().unwrap().unresponsive = false;
            to.answered(false);
        }
        let handle = acquire(dev, wanted, to)?;
        let observer = Arc::clone(to);
        dev.action("look", move || {
            if hang == Some(n) {
                observer.mmu.state.lock().unwrap().unresponsive = true;
            }
            observer.look(&format!("before {n} ends"));
        })?;
        match wanted.then {
            Then::Keep => kept.push(handle),
            Then::Drop => drop(handle),
            Then::Forget => core::mem::forget(handle),
        }
        to.look(&format!("when {n} is acquired"));
    }
    Ok(kept)
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let arena =
        (0..4_usize, 0..3_usize, any::<bool>()).prop_map(|(ended, live, list)| What::Arena { ended, live, list });
    let what = prop_oneof![
        1 => Just(What::Mapping),
        1 => Just(What::List),
        1 => Just(What::Coherent),
        1 => Just(What::Pool),
        4 => arena,
    ];
    let then = prop_oneof![Just(Then::Keep), Just(Then::Drop), Just(Then::Forget)];
    (what, 1..4_u64, any::<bool>(), then).prop_map(|(what, pages, high, then)| Wanted { what, pages, high, then })
}

fn on() -> impl Strategy<Value = On> {
    let kind = || prop_oneof![Just(DomainKind::Strict), Just(DomainKind::Lazy)];
    prop_oneof![
        1 => Just(On::Direct),
        1 => kind().prop_map(On::Listed),
        2 => (kind(), select(&Watch::ALL[..])).prop_map(|(kind, watch)| On::Leased(kind, watch)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 1024 }, failure_persistence: None, ..ProptestConfig::default()
    })]

    /// P2, P4 and P11: whatever the driver has, whatever it does with it, whether its device stops and whether the IOMMU answers.
    #[test]
    fn at_no_moment_of_a_tear_down_is_free_what_the_device_reaches(
        on in on(),
        all in prop::collection::vec(wanted(), 1..4),
        stops in any::<bool>(),
        hang in prop::option::of(0..4_usize),
        half in prop::option::weighted(0.2, 0..3_usize),
        asks in any::<bool>(),
    ) {
        let board = on.board();
        let observer = Arc::new(Observer {
            env: Arc::clone(&board.env),
            machine: board.machine.clone(),
            mmu: Arc::clone(&board.mmu),
            on,
            given: Mutex::default(),
            domains: Mutex::default(),
            found: Mutex::default(),
        });
        let (to, list) = (Arc::clone(&observer), all.clone());
        let bound = board.bind(move |dev| {
            let data = probe(dev, &list, (hang, half), &to)?;
            if stops { Ok(data) } else { Err(ProbeError::Device("after the device was started")) }
        });
        prop_assert_eq!(bound, stops, "{:?}", board.env.event_kinds("1000.lab"));
        if stops {
            // No page is reached without an IOMMU, once the driver has stopped its device.
            observer.given.lock().unwrap().clear();
        }
        board.unbind();
        observer.look("when the binding has ended");
        prop_assert_eq!(&*observer.found.lock().unwrap(), &Vec::<String>::new());
        board.mmu.state.lock().unwrap().unresponsive = false;
        observer.answered(asks);
        // The next driver stops the device first.
        observer.given.lock().unwrap().clear();
        let to = Arc::clone(&observer);
        let again = board.bind(move |dev| {
            dev.mark_quiesced(crate::driver::Quiesced::stopped());
            to.look("when it is bound again");
            let mut arena = dev.dma().arena(4)?;
            for _ in 0..4 {
                let buffer = dev.dma().buffer(PAGE_SIZE)?;
                let phys = buffer.phys();
                let slot = arena.map(buffer, Direction::Bidirectional)?;
                let at = arena.device_addr(slot)?;
                let reached = to.reached().get(&at.0).map_or(PhysAddr(at.0), |phys| PhysAddr(*phys));
                if reached != phys {
                    to.found.lock().unwrap().push(format!("{at} leads to {reached} instead of {phys}"));
                }
            }
            Ok(Vec::from([Box::new(arena) as _]))
        });
        prop_assert!(again, "{:?}", board.env.event_kinds("1000.lab").last());
        board.unbind();
        observer.look("in the end");
        prop_assert_eq!(&*observer.found.lock().unwrap(), &Vec::<String>::new());
        prop_assert_eq!(board.machine.promises().broken(), []);
        prop_assert_eq!(board.machine.quarantine(), []);
        for domain in &*observer.domains.lock().unwrap() {
            prop_assert_eq!(domain.iova_in_use(), 0, "P4");
        }
        let leaks = all.iter().any(|wanted| wanted.then == Then::Forget);
        prop_assert!(leaks || board.machine.memory().frames().in_use() == 0, "P4");
    }
}
