//! Arenas behind an IOMMU whose page table leases entries to their slots.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::board::{TestBoard, Watch, iova_pages};
use crate::addr::DeviceAddr;
use crate::dma::check::Check;
use crate::dma::{Attrs, Direction, DmaBuffer, DmaError};
use crate::env::CacheOp;
use crate::iommu::DomainKind;
use crate::promise::Promise;

/// Runs `test` on machines on which arenas take the short way, and on some on which they do not.
fn each(test: impl Fn(TestBoard, Watch)) {
    for watch in Watch::ALL {
        test(TestBoard::leasing(DomainKind::Strict, watch), watch);
    }
}

#[test]
fn a_slot_maps_and_unmaps_by_its_lease_and_the_device_reaches_the_buffer_only_meanwhile() {
    each(|board, watch| {
        let mmu = Arc::clone(&board.mmu);
        board.run(move |dev| {
            let mut arena = dev.dma().arena(2)?;
            for len in [100, 4096, 5000, 4096 * 9] {
                for direction in [Direction::ToDevice, Direction::FromDevice, Direction::Bidirectional] {
                    let mut buffer = dev.dma().buffer(len)?;
                    buffer.as_mut_slice()[len as usize - 1] = 7;
                    let phys = buffer.phys();
                    for _ in 0..3 {
                        let slot = arena.map(buffer, direction)?;
                        let addr = arena.device_addr(slot)?;
                        let last = len - 1;
                        assert_eq!(mmu.state.lock().unwrap().access(addr + last), Some(phys + last));
                        assert_eq!(arena.mapped_len(slot)?, len);
                        let flushes = mmu.state.lock().unwrap().flushes;
                        buffer = arena.unmap(slot)?;
                        assert_eq!(mmu.state.lock().unwrap().flushes, flushes + 1, "one flush");
                        assert_eq!(mmu.state.lock().unwrap().access(addr + last), None, "P2");
                        assert_eq!(arena.unmap(slot).unwrap_err(), DmaError::StaleSlot(slot.index()), "twice");
                        assert_eq!((buffer.as_slice()[len as usize - 1], buffer.phys()), (7, phys));
                    }
                }
            }
            assert_eq!(mmu.state.lock().unwrap().calls, 0, "{watch:?}: nothing was mapped otherwise");
            arena.release()?;
            assert_eq!(iova_pages(dev), 0, "P4");
            Ok(Vec::new())
        });
        assert_eq!(board.machine.dma_misuses(), []);
        let checked = [Promise::MatchingBackend, Promise::UnreachableBeforeFree, Promise::QuiescedFirst];
        let counts = checked.map(|promise| board.machine.promises().checked(promise));
        // 36 maps and unmaps: a check of each address, of each torn-down back-end, of each table and proof, and of each end. The end of
        // a lease is looked at, too, and the checker does more.
        assert!(counts[0] >= 72 && counts[1] >= 72 && counts[2] >= 36, "{watch:?}: {counts:?}");
    });
}

#[test]
fn lists_of_a_lease_keep_their_order() {
    each(|board, watch| {
        let mmu = Arc::clone(&board.mmu);
        board.run(move |dev| {
            let mut arena = dev.dma().arena(1)?;
            let lens = [5000, 100, 4096, 4096];
            let mut list = lens.into_iter().map(|len| dev.dma().buffer(len)).collect::<Result<Vec<_>, _>>()?;
            let phys: Vec<_> = list.iter().map(DmaBuffer::phys).collect();
            for attrs in [Attrs::empty(), Attrs::SKIP_CPU_SYNC] {
                let slot = arena.map_sg_with(&mut list, Direction::Bidirectional, attrs)?;
                assert!(list.is_empty());
                let mut segments: Vec<_> = arena.segments(slot)?.collect();
                assert_eq!(segments.iter().map(|(_, len)| len).sum::<u64>(), 13_292);
                let at = segments.remove(0).0;
                for (offset, phys) in [(4999, phys[0] + 4999), (8192, phys[1]), (12_288, phys[2]), (16_384, phys[3])] {
                    assert_eq!(mmu.state.lock().unwrap().access(at + offset), Some(phys));
                }
                let flushes = mmu.state.lock().unwrap().flushes;
                arena.unmap_many([slot], &mut list)?;
                assert_eq!(mmu.state.lock().unwrap().flushes, flushes + 1);
                assert!((0..5).all(|page| mmu.state.lock().unwrap().access(at + page * 4096).is_none()), "P2");
                assert_eq!(list.iter().map(DmaBuffer::phys).collect::<Vec<_>>(), phys);
            }
            assert_eq!(mmu.state.lock().unwrap().calls, 0, "{watch:?}");
            assert_eq!(arena.map_sg(&mut Vec::new(), Direction::ToDevice), Err(DmaError::BadSize(0)));
            Ok(Vec::new())
        });
        assert_eq!(board.machine.dma_misuses(), []);
    });
}

