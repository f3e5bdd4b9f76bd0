//! Maps of a pass-through user, with an IOMMU that does not respond (P2).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::mpsc;
use std::time::Duration;

use super::board::{TestBoard, ToyMmu, toy_domain, toy_domain_around};
use crate::addr::{DeviceAddr, PAGE_SIZE};
use crate::dma::{DmaMemory, Ioas, IoasError, MAX_MAPS};
use crate::env::{Env, Instant};
use crate::event::EventKind;
use crate::iommu::{Domain, DomainKind, FixedError, MapError, Prot, Range};

const RW: Prot = Prot::READ.union(Prot::WRITE);
const AT: DeviceAddr = DeviceAddr(0x10_0000);

struct Fixture {
    board: TestBoard,
    domain: Arc<Domain>,
    ioas: Ioas,
}

impl Fixture {
    fn new() -> Self {
        let board = TestBoard::translated(DomainKind::Strict);
        Self::over(toy_domain(&board.mmu, DomainKind::Unmanaged), board)
    }

    fn over(domain: Arc<Domain>, board: TestBoard) -> Self {
        let ioas = Ioas::new(&board.machine.system, &"1000.lab".into(), None, Arc::clone(&domain));
        Self { board, domain, ioas }
    }

    /// Address space of a second device of the group, in the same domain.
    fn second_user(&self) -> Ioas {
        Ioas::new(&self.board.machine.system, &"2000.lab".into(), None, Arc::clone(&self.domain))
    }

    fn page(&self) -> Arc<DmaMemory> {
        DmaMemory::allocate(self.board.machine.memory(), PAGE_SIZE).unwrap()
    }

    fn mmu(&self) -> &ToyMmu {
        &self.board.mmu
    }

    fn unresponsive(&self, unresponsive: bool) {
        self.mmu().state.lock().unwrap().unresponsive = unresponsive;
    }

    fn in_use(&self) -> u64 {
        self.board.machine.memory().frames().in_use()
    }

    fn sleep(&self, nanoseconds: u64) {
        self.board.env.advance(Instant(self.board.env.now().0 + nanoseconds));
    }
}

#[test]
fn an_unconfirmed_unmap_pins_page_and_address_until_it_is_confirmed() {
    let w = Fixture::new();
    w.ioas.map(AT, &w.page(), 0, PAGE_SIZE, RW).unwrap();
    w.unresponsive(true);
    for _ in 0..3 {
        assert_eq!(w.ioas.unmap(AT, PAGE_SIZE), Err(IoasError::Unconfirmed(AT)), "and never `no map`");
    }
    let other = w.page();
    let range = Range { iova: AT, len: PAGE_SIZE };
    let unasked = w.domain.map_fixed(range, other.phys(), RW);
    assert_eq!(
        unasked,
        Err(FixedError::Unconfirmed(AT)),
        "also when it becomes unconfirmed between the check and the map"
    );
    for ioas in [&w.ioas, &w.second_user()] {
        assert_eq!(ioas.map(AT, &other, 0, PAGE_SIZE, RW), Err(IoasError::Unconfirmed(AT)), "neither mapped nor free");
        let second_user = DeviceAddr(AT.0 + PAGE_SIZE);
        ioas.map(second_user, &other, 0, PAGE_SIZE, RW).unwrap();
        assert_eq!(ioas.map(second_user, &other, 0, PAGE_SIZE, RW), Err(IoasError::Map(MapError::Exists(second_user))));
        w.unresponsive(false);
        ioas.unmap(second_user, PAGE_SIZE).unwrap();
        w.ioas.map(AT, &other, 0, PAGE_SIZE, RW).unwrap();
        w.unresponsive(true);
        assert!(w.ioas.unmap(AT, PAGE_SIZE).is_err());
    }
    w.unresponsive(false);
    assert_eq!(w.ioas.unmap(AT, PAGE_SIZE), Ok(()), "the flush is retried, the table is not touched again");
    assert_eq!(w.ioas.unmap(AT, PAGE_SIZE), Err(IoasError::NoMap(AT)));
    drop(other);
    assert_eq!((w.in_use(), w.board.machine.quarantine_table().list().len()), (0, 0), "P4");
    assert_eq!(w.board.machine.promises().broken(), []);
}

#[test]
fn the_machine_retries_the_flush_of_an_iommu_that_responds_again() {
    let w = Fixture::new();
    w.ioas.map(AT, &w.page(), 0, PAGE_SIZE, RW).unwrap();
    w.unresponsive(true);
    assert!(w.ioas.unmap(AT, PAGE_SIZE).is_err());
    w.sleep(1_000_000_000);
    assert_eq!(w.in_use(), 1, "P2");
    w.unresponsive(false);
    w.sleep(10_000_000_000);
    assert_eq!((w.in_use(), w.board.machine.quarantine_table().list().len()), (0, 0), "P4");
    assert_eq!(w.ioas.unmap(AT, PAGE_SIZE), Ok(()), "the user's retry finds it unmapped");
}

