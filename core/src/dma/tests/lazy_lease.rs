//! Arenas in a lazy domain whose page table leases: their device addresses wait for the flush apart from their slots (P2).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::collections::BTreeSet;

use super::board::{TestBoard, Watch, iova_pages};
use crate::addr::DeviceAddr;
use crate::dma::{Arena, Direction, DmaBuffer, DmaError};
use crate::env::{Env, Instant};
use crate::iommu::DomainKind;

/// Runs `test` on machines on which arenas take the short way, and on some on which they do not.
fn each(test: impl Fn(TestBoard, Watch)) {
    for watch in Watch::ALL {
        test(TestBoard::leasing(DomainKind::Lazy, watch), watch);
    }
}

/// Maps and unmaps a buffer of which the device accesses the first byte meanwhile; returns its address, too.
fn again(
    arena: &mut Arena<'_>,
    board: &super::board::ToyMmu,
    buffer: DmaBuffer,
) -> Result<(DmaBuffer, DeviceAddr), DmaError> {
    let phys = buffer.phys();
    let slot = arena.map(buffer, Direction::FromDevice)?;
    let addr = arena.device_addr(slot)?;
    assert_eq!(board.state.lock().unwrap().access(addr), Some(phys), "P2: an address is used again before its flush");
    Ok((arena.unmap(slot)?, addr))
}

#[test]
fn addresses_are_used_again_after_the_flush_and_not_before() {
    each(|board, watch| {
        let mmu = Arc::clone(&board.mmu);
        board.run(move |dev| {
            let domain = dev.state.system().iommus().groups()[0].domain().unwrap();
            for slots in [1, 2, 20] {
                let mut arena = dev.dma().arena(slots)?;
                let mut buffer = dev.dma().buffer(5000)?;
                let flushes = mmu.state.lock().unwrap().flushes;
                let mut known = BTreeSet::new();
                for round in 0..40 {
                    let addr;
                    (buffer, addr) = again(&mut arena, &mmu, buffer)?;
                    known.insert(addr);
                    if mmu.state.lock().unwrap().flushes == flushes {
                        assert_eq!(known.len(), round + 1);
                        assert!(mmu.state.lock().unwrap().access(addr).is_some(), "no wait: the IOTLB has it");
                    }
                }
                // Eight wait in tests, and at most all of them are with slots then.
                assert!(known.len() <= 9, "{} with {slots} slots", known.len());
                let flushed = mmu.state.lock().unwrap().flushes - flushes;
                assert!((4..=5).contains(&flushed), "{flushed} flushes with {slots} slots, {watch:?}");
                assert_eq!(mmu.state.lock().unwrap().calls, 0, "all by leases");
                drop(buffer);
                arena.release()?;
                // Those that waited were flushed: the next arena uses them.
                assert_eq!((domain.iova_in_use(), domain.kept_pages()), (0, 0), "P4");
            }
            Ok(Vec::new())
        });
        assert_eq!(board.machine.dma_misuses(), []);
        assert_eq!(board.machine.promises().broken(), []);
    });
}

#[test]
fn the_timer_flushes_the_queue_of_an_idle_arena() {
    each(|board, _| {
        let (mmu, env) = (Arc::clone(&board.mmu), Arc::clone(&board.env));
        board.run(move |dev| {
            let mut arena = dev.dma().arena(2)?;
            for _ in 0..3 {
                let frames = dev.state.system().memory().frames().in_use();
                let (buffer, addr) = again(&mut arena, &mmu, dev.dma().buffer(4096)?)?;
                drop(buffer);
                assert_eq!(dev.state.system().memory().frames().in_use(), frames + 1, "P2: the page waits");
                env.advance(Instant(env.now().0 + 9_999_999));
                assert!(mmu.state.lock().unwrap().access(addr).is_some(), "not before 10 ms");
                env.advance(Instant(env.now().0 + 1));
                assert_eq!(mmu.state.lock().unwrap().access(addr), None, "P2");
                assert_eq!(dev.state.system().memory().frames().in_use(), frames);
            }
            Ok(Vec::from([Box::new(arena) as _]))
        });
        assert_eq!(board.machine.dma_misuses(), []);
    });
}

#[test]
fn a_slice_of_queued_memory_flushes_and_a_mapping_of_it_does_not() {
    each(|board, _| {
        let mmu = Arc::clone(&board.mmu);
        board.run(move |dev| {
            let mut arena = dev.dma().arena(2)?;
            let (buffer, first) = again(&mut arena, &mmu, dev.dma().buffer(4096)?)?;
            let (mut buffer, second) = again(&mut arena, &mmu, buffer)?;
            assert_eq!(mmu.state.lock().unwrap().flushes, 0);
            buffer.as_mut_slice()[0] = 1;
            let reached = |addr| mmu.state.lock().unwrap().access(addr);
            assert_eq!((reached(first), reached(second)), (None, None), "P2: no slice of memory that a device reaches");
            assert_eq!(mmu.state.lock().unwrap().flushes, 1);
            Ok(Vec::from([Box::new(arena) as _]))
        });
        assert_eq!(board.machine.dma_misuses(), []);
    });
}

