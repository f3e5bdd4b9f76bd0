//! Lazy domains: nothing is reused before the flush is confirmed (P2).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::Mutex;

use super::board::{ProbeData, TestBoard, iova_pages};
use crate::dma::{Direction, DmaError};
use crate::driver::ProbeError;
use crate::env::{Caching, Env, Instant};
use crate::iommu::DomainKind;
use crate::mem::access::write_bytes;

#[test]
fn pages_and_addresses_are_freed_by_the_flush() {
    let board = TestBoard::translated(DomainKind::Lazy);
    let (mmu, env) = (Arc::clone(&board.mmu), Arc::clone(&board.env));
    board.run(move |dev| {
        let frames = dev.state.system().memory().frames().in_use();
        let mapped = dev.dma().map(dev.dma().buffer(4096)?, Direction::FromDevice)?;
        let addr = mapped.device_addr();
        let flushes = mmu.state.lock().unwrap().flushes;
        let buffer = mapped.unmap()?;
        assert_eq!(mmu.state.lock().unwrap().flushes, flushes, "no wait");
        assert!(mmu.state.lock().unwrap().dma_reachable(addr).is_some(), "the IOTLB still caches it");
        drop(buffer);
        assert_eq!(dev.state.system().memory().frames().in_use(), frames + 1, "the page is still pinned");
        // The next call, 10 ms later, flushes.
        env.advance(Instant(env.now().0 + 10_000_000));
        let other = dev.dma().map(dev.dma().buffer(4096)?, Direction::FromDevice)?;
        assert_eq!(mmu.state.lock().unwrap().flushes, flushes + 1);
        assert_eq!(mmu.state.lock().unwrap().dma_reachable(addr).is_some(), other.device_addr() == addr);
        assert_eq!(dev.state.system().memory().frames().in_use(), frames + 1, "one page freed, one allocated");
        Ok(Vec::new())
    });
    assert_eq!(board.machine.dma_misuses(), []);
}

#[test]
fn the_queue_is_bounded_and_unbind_flushes_it() {
    let board = TestBoard::translated(DomainKind::Lazy);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let flushes = mmu.state.lock().unwrap().flushes;
        let mut buffer = dev.dma().buffer(4096)?;
        let rounds = if cfg!(miri) { 260 } else { 600 };
        for _ in 0..rounds {
            buffer = dev.dma().map(buffer, Direction::ToDevice)?.unmap()?;
        }
        let confirmed = mmu.state.lock().unwrap().flushes - flushes;
        assert_eq!(confirmed, rounds / 256, "256 at a time");
        Ok(Vec::new())
    });
    assert_eq!(board.machine.dma_misuses(), []);
}

#[test]
fn queued_pages_are_flushed_before_an_allocation_fails() {
    let board = TestBoard::translated(DomainKind::Lazy);
    board.run(|dev| {
        // 128 pages of RAM in all.
        for _ in 0..if cfg!(miri) { 3 } else { 8 } {
            let mapped = dev.dma().map(dev.dma().buffer(60 << 12)?, Direction::ToDevice)?;
            drop(mapped.unmap()?);
        }
        Ok(Vec::new())
    });
}

#[test]
fn unbind_flushes_a_queued_buffer_that_outlives_the_binding() {
    let lazy = TestBoard::translated(DomainKind::Lazy);
    let kept = Arc::new(Mutex::new(None));
    let put = Arc::clone(&kept);
    assert!(lazy.bind(move |dev| {
        let buffer = dev.dma().map(dev.dma().buffer(4096)?, Direction::ToDevice)?.unmap()?;
        *put.lock().unwrap() = Some(buffer);
        Ok(Vec::new())
    }));
    lazy.unbind();
    // Unbind has flushed it, so the buffer is not pinned any more and its page is freed at once.
    let buffer = kept.lock().unwrap().take().unwrap();
    assert_eq!(lazy.machine.memory().frames().in_use(), 1);
    drop(buffer);
    assert_eq!(lazy.machine.memory().frames().in_use(), 0);
}

