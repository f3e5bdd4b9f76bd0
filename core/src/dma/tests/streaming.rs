//! Streaming mappings of single buffers.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::Mutex;

use super::board::{HIGH, TestBoard, iova_pages};
use crate::addr::PhysAddr;
use crate::dma::{Attrs, Direction, DmaError};
use crate::driver::ProbeError;
use crate::env::CacheOp;
use crate::instrument::FaultPoint;
use crate::iommu::{DomainKind, Prot};

#[test]
fn a_mapped_buffer_is_returned_by_unmap_with_its_contents() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let mut buffer = dev.dma().buffer(5000)?;
        assert_eq!((buffer.len(), buffer.source()), (5000, "frames"));
        assert!(buffer.as_slice().iter().all(|b| *b == 0), "P12");
        buffer.as_mut_slice()[4999] = 7;
        let phys = buffer.phys();
        let mapped = dev.dma().map(buffer, Direction::ToDevice)?;
        let addr = mapped.device_addr();
        assert_eq!(mmu.state.lock().unwrap().dma_reachable(addr + 4999), Some(phys + 4999));
        assert_eq!(mmu.state.lock().unwrap().prot(addr), Some(Prot::READ));
        let flushes = mmu.state.lock().unwrap().flushes;
        let buffer = mapped.unmap()?;
        assert_eq!(mmu.state.lock().unwrap().flushes, flushes + 1, "one flush");
        assert_eq!(mmu.state.lock().unwrap().dma_reachable(addr), None, "P2");
        assert_eq!((buffer.as_slice()[4999], buffer.phys()), (7, phys));
        Ok(Vec::new())
    });
}

#[test]
fn a_mapping_whose_handle_is_stored_dropped_or_forgotten_ends_with_the_binding() {
    for (keep, lost) in [("keep", 0), ("drop", 0), ("forget", 1)] {
        let board = TestBoard::translated(DomainKind::Strict);
        assert!(board.bind(move |dev| {
            let mapped = dev.dma().map(dev.dma().buffer(4096)?, Direction::FromDevice)?;
            let _ = mapped.device_addr();
            match keep {
                "keep" => return Ok(Vec::from([Box::new(mapped) as _])),
                "drop" => drop(mapped),
                _ => core::mem::forget(mapped),
            }
            Ok(Vec::new())
        }));
        assert_eq!(board.machine.resource_usage().mappings, 1, "{keep}");
        board.unbind();
        assert_eq!(board.mmu.state.lock().unwrap().mapped_pages(), 0, "P9: {keep}");
        assert_eq!(board.machine.memory().frames().in_use(), lost, "P9: {keep}");
        assert_eq!(board.machine.resource_usage().mappings, 0);
        assert_eq!(board.machine.promises().broken(), []);
    }
}

#[test]
fn an_error_at_any_step_returns_the_buffer() {
    let board = TestBoard::translated(DomainKind::Strict);
    let env = Arc::clone(&board.env);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let mut buffer = dev.dma().buffer(4096)?;
        buffer.as_mut_slice()[0] = 9;
        for point in [FaultPoint::LedgerEntry, FaultPoint::IovaAlloc] {
            let at = env.calls.lock().unwrap().len() + usize::from(point == FaultPoint::IovaAlloc);
            *env.fail_at.lock().unwrap() = Some(at);
            let refused = dev.dma().map(buffer, Direction::ToDevice).unwrap_err();
            assert_eq!(refused.error, DmaError::Injected(point));
            assert_eq!(alloc::format!("{refused}"), alloc::format!("{}", refused.error), "it says what its error says");
            buffer = refused.returned;
        }
        *env.fail_at.lock().unwrap() = None;
        mmu.state.lock().unwrap().maps_left = Some(0);
        let refused = dev.dma().map(buffer, Direction::ToDevice).unwrap_err();
        assert!(matches!(refused.error, DmaError::Map(_)));
        mmu.state.lock().unwrap().maps_left = None;
        for bad in [0..0, 64..128, 0..64, 128..5000, 4096..4096] {
            let attrs = Attrs::empty();
            let refused = dev.dma().map_range(dev.dma().buffer(4096)?, bad, Direction::ToDevice, attrs).unwrap_err();
            assert!(matches!(refused.error, DmaError::BadRange { .. }));
        }
        let mapped = dev.dma().map(refused.returned, Direction::ToDevice)?;
        assert_eq!(mapped.unmap()?.as_slice()[0], 9);
        Ok(Vec::new())
    });
}

