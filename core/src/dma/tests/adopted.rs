//! Buffers of pages that a caller owns: when they are given back, and what is refused.

#![expect(unsafe_code, reason = "lends pages, as their owner")]

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::board::{HIGH, KEPT, LOW, TestBoard, Watch};
use super::streams::add_stream;
use crate::addr::{DeviceAddr, PhysAddr};
use crate::device::{DeviceDesc, RegionKind, ReservedRegion};
use crate::dma::{Direction, DmaBuffer, DmaError};
use crate::driver::{ProbeError, Quiesced};
use crate::env::{Caching, RamUse};
use crate::iommu::DomainKind;
use crate::machine::Handle;
use crate::mem::{OwnedPages, RunFault, access};
use crate::sync::Mutex;

/// A page cache of the fixture: pages that were given back, in their order.
#[derive(Clone, Default)]
pub(super) struct PageCache(Arc<Mutex<Vec<(PhysAddr, u64)>>>);

impl PageCache {
    /// Lends `pages` pages from `base` on.
    fn lend(&self, base: u64, pages: u64) -> OwnedPages {
        let back = Arc::clone(&self.0);
        // A lock that may sleep: with the feature `lock-order` a caller that holds a lock that spins would be reported.
        let give_back = move |run: crate::mem::FreedRun| back.lock().push((run.base(), run.pages()));
        // SAFETY: the fixture uses the pages by `Memory` only, as a device would.
        unsafe { OwnedPages::new("page cache", PhysAddr(base), pages, give_back) }
    }

    pub(super) fn buffer(&self, machine: &Handle, page: u64, pages: u64) -> DmaBuffer {
        machine.adopt(self.lend(KEPT + (page << 12), pages)).unwrap()
    }

    pub(super) fn given_back(&self) -> Vec<(PhysAddr, u64)> {
        self.0.lock().clone()
    }
}

fn page(n: u64) -> PhysAddr {
    PhysAddr(KEPT + (n << 12))
}

#[test]
fn a_device_reaches_the_owners_pages_themselves_and_they_go_back_once() {
    for board in [
        TestBoard::translated(DomainKind::Strict),
        TestBoard::direct(),
        TestBoard::leasing(DomainKind::Strict, Watch::Nobody),
    ] {
        let (cache, ram, machine) = (PageCache::default(), Arc::clone(&board.ram), board.machine.clone());
        access::write_bytes(&*ram, page(1), b"cached", Caching::Cached).unwrap();
        let seen = cache.clone();
        board.run(move |dev| {
            let buffer = cache.buffer(&machine, 1, 2);
            assert_eq!((buffer.len(), buffer.phys(), buffer.source()), (8192, page(1), "page cache"));
            assert_eq!(&buffer.as_slice()[..6], b"cached", "its bytes are kept");
            let mapped = dev.dma().map(buffer, Direction::Bidirectional)?;
            assert!(!mapped.is_bounced(), "no copy");
            let _ = mapped.device_addr();
            assert_eq!(cache.given_back(), []);
            let mut buffer = mapped.unmap()?;
            assert_eq!(cache.given_back(), [], "the handle has them");
            buffer.as_mut_slice()[..3].copy_from_slice(b"new");
            let mut arena = dev.dma().arena(1)?;
            let slot = arena.map(buffer, Direction::ToDevice)?;
            let buffer = arena.unmap(slot)?;
            arena.release()?;
            let list = Vec::from([buffer, cache.buffer(&machine, 7, 1)]);
            let buffers = dev.dma().map_sg(list, Direction::ToDevice)?.unmap()?;
            drop(buffers);
            Ok(Vec::new())
        });
        assert_eq!(seen.given_back(), [(page(1), 2), (page(7), 1)]);
        let mut bytes = [0; 6];
        access::read_bytes(&*ram, page(1), &mut bytes, Caching::Cached).unwrap();
        assert_eq!(&bytes, b"newhed");
        // Lent again, as the same pages:
        drop(seen.buffer(&board.machine, 1, 2));
        assert_eq!(seen.given_back().len(), 3);
    }
}

