//! Coherent pages that were released and wait for the next allocation.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::board::{HIGH, TestBoard, iova_pages};
use crate::addr::{DeviceAddr, PhysAddr};
use crate::binding::Bound;
use crate::dma::coherent_cache::MOST;
use crate::dma::{Attrs, Coherent, Direction, DmaError};
use crate::env::{Barrier, Caching};
use crate::iommu::DomainKind;
use crate::mem::access::write_bytes;

/// Number of pages that wait.
fn waiting(dev: Bound<'_>) -> usize {
    dev.dma().context().unwrap().coherent_cache.len()
}

fn phys(memory: &Coherent<'_>) -> PhysAddr {
    memory.memory().phys()
}

fn frames(dev: Bound<'_>) -> u64 {
    dev.state.system().memory().frames().in_use()
}

/// Page that is taken as number `n` of the board's memory, from above.
fn nth(n: u64) -> PhysAddr {
    PhysAddr(HIGH + (63 - n) * 4096)
}

#[test]
fn a_released_page_is_given_out_again_zeroed_and_the_iommu_is_not_asked() {
    for kind in [DomainKind::Strict, DomainKind::Lazy] {
        let board = TestBoard::caching(kind);
        let (mmu, ram) = (Arc::clone(&board.mmu), Arc::clone(&board.ram));
        board.run(move |dev| {
            let first = dev.dma().coherent(4096)?;
            let (addr, at) = (first.device_addr(), phys(&first));
            first.release();
            let asked = || {
                let state = mmu.state.lock().unwrap();
                (state.calls, state.flushes)
            };
            let (calls, flushes) = asked();
            for _ in 0..3 {
                assert_eq!(waiting(dev), 1);
                let again = dev.dma().coherent(4096)?;
                assert_eq!((again.device_addr(), phys(&again), waiting(dev)), (addr, at, 0));
                let mut bytes = [1; 4096];
                again.read_bytes(0, &mut bytes);
                assert_eq!(bytes, [0; 4096], "P12");
                again.write_bytes(0, &[0xff; 4096]);
                let other = dev.dma().coherent(4096)?;
                assert_ne!(phys(&other), at, "it is in use");
                again.release();
                other.release();
                // The device should not, but may: it is the last one out and the next one in.
                assert_eq!(dev.dma().coherent(4096).map(Coherent::release), Ok(()));
                write_bytes(&*ram, at, &[0xee; 4096], Caching::Cached).unwrap();
                assert_ne!(dev.dma().coherent(4096)?.addr(), addr);
            }
            assert_eq!(asked(), (calls + 3, flushes), "one map for each that was in use besides");
            Ok(Vec::new())
        });
        assert_eq!(board.mmu.state.lock().unwrap().mapped_pages(), 0, "P4");
    }
}

#[test]
fn a_page_waits_for_as_many_bytes_with_the_same_attributes_below_the_mask() {
    let board = TestBoard::caching(DomainKind::Strict);
    board.run(|dev| {
        let small = dev.dma().coherent(100)?;
        let (at, addr) = (phys(&small), small.device_addr());
        small.write(0, &u64::MAX);
        small.release();
        assert_ne!(phys(&dev.dma().coherent(4096)?), at);
        assert_ne!(phys(&dev.dma().coherent_with(100, Attrs::WRITE_COMBINE)?), at);
        dev.dma().set_mask(12)?;
        assert!(dev.dma().coherent(100).is_err_and(|e| matches!(e, DmaError::Iova(_))), "{addr} is above the mask");
        dev.dma().set_mask(32)?;
        let again = dev.dma().coherent(100)?;
        assert_eq!((phys(&again), again.device_addr(), again.read::<u64>(0)), (at, addr, 0));
        // Neither several pages nor the item of a pool wait.
        for len in [4097, 0x1_0000] {
            let (mapped, memory) = (iova_pages(dev), dev.dma().coherent(len)?);
            memory.release();
            assert_eq!((iova_pages(dev), waiting(dev)), (mapped, 0));
        }
        Ok(Vec::new())
    });
}

#[test]
fn memory_that_somebody_holds_is_not_given_out_again() {
    let board = TestBoard::caching(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let shared = dev.dma().coherent(4096)?;
        let (held, addr) = (shared.memory(), shared.device_addr());
        shared.write(8, &7_u32);
        shared.release();
        assert_eq!(mmu.state.lock().unwrap().dma_reachable(addr), None, "P2: unmapped at once");
        let other = dev.dma().coherent(4096)?;
        other.write(8, &9_u32);
        assert_eq!((held.read::<u32>(8), waiting(dev)), (7, 0));
        assert_ne!(phys(&other), held.phys());
        Ok(Vec::new())
    });
}