#[test]
fn a_buffer_of_another_machine_is_refused() {
    let board = TestBoard::direct();
    let other = TestBoard::direct();
    let buffer = Mutex::new(Some(other.machine.dma_buffer(4096).unwrap()));
    board.run(move |dev| {
        let buffer = buffer.lock().unwrap().take().unwrap();
        let refused = dev.dma().map(buffer, Direction::ToDevice).unwrap_err();
        assert_eq!(refused.error, DmaError::ForeignMachine);
        Ok(Vec::new())
    });
}

#[test]
fn cache_maintenance_follows_the_direction_when_the_device_does_not_snoop() {
    use CacheOp::{Clean, Invalidate};
    let board = TestBoard::direct();
    let ram = Arc::clone(&board.ram);
    board.run(move |dev| {
        for (direction, after) in [
            (Direction::ToDevice, Vec::new()),
            (Direction::FromDevice, Vec::from([Invalidate])),
            (Direction::Bidirectional, Vec::from([Invalidate])),
        ] {
            let buffer = dev.dma().buffer(200)?;
            let phys = buffer.phys();
            ram.take_cache_ops();
            let mut mapped = dev.dma().map(buffer, direction)?;
            assert_eq!(ram.take_cache_ops(), [(Clean, phys, 256)], "map {direction}");
            let view = mapped.sync_for_cpu();
            let ops = |ops: &Vec<CacheOp>| ops.iter().map(|op| (*op, phys, 256)).collect::<Vec<_>>();
            assert_eq!(ram.take_cache_ops(), ops(&after), "to the CPU, {direction}");
            drop(view);
            assert_eq!(ram.take_cache_ops(), [(Clean, phys, 256)], "to the device, {direction}");
            mapped.unmap()?;
            assert_eq!(ram.take_cache_ops(), ops(&after), "unmap {direction}");
        }
        let buffer = dev.dma().buffer(4096)?;
        ram.take_cache_ops();
        let mapped = dev.dma().map_range(buffer, 128..256, Direction::Bidirectional, Attrs::SKIP_CPU_SYNC)?;
        mapped.unmap()?;
        assert_eq!(ram.take_cache_ops(), [], "left to the driver");
        Ok(Vec::new())
    });
}

#[test]
fn a_forgotten_view_is_ended_by_the_next_call() {
    let board = TestBoard::direct();
    let ram = Arc::clone(&board.ram);
    board.run(move |dev| {
        let buffer = dev.dma().buffer(4096)?;
        let phys = buffer.phys();
        let mut mapped = dev.dma().map(buffer, Direction::Bidirectional)?;
        let mut view = mapped.sync_for_cpu();
        view[0] = 3;
        core::mem::forget(view);
        ram.take_cache_ops();
        let _ = mapped.device_addr();
        assert_eq!(ram.take_cache_ops(), [(CacheOp::Clean, phys, 4096)]);
        assert_eq!(mapped.unmap()?.as_slice()[0], 3);
        Ok(Vec::new())
    });
}

#[test]
fn an_unconfirmed_unmap_puts_the_buffer_into_quarantine() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    assert!(board.bind(move |dev| {
        let mapped = dev.dma().map(dev.dma().buffer(4096)?, Direction::FromDevice)?;
        mmu.state.lock().unwrap().unresponsive = true;
        assert_eq!(mapped.unmap().unwrap_err(), DmaError::Quarantined(4096));
        mmu.state.lock().unwrap().unresponsive = false;
        Ok(Vec::new())
    }));
    assert_eq!(board.machine.quarantine_table().list().len(), 1, "P2");
    assert_eq!(board.machine.memory().frames().in_use(), 1);
}