#[test]
fn pages_of_a_mapping_whose_handle_is_kept_dropped_or_forgotten_go_back_with_the_binding_or_never() {
    for (keep, back) in [("keep", 2), ("drop", 2), ("forget", 0)] {
        for board in [TestBoard::translated(DomainKind::Strict), TestBoard::translated(DomainKind::Lazy)] {
            let (cache, machine) = (PageCache::default(), board.machine.clone());
            let seen = cache.clone();
            assert!(board.bind(move |dev| {
                let mapped = dev.dma().map(cache.buffer(&machine, 0, 1), Direction::FromDevice)?;
                let mut arena = dev.dma().arena(1)?;
                let slot = arena.map(cache.buffer(&machine, 1, 1), Direction::FromDevice)?;
                let _ = (mapped.device_addr(), arena.device_addr(slot)?);
                match keep {
                    "keep" => return Ok(Vec::from([Box::new((mapped, arena)) as _])),
                    "drop" => drop((mapped, arena)),
                    _ => core::mem::forget((mapped, arena)),
                }
                Ok(Vec::new())
            }));
            assert_eq!(seen.given_back(), [], "mapped");
            assert_eq!(board.mmu.state.lock().unwrap().mapped_pages(), 2);
            board.unbind();
            board.machine.settle();
            assert_eq!(board.mmu.state.lock().unwrap().mapped_pages(), 0, "P9: {keep}");
            assert_eq!(seen.given_back().len(), back, "P9: {keep}");
            assert_eq!(board.machine.promises().broken(), []);
        }
    }
}

#[test]
fn a_lazy_domain_gives_pages_back_after_its_flush_and_not_before() {
    let board = TestBoard::translated(DomainKind::Lazy);
    let (cache, machine, mmu) = (PageCache::default(), board.machine.clone(), Arc::clone(&board.mmu));
    board.run(move |dev| {
        let mapped = dev.dma().map(cache.buffer(&machine, 0, 1), Direction::FromDevice)?;
        let mut arena = dev.dma().arena(1)?;
        let slot = arena.map(cache.buffer(&machine, 1, 1), Direction::FromDevice)?;
        drop((mapped.unmap()?, arena.unmap(slot)?));
        assert_eq!(mmu.state.lock().unwrap().stale_pages(), 2);
        assert_eq!(cache.given_back(), [], "P2: the device still reaches them");
        // Any unmap that fills the queue flushes it:
        while mmu.state.lock().unwrap().stale_pages() >= 2 {
            assert!(cache.given_back().is_empty(), "P2");
            dev.dma().map(dev.dma().buffer(4096)?, Direction::ToDevice)?.unmap()?;
        }
        assert_eq!(cache.given_back().len(), 2);
        arena.release()?;
        Ok(Vec::new())
    });
}

#[test]
fn an_unconfirmed_unmap_keeps_the_owners_pages_in_quarantine_until_a_flush_is_confirmed() {
    let board = TestBoard::translated(DomainKind::Strict);
    let (cache, machine, mmu) = (PageCache::default(), board.machine.clone(), Arc::clone(&board.mmu));
    let seen = cache.clone();
    assert!(board.bind(move |dev| {
        let mapped = dev.dma().map(cache.buffer(&machine, 0, 1), Direction::FromDevice)?;
        mmu.state.lock().unwrap().unresponsive = true;
        assert_eq!(mapped.unmap().unwrap_err(), DmaError::Quarantined(4096));
        assert_eq!(cache.given_back(), [], "P2");
        Ok(Vec::new())
    }));
    assert_eq!(board.machine.quarantine_table().list().len(), 1);
    // Lent again before it was given back: its owner has lost count.
    let twice = board.machine.adopt(seen.lend(KEPT, 1)).unwrap_err();
    assert_eq!(twice.error.fault, RunFault::Overlaps { at: page(0), of: "page cache" });
    assert!(twice.returned.is_none());
    drop(twice);
    assert_eq!(seen.given_back(), [], "P2: a refusal gives nothing back");
    board.mmu.state.lock().unwrap().unresponsive = false;
    assert!(board.machine.quarantine_table().retry(&board.machine));
    assert_eq!(seen.given_back(), [(page(0), 1)], "once");
    board.unbind();
    assert_eq!(seen.given_back().len(), 1);
}

