//! Borrowed buffers: what a scope has ended when it returns, however it was left.

use alloc::sync::Arc;
use alloc::vec::Vec;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::adopted::PageCache;
use super::board::{HIGH, TestBoard, ToyState};
use super::streams::add_stream;
use crate::addr::{DeviceAddr, PhysAddr};
use crate::dma::{Attrs, Direction, DmaError};
use crate::driver::Quiesced;
use crate::env::{CacheOp, Caching};
use crate::iommu::DomainKind;
use crate::mem::access;

/// True when the IOMMU leads the device to any page, by its table or what it caches.
fn reaches_any(state: &ToyState) -> bool {
    state.mapped_pages() + state.stale_pages() != 0
}

fn boards() -> [TestBoard; 4] {
    let boards = [
        TestBoard::translated(DomainKind::Strict),
        TestBoard::translated(DomainKind::Lazy),
        TestBoard::translated(DomainKind::Strict).describe(|desc| add_stream(desc, 2)),
        TestBoard::direct(),
    ];
    // Added again, with its group.
    assert!(boards[2].bind(|_| Ok(Vec::new())));
    boards[2].unbind();
    boards
}

#[test]
fn a_scope_has_taken_the_device_off_every_buffer_whatever_became_of_the_handles() {
    for board in boards() {
        let mmu = Arc::clone(&board.mmu);
        assert!(board.bind(move |dev| {
            let (mut a, mut b, mut c) = (dev.dma().buffer(4096)?, dev.dma().buffer(9000)?, dev.dma().buffer(64)?);
            let (entries, mappings) = (dev.resources().len(), dev.state.system().dma_state().mappings());
            dev.dma().scope(|scope| {
                let first = scope.map(&mut a, Direction::FromDevice)?;
                let second = scope.map(&mut b, Direction::Bidirectional)?;
                let third = scope.map(&mut c, Direction::ToDevice)?;
                let _ = (first.device_addr(), second.device_addr(), third.device_addr());
                assert_eq!(dev.state.system().dma_state().mappings(), mappings + 3);
                core::mem::forget(first);
                drop(second);
                let c = third.unmap()?;
                assert_eq!(c.len(), 64);
                core::mem::forget(scope.map(c, Direction::ToDevice)?);
                Ok::<_, DmaError>(())
            })??;
            assert!(!reaches_any(&mmu.state.lock().unwrap()), "P9: asked of the IOMMU's model");
            assert_eq!(dev.state.system().dma_state().mappings(), mappings);
            assert_eq!(dev.resources().len(), entries, "P4");
            for buffer in [&a, &b, &c] {
                assert_eq!(buffer.memory().record().count(), 0, "the CPU's own pages, not a copy");
            }
            // The forgotten handles keep the memory of two buffers (P9).
            drop((a, b, c));
            assert_eq!(dev.state.system().memory().frames().in_use(), 2);
            Ok(Vec::new())
        }));
        board.unbind();
        assert_eq!(board.machine.promises().broken(), []);
        assert_eq!(board.machine.dma_misuses(), []);
    }
}

#[test]
fn device_and_cpu_see_each_others_bytes_without_a_copy() {
    for board in boards() {
        let (mmu, ram) = (Arc::clone(&board.mmu), Arc::clone(&board.ram));
        board.run(move |dev| {
            let mut buffer = dev.dma().buffer(8192)?;
            buffer.as_mut_slice().fill(1);
            let phys = buffer.phys();
            dev.dma().scope(|scope| {
                let mapped = scope.map_range(&mut buffer, 4096..8192, Direction::Bidirectional, Attrs::empty())?;
                let DeviceAddr(addr) = mapped.device_addr();
                let reached = mmu.state.lock().unwrap().dma_reachable(DeviceAddr(addr)).unwrap_or(PhysAddr(addr));
                assert_eq!((reached, mapped.is_bounced(), mapped.len()), (phys + 4096, false, 4096));
                access::write_bytes(&*ram, reached, &[2; 4096], Caching::Cached).unwrap();
                Ok::<_, DmaError>(())
            })??;
            assert!(buffer.as_slice()[..4096].iter().all(|byte| *byte == 1));
            assert!(buffer.as_slice()[4096..].iter().all(|byte| *byte == 2));
            Ok(Vec::new())
        });
    }
}