#[test]
fn at_most_so_many_pages_wait_and_the_oldest_goes_first() {
    let board = TestBoard::caching(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let ring = (0..MOST + 8).map(|_| dev.dma().coherent(4096)).collect::<Result<Vec<_>, _>>()?;
        let pages: Vec<_> = ring.iter().map(phys).collect();
        ring.into_iter().for_each(Coherent::release);
        assert_eq!(mmu.state.lock().unwrap().unmapped, pages[..8]);
        assert_eq!((waiting(dev), mmu.state.lock().unwrap().mapped_pages(), frames(dev)), (MOST, MOST, MOST as u64));
        assert_eq!(mmu.state.lock().unwrap().stale_pages(), 0, "P2");
        assert_eq!(dev.dma().coherent(4096).map(|newest| phys(&newest)), Ok(pages[MOST + 7]));
        Ok(Vec::new())
    });
}

#[test]
fn unbind_unmaps_what_waits_newest_first_with_one_flush_and_the_next_binding_finds_none() {
    for kind in [DomainKind::Strict, DomainKind::Lazy] {
        let board = TestBoard::caching(kind);
        for _ in 0..2 {
            let before = board.machine.resource_usage();
            assert!(board.bind(move |dev| {
                assert_eq!((waiting(dev), iova_pages(dev), frames(dev)), (0, 0, 0));
                let ring = (0..4).map(|_| dev.dma().coherent(4096)).collect::<Result<Vec<_>, _>>()?;
                assert!(ring.iter().all(|page| page.device_addr() != DeviceAddr(0)));
                ring.into_iter().for_each(Coherent::release);
                // One of them is out again, and stays out.
                let out = dev.dma().coherent(4096)?;
                assert_eq!(
                    dev.resources().len(),
                    before_cache(dev) + 2,
                    "the cache's entry, and that of the page in use"
                );
                Ok(Vec::from([Box::new(out) as _]))
            }));
            let mmu = &board.mmu;
            assert_eq!((mmu.state.lock().unwrap().mapped_pages(), board.machine.resource_usage().mappings), (4, 4));
            mmu.state.lock().unwrap().unmapped.clear();
            let flushes = mmu.state.lock().unwrap().flushes;
            board.unbind();
            let state = mmu.state.lock().unwrap();
            assert_eq!((state.mapped_pages(), state.stale_pages()), (0, 0), "P2, P4");
            if kind == DomainKind::Strict {
                assert_eq!(state.flushes, flushes + 2, "one for the page in use, one for those that wait");
                let newest_first = [3, 2, 1, 0].map(nth);
                assert_eq!(state.unmapped, newest_first, "P3");
            }
            drop(state);
            assert_eq!(board.machine.resource_usage(), before, "P4");
            assert_eq!(board.machine.promises().broken(), []);
        }
    }
}

/// Ledger entries that are no DMA memory.
fn before_cache(dev: Bound<'_>) -> usize {
    dev.resources().iter().filter(|entry| entry.1 != "dma coherent").count()
}

#[test]
fn a_forgotten_handle_of_a_page_that_was_given_out_again_costs_its_memory_only() {
    let board = TestBoard::caching(DomainKind::Strict);
    assert!(board.bind(|dev| {
        let pair = [dev.dma().coherent(4096)?, dev.dma().coherent(4096)?];
        pair.into_iter().for_each(Coherent::release);
        core::mem::forget(dev.dma().coherent(4096)?);
        drop(dev.dma().coherent(4096)?);
        assert_eq!(waiting(dev), 0, "a dropped handle does not end the allocation");
        dev.dma().coherent(4096)?.release();
        Ok(Vec::new())
    }));
    board.unbind();
    assert_eq!(board.mmu.state.lock().unwrap().mapped_pages(), 0, "P9");
    assert_eq!((board.machine.memory().frames().in_use(), board.machine.resource_usage().mappings), (1, 0), "P9");
    assert_eq!(board.machine.promises().broken(), []);
}