#[test]
fn the_queue_of_an_idle_device_is_flushed_after_ten_milliseconds() {
    let board = TestBoard::translated(DomainKind::Lazy);
    let (mmu, env) = (Arc::clone(&board.mmu), Arc::clone(&board.env));
    board.run(move |dev| {
        let frames = dev.state.system().memory().frames().in_use();
        let mapped = dev.dma().map(dev.dma().buffer(4096)?, Direction::FromDevice)?;
        let addr = mapped.device_addr();
        drop(mapped.unmap()?);
        env.advance(Instant(env.now().0 + 9_999_999));
        assert!(mmu.state.lock().unwrap().dma_reachable(addr).is_some(), "not before 10 ms");
        env.advance(Instant(env.now().0 + 1));
        assert_eq!(mmu.state.lock().unwrap().dma_reachable(addr), None, "P2");
        assert_eq!(dev.state.system().memory().frames().in_use(), frames);
        Ok(Vec::new())
    });
}

#[test]
fn a_slice_of_a_queued_buffer_flushes_and_a_copy_does_not() {
    let board = TestBoard::translated(DomainKind::Lazy);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let mapped = dev.dma().map(dev.dma().buffer(4096)?, Direction::FromDevice)?;
        let addr = mapped.device_addr();
        let mut buffer = mapped.unmap()?;
        buffer.write_bytes(8, &[1]);
        buffer.read_bytes(8, &mut [0]);
        assert!(mmu.state.lock().unwrap().dma_reachable(addr).is_some(), "no flush");
        assert_eq!(buffer.as_slice()[8], 1);
        assert_eq!(mmu.state.lock().unwrap().dma_reachable(addr), None, "P2: no slice of memory that a device reaches");
        Ok(Vec::new())
    });
}

#[test]
fn a_slice_of_an_unconfirmed_buffer_is_a_copy() {
    let board = TestBoard::translated(DomainKind::Lazy);
    let (mmu, ram) = (Arc::clone(&board.mmu), Arc::clone(&board.ram));
    board.run(move |dev| {
        let mapped = dev.dma().map(dev.dma().buffer(4096)?, Direction::FromDevice)?;
        let mut buffer = mapped.unmap()?;
        mmu.state.lock().unwrap().unresponsive = true;
        let bytes = buffer.as_slice();
        let write = |byte| write_bytes(&*ram, buffer.phys(), &[byte; 8], Caching::Uncached).unwrap();
        write(7);
        assert_eq!(bytes[0], 0, "P2: the device writes to memory that the CPU has borrowed");
        assert_eq!(buffer.as_slice()[0], 0);
        buffer.as_mut_slice()[1] = 9;
        mmu.state.lock().unwrap().unresponsive = false;
        assert_eq!(buffer.as_mut_slice()[..2], [0, 9], "the CPU's copy wins, also after the confirmation");
        assert_eq!(buffer.as_slice()[..2], [0, 9]);
        Ok(Vec::new())
    });
}

#[test]
fn unconfirmed_memory_is_quarantined_and_not_mapped_again_until_confirmed() {
    let board = TestBoard::translated(DomainKind::Lazy);
    let (mmu, env) = (Arc::clone(&board.mmu), Arc::clone(&board.env));
    board.run(move |dev| {
        let dropped = dev.dma().map(dev.dma().buffer(4096)?, Direction::ToDevice)?.unmap()?;
        let held = dev.dma().map(dev.dma().buffer(8192)?, Direction::ToDevice)?.unmap()?;
        drop(dropped);
        mmu.state.lock().unwrap().unresponsive = true;
        env.advance(Instant(env.now().0 + 10_000_000));
        assert_eq!(
            dev.state.system().quarantine_table().list().len(),
            2,
            "P2: the dropped buffer and the one that is still held"
        );
        assert_eq!(iova_pages(dev), 3, "P2: the device may still reach through them");
        let refused = dev.dma().map(held, Direction::ToDevice).unwrap_err();
        assert_eq!(refused.error, DmaError::Quarantined(4096 + 8192));
        assert!(matches!(dev.dma().buffer(1), Err(DmaError::Quarantined(_))), "P11: bounded");
        // The machine retries the flush by itself, with increasing delays.
        env.advance(Instant(env.now().0 + 10_000_000));
        let flushes = mmu.state.lock().unwrap().flushes;
        env.advance(Instant(env.now().0 + 1_000_000_000));
        let asked = mmu.state.lock().unwrap().flushes - flushes;
        assert!((3..10).contains(&asked), "{asked} in a second");
        mmu.state.lock().unwrap().unresponsive = false;
        env.advance(Instant(env.now().0 + 10_000_000_000));
        assert_eq!((dev.state.system().quarantine_table().list().len(), iova_pages(dev)), (0, 0), "P4");
        let mapped = dev.dma().map(refused.returned, Direction::ToDevice)?;
        Ok(Vec::from([Box::new(mapped) as _]))
    });
}

