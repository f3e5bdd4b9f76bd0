//! Memory that leaves quarantine: whoever has it next sees what a device has written that does not snoop (P13).

#![expect(unsafe_code, reason = "lends pages, as their owner")]

use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::Mutex;

use super::board::{KEPT, TestBoard, Watch};
use crate::addr::PhysAddr;
use crate::dma::{Attrs, Direction, DmaBuffer, DmaError};
use crate::env::CacheOp;
use crate::iommu::DomainKind;
use crate::machine::Handle;
use crate::mem::OwnedPages;
use crate::mem::fake::FakeMemory;

type Ops = Vec<(CacheOp, PhysAddr, u64)>;

/// Two pages of somebody who, when he gets them back, notes what was done to the cache since the last time that somebody asked.
fn lend(machine: &Handle, ram: &Arc<FakeMemory>, page: u64, back: &Arc<Mutex<Vec<Ops>>>) -> DmaBuffer {
    let (ram, back) = (Arc::clone(ram), Arc::clone(back));
    let give_back = move |_| back.lock().unwrap().push(ram.take_cache_ops());
    // SAFETY: nobody uses the pages.
    machine.adopt(unsafe { OwnedPages::new("owner", PhysAddr(KEPT + (page << 12)), 2, give_back) }).unwrap()
}

fn all(base: u64) -> Ops {
    Vec::from([(CacheOp::CleanInvalidate, PhysAddr(base), 8192)])
}

#[test]
fn a_borrowed_buffer_that_is_confirmed_late_shows_what_the_device_wrote() {
    for (kind, coherent) in [(DomainKind::Strict, false), (DomainKind::Lazy, false), (DomainKind::Strict, true)] {
        let mut board = TestBoard::translated(kind);
        if coherent {
            board = board.describe(|desc| desc.dma.coherent = true);
            // Added again, with its group.
            assert!(board.bind(|_| Ok(Vec::new())));
            board.unbind();
        }
        let (mmu, ram) = (Arc::clone(&board.mmu), Arc::clone(&board.ram));
        board.run(move |dev| {
            let machine = dev.state.system();
            let mut buffer = dev.dma().buffer(8192)?;
            let base = buffer.phys().0;
            let left = dev.dma().scope(|scope| {
                let mapped = scope.map_range(&mut buffer, 4096..8192, Direction::FromDevice, Attrs::empty())?;
                let _ = mapped.device_addr();
                mmu.state.lock().unwrap().unresponsive = true;
                Ok::<_, DmaError>(())
            });
            assert_eq!(left.unwrap_err().error, DmaError::Quarantined(4096));
            let expected = if coherent { Vec::new() } else { all(base) };
            ram.take_cache_ops();
            buffer.read_bytes(0, &mut [0]);
            assert_eq!(ram.take_cache_ops(), expected, "what the CPU has read before is not what it reads later");
            mmu.state.lock().unwrap().unresponsive = false;
            assert!(machine.quarantine_table().retry(machine));
            assert_eq!(ram.take_cache_ops(), []);
            assert_eq!(buffer.as_slice()[4096], 0);
            assert_eq!(ram.take_cache_ops(), expected, "P13, before the first look");
            buffer.as_mut_slice()[0] = 1;
            buffer.write_bytes(1, &[1]);
            buffer.read_bytes(0, &mut [0]);
            assert_eq!(ram.take_cache_ops(), [], "once");
            drop(buffer);
            assert_eq!(ram.take_cache_ops(), []);
            Ok(Vec::new())
        });
    }
}

#[test]
fn what_the_cpu_writes_meanwhile_is_in_the_pages_before_lines_are_dropped() {
    for slice in [false, true] {
        let board = TestBoard::translated(DomainKind::Strict);
        let (mmu, ram) = (Arc::clone(&board.mmu), Arc::clone(&board.ram));
        board.run(move |dev| {
            let machine = dev.state.system();
            let mut buffer = dev.dma().buffer(8192)?;
            let base = buffer.phys().0;
            let left = dev.dma().scope(|scope| {
                let _mapped = scope.map(&mut buffer, Direction::Bidirectional)?;
                mmu.state.lock().unwrap().unresponsive = true;
                Ok::<_, DmaError>(())
            });
            left.unwrap_err();
            if slice {
                buffer.as_mut_slice()[3] = 7;
            } else {
                buffer.write_bytes(3, &[7]);
            }
            mmu.state.lock().unwrap().unresponsive = false;
            assert!(machine.quarantine_table().retry(machine));
            ram.take_cache_ops();
            assert_eq!(buffer.as_mut_slice()[3], 7);
            assert_eq!(ram.take_cache_ops(), all(base), "cleaned, not only dropped");
            assert_eq!(buffer.as_slice()[3], 7);
            Ok(Vec::new())
        });
    }
}

#[test]
fn adopted_pages_that_leave_quarantine_are_given_back_as_the_device_left_them() {
    let boards = [
        (TestBoard::translated(DomainKind::Strict), "map"),
        (TestBoard::translated(DomainKind::Lazy), "map"),
        (TestBoard::translated(DomainKind::Strict), "arena"),
        (TestBoard::leasing(DomainKind::Lazy, Watch::Nobody), "arena"),
        (TestBoard::direct(), "group"),
    ];
    for (board, how) in boards {
        let (back, machine) = (Arc::new(Mutex::new(Vec::new())), board.machine.clone());
        let (mmu, ram, seen) = (Arc::clone(&board.mmu), Arc::clone(&board.ram), Arc::clone(&back));
        board.run(move |dev| {
            let system = dev.state.system();
            let buffer = lend(&machine, &ram, 4, &back);
            match how {
                "map" => {
                    let mapped = dev.dma().map(buffer, Direction::FromDevice)?;
                    let _ = mapped.device_addr();
                    mmu.state.lock().unwrap().unresponsive = true;
                    drop(mapped.unmap());
                }
                "arena" => {
                    let mut arena = dev.dma().arena(1)?;
                    let slot = arena.map(buffer, Direction::FromDevice)?;
                    let _ = arena.device_addr(slot)?;
                    mmu.state.lock().unwrap().unresponsive = true;
                    drop(arena.unmap(slot));
                    let _ = arena.release();
                }
                _ => {
                    let mut buffer = buffer;
                    let left = dev.dma().scope(|scope| {
                        let mapped = scope.map(&mut buffer, Direction::FromDevice)?;
                        let _ = mapped.device_addr();
                        scope.leave_running();
                        Ok::<_, DmaError>(())
                    });
                    left.unwrap_err();
                }
            }
            for domain in system.iommus().groups().iter().filter_map(|group| group.domain()) {
                domain.confirm_all_queued(system);
            }
            assert_eq!(system.quarantine_table().bytes_of(dev.name()), 8192, "{how}");
            ram.take_cache_ops();
            mmu.state.lock().unwrap().unresponsive = false;
            assert!(system.quarantine_table().retry(system));
            dev.mark_quiesced(crate::driver::Quiesced::stopped());
            assert_eq!(*back.lock().unwrap(), [all(KEPT + (4 << 12))], "P13: {how}");
            Ok(Vec::new())
        });
        assert_eq!(seen.lock().unwrap().len(), 1);
    }
}
