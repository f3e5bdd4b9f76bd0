//! Maps of a pass-through user, with an IOMMU that does not answer (P2).

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::board::{TestBoard, ToyMmu, toy_domain};
use crate::addr::{DeviceAddr, PAGE_SIZE};
use crate::dma::{DmaMemory, Ioas, IoasError, MAX_MAPS};
use crate::env::{Env, Instant};
use crate::event::EventKind;
use crate::iommu::{Domain, DomainKind, FixedError, MapError, Prot, Range};

const RW: Prot = Prot::READ.union(Prot::WRITE);
const AT: DeviceAddr = DeviceAddr(0x10_0000);

struct World {
    board: TestBoard,
    domain: Arc<Domain>,
    ioas: Ioas,
}

impl World {
    fn new() -> Self {
        let board = TestBoard::translated(DomainKind::Strict);
        let domain = toy_domain(&board.mmu, DomainKind::Unmanaged);
        let ioas = Ioas::new(&board.machine, &"1000.lab".into(), None, Arc::clone(&domain));
        Self { board, domain, ioas }
    }

    /// A second user's, in the same domain: the devices are of one group.
    fn beside(&self) -> Ioas {
        Ioas::new(&self.board.machine, &"2000.lab".into(), None, Arc::clone(&self.domain))
    }

    fn page(&self) -> Arc<DmaMemory> {
        DmaMemory::allocate(self.board.machine.memory(), PAGE_SIZE).unwrap()
    }

    fn mmu(&self) -> &ToyMmu {
        &self.board.mmu
    }

    fn dead(&self, dead: bool) {
        self.mmu().state.lock().unwrap().dead = dead;
    }

    fn in_use(&self) -> u64 {
        self.board.machine.memory().frames().in_use()
    }

    fn rest(&self, nanoseconds: u64) {
        self.board.env.wait(Instant(self.board.env.now().0 + nanoseconds));
    }
}

#[test]
fn an_unmap_that_is_not_confirmed_keeps_page_and_address_until_it_is() {
    let w = World::new();
    w.ioas.map(AT, &w.page(), 0, PAGE_SIZE, RW).unwrap();
    w.dead(true);
    for _ in 0..3 {
        assert_eq!(w.ioas.unmap(AT, PAGE_SIZE), Err(IoasError::Unconfirmed(AT)), "and never `no map`");
    }
    let other = w.page();
    let range = Range { iova: AT, len: PAGE_SIZE };
    let unasked = w.domain.map_fixed(range, other.phys(), RW);
    assert_eq!(unasked, Err(FixedError::Unconfirmed(AT)), "also for who comes between the question and the map");
    for ioas in [&w.ioas, &w.beside()] {
        assert_eq!(ioas.map(AT, &other, 0, PAGE_SIZE, RW), Err(IoasError::Unconfirmed(AT)), "neither mapped nor free");
        let beside = DeviceAddr(AT.0 + PAGE_SIZE);
        ioas.map(beside, &other, 0, PAGE_SIZE, RW).unwrap();
        assert_eq!(ioas.map(beside, &other, 0, PAGE_SIZE, RW), Err(IoasError::Map(MapError::Exists(beside))));
        w.dead(false);
        ioas.unmap(beside, PAGE_SIZE).unwrap();
        w.ioas.map(AT, &other, 0, PAGE_SIZE, RW).unwrap();
        w.dead(true);
        assert!(w.ioas.unmap(AT, PAGE_SIZE).is_err());
    }
    w.dead(false);
    assert_eq!(w.ioas.unmap(AT, PAGE_SIZE), Ok(()), "the flush is tried again, not the table");
    assert_eq!(w.ioas.unmap(AT, PAGE_SIZE), Err(IoasError::NoMap(AT)));
    drop(other);
    assert_eq!((w.in_use(), w.board.machine.quarantine().len()), (0, 0), "P4");
    assert_eq!(w.board.machine.promises().broken(), []);
}

#[test]
fn an_iommu_that_answers_again_is_asked_by_the_machine_itself() {
    let w = World::new();
    w.ioas.map(AT, &w.page(), 0, PAGE_SIZE, RW).unwrap();
    w.dead(true);
    assert!(w.ioas.unmap(AT, PAGE_SIZE).is_err());
    w.rest(1_000_000_000);
    assert_eq!(w.in_use(), 1, "P2");
    w.dead(false);
    w.rest(10_000_000_000);
    assert_eq!((w.in_use(), w.board.machine.quarantine().len()), (0, 0), "P4");
    assert_eq!(w.ioas.unmap(AT, PAGE_SIZE), Ok(()), "the user's retry is told that it is gone");
}

