//! Mapping arenas.

mod model;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::Mutex;

use super::board::{HIGH, TestBoard, iova_pages, toy_domain};
use crate::dma::{Attrs, Direction, DmaBuffer, DmaError, SegmentLimits};
use crate::driver::ProbeError;
use crate::env::{CacheOp, Env, Instant};
use crate::instrument::FaultPoint;
use crate::iommu::DomainKind;
use crate::promise::Promise;

#[test]
fn a_slot_maps_a_buffer_and_gives_it_back_with_its_contents() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let mut arena = dev.dma().arena(2)?;
        let mut buffer = dev.dma().buffer(5000)?;
        buffer.as_mut_slice()[4999] = 7;
        let phys = buffer.phys();
        let slot = arena.map(buffer, Direction::ToDevice)?;
        let addr = arena.device_addr(slot)?;
        assert_eq!(mmu.state.lock().unwrap().dma_reachable(addr + 4999), Some(phys + 4999));
        let flushes = mmu.state.lock().unwrap().flushes;
        let buffer = arena.unmap(slot)?;
        assert_eq!(mmu.state.lock().unwrap().flushes, flushes + 1, "one flush");
        assert_eq!(mmu.state.lock().unwrap().dma_reachable(addr), None, "P2");
        assert_eq!((buffer.as_slice()[4999], buffer.phys()), (7, phys));
        // The slot keeps its device addresses, which are not in use meanwhile.
        assert_eq!(iova_pages(dev), 0);
        let slot = arena.map(buffer, Direction::ToDevice)?;
        assert_eq!((arena.device_addr(slot)?, iova_pages(dev)), (addr, 2));
        let buffer = arena.unmap(slot)?;
        arena.release()?;
        assert_eq!(iova_pages(dev), 0, "P4");
        drop(buffer);
        Ok(Vec::new())
    });
    assert_eq!(board.machine.dma_misuses(), []);
    let promises = board.machine.promises();
    assert!(promises.checked(Promise::UnreachableBeforeFree) > 0 && promises.checked(Promise::QuiescedFirst) > 0);
}

#[test]
fn an_arena_that_is_stored_dropped_or_forgotten_ends_with_the_binding() {
    for kind in [DomainKind::Strict, DomainKind::Lazy] {
        for (keep, lost) in [("keep", 0), ("drop", 0), ("forget", 2)] {
            let board = TestBoard::translated(kind);
            assert!(board.bind(move |dev| {
                let mut arena = dev.dma().arena(4)?;
                let slots: Vec<_> = (0..3)
                    .map(|_| Ok(arena.map(dev.dma().buffer(4096)?, Direction::FromDevice)?))
                    .collect::<Result<_, DmaError>>()?;
                drop(arena.unmap(slots[1])?);
                let _ = arena.device_addr(slots[0])?;
                match keep {
                    "keep" => return Ok(Vec::from([Box::new(arena) as _])),
                    "drop" => drop(arena),
                    _ => core::mem::forget(arena),
                }
                Ok(Vec::new())
            }));
            assert_eq!(board.machine.resource_usage().mappings, 2, "{keep}");
            board.unbind();
            assert_eq!(board.mmu.state.lock().unwrap().mapped_pages(), 0, "P9, P4: {keep}");
            assert_eq!(board.machine.memory().frames().in_use(), lost, "P9: {keep}");
            assert_eq!(board.machine.resource_usage().mappings, 0);
            assert_eq!(board.machine.promises().broken(), []);
            assert_eq!(board.machine.quarantine(), []);
        }
    }
}