#[test]
fn an_untranslated_device_that_was_not_quiesced_keeps_the_owners_pages() {
    let board = TestBoard::direct();
    let (cache, machine) = (PageCache::default(), board.machine.clone());
    let seen = cache.clone();
    assert!(!board.bind(move |dev| {
        let mapped = dev.dma().map(cache.buffer(&machine, 0, 1), Direction::FromDevice)?;
        let _started = mapped.device_addr();
        Err(ProbeError::Device("the device does not answer"))
    }));
    assert_eq!((seen.given_back().len(), board.machine.quarantine_table().list().len()), (0, 1), "P11");
    board.unbind();
    assert_eq!(seen.given_back(), [], "P11");
    assert!(board.bind(|dev| {
        dev.mark_quiesced(Quiesced::in_reset());
        Ok(Vec::new())
    }));
    assert_eq!(seen.given_back(), [(page(0), 1)]);
}

#[test]
fn one_of_two_streams_that_stays_attached_keeps_the_owners_pages_of_an_unconfirmed_unmap() {
    for stuck in [1, 2] {
        let board = TestBoard::translated(DomainKind::Strict).describe(|desc| add_stream(desc, 2));
        let (cache, machine, mmu) = (PageCache::default(), board.machine.clone(), Arc::clone(&board.mmu));
        let seen = cache.clone();
        assert!(board.bind(move |dev| {
            let mapped = dev.dma().map(cache.buffer(&machine, 0, 1), Direction::FromDevice)?;
            mmu.state.lock().unwrap().unresponsive = true;
            assert!(mapped.unmap().is_err());
            Ok(Vec::new())
        }));
        board.mmu.state.lock().unwrap().stuck.insert(stuck);
        board.unbind();
        assert_eq!(seen.given_back(), [], "P2: stream {stuck} is left");
        {
            let mut state = board.mmu.state.lock().unwrap();
            state.stuck.clear();
            state.unresponsive = false;
        }
        board.machine.quarantine_table().retry(&board.machine);
        assert_eq!(seen.given_back(), [(page(0), 1)], "stream {stuck}");
    }
}

/// Number of the first cases below, whose pages the core does not have.
const FREE: usize = 8;

#[test]
fn pages_that_are_not_the_owners_are_refused_by_name_and_place() {
    let board = TestBoard::direct();
    let (cache, machine) = (PageCache::default(), &board.machine);
    let kept = machine.adopt(cache.lend(KEPT + 0x2000, 2)).unwrap();
    let overlaps = RunFault::Overlaps { at: page(2), of: "page cache" };
    let cases = [
        (KEPT, 0, RunFault::Size),
        (KEPT, u64::MAX, RunFault::Size),
        (!0xfff, 2, RunFault::Size),
        (KEPT + 8, 1, RunFault::Misaligned),
        (0x1000, 1, RunFault::NotRam),
        (KEPT, 17, RunFault::NotRam),
        (LOW, 1, RunFault::Managed(RamUse::Frames)),
        (HIGH + 0x3f000, 1, RunFault::Managed(RamUse::Frames)),
        (KEPT, 3, overlaps),
        (KEPT + 0x3000, 1, overlaps),
        (KEPT + 0x2000, 2, overlaps),
        (KEPT + 0x1000, 8, overlaps),
    ];
    for (n, (base, pages, fault)) in cases.into_iter().enumerate() {
        let refused = machine.adopt(cache.lend(base, pages)).unwrap_err();
        assert_eq!(
            (refused.error.owner, refused.error.base, refused.error.fault),
            ("page cache", PhysAddr(base), fault)
        );
        let words = refused.to_string();
        assert!(words.contains("page cache") && words.contains(&PhysAddr(base).to_string()), "{words}");
        let overlaps = fault == overlaps;
        let same = |returned: &OwnedPages| (returned.base(), returned.pages()) == (PhysAddr(base), pages);
        assert_eq!(refused.returned.as_ref().map(same), (!overlaps).then_some(true));
        drop(refused);
        assert_eq!(cache.given_back().len(), (n + 1).min(FREE), "its owner has it again once, unless it is in use");
    }
    for beside in [KEPT + 0x1000, KEPT + 0x4000] {
        drop(machine.adopt(cache.lend(beside, 1)).unwrap());
    }
    drop(kept);
    drop(machine.adopt(cache.lend(KEPT, 16)).unwrap());
    assert_eq!(cache.given_back().len(), FREE + 4);
}