#[test]
fn a_page_of_another_device_is_never_given_out() {
    let board = TestBoard::caching(DomainKind::Strict);
    let mut second = board.machine.device("1000.lab").unwrap().desc().clone();
    second.name = "1001.lab".into();
    board.machine.add_device(second).unwrap();
    assert!(board.bind(|dev| {
        // Both are in one group, and so in one domain: even there the page is the other's.
        let used: BTreeSet<_> =
            (0..2).map(|_| dev.dma().coherent(4096).map(|page| phys(&page))).collect::<Result<_, _>>()?;
        assert_eq!(used.len(), 2);
        let page = dev.dma().coherent(4096)?;
        page.write(0, &1_u64);
        page.release();
        Ok(Vec::new())
    }));
    assert_eq!(board.machine.device("1001.lab").unwrap().driver(), Some("lab"));
    assert_eq!(board.mmu.state.lock().unwrap().mapped_pages(), 6, "three of each");
    board.unbind();
    assert_eq!(board.mmu.state.lock().unwrap().mapped_pages(), 0);
    assert_eq!(board.machine.promises().broken(), []);
}

#[test]
fn pages_whose_invalidation_is_lost_are_in_quarantine_and_no_others() {
    for count in [1, 3] {
        let board = TestBoard::caching(DomainKind::Strict);
        assert!(board.bind(move |dev| {
            let ring = (0..count).map(|_| dev.dma().coherent(4096)).collect::<Result<Vec<_>, _>>()?;
            assert!(ring.iter().all(|page| page.device_addr() != DeviceAddr(0)));
            ring.into_iter().for_each(Coherent::release);
            Ok(Vec::new())
        }));
        board.mmu.state.lock().unwrap().unresponsive = true;
        board.unbind();
        let mut held: Vec<_> = board.machine.quarantine().iter().map(|run| (run.phys, run.len)).collect();
        held.sort_unstable();
        assert_eq!(held, (0..count).rev().map(|page| (nth(page), 4096)).collect::<Vec<_>>(), "P2");
        assert_eq!(board.machine.memory().frames().in_use(), count);
        board.mmu.state.lock().unwrap().unresponsive = false;
        assert!(board.machine.quarantine_table().retry(&board.machine));
        assert_eq!((board.machine.quarantine(), board.machine.memory().frames().in_use()), (Vec::new(), 0));
        assert_eq!(board.machine.promises().broken(), []);
    }
}

#[test]
fn nothing_waits_for_a_device_with_memory_in_quarantine() {
    let board = TestBoard::caching(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    assert!(board.bind(move |dev| {
        let [lost, waits, used] = [dev.dma().coherent(8192)?, dev.dma().coherent(4096)?, dev.dma().coherent(4096)?];
        let _ = lost.device_addr();
        waits.release();
        mmu.state.lock().unwrap().unresponsive = true;
        lost.release();
        mmu.state.lock().unwrap().unresponsive = false;
        assert_eq!(dev.dma().coherent(4096).unwrap_err(), DmaError::Quarantined(8192), "P11");
        used.release();
        assert_eq!(waiting(dev), 1);
        Ok(Vec::new())
    }));
    board.unbind();
    assert_eq!(board.mmu.state.lock().unwrap().mapped_pages(), 0);
}

#[test]
fn an_allocation_that_finds_no_memory_gets_what_waits() {
    for kind in [DomainKind::Strict, DomainKind::Lazy] {
        let board = TestBoard::caching(kind);
        let frames = 128;
        board.run(move |dev| {
            let fill = |dev: Bound<'_>| {
                let ring = (0..MOST).map(|_| dev.dma().coherent(4096)).collect::<Result<Vec<_>, _>>();
                ring.map(|ring| ring.into_iter().for_each(Coherent::release))
            };
            fill(dev)?;
            let (mut buffers, mut all) = (Vec::new(), 0);
            while let Ok(buffer) = dev.dma().buffer(8 * 4096) {
                buffers.push(buffer);
                all += 8;
            }
            assert_eq!((all, waiting(dev)), (frames, 0));
            drop(buffers);
            fill(dev)?;
            assert!(dev.dma().coherent(frames * 4096 / 2).is_ok(), "half of the pages, in one run, by coherent memory");
            Ok(Vec::new())
        });
    }
}