#[test]
fn many_maps_are_cleared_with_one_flush_and_reported_in_one_event() {
    for unresponsive in [false, true] {
        let w = Fixture::new();
        let (one, two) = (w.page(), w.page());
        for n in 0..1_000 {
            let memory = if n % 2 == 0 { &one } else { &two };
            w.ioas.map(DeviceAddr(n * 2 * PAGE_SIZE), memory, 0, PAGE_SIZE, RW).unwrap();
        }
        drop((one, two));
        w.unresponsive(unresponsive);
        let flushes = w.mmu().state.lock().unwrap().flushes;
        w.ioas.clear();
        assert_eq!(w.mmu().state.lock().unwrap().flushes, flushes + 1, "one flush, one time-out");
        let reported = |e: &EventKind| matches!(e, EventKind::Quarantined { size, .. } if *size == 2 * PAGE_SIZE);
        assert_eq!(
            w.board.env.event_kinds("1000.lab").iter().filter(|e| reported(e)).count(),
            usize::from(unresponsive)
        );
        assert_eq!(
            (w.board.machine.quarantine_table().list().len(), w.in_use()),
            if unresponsive { (2, 2) } else { (0, 0) }
        );
        w.unresponsive(false);
        w.sleep(20_000_000);
        assert_eq!((w.board.machine.quarantine_table().list().len(), w.in_use()), (0, 0), "P4");
    }
}

#[test]
fn unconfirmed_ranges_count_against_the_users_limit() {
    let w = Fixture::new();
    let page = w.page();
    let at = |n: usize| DeviceAddr(n as u64 * PAGE_SIZE);
    for n in 0..MAX_MAPS {
        w.ioas.map(at(n), &page, 0, PAGE_SIZE, RW).unwrap();
    }
    w.unresponsive(true);
    assert!(w.ioas.unmap(at(0), PAGE_SIZE).is_err());
    assert_eq!(w.ioas.map(at(MAX_MAPS), &page, 0, PAGE_SIZE, RW), Err(IoasError::TooManyMaps(MAX_MAPS)), "P11");
    w.unresponsive(false);
    assert_eq!(w.ioas.unmap(at(0), PAGE_SIZE), Ok(()));
    w.ioas.map(at(MAX_MAPS), &page, 0, PAGE_SIZE, RW).unwrap();
}

/// P14: nothing of a user's lies where the IOMMU keeps addresses for itself, which is another check than that of a table.
#[test]
fn no_page_of_a_reserved_range_can_be_mapped_and_each_page_beside_it_can() {
    let board = TestBoard::translated(DomainKind::Strict);
    let reserved = Vec::from([(AT, DeviceAddr(AT.0 + 2 * PAGE_SIZE - 1))]);
    let domain = toy_domain_around(&board.mmu, DomainKind::Unmanaged, reserved);
    let w = Fixture::over(domain, board);
    let memory = DmaMemory::allocate(w.board.machine.memory(), 4 * PAGE_SIZE).unwrap();
    for pages in 1..=4 {
        for first in 0..8 {
            let at = DeviceAddr(AT.0 + (first * PAGE_SIZE) - 4 * PAGE_SIZE);
            let overlaps = first < 6 && first + pages > 4;
            let expected = if overlaps { Err(IoasError::Reserved(at)) } else { Ok(()) };
            let mapped = w.ioas.map(at, &memory, 0, pages * PAGE_SIZE, RW);
            assert_eq!(mapped, expected, "{pages} pages at {at}");
            if !overlaps {
                w.ioas.unmap(at, pages * PAGE_SIZE).unwrap();
            }
        }
    }
    assert_eq!(w.mmu().state.lock().unwrap().mapped_pages(), 0, "P4");
}