#[test]
fn many_maps_end_with_one_flush_and_are_told_in_one_event() {
    for dead in [false, true] {
        let w = World::new();
        let (one, two) = (w.page(), w.page());
        for n in 0..1_000 {
            let memory = if n % 2 == 0 { &one } else { &two };
            w.ioas.map(DeviceAddr(n * 2 * PAGE_SIZE), memory, 0, PAGE_SIZE, RW).unwrap();
        }
        drop((one, two));
        w.dead(dead);
        let flushes = w.mmu().state.lock().unwrap().flushes;
        w.ioas.clear();
        assert_eq!(w.mmu().state.lock().unwrap().flushes, flushes + 1, "one flush, one time-out");
        let told = |e: &EventKind| matches!(e, EventKind::Quarantined { size, .. } if *size == 2 * PAGE_SIZE);
        assert_eq!(w.board.env.story("1000.lab").iter().filter(|e| told(e)).count(), usize::from(dead));
        assert_eq!((w.board.machine.quarantine().len(), w.in_use()), if dead { (2, 2) } else { (0, 0) });
        w.dead(false);
        w.rest(20_000_000);
        assert_eq!((w.board.machine.quarantine().len(), w.in_use()), (0, 0), "P4");
    }
}

#[test]
fn what_is_not_confirmed_counts_against_the_users_limit() {
    let w = World::new();
    let page = w.page();
    let at = |n: usize| DeviceAddr(n as u64 * PAGE_SIZE);
    for n in 0..MAX_MAPS {
        w.ioas.map(at(n), &page, 0, PAGE_SIZE, RW).unwrap();
    }
    w.dead(true);
    assert!(w.ioas.unmap(at(0), PAGE_SIZE).is_err());
    assert_eq!(w.ioas.map(at(MAX_MAPS), &page, 0, PAGE_SIZE, RW), Err(IoasError::TooManyMaps(MAX_MAPS)), "P11");
    w.dead(false);
    assert_eq!(w.ioas.unmap(at(0), PAGE_SIZE), Ok(()));
    w.ioas.map(at(MAX_MAPS), &page, 0, PAGE_SIZE, RW).unwrap();
}

#[test]
fn memory_of_another_machine_is_refused() {
    let (w, other) = (World::new(), World::new());
    let theirs = other.page();
    assert_eq!(w.ioas.map(AT, &theirs, 0, PAGE_SIZE, RW), Err(IoasError::ForeignMemory));
    assert_eq!(w.mmu().state.lock().unwrap().mapped_pages(), 0);
    other.ioas.map(AT, &theirs, 0, PAGE_SIZE, RW).unwrap();
}

#[test]
fn a_closed_address_space_maps_nothing_and_keeps_nothing() {
    let w = World::new();
    w.ioas.map(AT, &w.page(), 0, PAGE_SIZE, RW).unwrap();
    w.ioas.close();
    assert_eq!(w.ioas.map(AT, &w.page(), 0, PAGE_SIZE, RW), Err(IoasError::Closed));
    assert_eq!(w.ioas.unmap(AT, PAGE_SIZE), Err(IoasError::Closed));
    assert_eq!((w.in_use(), w.mmu().state.lock().unwrap().mapped_pages()), (0, 0), "P4");
}

#[test]
fn threads_that_map_and_unmap_never_meet_a_page_that_is_not_confirmed() {
    let w = World::new();
    let other = w.beside();
    let rounds = if cfg!(miri) { 20 } else { 2_000 };
    std::thread::scope(|s| {
        for (n, ioas) in [&w.ioas, &other].into_iter().enumerate() {
            let w = &w;
            s.spawn(move || {
                for round in 0..rounds {
                    // The toy IOMMU panics when an address is mapped that it has not forgotten.
                    if ioas.map(AT, &w.page(), 0, PAGE_SIZE, RW).is_ok() {
                        w.dead(round % 3 == n);
                        while ioas.unmap(AT, PAGE_SIZE).is_err() {
                            w.dead(false);
                        }
                    }
                    w.dead(false);
                }
            });
        }
    });
    w.ioas.clear();
    other.clear();
    assert_eq!((w.in_use(), w.board.machine.quarantine()), (0, Vec::new()), "P4");
    assert_eq!(w.board.machine.promises().broken(), []);
}