#[test]
fn a_buffer_that_the_device_cannot_address_is_bounced_and_filled_when_the_scope_ends() {
    let board = TestBoard::direct();
    let ram = Arc::clone(&board.ram);
    board.run(move |dev| {
        let mut buffer = dev.state.system().dma_buffer(4096)?;
        assert!(buffer.phys() >= PhysAddr(HIGH));
        dev.dma().scope(|scope| {
            let mut mapped = scope.map(&mut buffer, Direction::Bidirectional)?;
            assert!(mapped.is_bounced());
            assert_eq!(dev.state.system().bounced_bytes(), 4096);
            access::write_bytes(&*ram, PhysAddr(mapped.device_addr().0), &[3; 4096], Caching::Cached).unwrap();
            assert_eq!(mapped.sync_for_cpu()[5], 3);
            mapped.sync_for_cpu()[5] = 4;
            Ok::<_, DmaError>(())
        })??;
        assert_eq!(buffer.as_slice()[4..7], [3, 4, 3]);
        Ok(Vec::new())
    });
}

#[test]
fn a_panic_in_a_scope_ends_its_mappings() {
    for (n, board) in boards().into_iter().enumerate() {
        let untranslated = n == 3;
        let mmu = Arc::clone(&board.mmu);
        assert!(board.bind(move |dev| {
            let mut buffer = dev.dma().buffer(4096)?;
            let left = catch_unwind(AssertUnwindSafe(|| {
                let _ = dev.dma().scope(|scope| {
                    let mapped = scope.map(&mut buffer, Direction::FromDevice).unwrap();
                    let _ = mapped.device_addr();
                    std::panic::panic_any("the driver gives up");
                });
            }));
            assert!(left.is_err());
            assert!(!reaches_any(&mmu.state.lock().unwrap()), "P9");
            // Nobody has stated that an untranslated device is done.
            let held = dev.state.system().quarantine_table().bytes_of(dev.name());
            assert_eq!(held, if untranslated { 4096 } else { 0 }, "P11");
            buffer.as_mut_slice().fill(7);
            assert_eq!(buffer.as_slice()[100], 7, "the pages, or a copy");
            drop(buffer);
            assert_eq!(dev.state.system().memory().frames().in_use(), u64::from(untranslated), "P11");
            dev.mark_quiesced(Quiesced::stopped());
            assert_eq!(dev.state.system().memory().frames().in_use(), 0);
            Ok(Vec::new())
        }));
        board.unbind();
        assert_eq!(board.machine.promises().broken(), []);
    }
}

#[test]
fn an_unconfirmed_unmap_leaves_the_pages_in_quarantine_and_the_borrower_a_copy() {
    for kind in [DomainKind::Strict, DomainKind::Lazy] {
        for early in [false, true] {
            let board = TestBoard::translated(kind);
            let (mmu, ram) = (Arc::clone(&board.mmu), Arc::clone(&board.ram));
            assert!(board.bind(move |dev| {
                let mut buffer = dev.dma().buffer(4096)?;
                buffer.as_mut_slice().fill(1);
                let phys = buffer.phys();
                let refused = dev.dma().scope(|scope| {
                    let mapped = scope.map(&mut buffer, Direction::FromDevice)?;
                    let _ = mapped.device_addr();
                    mmu.state.lock().unwrap().unresponsive = true;
                    if early {
                        drop(mapped.unmap());
                    }
                    Ok::<_, DmaError>(42)
                });
                let refused = refused.unwrap_err();
                assert_eq!((refused.error, refused.returned), (DmaError::Quarantined(4096), Ok(42)), "{kind:?}");
                // The device writes on.
                let bytes = buffer.as_mut_slice();
                access::write_bytes(&*ram, phys, &[9; 64], Caching::Cached).unwrap();
                assert_eq!(bytes[0], 1, "a copy, which no device reaches");
                drop(buffer);
                assert_eq!(dev.state.system().memory().frames().in_use(), 1, "P2: not free");
                mmu.state.lock().unwrap().unresponsive = false;
                assert!(dev.state.system().quarantine_table().retry(dev.state.system()));
                assert_eq!(dev.state.system().memory().frames().in_use(), 0);
                Ok(Vec::new())
            }));
            board.unbind();
            assert_eq!(board.machine.promises().broken(), []);
        }
    }
}

#[test]
fn adopted_pages_that_a_scope_has_mapped_go_back_when_their_buffer_does() {
    for board in boards() {
        let (cache, machine) = (PageCache::default(), board.machine.clone());
        let seen = cache.clone();
        board.run(move |dev| {
            let mut buffer = cache.buffer(&machine, 3, 1);
            dev.dma().scope(|scope| {
                let mapped = scope.map(&mut buffer, Direction::FromDevice)?;
                let _ = mapped.device_addr();
                Ok::<_, DmaError>(())
            })??;
            assert_eq!(cache.given_back(), []);
            drop(buffer);
            assert_eq!(cache.given_back().len(), 1, "and the lazy domain is flushed");
            Ok(Vec::new())
        });
        assert_eq!(seen.given_back().len(), 1);
    }
}