#[test]
fn an_arena_that_is_stored_dropped_or_forgotten_leaves_no_lease() {
    for (keep, lost) in [("keep", 0), ("drop", 0), ("forget", 2)] {
        each(|board, watch| {
            let tables = board.mmu.state.lock().unwrap().table_pages();
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
            let domain = board.machine.iommus().groups()[0].domain().unwrap();
            assert_eq!(board.machine.resource_usage().mappings, 2, "{keep}");
            let last = DeviceAddr(0xffff_f000);
            let mapped = |page: u64| domain.translation().resolve(DeviceAddr(last.0 - page * 4096)).is_some();
            assert_eq!((0..8).filter(|page| mapped(*page)).count(), 2);
            board.unbind();
            assert!((0..8).all(|page| !mapped(page)), "P9, P4: {keep}");
            let device = |page: u64| board.mmu.state.lock().unwrap().access(DeviceAddr(last.0 - page * 4096));
            assert!((0..8).all(|page| device(page).is_none()), "P2: {keep}");
            assert!(domain.lease(crate::iommu::Range { iova: DeviceAddr(last.0 - 7 * 4096), len: 8 * 4096 }).is_some());
            assert_eq!(domain.iova_in_use(), 0, "{keep}");
            assert_eq!(board.machine.memory().frames().in_use(), lost, "P9: {keep}, {watch:?}");
            assert!(board.mmu.state.lock().unwrap().table_pages() <= tables + 2, "{keep}");
            assert_eq!(board.machine.promises().broken(), []);
            assert_eq!(board.machine.quarantine(), []);
        });
    }
}

#[test]
fn an_unconfirmed_flush_ends_the_lease_and_the_addresses_wait() {
    each(|board, watch| {
        let mmu = Arc::clone(&board.mmu);
        board.run(move |dev| {
            let machine = dev.state.system();
            for together in [false, true] {
                let mut arena = dev.dma().arena(4)?;
                let buffers = (0..3).map(|_| dev.dma().buffer(4096)).collect::<Result<Vec<_>, DmaError>>()?;
                let phys: Vec<_> = buffers.iter().map(DmaBuffer::phys).collect();
                let slots = buffers
                    .into_iter()
                    .map(|buffer| Ok(arena.map(buffer, Direction::FromDevice)?))
                    .collect::<Result<Vec<_>, DmaError>>()?;
                let addr = arena.device_addr(slots[0])?;
                assert_eq!(mmu.state.lock().unwrap().access(addr), Some(phys[0]));
                mmu.state.lock().unwrap().unresponsive = true;
                let lost = if together {
                    let mut back = Vec::new();
                    let lost = arena.unmap_many(slots[..1].iter().copied(), &mut back).unwrap_err();
                    assert!(back.is_empty());
                    lost
                } else {
                    arena.unmap(slots[0]).unwrap_err()
                };
                assert_eq!(lost, DmaError::Quarantined(4096), "{watch:?}");
                assert_eq!(mmu.state.lock().unwrap().access(addr), Some(phys[0]), "the IOTLB has it");
                let held: Vec<_> = machine.quarantine_table().list().iter().map(|info| info.phys).collect();
                assert_eq!(held, phys[..1], "P2: exactly this one");
                let refused = arena.map(machine.dma_buffer(4096)?, Direction::ToDevice).unwrap_err();
                assert_eq!(refused.error, DmaError::Quarantined(4096), "P11");
                mmu.state.lock().unwrap().unresponsive = false;
                assert!(machine.quarantine_table().retry(machine));
                assert_eq!(mmu.state.lock().unwrap().access(addr), None);
                // The addresses are anybody's: nobody has a lease of them.
                let memory = dev.dma().coherent(4096)?;
                assert_eq!(memory.device_addr(), addr);
                memory.release();
                let slot = arena.map(refused.returned, Direction::ToDevice)?;
                drop((arena.unmap(slot)?, arena.unmap(slots[1])?, arena.unmap(slots[2])?));
                arena.release()?;
            }
            Ok(Vec::new())
        });
        assert_eq!(board.machine.dma_misuses(), []);
    });
}

