//! Flushes of a lazy domain's queue that are under way on another thread.

#![expect(unsafe_code, reason = "lends pages, as their owner")]

use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use super::board::{KEPT, TestBoard, ToyMmu, Watch};
use crate::addr::{DeviceAddr, PhysAddr};
use crate::dma::check::{Check, CpuMemory, Op, Record};
use crate::dma::{Attrs, Direction, DmaError, Kind};
use crate::iommu::{Domain, DomainKind, Range};
use crate::mem::OwnedPages;
use crate::system::System;

/// Makes the next flush wait, after it has begun, until what is sent to, or dropped, is the sender. The receiver tells that it has begun.
fn hold_next_flush(mmu: &ToyMmu) -> (Receiver<()>, Sender<()>) {
    let ((began, has_begun), (go_on, goes_on)) = (channel(), channel());
    let wait = move || {
        began.send(()).unwrap();
        let _ = goes_on.recv();
    };
    *mmu.during_flush.lock().unwrap() = Some(alloc::boxed::Box::new(wait));
    (has_begun, go_on)
}

/// Calls `act` while another thread is in the flush of the queue that `domain` has now.
fn while_flushed(mmu: &ToyMmu, domain: &Arc<Domain>, machine: &System, act: impl FnOnce()) {
    thread::scope(|threads| {
        let (has_begun, go_on) = hold_next_flush(mmu);
        threads.spawn(|| domain.confirm_queue(machine));
        has_begun.recv().unwrap();
        act();
        drop(go_on);
    });
}

#[test]
fn a_scope_that_ends_while_another_thread_flushes_has_the_device_off_its_pages() {
    for early in [false, true] {
        let board = TestBoard::translated(DomainKind::Lazy);
        let mmu = Arc::clone(&board.mmu);
        board.run(move |dev| {
            let machine = dev.state.system();
            let domain = machine.iommus().groups()[0].domain().unwrap();
            let mut buffer = dev.dma().buffer(4096)?;
            if !early {
                // The flush that is under way has the pages by an earlier mapping.
                buffer = dev.dma().map(buffer, Direction::FromDevice)?.unmap()?;
            }
            let (mut end, mut stale) = (Err(DmaError::Unbinding), None);
            thread::scope(|threads| {
                let (has_begun, go_on) = hold_next_flush(&mmu);
                let left = dev.dma().scope(|scope| {
                    let mapped = scope.map(&mut buffer, Direction::FromDevice)?;
                    let _ = mapped.device_addr();
                    if early {
                        mapped.unmap()?;
                    }
                    threads.spawn(|| domain.confirm_queue(machine));
                    has_begun.recv().unwrap();
                    Ok::<_, DmaError>(())
                });
                end = left.map(drop).map_err(|refused| refused.error);
                // The other flush has had no effect yet, and would hide what the scope's own left out.
                stale = Some(mmu.state.lock().unwrap().stale_pages());
                drop(go_on);
            });
            assert_eq!((end, stale), (Ok(()), Some(0)), "P2: the IOMMU confirms everything to the scope");
            assert_eq!(buffer.memory().record().count(), 0);
            assert_eq!((mmu.state.lock().unwrap().stale_pages(), domain.iova_in_use()), (0, 0), "P2, P4");
            assert_eq!(dev.state.system().quarantine_table().list(), []);
            Ok(Vec::new())
        });
        assert_eq!(board.machine.dma_misuses(), []);
    }
}

#[test]
fn a_retry_confirms_what_another_thread_is_retrying() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let machine = dev.state.system();
        let domain = machine.iommus().groups()[0].domain().unwrap();
        let mapped = dev.dma().map(dev.dma().buffer(4096)?, Direction::FromDevice)?;
        let _ = mapped.device_addr();
        mmu.state.lock().unwrap().unresponsive = true;
        drop(mapped.unmap());
        mmu.state.lock().unwrap().unresponsive = false;
        assert_eq!(machine.quarantine_table().bytes_of(dev.name()), 4096);
        let mut seen = None;
        thread::scope(|threads| {
            let (has_begun, go_on) = hold_next_flush(&mmu);
            threads.spawn(|| domain.retry(machine));
            has_begun.recv().unwrap();
            let confirmed = domain.retry(machine);
            let (stale, held) = (mmu.state.lock().unwrap().stale_pages(), machine.quarantine_table().list().len());
            seen = Some((confirmed, stale, held, domain.iova_in_use()));
            drop(go_on);
        });
        assert_eq!(seen, Some((true, 0, 0, 0)), "P2, P4: confirmed by a flush of its own");
        assert!(!domain.has_unconfirmed());
        Ok(Vec::new())
    });
}

