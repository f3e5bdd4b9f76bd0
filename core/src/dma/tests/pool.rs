//! DMA pools.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::board::TestBoard;
use crate::dma::{DmaError, PoolItem};
use crate::iommu::DomainKind;

#[test]
fn items_are_zero_aligned_and_cross_no_boundary() {
    for translated in [false, true] {
        let board = if translated { TestBoard::translated(DomainKind::Strict) } else { TestBoard::direct() };
        board.run(|dev| {
            let shapes = [
                (16, 16, 0),
                (24, 8, 128),
                (100, 64, 4096),
                (3000, 1, 4096),
                (5000, 16, 8192),
                (64, 4096, 64),
                (1, 1, 1),
            ];
            for (size, align, boundary) in shapes.into_iter().take(if cfg!(miri) { 2 } else { shapes.len() }) {
                let pool = dev.dma().pool("prd", size, align, boundary)?;
                let items: Vec<PoolItem<'_>> = (0..5).map(|_| pool.alloc()).collect::<Result<_, _>>()?;
                let mut places: Vec<_> = items.iter().map(|i| i.device_addr().0).collect();
                places.sort_unstable();
                assert!(places.windows(2).all(|p| p[0] + size <= p[1]), "{size} {align} {boundary}: {places:x?}");
                for at in places {
                    assert_eq!(at % align, 0);
                    assert!(boundary == 0 || at / boundary == (at + size - 1) / boundary, "{at:#x} {size}");
                }
                for item in &items {
                    let mut bytes = alloc::vec![1; size as usize];
                    item.read_bytes(0, &mut bytes);
                    assert!(bytes.iter().all(|b| *b == 0), "P12");
                    item.write_bytes(0, &alloc::vec![0xff; size as usize]);
                }
                drop(items);
                let mut again = [1];
                pool.alloc()?.read_bytes(0, &mut again);
                assert_eq!(again, [0], "P12: zeroed again");
                assert_eq!(pool.in_use(), 0);
            }
            for (size, align, boundary) in
                [(0, 1, 0), (1, 3, 0), (1, 8192, 0), (64, 1, 32), (64, 1, 96), (2 << 20, 1, 0)]
            {
                let refused = dev.dma().pool("bad", size, align, boundary).unwrap_err();
                assert_eq!(refused, DmaError::BadPool { size, align, boundary });
            }
            Ok(Vec::new())
        });
        assert_eq!(board.machine.dma_misuses(), []);
    }
}

#[test]
fn unbind_unmaps_a_pool_with_items_in_use_and_a_forgotten_item_costs_memory_only() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    assert!(board.bind(|dev| {
        let pool = dev.dma().pool("prd", 256, 256, 0)?;
        core::mem::forget(pool.alloc()?);
        let kept = pool.alloc()?;
        Ok(Vec::from([Box::new(kept) as _, Box::new(pool) as _]))
    }));
    assert_eq!(mmu.state.lock().unwrap().mapped_pages(), 1);
    board.unbind();
    assert_eq!(mmu.state.lock().unwrap().mapped_pages(), 0, "P9");
    assert_eq!(board.machine.memory().frames().in_use(), 1, "P9: the page of the forgotten item is leaked");
    assert_eq!(board.machine.promises().broken(), []);
}

#[test]
fn an_item_is_zeroed_by_one_call_of_the_target_whatever_its_size() {
    let board = TestBoard::direct();
    let ram = Arc::clone(&board.ram);
    board.run(move |dev| {
        for (size, items) in [(64, 64), (4096, 4), (1 << 16, 1)] {
            let pool = dev.dma().pool("prp", size, 64, 0)?;
            // Returned first, so that the allocations below take their pages from no allocator.
            drop((0..items).map(|_| pool.alloc()).collect::<Result<Vec<_>, _>>()?);
            ram.take_windows();
            let taken = (0..items).map(|_| pool.alloc()).collect::<Result<Vec<_>, _>>()?;
            assert_eq!(ram.take_windows(), items, "{size} bytes");
            taken[0].write(8, &0xffff_u16);
            assert_eq!(taken[0].read::<u32>(8), 0xffff);
            assert_eq!(ram.take_windows(), 0, "a value is accessed without a call");
        }
        Ok(Vec::new())
    });
}