#[test]
fn a_map_that_finds_no_device_addresses_gets_those_of_what_waits() {
    for kind in [DomainKind::Strict, DomainKind::Lazy] {
        let board = TestBoard::caching(kind);
        board.run(|dev| {
            // 63 pages, since no device address is 0.
            dev.dma().set_mask(18)?;
            let ring = (0..MOST).map(|_| dev.dma().coherent(4096)).collect::<Result<Vec<_>, _>>()?;
            ring.into_iter().for_each(Coherent::release);
            let mut mapped = Vec::new();
            let refused = loop {
                assert_eq!(waiting(dev), if mapped.len() <= 63 - MOST { MOST } else { 0 });
                match dev.dma().map(dev.dma().buffer(4096)?, Direction::FromDevice) {
                    Ok(one) => mapped.push(one),
                    Err(refused) => break refused.error,
                }
            };
            assert!(matches!(refused, DmaError::Iova(_)), "{refused:?}");
            assert_eq!(mapped.len(), 63);
            for one in mapped {
                drop(one.unmap()?);
            }
            Ok(Vec::new())
        });
    }
}

#[test]
fn a_checker_instruments_and_events_see_each_page_unmapped_when_it_is_released() {
    let events = || {
        let board = TestBoard::caching(DomainKind::Strict);
        board.env.tracing_enabled.store(true, Ordering::Relaxed);
        board
    };
    for board in [TestBoard::translated(DomainKind::Strict), events()] {
        let mmu = Arc::clone(&board.mmu);
        board.run(move |dev| {
            for _ in 0..2 {
                let page = dev.dma().coherent(4096)?;
                let addr = page.device_addr();
                page.release();
                assert_eq!(mmu.state.lock().unwrap().dma_reachable(addr), None);
            }
            Ok(Vec::new())
        });
        let unmapped = |kind: &crate::event::EventKind| matches!(kind, crate::event::EventKind::DmaUnmapped { .. });
        assert_eq!(board.env.event_kinds("1000.lab").iter().filter(|kind| unmapped(kind)).count(), 2);
    }
}

#[test]
fn a_page_of_a_group_waits_beyond_it_and_one_of_a_released_group_is_not_given_out_for_it() {
    let board = TestBoard::caching(DomainKind::Strict);
    board.run(|dev| {
        let mut at = DeviceAddr(0);
        let group = dev.devres(|dev| {
            let page = dev.dma().coherent(4096)?;
            at = page.device_addr();
            page.release();
            let page = dev.dma().coherent(4096)?;
            assert_eq!(page.device_addr(), at);
            Ok::<_, DmaError>(page)
        })?;
        drop(group);
        assert_eq!((waiting(dev), iova_pages(dev)), (0, 0), "the group's entry is released with it");
        Ok(Vec::new())
    });
}

#[test]
fn threads_that_allocate_and_release_while_another_one_empties_the_cache_lose_nothing() {
    let board = TestBoard::caching(DomainKind::Strict);
    board.run(|dev| {
        let rounds = if cfg!(miri) { 10 } else { 400 };
        std::thread::scope(|scope| {
            for thread in 0..3_u64 {
                scope.spawn(move || {
                    for round in 0..rounds {
                        let pages = [(); 2].map(|()| dev.dma().coherent(4096).unwrap());
                        for page in &pages {
                            assert_eq!(page.read::<u64>(8), 0, "P12");
                            page.write(8, &(thread + 1));
                        }
                        if round % 7 == 0 {
                            dev.state.system().empty_coherent_caches();
                        }
                        assert!(pages.iter().all(|page| page.read::<u64>(8) == thread + 1), "nobody else has it");
                        pages.into_iter().for_each(Coherent::release);
                    }
                });
            }
        });
        assert_eq!(iova_pages(dev), waiting(dev) as u64);
        Ok(Vec::new())
    });
}

#[test]
fn a_barrier_of_coherent_memory_is_one_of_the_targets() {
    let board = TestBoard::translated(DomainKind::Strict);
    let ram = Arc::clone(&board.ram);
    board.run(move |dev| {
        let one = dev.dma().coherent(4096)?;
        let many = dev.dma().coherent_slice::<u32>(8)?;
        let told = |call: &dyn Fn()| {
            ram.take_barriers();
            call();
            ram.take_barriers().into_iter().map(|(barrier, _)| barrier).collect::<Vec<_>>()
        };
        assert_eq!(told(&|| one.publish()), [Barrier::Full]);
        assert_eq!(told(&|| many.publish()), [Barrier::Full]);
        for barrier in [Barrier::Write, Barrier::Read, Barrier::Full] {
            assert_eq!(told(&|| one.barrier(barrier)), [barrier]);
            assert_eq!(told(&|| many.barrier(barrier)), [barrier]);
        }
        assert_eq!(many.device_addr(), many.bytes().device_addr());
        let before = iova_pages(dev);
        many.release();
        assert_eq!(iova_pages(dev), before - 1, "P4");
        Ok(Vec::new())
    });
}