#[test]
fn a_range_that_is_empty_unaligned_wraps_or_leaves_the_memory_is_refused() {
    let w = Fixture::new();
    let memory = DmaMemory::allocate(w.board.machine.memory(), 2 * PAGE_SIZE).unwrap();
    let top = DeviceAddr(u64::MAX - PAGE_SIZE + 1);
    for (at, offset, len) in [
        (AT, 0, 0),
        (AT, 0, 1),
        (AT, 0, PAGE_SIZE + 1),
        (AT, 1, PAGE_SIZE),
        (DeviceAddr(AT.0 + 1), 0, PAGE_SIZE),
        (AT, 0, 3 * PAGE_SIZE),
        (AT, PAGE_SIZE, 2 * PAGE_SIZE),
        (AT, 2 * PAGE_SIZE, PAGE_SIZE),
        (AT, u64::MAX - PAGE_SIZE + 1, PAGE_SIZE),
        (top, 0, 2 * PAGE_SIZE),
    ] {
        let mapped = w.ioas.map(at, &memory, offset, len, RW);
        assert_eq!(mapped, Err(IoasError::BadRange { iova: at, len }), "{len:#x} bytes from {offset:#x} on, at {at}");
    }
    assert_eq!((w.ioas.maps(), w.mmu().state.lock().unwrap().mapped_pages()), (0, 0));
    // The last page of the address space is none that wraps, and the whole memory is inside it.
    w.ioas.map(top, &memory, PAGE_SIZE, PAGE_SIZE, RW).unwrap();
    w.ioas.map(AT, &memory, 0, 2 * PAGE_SIZE, RW).unwrap();
    assert_eq!(w.ioas.maps(), 2);
    // An unmap names a map as a whole.
    for (at, len) in [(AT, PAGE_SIZE), (AT, 3 * PAGE_SIZE), (DeviceAddr(AT.0 + PAGE_SIZE), PAGE_SIZE)] {
        assert_eq!(w.ioas.unmap(at, len), Err(IoasError::NoMap(at)));
    }
    assert_eq!((w.ioas.maps(), w.mmu().state.lock().unwrap().mapped_pages()), (2, 3));
}

type Access = fn(&DmaMemory, u64);

/// The bounds are the usable bytes, not those of the pages: what lies behind them in the last page is nobody's.
#[test]
fn an_access_beyond_the_end_of_the_memory_panics_whatever_its_kind() {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    let w = Fixture::new();
    let memory = DmaMemory::allocate(w.board.machine.memory(), 100).unwrap();
    let accesses: [(&str, u64, Access); 5] = [
        ("read_bytes", 3, |m, at| m.read_bytes(at, &mut [0; 3])),
        ("write_bytes", 3, |m, at| m.write_bytes(at, &[1; 3])),
        ("read", 4, |m, at| _ = m.read::<u32>(at)),
        ("write", 4, |m, at| m.write(at, &7_u32)),
        ("fill_zero", 5, |m, at| m.fill_zero(at, 5)),
    ];
    for (name, len, access) in accesses {
        for (at, inside) in
            [(0, true), (100 - len, true), (101 - len, false), (100, false), (200, false), (u64::MAX, false)]
        {
            let done = catch_unwind(AssertUnwindSafe(|| access(&memory, at)));
            assert_eq!(done.is_ok(), inside, "{name} at {at}");
        }
    }
}

#[test]
fn memory_of_another_machine_is_refused() {
    let (w, other) = (Fixture::new(), Fixture::new());
    let theirs = other.page();
    assert_eq!(w.ioas.map(AT, &theirs, 0, PAGE_SIZE, RW), Err(IoasError::ForeignMemory));
    assert_eq!(w.mmu().state.lock().unwrap().mapped_pages(), 0);
    other.ioas.map(AT, &theirs, 0, PAGE_SIZE, RW).unwrap();
}

#[test]
fn a_closed_address_space_maps_nothing_and_holds_no_memory() {
    let w = Fixture::new();
    w.ioas.map(AT, &w.page(), 0, PAGE_SIZE, RW).unwrap();
    w.ioas.close();
    assert_eq!(w.ioas.map(AT, &w.page(), 0, PAGE_SIZE, RW), Err(IoasError::Closed));
    assert_eq!(w.ioas.unmap(AT, PAGE_SIZE), Err(IoasError::Closed));
    assert_eq!((w.in_use(), w.mmu().state.lock().unwrap().mapped_pages()), (0, 0), "P4");
}

#[test]
fn an_address_space_is_closed_whether_its_unmaps_are_confirmed_or_not() {
    let w = Fixture::new();
    w.ioas.map(AT, &w.page(), 0, PAGE_SIZE, RW).unwrap();
    w.unresponsive(true);
    w.ioas.close();
    assert_eq!(w.ioas.map(DeviceAddr(AT.0 + PAGE_SIZE), &w.page(), 0, PAGE_SIZE, RW), Err(IoasError::Closed));
    assert_eq!(w.ioas.unmap(AT, PAGE_SIZE), Err(IoasError::Closed));
    assert_eq!(w.in_use(), 1, "P2: in quarantine");
    w.unresponsive(false);
    w.sleep(20_000_000);
    assert_eq!((w.in_use(), w.mmu().state.lock().unwrap().mapped_pages()), (0, 0), "P4");
}

