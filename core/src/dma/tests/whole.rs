//! Lists of whole buffers in a slot with a lease, on the short way and, on a machine with a checker, on the general one.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::board::{TestBoard, Watch};
use crate::binding::Bound;
use crate::dma::{Attrs, Direction, DmaBuffer, DmaError};
use crate::env::CacheOp::{Clean, Invalidate};
use crate::iommu::DomainKind;

fn each(test: impl Fn(TestBoard, Watch)) {
    for watch in Watch::ALL {
        test(TestBoard::leasing(DomainKind::Strict, watch), watch);
    }
}

fn buffers(dev: Bound<'_>, lens: &[u64]) -> Result<Vec<DmaBuffer>, DmaError> {
    lens.iter().map(|len| dev.dma().buffer(*len)).collect()
}

/// Lengths of buffers, and offsets and lengths of their segments.
type Case<'a> = (&'a [u64], &'a [(u64, u64)]);

#[test]
fn a_list_is_one_segment_unless_a_buffer_but_the_last_ends_within_a_page() {
    each(|board, watch| {
        let mmu = Arc::clone(&board.mmu);
        board.run(move |dev| {
            let mut arena = dev.dma().arena(2)?;
            let cases: [Case<'_>; 4] = [
                (&[4096, 8192, 4096], &[(0, 16_384)]),
                (&[4096, 8192, 100], &[(0, 12_388)]),
                (&[4095, 4096], &[(0, 4095), (4096, 4096)]),
                (&[4096, 5000, 4096], &[(0, 9096), (12_288, 4096)]),
            ];
            for (lens, expected) in cases {
                let mut list = buffers(dev, lens)?;
                let phys: Vec<_> = list.iter().map(DmaBuffer::phys).collect();
                for _ in 0..3 {
                    let slot = arena.map_sg(&mut list, Direction::FromDevice)?;
                    let at = arena.device_addr(slot)?;
                    let segments: Vec<_> = arena.segments(slot)?.map(|(addr, len)| (addr - at, len)).collect();
                    assert_eq!(segments, expected, "{watch:?}");
                    assert_eq!(arena.mapped_len(slot)?, lens.iter().sum::<u64>());
                    let mut offset = 0;
                    for (phys, len) in phys.iter().zip(lens) {
                        assert_eq!(mmu.state.lock().unwrap().access(at + offset), Some(*phys), "{watch:?}");
                        offset += len.next_multiple_of(4096);
                    }
                    assert_eq!(arena.unmap(slot).unwrap_err(), DmaError::SlotOfList(lens.len()));
                    assert_eq!(arena.read_bytes(slot, 0, &mut [0]), Err(DmaError::SlotOfList(lens.len())));
                    arena.unmap_many([slot], &mut list)?;
                    assert!(
                        (0..offset).step_by(4096).all(|page| mmu.state.lock().unwrap().access(at + page).is_none()),
                        "P2"
                    );
                    assert_eq!(arena.unmap_many([slot], &mut list), Err(DmaError::StaleSlot(slot.index())), "twice");
                    assert_eq!(list.iter().map(DmaBuffer::phys).collect::<Vec<_>>(), phys, "in their order");
                }
            }
            // A list of one is a slot of one.
            let mut list = buffers(dev, &[100])?;
            for _ in 0..2 {
                let slot = arena.map_sg(&mut list, Direction::FromDevice)?;
                assert_eq!(list.len(), 0);
                list.push(arena.unmap(slot)?);
            }
            Ok(Vec::new())
        });
        assert_eq!(board.machine.dma_misuses(), []);
        assert_eq!(board.machine.promises().broken(), []);
    });
}