#[test]
fn coherent_memory_is_queued_as_well() {
    let board = TestBoard::translated(DomainKind::Lazy);
    board.run(|dev| -> Result<ProbeData<'_>, ProbeError> {
        let frames = dev.state.system().memory().frames().in_use();
        dev.dma().coherent(4096)?.release();
        assert_eq!(dev.state.system().memory().frames().in_use(), frames + 1);
        Ok(Vec::new())
    });
}

#[test]
fn memory_has_one_pin_for_each_queue_that_it_is_in() {
    for together in [false, true] {
        let board = TestBoard::translated(DomainKind::Lazy);
        let mmu = Arc::clone(&board.mmu);
        board.run(move |dev| {
            let machine = dev.state.system();
            let domain = machine.iommus().groups()[0].domain().unwrap();
            let frames = machine.memory().frames().in_use();
            let mut arena = dev.dma().arena(2)?;
            let mut list = Vec::from([dev.dma().buffer(4096)?]);
            for round in 0..3 {
                for _ in 0..5 {
                    if together {
                        let slot = arena.map_sg(&mut list, Direction::ToDevice)?;
                        arena.unmap_many([slot], &mut list)?;
                    } else {
                        let slot = arena.map(list.remove(0), Direction::ToDevice)?;
                        list.push(arena.unmap(slot)?);
                    }
                    assert_eq!(list[0].memory().record().count(), 1, "round {round}");
                }
                let flushes = mmu.state.lock().unwrap().flushes;
                assert!(domain.confirm_queue(machine));
                assert_eq!(mmu.state.lock().unwrap().flushes, flushes + 1);
                assert_eq!(list[0].memory().record().count(), 0, "the flush was the proof for all of them");
            }
            // The pin of an earlier queue is none of a later one, which another buffer has begun.
            let slot = arena.map(dev.dma().buffer(4096)?, Direction::ToDevice)?;
            drop(arena.unmap(slot)?);
            let slot = arena.map(list.remove(0), Direction::ToDevice)?;
            drop(arena.unmap(slot)?);
            assert_eq!(machine.memory().frames().in_use(), frames + 2, "P2: the pages wait for the flush");
            assert!(domain.confirm_queue(machine));
            assert_eq!(machine.memory().frames().in_use(), frames);
            Ok(Vec::new())
        });
        assert_eq!(board.machine.dma_misuses(), []);
    }
}

#[test]
fn memory_of_a_queue_whose_flush_fails_goes_to_quarantine_with_its_one_pin() {
    let board = TestBoard::translated(DomainKind::Lazy);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let machine = dev.state.system();
        let domain = machine.iommus().groups()[0].domain().unwrap();
        let mut arena = dev.dma().arena(2)?;
        let mut buffer = dev.dma().buffer(4096)?;
        for _ in 0..3 {
            let slot = arena.map(buffer, Direction::FromDevice)?;
            buffer = arena.unmap(slot)?;
        }
        mmu.state.lock().unwrap().unresponsive = true;
        assert!(!domain.confirm_queue(machine));
        assert_eq!((buffer.memory().record().count(), machine.quarantine_table().list().len()), (1, 1), "P11");
        let refused = arena.map(buffer, Direction::FromDevice).unwrap_err();
        assert_eq!(refused.error, DmaError::Quarantined(4096));
        mmu.state.lock().unwrap().unresponsive = false;
        assert!(machine.quarantine_table().retry(machine));
        let slot = arena.map(refused.returned, Direction::FromDevice)?;
        let buffer = arena.unmap(slot)?;
        assert_eq!(buffer.memory().record().count(), 1, "a pin of the new queue");
        Ok(Vec::new())
    });
    assert_eq!(board.machine.dma_misuses(), []);
}

