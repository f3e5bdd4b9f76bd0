//! Lists of parts of buffers in a slot of an arena.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::board::{HIGH, TestBoard, ToyState};
use crate::addr::{DeviceAddr, PhysAddr};
use crate::dma::{Attrs, Direction, DmaBuffer, DmaError, SgElement};
use crate::env::Caching;
use crate::iommu::DomainKind;
use crate::mem::access;

/// Offset, length, and bytes of the buffer of each element; offsets for devices that do not snoop.
const ALIGNED: [(u64, u64, u64); 4] =
    [(0, 4096, 4096), (8192 + 128, 384, 16384), (4096, 4000, 8096), (256, 4096, 8192)];
/// As above, for one that does.
const ANY: [(u64, u64, u64); 4] = [(1, 1, 4096), (8191, 2, 16384), (7, 4089, 4096), (300, 5000, 8192)];

fn pages_reached(state: &ToyState) -> usize {
    state.mapped_pages() + state.stale_pages()
}

fn map_elements(board: &TestBoard, translated: bool, parts: [(u64, u64, u64); 4]) {
    let (mmu, ram) = (Arc::clone(&board.mmu), Arc::clone(&board.ram));
    assert!(board.bind(move |dev| {
        let mut arena = dev.dma().arena(2)?;
        let mut list = Vec::with_capacity(4);
        let storage = list.as_ptr();
        let mut buffers = Vec::new();
        for round in 1..4_u8 {
            for (offset, len, bytes) in parts {
                let mut buffer = dev.dma().buffer(bytes)?;
                buffer.as_mut_slice().fill(round);
                list.push(SgElement { buffer, offset, len });
            }
            let first: Vec<_> = list.iter().map(|e| e.buffer.phys() + e.offset).collect();
            let whole: Vec<_> = list.iter().map(|e| e.buffer.phys()).collect();
            let slot = arena.map_elements(&mut list, Direction::Bidirectional, Attrs::empty())?;
            assert_eq!((list.len(), list.capacity(), list.as_ptr()), (0, 4, storage), "the caller's storage");
            assert_eq!(arena.mapped_len(slot)?, parts.iter().map(|part| part.1).sum::<u64>());
            let segments: Vec<_> = arena.segments(slot)?.collect();
            let mut reached = Vec::new();
            for (addr, len) in segments {
                for at in 0..len {
                    let at = DeviceAddr(addr.0 + at);
                    let found = mmu.state.lock().unwrap();
                    reached.push(if translated { found.dma_reachable(at).unwrap() } else { PhysAddr(at.0) });
                }
            }
            let expected = first.iter().zip(parts).flat_map(|(phys, (_, len, _))| (0..len).map(|n| *phys + n));
            assert!(reached.iter().copied().eq(expected), "exactly these bytes, in order");
            for at in &reached {
                access::write_bytes(&*ram, *at, &[9], Caching::Cached).unwrap();
            }
            if translated {
                let pages = parts.iter().map(|(offset, len, _)| (offset % 4096 + len).div_ceil(4096) as usize).sum();
                assert_eq!(pages_reached(&mmu.state.lock().unwrap()), pages, "no page beside the elements");
            }
            arena.unmap_many([slot], &mut buffers)?;
            assert_eq!(buffers.iter().map(DmaBuffer::phys).collect::<Vec<_>>(), whole, "in their order");
            for (buffer, (offset, len, bytes)) in buffers.iter().zip(parts) {
                let written = |at: u64| if (offset..offset + len).contains(&at) { 9 } else { round };
                assert!((0..bytes).all(|at| buffer.as_slice()[at as usize] == written(at)), "P13");
            }
            buffers.clear();
        }
        arena.release()?;
        assert_eq!(pages_reached(&mmu.state.lock().unwrap()), 0);
        Ok(Vec::new())
    }));
    board.unbind();
    assert_eq!(board.machine.memory().frames().in_use(), 0, "P4");
    assert_eq!(board.machine.promises().broken(), []);
    assert_eq!(board.machine.dma_misuses(), []);
}

#[test]
fn a_device_reaches_the_bytes_of_the_elements_in_their_order_and_no_page_beside() {
    for coherent in [false, true] {
        let describe = |board: TestBoard| board.describe(move |desc| desc.dma.coherent = coherent);
        let parts = if coherent { ANY } else { ALIGNED };
        map_elements(&describe(TestBoard::translated(DomainKind::Strict)), true, parts);
        map_elements(&describe(TestBoard::direct()), false, parts);
    }
}

#[test]
fn elements_outside_their_buffer_or_across_cache_lines_are_refused_and_left_in_the_list() {
    for board in [TestBoard::translated(DomainKind::Strict), TestBoard::direct()] {
        board.run(|dev| {
            let mut arena = dev.dma().arena(1)?;
            let bad = [(4096, 1), (0, 4097), (128, 0), (u64::MAX, 2), (64, 128), (0, 100)];
            for (offset, len) in bad {
                let whole = SgElement::whole(dev.dma().buffer(4096)?);
                let mut list = Vec::from([whole, SgElement { buffer: dev.dma().buffer(4096)?, offset, len }]);
                let refused = arena.map_elements(&mut list, Direction::ToDevice, Attrs::empty()).unwrap_err();
                assert!(matches!(refused, DmaError::BadRange { start, len: 4096, .. } if start == offset), "{refused}");
                assert_eq!(list.len(), 2);
            }
            let refused = arena.map_elements(&mut Vec::new(), Direction::ToDevice, Attrs::empty());
            assert_eq!(refused, Err(DmaError::BadSize(0)));
            let mut list = Vec::from([SgElement::whole(dev.dma().buffer(4096)?)]);
            let slot = arena.map_elements(&mut list, Direction::ToDevice, Attrs::empty())?;
            assert_eq!(arena.unmap(slot)?.len(), 4096);
            arena.release()?;
            Ok(Vec::new())
        });
    }
}

#[test]
fn an_element_that_the_device_cannot_address_is_bounced_alone() {
    let board = TestBoard::direct();
    board.run(|dev| {
        let mut arena = dev.dma().arena(1)?;
        let high = dev.state.system().dma_buffer(8192)?;
        assert!(high.phys() >= PhysAddr(HIGH));
        let low = dev.dma().buffer(4096)?;
        let mut list = Vec::from([
            SgElement { buffer: high, offset: 4096, len: 256 },
            SgElement { buffer: low, offset: 0, len: 128 },
        ]);
        let slot = arena.map_elements(&mut list, Direction::ToDevice, Attrs::empty())?;
        assert_eq!(dev.state.system().bounced_bytes(), 256);
        arena.unmap_many([slot], &mut Vec::new())?;
        arena.release()?;
        Ok(Vec::new())
    });
}
