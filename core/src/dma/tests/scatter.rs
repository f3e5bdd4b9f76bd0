//! Scatter lists.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::board::{TestBoard, ToyState};
use crate::addr::DeviceAddr;
use crate::dma::{Attrs, Direction, DmaBuffer, DmaError, SegmentLimits};
use crate::env::CacheOp;
use crate::instrument::FaultPoint;
use crate::iommu::DomainKind;

const LENS: [u64; 4] = [4096, 8192, 100, 4096];

#[test]
fn a_translated_list_is_one_range_and_needs_one_flush() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let list = LENS.map(|len| dev.dma().buffer(len)).into_iter().collect::<Result<Vec<_>, _>>()?;
        let phys: Vec<_> = list.iter().map(DmaBuffer::phys).collect();
        let mapped = dev.dma().map_sg(list, Direction::FromDevice)?;
        assert_eq!(mapped.len(), LENS.iter().sum::<u64>());
        let segments: Vec<_> = mapped.segments().collect();
        let first = segments[0].0;
        assert_eq!(segments, [(first, 12388), (first + 16384, 4096)], "buffers of whole pages are joined");
        let mut at = first;
        for (phys, len) in phys.iter().zip(LENS) {
            assert_eq!(mmu.state.lock().unwrap().dma_reachable(at + (len - 1)), Some(*phys + (len - 1)));
            at = at + len.next_multiple_of(4096);
        }
        let flushes = mmu.state.lock().unwrap().flushes;
        let back = mapped.unmap()?;
        assert_eq!(mmu.state.lock().unwrap().flushes, flushes + 1);
        assert_eq!(back.iter().map(DmaBuffer::phys).collect::<Vec<_>>(), phys, "in their order");
        Ok(Vec::new())
    });
}

#[test]
fn segments_obey_the_limits_set_by_the_driver() {
    for translated in [false, true] {
        let board = if translated { TestBoard::translated(DomainKind::Strict) } else { TestBoard::direct() };
        board.run(|dev| {
            let limits = SegmentLimits { max_segment_size: 0x1800, segment_boundary: 0x2000 };
            dev.dma().set_limits(limits)?;
            let list = LENS.map(|len| dev.dma().buffer(len)).into_iter().collect::<Result<Vec<_>, _>>()?;
            let mapped = dev.dma().map_sg(list, Direction::ToDevice)?;
            for (addr, len) in mapped.segments() {
                assert!(len <= 0x1800 && addr.0 / 0x2000 == (addr.0 + len - 1) / 0x2000, "{addr} {len}");
            }
            assert_eq!(mapped.segments().map(|s| s.1).sum::<u64>(), mapped.len());
            for bad in [(0, 0), (4096, 0x1001)] {
                let bad = SegmentLimits { max_segment_size: bad.0, segment_boundary: bad.1 };
                assert!(matches!(dev.dma().set_limits(bad), Err(DmaError::BadLimits { .. })));
            }
            Ok(Vec::new())
        });
        assert_eq!(board.machine.dma_misuses(), []);
    }
}

#[test]
fn an_error_at_any_step_returns_the_list() {
    let board = TestBoard::translated(DomainKind::Strict);
    let (env, mmu) = (Arc::clone(&board.env), Arc::clone(&board.mmu));
    board.run(move |dev| {
        let mut list = LENS.map(|len| dev.dma().buffer(len)).into_iter().collect::<Result<Vec<_>, _>>()?;
        for (n, point) in [FaultPoint::LedgerEntry, FaultPoint::IovaAlloc].into_iter().enumerate() {
            *env.fail_at.lock().unwrap() = Some(env.calls.lock().unwrap().len() + n);
            let refused = dev.dma().map_sg(list, Direction::ToDevice).unwrap_err();
            assert_eq!((refused.error, refused.returned.len()), (DmaError::Injected(point), 4));
            list = refused.returned;
        }
        *env.fail_at.lock().unwrap() = None;
        for left in 0..4 {
            mmu.state.lock().unwrap().maps_left = Some(left);
            let refused = dev.dma().map_sg(list, Direction::ToDevice).unwrap_err();
            assert!(matches!(refused.error, DmaError::Map(_)), "{refused:?}");
            list = refused.returned;
            assert_eq!(mmu.state.lock().unwrap().mapped_pages(), 0, "all or nothing");
        }
        mmu.state.lock().unwrap().maps_left = None;
        let empty = dev.dma().map_sg(Vec::new(), Direction::ToDevice).unwrap_err();
        assert_eq!(empty.error, DmaError::BadSize(0));
        assert_eq!(dev.dma().map_sg(list, Direction::ToDevice)?.unmap()?.len(), 4);
        Ok(Vec::new())
    });
}

#[test]
fn a_run_that_some_iommus_have_mapped_is_invalidated_with_the_runs_before_it() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let list = LENS.map(|len| dev.dma().buffer(len)).into_iter().collect::<Result<Vec<_>, _>>()?;
        (mmu.state.lock().unwrap().maps_left, mmu.state.lock().unwrap().partial_maps) = (Some(2), true);
        let refused = dev.dma().map_sg(list, Direction::ToDevice).unwrap_err();
        (mmu.state.lock().unwrap().maps_left, mmu.state.lock().unwrap().partial_maps) = (None, false);
        assert_eq!(refused.returned.len(), 4);
        assert_eq!(mmu.state.lock().unwrap().stale_pages(), 0, "P2: the buffers were returned");
        dev.dma().map_sg(refused.returned, Direction::ToDevice)?.unmap()?;
        Ok(Vec::new())
    });
}