#[test]
fn the_short_way_refuses_and_returns_what_the_general_one_does() {
    each(|board, watch| {
        let other = TestBoard::leasing(DomainKind::Strict, watch);
        assert!(board.bind(move |dev| {
            let mut arena = dev.dma().arena(1)?;
            let slot = arena.map(dev.dma().buffer(4096)?, Direction::ToDevice)?;
            let full = arena.map(dev.dma().buffer(4096)?, Direction::ToDevice).unwrap_err();
            assert_eq!(full.error, DmaError::ArenaFull(1));
            drop(arena.unmap(slot)?);
            let foreign = other.machine.dma_buffer(4096)?;
            assert_eq!(arena.map(foreign, Direction::ToDevice).unwrap_err().error, DmaError::ForeignMachine);
            let mut list = Vec::from([full.returned, other.machine.dma_buffer(4096)?]);
            assert_eq!(arena.map_sg(&mut list, Direction::ToDevice), Err(DmaError::ForeignMachine));
            assert_eq!(list.len(), 2);
            // The mask shrinks below the addresses that the slot keeps.
            dev.dma().set_mask(20)?;
            let slot = arena.map(list.remove(0), Direction::ToDevice)?;
            assert!(arena.device_addr(slot)?.0 < 1 << 20);
            // What the unwinder does, with the handle in use.
            let (id, entry) = dev.state.ledger.pop().unwrap();
            dev.state.release_early(id, entry);
            let refused = arena.map(dev.dma().buffer(4096)?, Direction::ToDevice).unwrap_err();
            assert_eq!(refused.error, DmaError::Unbinding, "P5");
            assert_eq!(arena.map_sg(&mut list, Direction::ToDevice), Err(DmaError::Unbinding), "P5");
            assert_eq!(arena.unmap(slot).unwrap_err(), DmaError::Unbinding);
            Ok(Vec::new())
        }));
        board.unbind();
        assert_eq!(board.machine.promises().broken(), []);
    });
}

#[test]
fn caches_are_maintained_on_the_short_way() {
    use CacheOp::{Clean, Invalidate};
    each(|board, watch| {
        let ram = Arc::clone(&board.ram);
        board.run(move |dev| {
            let mut arena = dev.dma().arena(1)?;
            let mut list = Vec::from([dev.dma().buffer(200)?]);
            for direction in [Direction::ToDevice, Direction::FromDevice, Direction::Bidirectional] {
                let after: &[_] = if direction.device_writes() { &[(Invalidate, 256)] } else { &[] };
                let ops = || ram.take_cache_ops().into_iter().map(|(op, _, len)| (op, len)).collect::<Vec<_>>();
                for _ in 0..2 {
                    ops();
                    let slot = arena.map(list.remove(0), direction)?;
                    assert_eq!(ops(), [(Clean, 256)], "P13: {watch:?}");
                    list.push(arena.unmap(slot)?);
                    assert_eq!(ops(), after, "P13");
                    let slot = arena.map_sg(&mut list, direction)?;
                    assert_eq!(ops(), [(Clean, 256)], "P13");
                    arena.unmap_many([slot], &mut list)?;
                    assert_eq!(ops(), after, "P13");
                    let slot = arena.map_sg_with(&mut list, direction, Attrs::SKIP_CPU_SYNC)?;
                    arena.unmap_many([slot], &mut list)?;
                    assert_eq!(ops(), [], "skipped");
                }
            }
            Ok(Vec::new())
        });
        assert_eq!(board.machine.dma_misuses(), []);
    });
}