#[test]
fn each_buffer_of_a_list_is_cleaned_and_invalidated() {
    each(|board, watch| {
        let ram = Arc::clone(&board.ram);
        board.run(move |dev| {
            let mut arena = dev.dma().arena(1)?;
            let mut list = buffers(dev, &[4096, 200])?;
            let phys = [list[0].phys(), list[1].phys()];
            for direction in [Direction::ToDevice, Direction::FromDevice, Direction::Bidirectional] {
                for attrs in [Attrs::empty(), Attrs::SKIP_CPU_SYNC, Attrs::empty()] {
                    let skip = attrs.contains(Attrs::SKIP_CPU_SYNC);
                    let ops = |op| if skip { Vec::new() } else { Vec::from([(op, phys[0], 4096), (op, phys[1], 256)]) };
                    ram.take_cache_ops();
                    let slot = arena.map_sg_with(&mut list, direction, attrs)?;
                    assert_eq!(ram.take_cache_ops(), ops(Clean), "P13: {watch:?}");
                    arena.unmap_many([slot], &mut list)?;
                    let after = if direction.device_writes() { ops(Invalidate) } else { Vec::new() };
                    assert_eq!(ram.take_cache_ops(), after, "P13: {watch:?}");
                }
            }
            Ok(Vec::new())
        });
    });
}

#[test]
fn a_list_whose_arena_is_dropped_or_forgotten_is_unmapped_by_the_unwinder() {
    for (keep, lost) in [("keep", 0), ("drop", 0), ("forget", 3)] {
        each(|board, watch| {
            assert!(board.bind(move |dev| {
                let mut arena = dev.dma().arena(2)?;
                let mut list = buffers(dev, &[4096, 8192])?;
                // Twice: the second time on the short way.
                for _ in 0..2 {
                    let slot = arena.map_sg(&mut list, Direction::FromDevice)?;
                    let _ = arena.device_addr(slot)?;
                    arena.unmap_many([slot], &mut list)?;
                }
                arena.map_sg(&mut list, Direction::FromDevice)?;
                match keep {
                    "keep" => return Ok(Vec::from([Box::new(arena) as _])),
                    "drop" => drop(arena),
                    _ => core::mem::forget(arena),
                }
                Ok(Vec::new())
            }));
            assert_eq!(board.machine.resource_usage().mappings, 1, "{keep}");
            let domain = board.machine.iommus().groups()[0].domain().unwrap();
            board.unbind();
            assert_eq!(domain.iova_in_use(), 0, "P4: {keep}");
            assert_eq!(board.machine.memory().frames().in_use(), lost, "P9: {keep}, {watch:?}");
            assert_eq!(board.machine.promises().broken(), []);
            assert_eq!(board.machine.quarantine(), []);
        });
    }
}

#[test]
fn a_list_whose_flush_is_not_confirmed_is_in_quarantine_as_a_whole() {
    each(|board, watch| {
        let mmu = Arc::clone(&board.mmu);
        board.run(move |dev| {
            let machine = dev.state.system();
            let mut arena = dev.dma().arena(2)?;
            let mut list = buffers(dev, &[4096, 100, 8192])?;
            let mut phys: Vec<_> = list.iter().map(DmaBuffer::phys).collect();
            phys.sort_unstable();
            let slot = arena.map_sg(&mut list, Direction::FromDevice)?;
            arena.unmap_many([slot], &mut list)?;
            let slot = arena.map_sg(&mut list, Direction::FromDevice)?;
            mmu.state.lock().unwrap().unresponsive = true;
            let lost = arena.unmap_many([slot], &mut list);
            assert_eq!((lost, list.len()), (Err(DmaError::Quarantined(12_388)), 0), "{watch:?}");
            let held: Vec<_> = machine.quarantine_table().list().iter().map(|info| info.phys).collect();
            assert_eq!(held, phys, "P2: all of them");
            mmu.state.lock().unwrap().unresponsive = false;
            assert!(machine.quarantine_table().retry(machine));
            assert_eq!(machine.quarantine_table().list().len(), 0);
            arena.release()?;
            Ok(Vec::new())
        });
        assert_eq!(board.machine.dma_misuses(), []);
        assert_eq!(board.machine.promises().broken(), []);
        assert_eq!(board.machine.memory().frames().in_use(), 0, "{watch:?}");
    });
}