#[test]
fn a_scope_that_ends_while_another_thread_frees_what_was_flushed_waits_for_its_pages() {
    let board = TestBoard::translated(DomainKind::Lazy);
    let machine = board.machine.clone();
    board.run(move |dev| {
        let domain = machine.iommus().groups()[0].domain().unwrap();
        let (began, has_begun) = channel();
        let (go_on, goes_on) = channel::<()>();
        let give_back = move |_| {
            began.send(()).unwrap();
            let _ = goes_on.recv();
        };
        // SAFETY: nobody uses the page.
        let page = unsafe { OwnedPages::new("slow", PhysAddr(KEPT), 1, give_back) };
        // Is freed first.
        drop(dev.dma().map(machine.adopt(page).unwrap(), Direction::FromDevice)?.unmap()?);
        let mut buffer = dev.dma().buffer(4096)?;
        let mut end = Err(DmaError::Unbinding);
        thread::scope(|threads| {
            let left = dev.dma().scope(|scope| {
                scope.map(&mut buffer, Direction::FromDevice)?.unmap()?;
                threads.spawn(|| domain.confirm_queue(&machine));
                has_begun.recv().unwrap();
                threads.spawn(move || {
                    thread::sleep(Duration::from_millis(30));
                    drop(go_on);
                });
                Ok::<_, DmaError>(())
            });
            end = left.map(drop).map_err(|refused| refused.error);
        });
        assert_eq!((end, buffer.memory().record().count()), (Ok(()), 0));
        Ok(Vec::new())
    });
}

#[test]
fn pages_and_slices_are_there_while_another_thread_flushes_what_has_them() {
    let board = TestBoard::translated(DomainKind::Lazy);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let machine = dev.state.system();
        let domain = machine.iommus().groups()[0].domain().unwrap();
        let mut buffer = dev.dma().map(dev.dma().buffer(4096)?, Direction::FromDevice)?.unmap()?;
        for _ in 0..2 {
            drop(dev.dma().map(dev.dma().buffer(60 << 12)?, Direction::ToDevice)?.unmap()?);
        }
        let phys = buffer.phys();
        while_flushed(&mmu, &domain, machine, || {
            drop(dev.dma().buffer(60 << 12).expect("the pages that were queued"));
            buffer.as_mut_slice()[0] = 1;
            let mut own = [0];
            crate::mem::access::read_bytes(&**machine.memory().memory(), phys, &mut own, crate::env::Caching::Cached)
                .unwrap();
            assert_eq!(own, [1], "no copy");
        });
        Ok(Vec::new())
    });
}

#[test]
fn what_is_flushed_is_not_free_before_the_flush_that_has_it_is_confirmed() {
    let board = TestBoard::translated(DomainKind::Lazy);
    let mmu = Arc::clone(&board.mmu);
    let reused = Arc::new(Mutex::new(None));
    let found = Arc::clone(&reused);
    board.run(move |dev| {
        let machine = dev.state.system();
        let domain = machine.iommus().groups()[0].domain().unwrap();
        let mapped = dev.dma().map(dev.dma().buffer(4096)?, Direction::FromDevice)?;
        let addr = mapped.device_addr();
        drop(mapped.unmap()?);
        while_flushed(&mmu, &domain, machine, || {
            let mapped = dev.dma().map(dev.dma().buffer(4096).unwrap(), Direction::FromDevice).unwrap();
            let other = mapped.device_addr();
            drop(mapped.unmap().unwrap());
            assert!(domain.confirm_queue(machine), "a flush of the later queue alone");
            let waits = |iova| domain.is_queued(Range { iova, len: 4096 });
            assert_eq!((waits(addr), waits(other)), (true, false), "P2");
            // What a core does that uses the first address again, and the checker says to it.
            let record = record(&domain, dev.name(), addr);
            machine.check_dma(|| Op::Map { record: record.clone(), checked: true });
            machine.check_dma(|| Op::Unmap(record));
        });
        *found.lock().unwrap() = Some(domain.is_queued(Range { iova: addr, len: 4096 }));
        Ok(Vec::new())
    });
    assert_eq!(*reused.lock().unwrap(), Some(false));
    let found: Vec<_> = board.machine.dma_misuses().iter().map(|misuse| misuse.check).collect();
    assert_eq!(found, [Check::ReusedBeforeFlush]);
}