#[test]
fn a_map_that_was_not_undone_for_certain_waits_for_its_unmap_like_an_unconfirmed_one() {
    let w = Fixture::new();
    let page = w.page();
    let partial = |is: bool| {
        let mut state = w.mmu().state.lock().unwrap();
        (state.maps_left, state.partial_maps, state.unresponsive) = (is.then_some(0), is, is);
    };
    partial(true);
    assert_eq!(w.ioas.map(AT, &page, 0, PAGE_SIZE, RW), Err(IoasError::Unconfirmed(AT)));
    assert_eq!(w.ioas.unmap(AT, PAGE_SIZE), Err(IoasError::Unconfirmed(AT)), "and never `no map`");
    partial(false);
    assert_eq!(w.ioas.unmap(AT, PAGE_SIZE), Ok(()), "the flush is confirmed now");
    assert_eq!(w.ioas.unmap(AT, PAGE_SIZE), Err(IoasError::NoMap(AT)));
    w.ioas.map(AT, &page, 0, PAGE_SIZE, RW).unwrap();
    w.ioas.close();
    drop(page);
    assert_eq!((w.in_use(), w.board.machine.quarantine_table().list().len()), (0, 0), "P4");
}

#[test]
fn concurrent_maps_and_unmaps_never_reuse_an_unconfirmed_page() {
    let w = Fixture::new();
    let other = w.second_user();
    let rounds = if cfg!(miri) { 20 } else { 2_000 };
    std::thread::scope(|s| {
        for (n, ioas) in [&w.ioas, &other].into_iter().enumerate() {
            let w = &w;
            s.spawn(move || {
                for round in 0..rounds {
                    // The fake IOMMU panics when an address is mapped that its IOTLB still caches.
                    if ioas.map(AT, &w.page(), 0, PAGE_SIZE, RW).is_ok() {
                        w.unresponsive(round % 3 == n);
                        while ioas.unmap(AT, PAGE_SIZE).is_err() {
                            w.unresponsive(false);
                        }
                    }
                    w.unresponsive(false);
                }
            });
        }
    });
    w.ioas.clear();
    other.clear();
    assert_eq!((w.in_use(), w.board.machine.quarantine()), (0, Vec::new()), "P4");
    assert_eq!(w.board.machine.promises().broken(), []);
}

/// Runs `during` in the flush of the next unmap.
fn in_the_next_flush(mmu: &ToyMmu, during: impl FnOnce() + Send + 'static) {
    *mmu.during_flush.lock().unwrap() = Some(Box::new(during));
}

#[test]
fn a_closed_space_is_not_mapped_into_while_its_maps_are_still_removed() {
    let w = Fixture::new();
    let (ioas, mmu) = (Arc::new(w.ioas), Arc::clone(&w.board.mmu));
    let page = || DmaMemory::allocate(w.board.machine.memory(), PAGE_SIZE).unwrap();
    ioas.map(AT, &page(), 0, PAGE_SIZE, RW).unwrap();
    let (late, other) = (Arc::clone(&ioas), page());
    in_the_next_flush(&mmu, move || {
        // By a thread of the user that has passed its last look whether it may still call.
        assert_eq!(late.map(DeviceAddr(AT.0 + PAGE_SIZE), &other, 0, PAGE_SIZE, RW), Err(IoasError::Closed));
    });
    ioas.close();
    assert!(mmu.during_flush.lock().unwrap().is_none());
    assert_eq!(mmu.state.lock().unwrap().mapped_pages(), 0, "P7");
    assert_eq!(w.board.machine.memory().frames().in_use(), 0, "P4");
}

#[test]
fn maps_are_not_gone_while_another_thread_waits_for_the_flush_of_one() {
    for (closes, confirms) in [(false, true), (false, false), (true, true), (true, false)] {
        let w = Fixture::new();
        let (ioas, mmu) = (Arc::new(w.ioas), Arc::clone(&w.board.mmu));
        let page = DmaMemory::allocate(w.board.machine.memory(), PAGE_SIZE).unwrap();
        ioas.map(AT, &page, 0, PAGE_SIZE, RW).unwrap();
        let (begun, clearing) = mpsc::channel();
        let (other, in_flush) = (Arc::clone(&ioas), Arc::clone(&mmu));
        in_the_next_flush(&mmu, move || {
            let clearing = std::thread::spawn(move || other.clear());
            // Time for a wrong answer; the right one comes after this flush.
            std::thread::sleep(Duration::from_millis(100));
            assert!(!clearing.is_finished(), "cleared, while {AT} is reached through the IOTLB");
            begun.send(clearing).unwrap();
            in_flush.state.lock().unwrap().unresponsive = !confirms;
        });
        if closes {
            ioas.close();
        } else {
            assert_eq!(ioas.unmap(AT, PAGE_SIZE).is_ok(), confirms);
        }
        assert_eq!(clearing.recv().unwrap().join().unwrap(), confirms, "closes: {closes}");
        mmu.state.lock().unwrap().unresponsive = false;
    }
}