#[test]
fn the_device_addresses_of_an_unconfirmed_unmap_are_freed_by_the_next_confirmed_flush() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    assert!(board.bind(move |dev| {
        let first = dev.dma().map(dev.dma().buffer(4096)?, Direction::FromDevice)?;
        let second = dev.dma().map(dev.dma().buffer(8192)?, Direction::FromDevice)?;
        mmu.state.lock().unwrap().unresponsive = true;
        assert!(first.unmap().is_err());
        mmu.state.lock().unwrap().unresponsive = false;
        assert_eq!(iova_pages(dev), 3, "P2: the device may still reach through them");
        second.unmap().unwrap();
        assert_eq!(iova_pages(dev), 0, "P4");
        Ok(Vec::new())
    }));
}

#[test]
fn memory_above_the_mask_is_bounced() {
    let board = TestBoard::direct();
    let ram = Arc::clone(&board.ram);
    board.run(move |dev| {
        let mut buffer = dev.state.system().dma_buffer(300)?;
        assert!(buffer.phys() >= PhysAddr(HIGH), "allocated high");
        buffer.as_mut_slice().fill(1);
        let mut mapped = dev.dma().map(buffer, Direction::Bidirectional)?;
        assert!(mapped.is_bounced());
        assert_eq!(dev.state.system().dma_state().bounce_bytes.load(crate::sync::atomic::Ordering::Relaxed), 4096);
        let slot = PhysAddr(mapped.device_addr().0);
        assert!(slot < PhysAddr(HIGH));
        let mut seen = [0; 301];
        let at = crate::env::Caching::Uncached;
        crate::mem::access::read_bytes(&*ram, slot, &mut seen, at).unwrap();
        assert!(seen[..300].iter().all(|b| *b == 1), "copied on map");
        assert_eq!(seen[300], 0, "P12: and nothing else");
        crate::mem::access::write_bytes(&*ram, slot, &[2; 300], at).unwrap();
        let mut view = mapped.sync_for_cpu();
        assert!(view.iter().all(|b| *b == 2), "copied for the CPU");
        view.fill(3);
        drop(view);
        crate::mem::access::read_bytes(&*ram, slot, &mut seen, at).unwrap();
        assert!(seen[..300].iter().all(|b| *b == 3), "copied for the device");
        crate::mem::access::write_bytes(&*ram, slot, &[4; 300], at).unwrap();
        let buffer = mapped.unmap()?;
        assert!(buffer.as_slice().iter().all(|b| *b == 4), "copied on unmap");
        assert_eq!(dev.state.system().dma_state().bounce_bytes.load(crate::sync::atomic::Ordering::Relaxed), 0);
        assert!(!dev.dma().map(dev.dma().buffer(300)?, Direction::ToDevice)?.is_bounced(), "allocated below the mask");
        Ok(Vec::new())
    });
}

#[test]
fn the_contents_of_a_view_do_not_change_when_the_device_writes() {
    for translated in [true, false] {
        let board = if translated { TestBoard::translated(DomainKind::Strict) } else { TestBoard::direct() };
        let ram = Arc::clone(&board.ram);
        board.run(move |dev| {
            let buffer = dev.dma().buffer(4096)?;
            let phys = buffer.phys();
            let mut mapped = dev.dma().map(buffer, Direction::Bidirectional)?;
            let at = crate::env::Caching::Uncached;
            let device_writes = |byte: u8| crate::mem::access::write_bytes(&*ram, phys, &[byte; 64], at).unwrap();
            let view = mapped.sync_for_cpu();
            let bytes: &[u8] = &view;
            // The device writes on a thread of its own, so that Miri would report a race.
            let sum = std::thread::scope(|s| {
                s.spawn(|| device_writes(1));
                bytes[..64].iter().map(|b| u32::from(*b)).sum::<u32>()
            });
            assert_eq!((sum, bytes[0]), (0, 0), "a byte changed while it was borrowed");
            drop(view);
            assert_eq!(mapped.sync_for_cpu()[0], 1, "a view that was only read writes nothing back");
            mapped.sync_for_cpu()[1] = 7;
            assert_eq!(mapped.unmap()?.as_slice()[..3], [1, 7, 1]);
            Ok(Vec::new())
        });
    }
}