#[test]
fn slots_are_unmapped_newest_first_when_the_binding_ends() {
    for kind in [DomainKind::Strict, DomainKind::Lazy] {
        for keep in ["keep", "drop", "forget"] {
            let board = TestBoard::translated(kind);
            let mapped = Arc::new(Mutex::new(Vec::new()));
            let order = Arc::clone(&mapped);
            assert!(board.bind(move |dev| {
                let mut arena = dev.dma().arena(4)?;
                let mut map = || -> Result<_, DmaError> {
                    let buffer = dev.dma().buffer(4096)?;
                    order.lock().unwrap().push(buffer.phys());
                    Ok(arena.map(buffer, Direction::FromDevice)?)
                };
                let slots = [map()?, map()?, map()?];
                // The newest mapping is in the slot that was the oldest one's.
                drop(arena.unmap(slots[0])?);
                let buffer = dev.dma().buffer(4096)?;
                order.lock().unwrap().remove(0);
                order.lock().unwrap().push(buffer.phys());
                assert_eq!(arena.map(buffer, Direction::FromDevice)?.index(), slots[0].index());
                match keep {
                    "keep" => return Ok(Vec::from([Box::new(arena) as _])),
                    "drop" => drop(arena),
                    _ => core::mem::forget(arena),
                }
                Ok(Vec::new())
            }));
            board.mmu.state.lock().unwrap().unmapped.clear();
            board.unbind();
            let mut expected = mapped.lock().unwrap().clone();
            expected.reverse();
            assert_eq!(board.mmu.state.lock().unwrap().unmapped, expected, "P3: {kind}, {keep}");
            // The checker does not take what nobody can unmap any more for what was left.
            assert_eq!(board.machine.dma_misuses(), [], "{kind}, {keep}");
        }
    }
}

#[test]
fn what_a_forgotten_arena_mapped_keeps_its_addresses_until_a_flush_that_fails_is_confirmed() {
    let board = TestBoard::translated(DomainKind::Strict);
    assert!(board.bind(|dev| {
        let mut arena = dev.dma().arena(2)?;
        for _ in 0..2 {
            arena.map(dev.dma().buffer(4096)?, Direction::FromDevice)?;
        }
        core::mem::forget(arena);
        Ok(Vec::new())
    }));
    let domain = board.machine.iommus().groups()[0].domain().unwrap();
    let before = domain.iova_in_use();
    board.mmu.state.lock().unwrap().unresponsive = true;
    board.unbind();
    assert_eq!(board.mmu.state.lock().unwrap().mapped_pages(), 0);
    assert_eq!(board.machine.memory().frames().in_use(), 2, "P2: leaked, not freed");
    assert_eq!(domain.iova_in_use(), before, "P2: nobody else gets the addresses");
    board.mmu.state.lock().unwrap().unresponsive = false;
    assert!(board.machine.quarantine_table().retry(&board.machine));
    assert_eq!(domain.iova_in_use(), before - 2, "P4");
    assert_eq!(board.machine.promises().broken(), []);
}

#[test]
fn an_arena_that_was_taken_away_refuses_every_call() {
    let board = TestBoard::translated(DomainKind::Strict);
    assert!(board.bind(|dev| {
        let mut arena = dev.dma().arena(2)?;
        let buffer = dev.dma().buffer(4096)?;
        let slot = arena.map(dev.dma().buffer(4096)?, Direction::ToDevice)?;
        // What the unwinder does, with the handle in use: a driver cannot bring that about.
        let (id, entry) = dev.state.ledger.pop().unwrap();
        dev.state.release_early(id, entry);
        let refused = arena.map(buffer, Direction::ToDevice).unwrap_err();
        assert_eq!(refused.error, DmaError::Unbinding, "P5");
        assert_eq!(arena.device_addr(slot), Err(DmaError::Unbinding));
        assert_eq!(arena.unmap(slot).unwrap_err(), DmaError::Unbinding);
        assert_eq!(arena.unmap_many([slot], &mut Vec::new()), Err(DmaError::Unbinding));
        assert_eq!(arena.read_bytes(slot, 0, &mut [0]), Err(DmaError::Unbinding));
        assert_eq!(iova_pages(dev), 0, "P4: all of it is unmapped");
        let before = dev.state.system().memory().frames().in_use();
        drop(arena);
        assert_eq!(dev.state.system().memory().frames().in_use(), before, "P9: leaked");
        Ok(Vec::new())
    }));
    board.unbind();
    assert_eq!(board.machine.promises().broken(), []);
}