#[test]
fn a_refused_map_returns_the_borrow() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let mut buffer = dev.dma().buffer(4096)?;
        dev.dma().scope(|scope| {
            mmu.state.lock().unwrap().maps_left = Some(0);
            let refused = scope.map(&mut buffer, Direction::FromDevice).unwrap_err();
            mmu.state.lock().unwrap().maps_left = None;
            assert!(matches!(refused.error, DmaError::Map(_)));
            let refused = scope.map_range(refused.returned, 5..5, Direction::FromDevice, Attrs::empty()).unwrap_err();
            assert_eq!(refused.error, DmaError::BadRange { start: 5, end: 5, len: 4096 });
            scope.map(refused.returned, Direction::FromDevice)?.unmap()?;
            Ok::<_, DmaError>(())
        })??;
        Ok(Vec::new())
    });
}

#[test]
fn a_device_that_runs_on_keeps_the_pages_of_a_scope() {
    for (n, board) in boards().into_iter().enumerate() {
        let untranslated = n == 3;
        assert!(board.bind(move |dev| {
            let mut buffer = dev.dma().buffer(4096)?;
            let left = dev.dma().scope(|scope| {
                let mapped = scope.map(&mut buffer, Direction::FromDevice)?;
                let _ = mapped.device_addr();
                scope.leave_running();
                Ok::<_, DmaError>(())
            });
            assert_eq!(
                left.map_err(|refused| refused.error),
                if untranslated { Err(DmaError::Quarantined(4096)) } else { Ok(Ok(())) }
            );
            drop(buffer);
            assert_eq!(dev.state.system().memory().frames().in_use(), u64::from(untranslated), "P11");
            dev.mark_quiesced(Quiesced::stopped());
            assert_eq!(dev.state.system().memory().frames().in_use(), 0);
            Ok(Vec::new())
        }));
        board.unbind();
        assert_eq!(board.machine.promises().broken(), []);
    }
}

#[test]
fn an_unmap_that_is_confirmed_late_drops_what_the_cache_holds() {
    for early in [false, true] {
        let board = TestBoard::translated(DomainKind::Strict);
        let (env, ram) = (Arc::clone(&board.env), Arc::clone(&board.ram));
        board.run(move |dev| {
            let mut buffer = dev.dma().buffer(4096)?;
            let phys = buffer.phys();
            dev.dma().scope(|scope| {
                let mapped = scope.map(&mut buffer, Direction::FromDevice)?;
                let _ = mapped.device_addr();
                ram.take_cache_ops();
                // The next call that may fail is the flush.
                *env.fail_at.lock().unwrap() = Some(env.calls.lock().unwrap().len());
                if early {
                    mapped.unmap()?;
                }
                Ok::<_, DmaError>(())
            })??;
            *env.fail_at.lock().unwrap() = None;
            assert_eq!(ram.take_cache_ops(), [(CacheOp::Invalidate, phys, 4096)], "P13, once");
            Ok(Vec::new())
        });
    }
}

#[test]
fn bytes_that_were_written_to_a_copy_are_in_memory_before_the_device_gets_the_buffer_again() {
    let board = TestBoard::translated(DomainKind::Strict);
    let (mmu, ram) = (Arc::clone(&board.mmu), Arc::clone(&board.ram));
    board.run(move |dev| {
        let machine = dev.state.system();
        let mut buffer = dev.dma().buffer(4096)?;
        let phys = buffer.phys();
        mmu.state.lock().unwrap().unresponsive = true;
        let lost = dev.dma().scope(|scope| {
            let _mapped = scope.map(&mut buffer, Direction::FromDevice)?;
            Ok::<_, DmaError>(())
        });
        assert_eq!(lost.err().map(|refused| refused.error), Some(DmaError::Quarantined(4096)));
        buffer.as_mut_slice().fill(7);
        let in_ram = |bytes: &mut [u8]| access::read_bytes(&*ram, phys, bytes, Caching::Cached).unwrap();
        let mut bytes = [1; 4096];
        in_ram(&mut bytes);
        assert!(bytes.iter().all(|b| *b == 0), "the device may still write there");
        mmu.state.lock().unwrap().unresponsive = false;
        assert!(machine.quarantine_table().retry(machine));
        dev.dma().scope(|scope| {
            let _mapped = scope.map(&mut buffer, Direction::ToDevice)?;
            in_ram(&mut bytes);
            assert!(bytes.iter().all(|b| *b == 7), "P13");
            Ok::<_, DmaError>(())
        })??;
        Ok(Vec::new())
    });
}