#[test]
fn only_the_part_of_a_buffer_that_was_mapped_is_invalidated() {
    use CacheOp::{Clean, Invalidate};
    each(|board, watch| {
        let ram = Arc::clone(&board.ram);
        board.run(move |dev| {
            let mut arena = dev.dma().arena(1)?;
            let mut list = Vec::new();
            let mut buffer = dev.dma().buffer(4096)?;
            let ops =
                || ram.take_cache_ops().into_iter().map(|(op, a, len)| (op, a.0 & 0xfff, len)).collect::<Vec<_>>();
            for many in [false, true] {
                ops();
                let slot = arena.map_range(buffer, 256..512, Direction::FromDevice, Attrs::empty())?;
                assert_eq!(ops(), [(Clean, 256, 256)], "{watch:?}");
                if many {
                    arena.unmap_many([slot], &mut list)?;
                    buffer = list.remove(0);
                } else {
                    buffer = arena.unmap(slot)?;
                }
                assert_eq!(ops(), [(Invalidate, 256, 256)], "P13: {watch:?}, many {many}");
            }
            drop(buffer);
            Ok(Vec::new())
        });
    });
}

#[test]
fn checker_and_history_are_told_of_what_takes_the_short_way() {
    each(|board, watch| {
        let machine = board.machine.clone();
        board.run(move |dev| {
            let mut arena = dev.dma().arena(4)?;
            let domain = machine.iommus().groups()[0].domain().unwrap();
            let told = watch != Watch::Nobody;
            for number in 0..3_u64 {
                // From the second one on, the slot has a lease.
                let slot = arena.map(dev.dma().buffer(4096)?, Direction::FromDevice)?;
                let addr = arena.device_addr(slot)?;
                let live = format!("single of 1000.lab at {addr}, still mapped");
                assert_eq!(domain.explain(addr + 4095, None), told.then_some(live), "{watch:?}, {number}");
                let mut list = Vec::from([dev.dma().buffer(4096)?, dev.dma().buffer(4096)?]);
                let lists = arena.map_sg(&mut list, Direction::ToDevice)?;
                let at = arena.segments(lists)?.next().unwrap().0;
                let live = format!("sg of 1000.lab at {at}, still mapped");
                assert_eq!(domain.explain(at + 4096, None), told.then_some(live), "{watch:?}, {number}");
                let mut back = Vec::new();
                arena.unmap_many([slot, lists], &mut back)?;
                let former = format!("single at {addr}, 0x1000 bytes, mapped and freed by 1000.lab");
                assert_eq!(domain.explain(addr, None), told.then_some(former), "{watch:?}, {number}");
                let former = format!("sg at {at}, 0x2000 bytes, mapped and freed by 1000.lab");
                assert_eq!(domain.explain(at, None), told.then_some(former), "{watch:?}, {number}");
            }
            // Kept by the arena: the checker finds what is mapped above a mask that shrinks later.
            let slot = arena.map(dev.dma().buffer(4096)?, Direction::FromDevice)?;
            dev.dma().set_mask(31)?;
            drop(arena.unmap(slot)?);
            Ok(Vec::new())
        });
        let misuses: Vec<_> = board.machine.dma_misuses().iter().map(|misuse| misuse.check).collect();
        let expected = if watch == Watch::Nobody { Vec::new() } else { Vec::from([Check::OutsideMask]) };
        assert_eq!(misuses, expected, "{watch:?}");
    });
}