#[test]
fn a_full_arena_a_stale_slot_and_a_slot_of_another_arena_are_errors_that_change_nothing() {
    let board = TestBoard::translated(DomainKind::Strict);
    board.run(|dev| {
        let (mut one, mut other) = (dev.dma().arena(1)?, dev.dma().arena(1)?);
        for bad in [0, u32::MAX] {
            assert_eq!(dev.dma().arena(bad).unwrap_err(), DmaError::BadSize(bad.into()));
        }
        let slot = one.map(dev.dma().buffer(4096)?, Direction::ToDevice)?;
        let full = one.map(dev.dma().buffer(4096)?, Direction::ToDevice).unwrap_err();
        assert_eq!(full.error, DmaError::ArenaFull(1));
        let same = other.map(full.returned, Direction::ToDevice)?;
        assert_eq!((one.device_addr(same), slot.index()), (Err(DmaError::StaleSlot(0)), same.index()));
        drop(one.unmap(slot)?);
        for _ in 0..2 {
            assert_eq!(one.unmap(slot).unwrap_err(), DmaError::StaleSlot(0), "a double unmap");
            let again = one.map(dev.dma().buffer(4096)?, Direction::ToDevice)?;
            assert_eq!(one.device_addr(slot), Err(DmaError::StaleSlot(0)), "a handle of an earlier mapping");
            drop(one.unmap(again)?);
        }
        // Twice in one call: unmapped once.
        let slot = one.map(dev.dma().buffer(4096)?, Direction::ToDevice)?;
        let mut back = Vec::new();
        assert_eq!(one.unmap_many([slot, slot, same], &mut back), Err(DmaError::StaleSlot(0)));
        assert_eq!(back.len(), 1);
        for bad in [0..0, 64..128, 0..64, 128..5000, 4096..4096] {
            let buffer = dev.dma().buffer(4096)?;
            let refused = one.map_range(buffer, bad, Direction::ToDevice, Attrs::empty()).unwrap_err();
            assert!(matches!(refused.error, DmaError::BadRange { .. }));
        }
        Ok(Vec::new())
    });
    assert_eq!(board.machine.dma_misuses(), []);
}

#[test]
fn an_error_at_any_step_returns_the_buffer_and_the_slot() {
    let board = TestBoard::translated(DomainKind::Strict);
    let (env, mmu) = (Arc::clone(&board.env), Arc::clone(&board.mmu));
    board.run(move |dev| {
        let mut arena = dev.dma().arena(1)?;
        let mut buffer = dev.dma().buffer(4096)?;
        buffer.as_mut_slice()[0] = 9;
        *env.fail_at.lock().unwrap() = Some(env.calls.lock().unwrap().len());
        let refused = arena.map(buffer, Direction::ToDevice).unwrap_err();
        *env.fail_at.lock().unwrap() = None;
        assert_eq!(refused.error, DmaError::Injected(FaultPoint::IovaAlloc));
        mmu.state.lock().unwrap().maps_left = Some(0);
        let refused = arena.map(refused.returned, Direction::ToDevice).unwrap_err();
        assert!(matches!(refused.error, DmaError::Map(_)));
        // The second buffer of a list fails: nothing of the first one is left.
        mmu.state.lock().unwrap().maps_left = Some(1);
        let mut list = Vec::from([refused.returned, dev.dma().buffer(4096)?]);
        assert!(matches!(arena.map_sg(&mut list, Direction::ToDevice), Err(DmaError::Map(_))));
        mmu.state.lock().unwrap().maps_left = None;
        assert_eq!((list.len(), iova_pages(dev), mmu.state.lock().unwrap().mapped_pages()), (2, 0, 0));
        let slot = arena.map(list.remove(0), Direction::ToDevice)?;
        assert_eq!(arena.unmap(slot)?.as_slice()[0], 9);
        Ok(Vec::new())
    });
}

