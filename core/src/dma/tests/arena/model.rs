//! Model of an arena: sequences of its operations agree with a list of its mappings.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use proptest::prelude::*;
use proptest::sample::select;

use crate::addr::{DeviceAddr, PAGE_SIZE};
use crate::dma::tests::board::{TestBoard, ToyState, Watch};
use crate::dma::{ArenaSlot, Direction, DmaBuffer, DmaError};
use crate::env::{Env, Instant};
use crate::iommu::DomainKind;

/// Slots of the model's arena.
const SLOTS: usize = 6;

/// One step of the model.
#[derive(Clone, Debug)]
enum Step {
    Map { pages: u64, list: bool },
    Unmap(usize),
    UnmapMany(usize),
    Stale(usize),
    Hang(bool),
    Wait,
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_u64..6, any::<bool>()).prop_map(|(pages, list)| Step::Map { pages, list }),
        3 => any::<usize>().prop_map(Step::Unmap),
        1 => (0_usize..4).prop_map(Step::UnmapMany),
        1 => any::<usize>().prop_map(Step::Stale),
        1 => any::<bool>().prop_map(Step::Hang),
        1 => Just(Step::Wait),
        1 => Just(Step::Release),
    ]
}

/// Which machine the arena is on.
#[derive(Clone, Copy, PartialEq, Debug)]
enum On {
    /// The table is the fake's own list.
    Listed(DomainKind),
    /// Slots lease entries of a page table, with a checker or, which is the short way through an arena, without.
    Leased { kind: DomainKind, watch: Watch },
}

impl On {
    fn board(self) -> TestBoard {
        match self {
            Self::Listed(kind) => TestBoard::translated(kind),
            Self::Leased { kind, watch } => TestBoard::leasing(kind, watch),
        }
    }

    fn kind(self) -> DomainKind {
        match self {
            Self::Listed(kind) | Self::Leased { kind, .. } => kind,
        }
    }