#[test]
fn a_retry_tells_the_checker_of_what_it_has_flushed_and_of_nothing_else() {
    let board = TestBoard::translated(DomainKind::Lazy);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let machine = dev.state.system();
        let domain = machine.iommus().groups()[0].domain().unwrap();
        let map = || dev.dma().map(dev.dma().buffer(4096).unwrap(), Direction::FromDevice);
        let (first, second) = (map()?, map()?);
        let (lost, waits) = (first.device_addr(), second.device_addr());
        drop(first.unmap()?);
        mmu.state.lock().unwrap().unresponsive = true;
        assert!(!domain.confirm_queue(machine));
        mmu.state.lock().unwrap().unresponsive = false;
        drop(second.unmap()?);
        assert!(domain.retry(machine) && domain.is_queued(Range { iova: waits, len: 4096 }));
        // What a core does that uses both addresses again.
        for (addr, misuses) in [(lost, 0), (waits, 1)] {
            let record = record(&domain, dev.name(), addr);
            machine.check_dma(|| Op::Map { record: record.clone(), checked: true });
            machine.check_dma(|| Op::Unmap(record));
            assert_eq!(machine.dma_misuses().len(), misuses, "{addr}");
        }
        Ok(Vec::new())
    });
    let found: Vec<_> = board.machine.dma_misuses().iter().map(|misuse| misuse.check).collect();
    assert_eq!(found, [Check::ReusedBeforeFlush]);
}

fn record(domain: &Domain, device: &str, addr: DeviceAddr) -> Record {
    Record {
        device: device.into(),
        backend: domain.backend_name(),
        kind: Kind::Single,
        addr,
        len: 4096,
        phys: PhysAddr(KEPT),
        memory: CpuMemory::Pages,
        direction: Direction::FromDevice,
        count: 1,
        attrs: Attrs::empty(),
    }
}

/// The arena has flushed them itself, so that no later use of them is one before a flush.
#[test]
fn addresses_that_an_arena_has_given_up_are_in_no_queue() {
    let board = TestBoard::leasing(DomainKind::Lazy, Watch::Instruments);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let machine = dev.state.system();
        let domain = machine.iommus().groups()[0].domain().unwrap();
        let mut arena = dev.dma().arena(2)?;
        let slot = arena.map(dev.dma().buffer(4096)?, Direction::FromDevice)?;
        let iova = arena.device_addr(slot)?;
        drop(arena.unmap(slot)?);
        while_flushed(&mmu, &domain, machine, || {
            assert!(domain.is_queued(Range { iova, len: 4096 }));
            arena.release().unwrap();
            assert!(!domain.is_queued(Range { iova, len: 4096 }));
            let mut next = dev.dma().arena(2).unwrap();
            let slot = next.map(dev.dma().buffer(4096).unwrap(), Direction::FromDevice).unwrap();
            assert_eq!(next.device_addr(slot).unwrap(), iova);
            drop(next.unmap(slot).unwrap());
        });
        Ok(Vec::new())
    });
    assert_eq!(board.machine.dma_misuses(), []);
}

#[test]
fn addresses_of_a_forgotten_arena_are_in_no_queue_once_they_are_free() {
    let board = TestBoard::leasing(DomainKind::Lazy, Watch::Instruments);
    let after = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&after);
    board.run(move |dev| {
        let machine = Arc::clone(dev.state.system());
        let domain = machine.iommus().groups()[0].domain().unwrap();
        let seen = Arc::clone(&seen);
        // Runs between the end of the arena and that of the translation.
        let all = Range { iova: DeviceAddr(0xffff_0000), len: 0x1_0000 };
        dev.action("look", move || *seen.lock().unwrap() = Some((domain.iova_in_use(), domain.is_queued(all))))?;
        let mut arena = dev.dma().arena(2)?;
        let slot = arena.map(dev.dma().buffer(4096)?, Direction::FromDevice)?;
        drop(arena.unmap(slot)?);
        core::mem::forget(arena);
        Ok(Vec::new())
    });
    assert_eq!(*after.lock().unwrap(), Some((0, false)), "free, and in no queue");
    assert_eq!(board.machine.dma_misuses(), []);
}