/// A device whose firmware uses so many pages of `KEPT` from page `first` on, from the start.
fn with_region(name: &str, first: u64, pages: u64) -> DeviceDesc {
    let mut desc = DeviceDesc::new(name);
    let at = |page| DeviceAddr(KEPT + (page << 12));
    let kind = RegionKind::Direct;
    desc.dma.reserved.push(ReservedRegion { first: at(first), last: DeviceAddr(at(first + pages).0 - 1), kind });
    desc
}

#[test]
fn pages_that_a_device_uses_from_the_start_are_not_adopted() {
    let board = TestBoard::direct();
    let (cache, machine) = (PageCache::default(), &board.machine);
    let lent = machine.adopt(cache.lend(KEPT + 0x1000, 2)).unwrap();
    for name in ["firmware", "again"] {
        machine.add_device(with_region(name, 2, 2)).unwrap();
        let told: Vec<_> = board.env.event_kinds(name).iter().map(|kind| alloc::format!("{kind:?}")).collect();
        assert!(told.iter().any(|text| text.contains("in use by somebody else: page cache")), "{told:?}");
        machine.remove_device(name);
    }
    drop(lent);
    machine.add_device(with_region("alone", 2, 2)).unwrap();
    let told: Vec<_> = board.env.event_kinds("alone").iter().map(|kind| alloc::format!("{kind:?}")).collect();
    assert!(!told.iter().any(|text| text.contains("in use by somebody else")), "{told:?}");
    for (base, pages, is) in [(1, 1, false), (1, 2, true), (2, 1, true), (3, 4, true), (4, 1, false), (0, 16, true)] {
        let before = cache.given_back().len();
        match machine.adopt(cache.lend(KEPT + (base << 12), pages)) {
            Ok(buffer) => assert!(!is, "{buffer:?}"),
            Err(refused) => {
                assert_eq!((refused.error.fault, is), (RunFault::Reserved(page(2)), true));
                assert!(refused.returned.is_some());
            }
        }
        assert_eq!(cache.given_back().len(), before + 1, "its owner has it again, once");
    }
}

#[test]
fn an_owner_may_lend_a_page_again_from_where_it_comes_back() {
    for board in [TestBoard::direct(), TestBoard::translated(DomainKind::Strict)] {
        let (machine, cache) = (board.machine.clone(), PageCache::default());
        let lent: Arc<Mutex<Option<DmaBuffer>>> = Arc::default();
        let (again, put, second) = (machine.clone(), Arc::clone(&lent), cache.clone());
        let give_back = move |run: crate::mem::FreedRun| {
            assert_eq!(run.base(), page(3));
            *put.lock() = Some(second.buffer(&again, 3, 2));
        };
        // SAFETY: as in `PageCache::lend`.
        let pages = unsafe { OwnedPages::new("page cache", page(3), 2, give_back) };
        drop(machine.adopt(pages).unwrap());
        let buffer = lent.lock().take();
        assert_eq!(buffer.map(|buffer| buffer.phys()), Some(page(3)));
        assert_eq!(cache.given_back(), [(page(3), 2)]);
    }
}
