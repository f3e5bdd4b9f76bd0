//! Parts of buffers: which may be mapped, and that what lies beside them is left alone.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::board::{HIGH, TestBoard};
use crate::addr::{DeviceAddr, PhysAddr};
use crate::dma::{Attrs, Direction, DmaError};
use crate::env::Caching;
use crate::iommu::DomainKind;
use crate::mem::access;

/// A board with and one without an IOMMU, whose device snoops the caches, or does not.
fn boards(coherent: bool) -> [TestBoard; 2] {
    [TestBoard::translated(DomainKind::Strict), TestBoard::direct()]
        .map(|board| board.describe(move |desc| desc.dma.coherent = coherent))
        .map(|board| {
            // Added again, with its group.
            assert!(board.bind(|_| Ok(Vec::new())));
            board.unbind();
            board
        })
}

#[test]
fn only_a_device_that_does_not_snoop_needs_whole_cache_lines() {
    for coherent in [true, false] {
        for board in boards(coherent) {
            board.run(move |dev| {
                for range in [1..2, 3..4093, 64..192, 4095..4096, 0..127] {
                    let buffer = dev.dma().buffer(8192)?;
                    let mapped = dev.dma().map_range(buffer, range.clone(), Direction::FromDevice, Attrs::empty());
                    let mut arena = dev.dma().arena(1)?;
                    let slot =
                        arena.map_range(dev.dma().buffer(8192)?, range.clone(), Direction::ToDevice, Attrs::empty());
                    if coherent {
                        let mapped = mapped?;
                        assert_eq!(
                            (mapped.len(), mapped.device_addr().0 % 4096),
                            (range.end - range.start, range.start)
                        );
                        let slot = slot?;
                        assert_eq!(arena.device_addr(slot)?.0 % 4096, range.start);
                        mapped.unmap()?;
                        arena.unmap(slot)?;
                    } else {
                        let refused = DmaError::BadRange { start: range.start, end: range.end, len: 8192 };
                        assert_eq!((mapped.unwrap_err().error, slot.unwrap_err().error), (refused, refused));
                    }
                    arena.release()?;
                }
                Ok(Vec::new())
            });
        }
    }
}

#[test]
fn the_bytes_beside_a_range_are_not_copied_to_or_from_a_bounce_buffer() {
    let [_, board] = boards(true);
    let ram = Arc::clone(&board.ram);
    board.run(move |dev| {
        for range in [1..2, 3..13, 8..16, 5..4097, 4091..4101, 16..17, 7..9] {
            let mut buffer = dev.state.system().dma_buffer(8192)?;
            assert!(buffer.phys() >= PhysAddr(HIGH), "allocated high");
            buffer.as_mut_slice().fill(1);
            let mapped = dev.dma().map_range(buffer, range.clone(), Direction::Bidirectional, Attrs::empty())?;
            assert!(mapped.is_bounced());
            let DeviceAddr(addr) = mapped.device_addr();
            let len = (range.end - range.start) as usize;
            let page = PhysAddr(addr & !4095);
            let mut seen = Vec::from([9; 8192]);
            let pages = (addr % 4096 + len as u64).next_multiple_of(4096) as usize;
            access::read_bytes(&*ram, page, &mut seen[..pages], Caching::Cached).unwrap();
            let first = (addr % 4096) as usize;
            let copied = |at: usize| u8::from((first..first + len).contains(&at));
            assert!(seen[..pages].iter().enumerate().all(|(at, byte)| *byte == copied(at)), "P12: {range:?}");
            access::write_bytes(&*ram, page, &Vec::from([2; 8192])[..pages], Caching::Cached).unwrap();
            let buffer = mapped.unmap()?;
            let written = |at: usize| 1 + u8::from(range.contains(&(at as u64)));
            assert!(buffer.as_slice().iter().enumerate().all(|(at, byte)| *byte == written(at)), "{range:?}");
        }
        Ok(Vec::new())
    });
}