#[test]
fn a_scope_of_many_buffers_waits_for_one_flush() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let mut buffers = Vec::new();
        for n in 1..7 {
            buffers.push(dev.dma().buffer(4096 * n)?);
        }
        let flushes = || mmu.state.lock().unwrap().flushes;
        let before = dev.dma().scope(|scope| {
            for buffer in &mut buffers {
                let mapped = scope.map(buffer, Direction::FromDevice)?;
                let _ = mapped.device_addr();
            }
            assert!(reaches_any(&mmu.state.lock().unwrap()));
            Ok::<_, DmaError>(flushes())
        })??;
        assert_eq!(flushes(), before + 1);
        assert!(!reaches_any(&mmu.state.lock().unwrap()), "P2");
        Ok(Vec::new())
    });
}

#[test]
fn a_buffer_that_was_mapped_twice_is_in_quarantine_once() {
    let board = TestBoard::translated(DomainKind::Lazy);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let (mut twice, mut once) = (dev.dma().buffer(8192)?, dev.dma().buffer(4096)?);
        let left = dev.dma().scope(|scope| {
            let twice = scope.map_range(&mut twice, 0..4096, Direction::FromDevice, Attrs::empty())?.unmap()?;
            let _again = scope.map(twice, Direction::FromDevice)?;
            let _once = scope.map(&mut once, Direction::FromDevice)?;
            mmu.state.lock().unwrap().unresponsive = true;
            Ok::<_, DmaError>(())
        });
        assert_eq!(left.unwrap_err().error, DmaError::Quarantined(8192 + 4096));
        assert_eq!(dev.state.system().quarantine_table().bytes_of(dev.name()), 8192 + 4096);
        mmu.state.lock().unwrap().unresponsive = false;
        assert!(dev.state.system().quarantine_table().retry(dev.state.system()));
        Ok(Vec::new())
    });
}

#[test]
fn a_long_scope_remembers_no_mapping_that_has_ended_but_what_the_device_may_still_reach() {
    for kind in [DomainKind::Strict, DomainKind::Lazy] {
        let board = TestBoard::translated(kind);
        let mmu = Arc::clone(&board.mmu);
        board.run(move |dev| {
            let mut buffers = Vec::new();
            for _ in 0..40 {
                buffers.push(dev.dma().buffer(4096)?);
            }
            dev.dma().scope(|scope| {
                let mut borrows: Vec<_> = buffers.iter_mut().collect();
                let known =
                    || -> usize { alloc::format!("{scope:?}")[6..].split(' ').next().unwrap().parse().unwrap() };
                for round in 0..300 {
                    let mapped = scope.map(borrows.remove(0), Direction::FromDevice)?;
                    let _ = mapped.device_addr();
                    borrows.push(mapped.unmap()?);
                    let limit = if kind == DomainKind::Strict { 17 } else { 2 * 40 + 1 };
                    assert!(known() <= limit, "{} of {kind:?} after {round}", known());
                }
                drop(scope.map(borrows.remove(0), Direction::FromDevice)?);
                for _ in 0..100 {
                    let next = borrows.remove(0);
                    borrows.push(scope.map(next, Direction::FromDevice)?.unmap()?);
                }
                Ok::<_, DmaError>(())
            })??;
            assert!(!reaches_any(&mmu.state.lock().unwrap()), "P9");
            assert!(buffers.iter().all(|buffer| buffer.memory().record().count() == 0));
            drop(buffers);
            Ok(Vec::new())
        });
    }
}

#[test]
fn a_long_scope_counts_all_that_the_device_may_still_reach() {
    let board = TestBoard::translated(DomainKind::Lazy);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let mut buffers = (0..40).map(|_| dev.dma().buffer(4096)).collect::<Result<Vec<_>, _>>()?;
        let left = dev.dma().scope(|scope| {
            mmu.state.lock().unwrap().unresponsive = true;
            for buffer in &mut buffers {
                scope.map(buffer, Direction::FromDevice)?.unmap()?;
            }
            Ok::<_, DmaError>(())
        });
        assert_eq!(left.unwrap_err().error, DmaError::Quarantined(40 * 4096));
        assert_eq!(dev.state.system().quarantine_table().bytes_of(dev.name()), 40 * 4096);
        mmu.state.lock().unwrap().unresponsive = false;
        assert!(dev.state.system().quarantine_table().retry(dev.state.system()));
        Ok(Vec::new())
    });
}