/// Maps `count` buffers; each has its number as its first byte.
fn numbered(dev: crate::binding::Bound<'_>, count: u8) -> Result<Vec<crate::dma::Mapped<'_>>, ProbeError> {
    let mut mapped = Vec::new();
    for n in 0..count {
        let mut buffer = dev.dma().buffer(4096)?;
        buffer.as_mut_slice()[0] = n;
        mapped.push(dev.dma().map(buffer, Direction::Bidirectional)?);
    }
    Ok(mapped)
}

#[test]
fn buffers_unmapped_together_wait_once_and_come_back_in_order() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let (pages, entries) = (mmu.state.lock().unwrap().mapped_pages(), dev.resources().len());
        let mut mapped = numbered(dev, 5)?;
        let kept = mapped.remove(1);
        let flushes = mmu.state.lock().unwrap().flushes;
        let mut returned = Vec::new();
        dev.dma().unmap_many(mapped, &mut returned)?;
        assert_eq!(mmu.state.lock().unwrap().flushes, flushes + 1, "one wait");
        assert_eq!(mmu.state.lock().unwrap().mapped_pages(), pages + 1, "P2");
        assert_eq!(dev.resources().len(), entries + 1, "P4");
        assert_eq!(returned.iter().map(|b| b.as_slice()[0]).collect::<Vec<_>>(), [0, 2, 3, 4]);
        dev.dma().unmap_many([kept], &mut returned)?;
        dev.dma().unmap_many([], &mut returned)?;
        assert_eq!(mmu.state.lock().unwrap().flushes, flushes + 2, "none for nothing");
        Ok(Vec::new())
    });
    assert_eq!(board.machine.dma_misuses(), []);
    assert_eq!(board.machine.promises().broken(), []);
}

#[test]
fn untranslated_and_lazy_buffers_are_unmapped_together_too() {
    for board in [TestBoard::direct(), TestBoard::translated(DomainKind::Lazy)] {
        board.run(|dev| {
            let mut returned = Vec::new();
            dev.dma().unmap_many(numbered(dev, 3)?, &mut returned)?;
            assert_eq!(returned.iter().map(|b| b.as_slice()[0]).collect::<Vec<_>>(), [0, 1, 2]);
            Ok(Vec::new())
        });
        assert_eq!(board.machine.dma_misuses(), []);
        assert_eq!(board.machine.promises().broken(), []);
    }
}

#[test]
fn buffers_whose_common_flush_is_not_confirmed_are_all_in_quarantine() {
    let board = TestBoard::translated(DomainKind::Strict);
    let env = Arc::clone(&board.env);
    board.run(move |dev| {
        let mapped = numbered(dev, 3)?;
        let mut returned = Vec::new();
        let calls = env.calls.lock().unwrap().len();
        *env.fail_at.lock().unwrap() = Some(calls);
        assert_eq!(dev.dma().unmap_many(mapped, &mut returned), Err(DmaError::Quarantined(3 * 4096)), "P2");
        *env.fail_at.lock().unwrap() = None;
        assert!(returned.is_empty());
        let quarantine = dev.state.system().quarantine_table();
        assert_eq!(quarantine.bytes_of(dev.name()), 3 * 4096, "P11");
        assert!(quarantine.retry(dev.state.system()), "a later flush is confirmed");
        assert_eq!(quarantine.bytes_of(dev.name()), 0);
        Ok(Vec::new())
    });
    assert_eq!(board.machine.promises().broken(), []);
}
