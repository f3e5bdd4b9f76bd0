//! Lazy domains: nothing is used again before the flush is confirmed (P2).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::Mutex;

use super::board::{Kept, TestBoard, iova_pages};
use crate::dma::{Direction, DmaError};
use crate::driver::ProbeError;
use crate::env::{Env, Instant};
use crate::iommu::DomainKind;

#[test]
fn pages_and_addresses_wait_for_the_flush() {
    let board = TestBoard::translated(DomainKind::Lazy);
    let (mmu, env) = (Arc::clone(&board.mmu), Arc::clone(&board.env));
    board.run(move |dev| {
        let frames = dev.machine().memory().frames().in_use();
        let lent = dev.dma().map(dev.dma().buffer(4096)?, Direction::FromDevice)?;
        let addr = lent.device_addr();
        let flushes = mmu.state.lock().unwrap().flushes;
        let buffer = lent.unmap()?;
        assert_eq!(mmu.state.lock().unwrap().flushes, flushes, "no wait");
        assert!(mmu.state.lock().unwrap().reaches(addr).is_some(), "the IOTLB still has it");
        drop(buffer);
        assert_eq!(dev.machine().memory().frames().in_use(), frames + 1, "the page waits");
        // The next call, 10 ms later, confirms.
        env.wait(Instant(env.now().0 + 10_000_000));
        let other = dev.dma().map(dev.dma().buffer(4096)?, Direction::FromDevice)?;
        assert_eq!(mmu.state.lock().unwrap().flushes, flushes + 1);
        assert_eq!(mmu.state.lock().unwrap().reaches(addr).is_some(), other.device_addr() == addr);
        assert_eq!(dev.machine().memory().frames().in_use(), frames + 1, "one went, one came");
        Ok(Vec::new())
    });
    assert_eq!(board.machine.dma_misuses(), []);
}

#[test]
fn the_queue_is_bounded_and_the_unbind_empties_it() {
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
fn pages_that_wait_are_asked_for_before_an_allocation_fails() {
    let board = TestBoard::translated(DomainKind::Lazy);
    board.run(|dev| {
        // 128 pages of RAM in all.
        for _ in 0..if cfg!(miri) { 3 } else { 8 } {
            let lent = dev.dma().map(dev.dma().buffer(60 << 12)?, Direction::ToDevice)?;
            drop(lent.unmap()?);
        }
        Ok(Vec::new())
    });
}

#[test]
fn a_buffer_that_waits_is_settled_before_another_machine_part_gets_it() {
    let lazy = TestBoard::translated(DomainKind::Lazy);
    let kept = Arc::new(Mutex::new(None));
    let put = Arc::clone(&kept);
    assert!(lazy.bind(move |dev| {
        let buffer = dev.dma().map(dev.dma().buffer(4096)?, Direction::ToDevice)?.unmap()?;
        *put.lock().unwrap() = Some(buffer);
        Ok(Vec::new())
    }));
    lazy.unbind();
    // The unbind has confirmed it, so the buffer is whole again and its page goes back at once.
    let buffer = kept.lock().unwrap().take().unwrap();
    assert_eq!(lazy.machine.memory().frames().in_use(), 1);
    drop(buffer);
    assert_eq!(lazy.machine.memory().frames().in_use(), 0);
}

#[test]
fn what_is_never_confirmed_goes_to_quarantine_and_is_not_mapped_again() {
    let board = TestBoard::translated(DomainKind::Lazy);
    let (mmu, env) = (Arc::clone(&board.mmu), Arc::clone(&board.env));
    let outlives = Arc::new(Mutex::new(None));
    let put = Arc::clone(&outlives);
    assert!(board.bind(move |dev| {
        let dropped = dev.dma().map(dev.dma().buffer(4096)?, Direction::ToDevice)?.unmap()?;
        let held = dev.dma().map(dev.dma().buffer(4096)?, Direction::ToDevice)?.unmap()?;
        let probe = dev.dma().buffer(4096)?;
        drop(dropped);
        mmu.state.lock().unwrap().dead = true;
        env.wait(Instant(env.now().0 + 10_000_000));
        let lent = dev.dma().map(probe, Direction::ToDevice)?;
        mmu.state.lock().unwrap().dead = false;
        assert_eq!(dev.machine().quarantine().len(), 1, "P2: the one that nobody held");
        let refused = dev.dma().map(held, Direction::ToDevice).unwrap_err();
        assert!(matches!(refused.error, DmaError::Quarantined(_)), "{refused:?}");
        *put.lock().unwrap() = Some(refused.back);
        Ok(Vec::from([Box::new(lent) as _]))
    }));
    drop(outlives.lock().unwrap().take());
    assert_eq!(board.machine.quarantine().len(), 2, "P2: and the other one when it was let go");
}

#[test]
fn the_device_addresses_of_an_unconfirmed_queue_go_back_with_the_next_one_that_is_confirmed() {
    let board = TestBoard::translated(DomainKind::Lazy);
    let (mmu, env) = (Arc::clone(&board.mmu), Arc::clone(&board.env));
    assert!(board.bind(move |dev| {
        let (probe, last) = (dev.dma().buffer(4096)?, dev.dma().buffer(4096)?);
        let _held = dev.dma().map(dev.dma().buffer(8192)?, Direction::ToDevice)?.unmap()?;
        mmu.state.lock().unwrap().dead = true;
        env.wait(Instant(env.now().0 + 10_000_000));
        let lent = dev.dma().map(probe, Direction::ToDevice)?;
        mmu.state.lock().unwrap().dead = false;
        assert_eq!(iova_pages(dev), 3, "P2: the device may still reach through the first two");
        let _held_too = lent.unmap()?;
        env.wait(Instant(env.now().0 + 10_000_000));
        let lent = dev.dma().map(last, Direction::ToDevice)?;
        assert_eq!(iova_pages(dev), 1, "P4: only what is mapped now");
        Ok(Vec::from([Box::new(lent) as _]))
    }));
}

#[test]
fn shared_memory_waits_as_well() {
    let board = TestBoard::translated(DomainKind::Lazy);
    board.run(|dev| -> Result<Kept<'_>, ProbeError> {
        let frames = dev.machine().memory().frames().in_use();
        dev.dma().coherent(4096)?.release();
        assert_eq!(dev.machine().memory().frames().in_use(), frames + 1);
        Ok(Vec::new())
    });
}