#[test]
fn an_unconfirmed_flush_quarantines_exactly_the_pages_of_its_slots_until_it_is_confirmed() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let machine = dev.state.system();
        let mut arena = dev.dma().arena(4)?;
        let mapped = |_: u32| -> Result<_, DmaError> { dev.dma().buffer(4096) };
        let buffers = (0..3).map(mapped).collect::<Result<Vec<_>, _>>()?;
        let phys: Vec<_> = buffers.iter().map(DmaBuffer::phys).collect();
        let slots = buffers
            .into_iter()
            .map(|buffer| Ok(arena.map(buffer, Direction::FromDevice)?))
            .collect::<Result<Vec<_>, DmaError>>()?;
        let kept = arena.device_addr(slots[2])?;
        mmu.state.lock().unwrap().unresponsive = true;
        let mut back = Vec::new();
        assert_eq!(arena.unmap_many(slots[..2].iter().copied(), &mut back), Err(DmaError::Quarantined(8192)));
        assert!(back.is_empty());
        let mut held: Vec<_> = machine.quarantine_table().list().iter().map(|info| info.phys).collect();
        held.sort_unstable();
        let mut expected = phys[..2].to_vec();
        expected.sort_unstable();
        assert_eq!(held, expected, "P2: exactly these");
        assert_eq!(arena.device_addr(slots[2]), Ok(kept), "the other slot is as it was");
        let refused = arena.map(machine.dma_buffer(4096)?, Direction::ToDevice).unwrap_err();
        assert_eq!(refused.error, DmaError::Quarantined(8192), "P11");
        mmu.state.lock().unwrap().unresponsive = false;
        assert!(machine.quarantine_table().retry(machine));
        let slot = arena.map(refused.returned, Direction::ToDevice)?;
        drop((arena.unmap(slot)?, arena.unmap(slots[2])?));
        Ok(Vec::new())
    });
    assert_eq!(board.machine.dma_misuses(), []);
}

#[test]
fn a_range_that_the_page_table_does_not_remove_is_quarantined_alone() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    assert!(board.bind(move |dev| {
        let mut arena = dev.dma().arena(2)?;
        let slot = arena.map(dev.dma().buffer(4096)?, Direction::FromDevice)?;
        let other = arena.map(dev.dma().buffer(4096)?, Direction::FromDevice)?;
        mmu.state.lock().unwrap().unmap_fails = true;
        assert_eq!(arena.unmap(slot).unwrap_err(), DmaError::Quarantined(4096));
        mmu.state.lock().unwrap().unmap_fails = false;
        drop(arena.unmap(other)?);
        assert_eq!(dev.state.system().quarantine_table().list().len(), 1);
        Ok(Vec::new())
    }));
    board.unbind();
    assert_eq!(board.machine.promises().broken(), []);
}

#[test]
fn sixty_four_slots_are_unmapped_with_one_wait() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let mut arena = dev.dma().arena(64)?;
        let count = if cfg!(miri) { 4 } else { 64 };
        let slots = (0..count)
            .map(|_| Ok(arena.map(dev.dma().buffer(4096)?, Direction::ToDevice)?))
            .collect::<Result<Vec<_>, DmaError>>()?;
        let before = mmu.state.lock().unwrap().flushes;
        let mut back = Vec::new();
        arena.unmap_many(slots, &mut back)?;
        assert_eq!((mmu.state.lock().unwrap().flushes - before, back.len()), (1, count));
        assert_eq!(mmu.state.lock().unwrap().stale_pages(), 0, "P2");
        Ok(Vec::new())
    });
}

#[test]
fn lists_keep_their_order_and_are_cut_within_the_limits() {
    for board in [TestBoard::translated(DomainKind::Strict), TestBoard::direct()] {
        board.run(move |dev| {
            dev.dma().set_mask(40)?;
            dev.dma().set_limits(SegmentLimits { max_segment_size: 4096, segment_boundary: 0 })?;
            let mut arena = dev.dma().arena(1)?;
            let mut list =
                [5000, 100, 4096].into_iter().map(|len| dev.dma().buffer(len)).collect::<Result<Vec<_>, _>>()?;
            let phys: Vec<_> = list.iter().map(DmaBuffer::phys).collect();
            for _ in 0..2 {
                let slot = arena.map_sg(&mut list, Direction::Bidirectional)?;
                assert_eq!((list.len(), arena.mapped_len(slot)?), (0, 9196));
                let lens: Vec<_> = arena.segments(slot)?.map(|(_, len)| len).collect();
                assert_eq!(lens.iter().sum::<u64>(), 9196);
                assert!(lens.iter().all(|len| *len <= 4096));
                assert_eq!(arena.unmap(slot).unwrap_err(), DmaError::SlotOfList(3));
                arena.unmap_many([slot], &mut list)?;
                assert_eq!(list.iter().map(DmaBuffer::phys).collect::<Vec<_>>(), phys);
            }
            assert_eq!(arena.map_sg(&mut Vec::new(), Direction::ToDevice), Err(DmaError::BadSize(0)));
            Ok(Vec::new())
        });
        assert_eq!(board.machine.dma_misuses(), []);
    }
}