#[test]
fn a_domain_has_one_timer_however_many_queues_it_fills_and_each_queue_is_flushed_in_time() {
    let board = TestBoard::translated(DomainKind::Lazy);
    let (mmu, env) = (Arc::clone(&board.mmu), Arc::clone(&board.env));
    board.run(move |dev| {
        let timers = dev.state.system().timers();
        let flushes = || mmu.state.lock().unwrap().flushes;
        // One buffer, so that no shortage of pages flushes a queue.
        let mut buffer = Some(dev.dma().buffer(4096)?);
        let mut unmap = |times| {
            for _ in 0..times {
                let mapped = dev.dma().map(buffer.take().expect("it came back"), Direction::ToDevice)?;
                buffer = Some(mapped.unmap()?);
            }
            Ok::<_, DmaError>(())
        };
        let (start, before) = (env.now().0, flushes());
        for _ in 0..3 {
            unmap(256)?;
            assert_eq!(timers.queues(), 1, "the first queue's timer stands for those after it");
        }
        assert_eq!(flushes(), before + 3);
        // The fourth queue is begun 6 ms later than the timer was set.
        env.advance(Instant(start + 6_000_000));
        unmap(1)?;
        for (at, flushed) in [(10_000_000, 0), (15_999_999, 0), (16_000_000, 1)] {
            env.advance(Instant(start + at));
            timers.run(dev.state.system(), || true);
            assert_eq!(flushes(), before + 3 + flushed, "after {at} ns");
        }
        assert_eq!((timers.queues(), timers.next()), (0, None));
        // And the next one sets it anew.
        unmap(1)?;
        assert_eq!(timers.next(), Some(Instant(start + 26_000_000)));
        Ok(Vec::new())
    });
}

#[test]
fn mappings_and_arena_slots_of_one_device_go_to_quarantine_together() {
    for arena_first in [false, true] {
        let board = TestBoard::translated(DomainKind::Lazy);
        let mmu = Arc::clone(&board.mmu);
        board.run(move |dev| {
            let machine = dev.state.system();
            let domain = machine.iommus().groups()[0].domain().unwrap();
            let mut arena = dev.dma().arena(2)?;
            for in_arena in [arena_first, !arena_first] {
                let buffer = dev.dma().buffer(4096)?;
                drop(if in_arena {
                    let slot = arena.map(buffer, Direction::FromDevice)?;
                    arena.unmap(slot)?
                } else {
                    dev.dma().map(buffer, Direction::FromDevice)?.unmap()?
                });
            }
            mmu.state.lock().unwrap().unresponsive = true;
            assert!(!domain.confirm_queue(machine));
            let held: u64 = machine.quarantine_table().list().iter().map(|held| held.len).sum();
            assert_eq!((machine.memory().frames().in_use(), held), (2, 8192), "P11");
            mmu.state.lock().unwrap().unresponsive = false;
            assert!(machine.quarantine_table().retry(machine));
            assert_eq!((machine.memory().frames().in_use(), machine.quarantine_table().list().len()), (0, 0), "P4");
            Ok(Vec::new())
        });
    }
}

/// P11: what waits for a later flush is freed by it, whosever it is.
#[test]
fn a_later_flush_frees_the_pages_of_all_devices_of_a_queue_that_failed() {
    let board = TestBoard::translated(DomainKind::Lazy);
    let desc = board.machine.device("1000.lab").unwrap().desc().clone();
    for (n, name) in ["2000.lab", "3000.lab"].into_iter().enumerate() {
        let mut desc = desc.clone();
        (desc.name, desc.node, desc.suppliers[0].args) = (name.into(), None, [n as u32 + 2].into());
        board.machine.add_device(desc).unwrap();
    }
    assert!(board.bind(|dev| {
        drop(dev.dma().map(dev.dma().buffer(4096)?, Direction::FromDevice)?.unmap()?);
        Ok(Vec::new())
    }));
    let machine = &board.machine;
    let held = || (machine.memory().frames().in_use(), machine.quarantine_table().list().len());
    assert_eq!(held(), (3, 0));
    board.mmu.state.lock().unwrap().unresponsive = true;
    assert!(!machine.iommus().groups()[0].domain().unwrap().confirm_queue(machine));
    assert_eq!(held(), (3, 3), "of each device");
    board.mmu.state.lock().unwrap().unresponsive = false;
    assert!(machine.quarantine_table().retry(machine));
    assert_eq!(held(), (0, 0), "P4");
}