    /// Pages that the device reaches, by the addresses that the arena has ever had here: device page and physical address.
    fn reached(self, state: &mut ToyState) -> BTreeMap<u64, u64> {
        let pages = (0x10_0000 - 256..0x10_0000).chain(0..256);
        let reach = |page: u64| {
            let at = DeviceAddr(page * PAGE_SIZE);
            let phys = match self {
                Self::Listed(_) => state.dma_reachable(at),
                Self::Leased { .. } => state.access(at),
            };
            Some((page, phys?.0))
        };
        pages.filter_map(reach).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 128 }, failure_persistence: None, ..ProptestConfig::default()
    })]

    /// The oracle is a list of what is mapped: each mapped byte is reachable at its address, nothing else is mapped, and every
    /// buffer comes back once or is in quarantine.
    #[test]
    fn an_arena_agrees_with_a_list_of_its_mappings(
        steps in prop::collection::vec(step(), 1..40),
        on in prop_oneof![
            Just(On::Listed(DomainKind::Strict)),
            Just(On::Listed(DomainKind::Lazy)),
            select(&Watch::ALL[..]).prop_map(|watch| On::Leased { kind: DomainKind::Strict, watch }),
            select(&Watch::ALL[..]).prop_map(|watch| On::Leased { kind: DomainKind::Lazy, watch }),
        ],
    ) {
        let board = on.board();
        let (mmu, env, failed) = (Arc::clone(&board.mmu), Arc::clone(&board.env), Arc::new(Mutex::new(None)));
        let found = Arc::clone(&failed);
        assert!(board.bind(move |dev| {
            let mut arena = dev.dma().arena(SLOTS as u32)?;
            let mut live: Vec<(ArenaSlot, Vec<u64>)> = Vec::new();
            let mut gone: Vec<ArenaSlot> = Vec::new();
            let (mut quarantined, mut stale) = (false, BTreeSet::new());
            let check = |holds: bool, what: &str| {
                if !holds {
                    found.lock().unwrap().get_or_insert(alloc::string::String::from(what));
                }
            };
            for step in &steps {
                // The flush of a queue may have failed.
                quarantined |= dev.state.system().quarantine_table().bytes_of(dev.name()) != 0;
                match step.clone() {
                    Step::Map { pages, list } => {
                        let count = if list { pages } else { 1 };
                        let each = if list { 1 } else { pages };
                        let buffers: Result<Vec<_>, _> =
                            (0..count).map(|_| dev.state.system().dma_buffer(each * PAGE_SIZE)).collect();
                        let Ok(mut buffers) = buffers else { continue };
                        let phys: Vec<u64> = buffers.iter().flat_map(|b| (0..each).map(|p| b.phys().0 + p * PAGE_SIZE)).collect();
                        check(phys.iter().all(|page| !stale.contains(page)), "a page that the device reaches was free");
                        let mapped = if list {
                            arena.map_sg(&mut buffers, Direction::Bidirectional)
                        } else {
                            arena.map(buffers.remove(0), Direction::Bidirectional).map_err(DmaError::from)
                        };
                        match mapped {
                            Ok(slot) => live.push((slot, phys)),
                            Err(DmaError::ArenaFull(_)) => check(live.len() == SLOTS, "full too early"),
                            Err(DmaError::Quarantined(_)) => check(quarantined, "refused without a reason"),
                            Err(_) => check(false, "an error that has no cause"),
                        }
                    }
                    Step::Unmap(at) if !live.is_empty() => {
                        let (slot, phys) = live.swap_remove(at % live.len());
                        let mut back = Vec::new();
                        let done = arena.unmap_many([slot], &mut back);
                        let pages: Vec<u64> = back.iter().flat_map(|b| (0..b.len() / PAGE_SIZE).map(|p| b.phys().0 + p * PAGE_SIZE)).collect();
                        match done {
                            Ok(()) => check(pages == phys, "another buffer came back"),
                            Err(DmaError::Quarantined(_)) => {
                                check(mmu.state.lock().unwrap().unresponsive && back.is_empty(), "quarantined though confirmed");
                                quarantined = true;
                            }
                            Err(_) => check(false, "an unmap that fails"),
                        }
                        gone.push(slot);
                    }
                    Step::UnmapMany(count) => {
                        let many: Vec<_> = live.drain(..count.min(live.len())).collect();
                        let mut back = Vec::new();
                        let done = arena.unmap_many(many.iter().map(|(slot, _)| *slot), &mut back);
                        match done {
                            Ok(()) => check(back.iter().map(DmaBuffer::len).sum::<u64>() == many.iter().map(|(_, p)| p.len() as u64 * PAGE_SIZE).sum::<u64>(), "bytes are missing"),
                            Err(DmaError::Quarantined(_)) => quarantined = true,
                            Err(_) => check(false, "an unmap of many that fails"),
                        }
                        gone.extend(many.iter().map(|(slot, _)| *slot));
                    }
                    Step::Stale(at) if !gone.is_empty() => {
                        let slot = gone[at % gone.len()];
                        check(arena.unmap(slot).is_err() && arena.device_addr(slot).is_err(), "a stale slot was found");
                    }
                    Step::Hang(is) => mmu.state.lock().unwrap().unresponsive = is,
                    Step::Wait => env.advance(Instant(env.now().0 + 10_000_000)),
                    Step::Release => {
                        mmu.state.lock().unwrap().unresponsive = false;
                        dev.state.system().quarantine_table().retry(dev.state.system());
                        let held = dev.state.system().quarantine_table().bytes_of(dev.name());
                        check(held == 0, "confirmed, and in quarantine");
                        quarantined = false;
                    }
                    Step::Unmap(_) | Step::Stale(_) => {}
                }
                let mut reached = on.reached(&mut mmu.state.lock().unwrap());
                for (slot, phys) in &live {
                    let segments: Vec<_> = arena.segments(*slot)?.collect();
                    let pages: Vec<u64> = segments.iter().flat_map(|(addr, len)| (0..*len / PAGE_SIZE).map(|p| *addr + p * PAGE_SIZE))
                        .filter_map(|at| reached.remove(&(at.0 / PAGE_SIZE))).collect();
                    check(pages == *phys, "the device reaches something else");
                }
                let held = dev.state.system().quarantine_table().list();
                let is_held = |phys: &u64| held.iter().any(|h| (h.phys.0..h.phys.0 + h.len.next_multiple_of(PAGE_SIZE)).contains(phys));
                if on == On::Listed(DomainKind::Lazy) {
                    let mapped: usize = live.iter().map(|(_, phys)| phys.len()).sum();
                    check(mmu.state.lock().unwrap().mapped_pages() == mapped, "more or less is mapped");
                } else if on.kind() == DomainKind::Lazy {
                    stale = reached.values().copied().collect();
                } else {
                    check(reached.values().all(is_held), "more is reached, and is not in quarantine");
                }
                check(dev.state.system().dma_state().mappings() == live.len(), "mappings are miscounted");
            }
            mmu.state.lock().unwrap().unresponsive = false;
            dev.state.system().quarantine_table().retry(dev.state.system());
            Ok(Vec::from([Box::new(arena) as _]))
        }));
        board.unbind();
        prop_assert_eq!(failed.lock().unwrap().clone(), None);
        prop_assert_eq!(board.machine.promises().broken(), []);
        prop_assert_eq!(board.machine.dma_misuses(), []);
        prop_assert_eq!((board.machine.memory().frames().in_use(), board.machine.quarantine().len()), (0, 0), "P4");
    }
}