#[test]
fn caches_are_maintained_and_buffers_above_the_mask_are_bounced() {
    use CacheOp::{Clean, Invalidate};
    let board = TestBoard::direct();
    let ram = Arc::clone(&board.ram);
    board.run(move |dev| {
        let mut arena = dev.dma().arena(1)?;
        let buffer = dev.dma().buffer(200)?;
        ram.take_cache_ops();
        let slot = arena.map(buffer, Direction::FromDevice)?;
        let ops: Vec<_> = ram.take_cache_ops().into_iter().map(|op| op.0).collect();
        assert_eq!(ops, [Clean], "P13");
        let _ = arena.device_addr(slot)?;
        let mut to = [1; 8];
        arena.read_bytes(slot, 192, &mut to)?;
        assert!(matches!(arena.read_bytes(slot, 193, &mut to), Err(DmaError::BadRange { .. })));
        ram.take_cache_ops();
        drop(arena.unmap(slot)?);
        let ops: Vec<_> = ram.take_cache_ops().into_iter().map(|op| op.0).collect();
        assert_eq!(ops, [Invalidate], "P13");
        let mut high = dev.state.system().dma_buffer(4096)?;
        assert!(high.phys().0 >= HIGH);
        high.as_mut_slice()[5] = 6;
        let slot = arena.map(high, Direction::Bidirectional)?;
        let addr = arena.device_addr(slot)?;
        assert!(
            addr.0 < HIGH
                && dev.state.system().dma_state().bounce_bytes.load(crate::sync::atomic::Ordering::Relaxed) > 0
        );
        assert_eq!(arena.unmap(slot)?.as_slice()[5], 6);
        assert_eq!(dev.state.system().dma_state().bounce_bytes.load(crate::sync::atomic::Ordering::Relaxed), 0);
        Ok(Vec::new())
    });
    assert_eq!(board.machine.dma_misuses(), []);
}

#[test]
fn untranslated_slots_of_a_device_that_is_not_quiesced_go_to_quarantine() {
    let board = TestBoard::direct();
    assert!(!board.bind(|dev| {
        let mut arena = dev.dma().arena(2)?;
        let slot = arena.map(dev.dma().buffer(4096)?, Direction::FromDevice)?;
        let _ = arena.device_addr(slot)?;
        Err(ProbeError::Device("after the device was started"))
    }));
    let held = board.machine.quarantine();
    assert_eq!((held.len(), held[0].len), (1, 4096), "P11");
    assert_eq!(board.machine.resource_usage().mappings, 0);
    assert_eq!(board.machine.promises().broken(), []);
}

#[test]
fn kept_addresses_are_given_back_when_the_mask_shrinks_or_another_one_needs_them() {
    let board = TestBoard::translated(DomainKind::Strict);
    board.run(|dev| {
        dev.dma().set_mask(32)?;
        let mut arena = dev.dma().arena(4)?;
        let slot = arena.map(dev.dma().buffer(4096)?, Direction::ToDevice)?;
        let addr = arena.device_addr(slot)?;
        let mut buffer = arena.unmap(slot)?;
        dev.dma().set_mask(20)?;
        let slot = arena.map(buffer, Direction::ToDevice)?;
        assert!(addr.0 >= 1 << 20 && arena.device_addr(slot)?.0 < 1 << 20);
        buffer = arena.unmap(slot)?;
        // Two slots keep a page each of the 63 below 256 KiB, of which another kind of mapping has need.
        dev.dma().set_mask(18)?;
        let slots = [arena.map(buffer, Direction::ToDevice)?, arena.map(dev.dma().buffer(4096)?, Direction::ToDevice)?];
        buffer = arena.unmap(slots[0])?;
        drop(arena.unmap(slots[1])?);
        let mut taken = Vec::new();
        while let Ok(memory) = dev.dma().coherent(4096) {
            taken.push(memory);
        }
        assert_eq!(taken.len(), 61);
        let slot = arena.map(buffer, Direction::ToDevice)?;
        taken.push(dev.dma().coherent(4096)?);
        drop(arena.unmap(slot)?);
        Ok(Vec::new())
    });
}