/// One of several IOMMUs keeps what it has mapped of a run that another one could not map.
#[test]
fn a_run_that_could_not_be_undone_stays_in_quarantine_whatever_is_flushed() {
    for runs_before in [0, 2] {
        let board = TestBoard::translated(DomainKind::Strict);
        let mmu = Arc::clone(&board.mmu);
        assert!(board.bind(move |dev| {
            let list = LENS.map(|len| dev.dma().buffer(len)).into_iter().collect::<Result<Vec<_>, _>>()?;
            {
                let mut s = mmu.state.lock().unwrap();
                (s.maps_left, s.partial_maps, s.undo_fails, s.unmap_fails) = (Some(runs_before), true, true, true);
            }
            let refused = dev.dma().map_sg(list, Direction::ToDevice).unwrap_err();
            {
                let mut s = mmu.state.lock().unwrap();
                (s.maps_left, s.partial_maps, s.undo_fails, s.unmap_fails) = (None, false, false, false);
            }
            assert_eq!((refused.returned.len(), matches!(refused.error, DmaError::Quarantined(_))), (0, true));
            assert!(mmu.state.lock().unwrap().mapped_pages() > 0);
            let quarantine = dev.state.system().quarantine_table();
            assert_eq!(quarantine.list().len(), 4);
            // A flush that is confirmed says nothing about what is in the table.
            let flushes = mmu.state.lock().unwrap().flushes;
            assert!(!quarantine.retry(dev.state.system()));
            assert!(mmu.state.lock().unwrap().flushes > flushes);
            assert_eq!(quarantine.list().len(), 4, "P2: the table still maps it");
            Ok(Vec::new())
        }));
        assert_eq!(board.machine.promises().broken(), []);
        board.unbind();
        let _ = board.machine.quarantine_table().retry(&board.machine);
        assert_eq!(board.machine.quarantine(), [], "nothing is translated any more");
    }
}

#[test]
fn a_run_that_its_own_map_could_not_undo_is_removed_with_the_runs_before_it() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let list = LENS.map(|len| dev.dma().buffer(len)).into_iter().collect::<Result<Vec<_>, _>>()?;
        let set = |maps_left, fails| {
            let mut s = mmu.state.lock().unwrap();
            (s.maps_left, s.partial_maps, s.undo_fails) = (maps_left, fails, fails);
        };
        set(Some(2), true);
        let refused = dev.dma().map_sg(list, Direction::ToDevice).unwrap_err();
        set(None, false);
        assert_eq!(refused.returned.len(), 4);
        let left = |s: &ToyState| (s.mapped_pages(), s.stale_pages());
        let left = left(&mmu.state.lock().unwrap());
        assert_eq!(left, (0, 0), "P2: the buffers were returned");
        Ok(Vec::new())
    });
}

#[test]
fn a_partly_mapped_list_that_cannot_be_unmapped_goes_to_quarantine() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    assert!(board.bind(move |dev| {
        let list = LENS.map(|len| dev.dma().buffer(len)).into_iter().collect::<Result<Vec<_>, _>>()?;
        (mmu.state.lock().unwrap().maps_left, mmu.state.lock().unwrap().unresponsive) = (Some(2), true);
        let refused = dev.dma().map_sg(list, Direction::ToDevice).unwrap_err();
        (mmu.state.lock().unwrap().maps_left, mmu.state.lock().unwrap().unresponsive) = (None, false);
        assert_eq!((refused.error, refused.returned.len()), (DmaError::Quarantined(20480), 0));
        Ok(Vec::new())
    }));
    assert_eq!(board.machine.quarantine_table().list().len(), 4, "P2");
}

#[test]
fn an_untranslated_list_bounces_buffers_outside_the_mask() {
    let board = TestBoard::direct();
    let ram = Arc::clone(&board.ram);
    board.run(move |dev| {
        let mut high = dev.state.system().dma_buffer(4096)?;
        high.as_mut_slice()[0] = 5;
        let low = dev.dma().buffer(4096)?;
        let low_phys = low.phys();
        ram.take_cache_ops();
        let mut mapped = dev.dma().map_sg(Vec::from([low, high]), Direction::Bidirectional)?;
        let clean = ram.take_cache_ops();
        assert!(clean.contains(&(CacheOp::Clean, low_phys, 4096)));
        assert_eq!(dev.state.system().dma_state().bounce_bytes.load(crate::sync::atomic::Ordering::Relaxed), 4096);
        assert!(mapped.segments().all(|(addr, _)| addr < DeviceAddr(1 << 32)));
        let mut view = mapped.sync_for_cpu();
        assert_eq!((view.len(), view.buffer(1).map(|b| b[0]), view.buffer(2)), (2, Some(5), None));
        view.buffer_mut(1).unwrap()[0] = 6;
        drop(view);
        assert_eq!(mapped.unmap()?[1].as_slice()[0], 6);
        let skipped = dev.state.system().dma_buffer(4096)?;
        let list = Vec::from([skipped]);
        let mapped = dev.dma().map_sg_with(list, Direction::FromDevice, Attrs::SKIP_CPU_SYNC)?;
        drop(mapped.unmap()?);
        Ok(Vec::new())
    });
}
