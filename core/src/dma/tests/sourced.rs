//! DMA on a target that brings its own page frames.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::board::{KEPT, LOW, TestBoard};
use crate::addr::PhysAddr;
use crate::dma::{Direction, DmaError};
use crate::iommu::DomainKind;
use crate::mem::{FreedRun, OwnedPages, PageRequest, PageSource, RunFault};
use crate::sync::Mutex;

/// A kernel's allocator: pages from `LOW` on, each once; and what it got back.
#[derive(Default)]
struct Kernel {
    next: Mutex<u64>,
    /// Gives this, once.
    lies: Mutex<Option<PhysAddr>>,
    back: Mutex<Vec<PhysAddr>>,
}

impl PageSource for Kernel {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn take(&self, request: &PageRequest) -> Option<PhysAddr> {
        if let Some(lie) = self.lies.lock().take() {
            return Some(lie);
        }
        let mut next = self.next.lock();
        let first = next.next_multiple_of(request.align >> 12);
        *next = first + request.pages;
        (*next <= 64).then_some(PhysAddr(LOW + (first << 12)))
    }

    fn give_back(&self, run: FreedRun) {
        self.back.lock().push(run.base());
    }

    fn withdraw(&self, _: PhysAddr, _: PhysAddr) -> bool {
        false
    }
}

#[test]
fn a_targets_pages_go_back_to_it_after_the_flush() {
    for kind in [None, Some(DomainKind::Strict), Some(DomainKind::Lazy)] {
        let kernel = Arc::new(Kernel::default());
        let source = Arc::clone(&kernel);
        let board = TestBoard::sourced(kind.is_some(), |_| source as _);
        if let Some(kind) = kind {
            board.machine.groups()[0].set_kind(kind).unwrap();
        }
        let (source, mmu) = (Arc::clone(&kernel), Arc::clone(&board.mmu));
        board.run(move |dev| {
            let buffer = dev.dma().buffer(8192)?;
            let phys = buffer.phys();
            assert_eq!(buffer.source(), "kernel");
            let buffer = dev.dma().map(buffer, Direction::FromDevice)?.unmap()?;
            drop(buffer);
            let queued = mmu.state.lock().unwrap().stale_pages() != 0;
            assert_eq!(queued, kind == Some(DomainKind::Lazy));
            assert_eq!(source.back.lock().contains(&phys), !queued, "P2");
            drop(dev.dma().coherent(100)?);
            Ok(Vec::new())
        });
        assert_eq!((kernel.back.lock().len(), board.machine.memory().frames().in_use()), (2, 0), "P4: {kind:?}");
    }
}

#[test]
fn a_driver_is_told_what_the_targets_allocator_did_wrong() {
    let kernel = Arc::new(Kernel::default());
    let source = Arc::clone(&kernel);
    let board = TestBoard::sourced(false, |_| source as _);
    board.run(move |dev| {
        let buffer = dev.dma().buffer(4096)?;
        for (lie, fault) in [
            (buffer.phys(), RunFault::Overlaps { at: buffer.phys(), of: "kernel" }),
            (PhysAddr(0x2000), RunFault::NotRam),
            (PhysAddr(LOW + 1), RunFault::Misaligned),
        ] {
            *kernel.lies.lock() = Some(lie);
            let refused = dev.dma().coherent(4096).unwrap_err();
            assert_eq!(refused, DmaError::BadPages { owner: "kernel", base: lie, pages: 1, fault });
            assert!(refused.to_string().starts_with("kernel: 1 pages at "), "{refused}");
        }
        // Dry, and an error each time.
        let mut all = Vec::new();
        let dry = loop {
            match dev.dma().buffer(4096 * 8) {
                Ok(buffer) => all.push(buffer),
                Err(e) => break e,
            }
        };
        assert!(matches!(dry, DmaError::Memory(e) if e.allocator == "kernel"), "{dry}");
        assert_eq!(all.len(), 7);
        Ok(Vec::new())
    });
}

#[test]
fn pages_that_were_lent_are_not_given_as_frames_before_they_are_back() {
    let kernel = Arc::new(Kernel::default());
    let source = Arc::clone(&kernel);
    let board = TestBoard::sourced(false, |_| source as _);
    let back = Arc::new(Mutex::new(Vec::new()));
    let cache = Arc::clone(&back);
    let give_back = move |run: FreedRun| cache.lock().push(run.base());
    // SAFETY: the fixture uses the page by `Memory` only.
    #[expect(unsafe_code, reason = "lends a page, as its owner")]
    let lent = |base| unsafe { OwnedPages::new("page cache", PhysAddr(base), 1, give_back.clone()) };
    let page = PhysAddr(KEPT);
    let cached = board.machine.adopt(lent(KEPT)).unwrap();
    for _ in 0..2 {
        // Once more, though it has not got the first one back.
        *kernel.lies.lock() = Some(page);
        let refused = board.machine.dma_buffer(4096).unwrap_err();
        let fault = RunFault::Overlaps { at: page, of: "page cache" };
        assert_eq!(refused, DmaError::BadPages { owner: "kernel", base: page, pages: 1, fault });
        assert!(refused.to_string().contains("kernel") && refused.to_string().contains("page cache"), "{refused}");
    }
    assert_eq!((back.lock().len(), kernel.back.lock().len()), (0, 0), "P2: a device may reach it");
    drop(cached);
    assert_eq!((back.lock().len(), kernel.back.lock().len()), (1, 1), "each has what it had, once");
    *kernel.lies.lock() = Some(page);
    let frame = board.machine.dma_buffer(4096).unwrap();
    let refused = board.machine.adopt(lent(KEPT)).unwrap_err();
    assert_eq!(refused.error.fault, RunFault::Overlaps { at: page, of: "kernel" });
    assert!(refused.returned.is_none());
    drop(refused);
    assert_eq!((back.lock().len(), kernel.back.lock().len()), (1, 1), "P2");
    drop(frame);
    assert_eq!((back.lock().len(), kernel.back.lock().len()), (2, 2));
    drop(board.machine.adopt(lent(KEPT)).unwrap());
    // RAM of the target's allocator that the core has not: its owner may lend it.
    drop(board.machine.adopt(lent(LOW + 0x5000)).unwrap());
}