#[test]
fn a_flush_that_fails_takes_the_addresses_from_the_arena_and_the_pages_to_quarantine() {
    each(|board, watch| {
        let mmu = Arc::clone(&board.mmu);
        board.run(move |dev| {
            let machine = dev.state.system();
            let domain = machine.iommus().groups()[0].domain().unwrap();
            let mut arena = dev.dma().arena(2)?;
            let (dropped, first) = again(&mut arena, &mmu, dev.dma().buffer(4096)?)?;
            drop(dropped);
            let (held, second) = again(&mut arena, &mmu, dev.dma().buffer(4096)?)?;
            mmu.state.lock().unwrap().unresponsive = true;
            assert!(!domain.confirm_queue(machine));
            assert_eq!(machine.quarantine_table().bytes_of(dev.name()), 8192, "P2: both, {watch:?}");
            let refused = arena.map(held, Direction::ToDevice).unwrap_err();
            assert_eq!(refused.error, DmaError::Quarantined(8192), "P11");
            mmu.state.lock().unwrap().unresponsive = false;
            assert!(machine.quarantine_table().retry(machine));
            let mut buffer = refused.returned;
            for _ in 0..20 {
                let addr;
                (buffer, addr) = again(&mut arena, &mmu, buffer)?;
                let _ = (addr, first, second);
            }
            drop(buffer);
            arena.release()?;
            domain.confirm_queue(machine);
            domain.retry(machine);
            assert_eq!((iova_pages(dev), machine.quarantine_table().list().len()), (0, 0), "P4");
            Ok(Vec::new())
        });
        assert_eq!(board.machine.dma_misuses(), []);
        assert_eq!(board.machine.promises().broken(), []);
    });
}

#[test]
fn waiting_addresses_end_with_the_binding_however_the_arena_ended() {
    for (how, hang) in ["keep", "drop", "forget"].into_iter().flat_map(|how| [(how, false), (how, true)]) {
        each(|board, watch| {
            let mmu = Arc::clone(&board.mmu);
            assert!(board.bind(move |dev| {
                let mut arena = dev.dma().arena(3)?;
                let mut list = Vec::from([dev.dma().buffer(4096)?, dev.dma().buffer(4096)?]);
                for _ in 0..3 {
                    let slot = arena.map_sg(&mut list, Direction::Bidirectional)?;
                    for (addr, len) in arena.segments(slot)? {
                        let reached = |at: u64| mmu.state.lock().unwrap().access(addr + at).is_some();
                        assert!((0..len).step_by(4096).all(reached));
                    }
                    arena.unmap_many([slot], &mut list)?;
                }
                drop(list);
                mmu.state.lock().unwrap().unresponsive = hang;
                match how {
                    "keep" => return Ok(Vec::from([Box::new(arena) as _])),
                    "drop" => drop(arena),
                    _ => core::mem::forget(arena),
                }
                Ok(Vec::new())
            }));
            let domain = board.machine.iommus().groups()[0].domain().unwrap();
            let last = DeviceAddr(0xffff_f000);
            let device = |page: u64| board.mmu.state.lock().unwrap().access(DeviceAddr(last.0 - page * 4096));
            assert_eq!((0..32).filter(|page| device(*page).is_some()).count(), 6, "the IOTLB has them");
            board.unbind();
            if hang {
                assert_eq!((0..32).filter(|page| device(*page).is_some()).count(), 6);
                assert!(board.machine.memory().frames().in_use() >= 2, "P2: {how}, {watch:?}");
                board.mmu.state.lock().unwrap().unresponsive = false;
                board.machine.quarantine_table().retry(&board.machine);
            }
            assert!((0..32).all(|page| device(page).is_none()), "P2: {how}, {watch:?}, {hang}");
            let all = crate::iommu::Range { iova: DeviceAddr(last.0 - 31 * 4096), len: 32 * 4096 };
            assert!(domain.lease(all).is_some(), "no lease is left: {how}");
            assert_eq!(board.machine.memory().frames().in_use(), 0, "P4: {how}, {watch:?}, {hang}");
            assert_eq!(domain.iova_in_use(), 0, "{how}");
            assert_eq!(board.machine.promises().broken(), []);
            assert_eq!(board.machine.quarantine(), []);
        });
    }
}

#[test]
fn pages_of_several_queues_are_free_when_the_last_has_ended_whichever_that_is() {
    use crate::dma::pin::PageRecord;
    let record = PageRecord::default();
    assert!(record.queue_in(5), "new there");
    assert!(!record.queue_in(5), "once is enough");
    assert!(record.queue_in(6), "P2: the flush of the earlier one may be under way, without this unmap");
    record.end_batch();
    assert!(record.is_pinned(), "P2: the other one has them, at another address");
    record.end_batch();
    assert!(!record.is_pinned());
}