#[test]
fn a_slot_that_was_mapped_when_the_mask_shrank_keeps_no_address_above_it() {
    let board = TestBoard::translated(DomainKind::Strict);
    board.run(|dev| {
        dev.dma().set_mask(32)?;
        let mut arena = dev.dma().arena(4)?;
        let first = arena.map(dev.dma().buffer(4096)?, Direction::ToDevice)?;
        assert!(arena.device_addr(first)?.0 >= 1 << 20);
        dev.dma().set_mask(20)?;
        let second = arena.map(dev.dma().buffer(4096)?, Direction::ToDevice)?;
        let buffer = arena.unmap(first)?;
        let third = arena.map(buffer, Direction::ToDevice)?;
        assert!(arena.device_addr(second)?.0 < 1 << 20 && arena.device_addr(third)?.0 < 1 << 20);
        Ok(Vec::new())
    });
}

#[test]
fn free_slots_keep_addresses_up_to_a_bound_and_a_dropped_arena_none() {
    let board = TestBoard::translated(DomainKind::Strict);
    board.run(|dev| {
        let before = iova_pages(dev);
        let mut arena = dev.dma().arena(16)?;
        let mut slots = Vec::new();
        for _ in 0..12 {
            slots.push(arena.map(dev.dma().buffer(8 << 12)?, Direction::ToDevice)?);
        }
        for slot in slots {
            drop(arena.unmap(slot)?);
        }
        let kept = || dev.state.system().iommus().groups()[0].domain().unwrap().kept_pages();
        assert_eq!(kept(), 64, "8 of 12 slots keep theirs");
        // Another one keeps its own, whichever of them goes.
        let mut other = dev.dma().arena(1)?;
        let slot = other.map(dev.dma().buffer(2 << 12)?, Direction::ToDevice)?;
        drop(other.unmap(slot)?);
        assert_eq!(kept(), 66);
        drop(arena);
        assert_eq!(kept(), 2, "the other one is there still");
        drop(other);
        assert_eq!((kept(), iova_pages(dev)), (0, before));
        Ok(Vec::new())
    });
}

#[test]
fn kept_pages_are_those_of_everybody_who_keeps_some_and_of_nobody_else() {
    use crate::sync::atomic::AtomicU64;
    let board = TestBoard::translated(DomainKind::Strict);
    let domain = toy_domain(&board.mmu, DomainKind::Strict);
    let keepers = [1, 2, 4].map(|pages| Arc::new(AtomicU64::new(pages)));
    for keeper in &keepers {
        domain.add_keeper(keeper);
    }
    assert_eq!(domain.kept_pages(), 7);
    domain.remove_keeper(&keepers[1]);
    domain.remove_keeper(&keepers[1]);
    assert_eq!(domain.kept_pages(), 5);
}

#[test]
fn a_lazy_slot_is_not_reused_before_its_flush_and_its_memory_stays_pinned() {
    let board = TestBoard::translated(DomainKind::Lazy);
    let (mmu, env) = (Arc::clone(&board.mmu), Arc::clone(&board.env));
    board.run(move |dev| {
        let machine = dev.state.system();
        let frames = machine.memory().frames().in_use();
        let mut arena = dev.dma().arena(1)?;
        let slot = arena.map(dev.dma().buffer(4096)?, Direction::FromDevice)?;
        let addr = arena.device_addr(slot)?;
        let flushes = mmu.state.lock().unwrap().flushes;
        let buffer = arena.unmap(slot)?;
        assert_eq!(mmu.state.lock().unwrap().flushes, flushes, "no wait");
        drop(buffer);
        assert_eq!(machine.memory().frames().in_use(), frames + 1, "P2: the page is still pinned");
        let slot = arena.map(dev.dma().buffer(4096)?, Direction::FromDevice)?;
        assert_ne!(arena.device_addr(slot)?, addr, "P2");
        // The deadline is kept by the timer, without another call of the driver.
        env.advance(Instant(env.now().0 + 10_000_000));
        machine.timers().run(machine, || true);
        assert_eq!(mmu.state.lock().unwrap().flushes, flushes + 1);
        assert_eq!(machine.memory().frames().in_use(), frames + 1, "one page freed, one mapped");
        Ok(Vec::new())
    });
    assert_eq!(board.machine.dma_misuses(), []);
}
