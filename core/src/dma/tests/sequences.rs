//! Random calls of an arena, beside a list of what is mapped.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::Mutex;

use super::board::{TestBoard, ToyMmu, Watch};
use crate::addr::{DeviceAddr, PAGE_SIZE, PhysAddr};
use crate::dma::{Arena, ArenaSlot, Direction, Dma, DmaBuffer, DmaError};
use crate::iommu::DomainKind;
use crate::mem::fake::FakeMemory;

const DIRECTIONS: [Direction; 3] = [Direction::ToDevice, Direction::FromDevice, Direction::Bidirectional];

/// Sizes around those at which something changes.
const LENS: [u64; 8] = [1, 100, 4095, 4096, 4097, 8192, 12_288, 20_000];

const SLOTS: usize = 5;

/// A mapping as its caller knows it.
struct Mapped {
    slot: ArenaSlot,
    at: DeviceAddr,
    /// Memory of its buffers and their lengths, in order.
    parts: Vec<(PhysAddr, u64)>,
}

impl Mapped {
    /// Device address and memory of the first and last byte of each page.
    fn bytes(&self) -> impl Iterator<Item = (DeviceAddr, PhysAddr)> + '_ {
        let mut at = self.at;
        self.parts.iter().flat_map(move |(phys, len)| {
            let begin = at;
            at = at + len.next_multiple_of(PAGE_SIZE);
            let ends = |page: u64| [page * PAGE_SIZE, ((page + 1) * PAGE_SIZE).min(*len) - 1];
            (0..len.div_ceil(PAGE_SIZE)).flat_map(ends).map(move |offset| (begin + offset, *phys + offset))
        })
    }
}

/// Calls one after the other, chosen by a seed.
struct Caller<'a, 'b> {
    seed: u64,
    dma: Dma<'b>,
    arena: Arena<'b>,
    mmu: &'a ToyMmu,
    ram: &'a FakeMemory,
    live: Vec<Mapped>,
    /// Was mapped, and the latest of them first.
    gone: Vec<Mapped>,
    trace: Vec<String>,
}

impl Caller<'_, '_> {
    fn below(&mut self, n: usize) -> usize {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) as usize % n
    }

    fn buffer(&mut self) -> Result<DmaBuffer, DmaError> {
        let len = LENS[self.below(LENS.len())];
        self.dma.buffer(len)
    }

    fn map(&mut self) -> Result<(), DmaError> {
        let (buffer, direction) = (self.buffer()?, DIRECTIONS[self.below(3)]);
        let parts = Vec::from([(buffer.phys(), buffer.len())]);
        let mapped = self.arena.map(buffer, direction).map_err(|refused| {
            assert_eq!(refused.returned.phys(), parts[0].0, "the buffer comes back");
            refused.error
        });
        self.mapped(mapped, parts)
    }

    fn map_list(&mut self) -> Result<(), DmaError> {
        let mut list = Vec::new();
        for _ in 0..=self.below(3) {
            list.push(self.buffer()?);
        }
        let parts: Vec<_> = list.iter().map(|buffer| (buffer.phys(), buffer.len())).collect();
        let (direction, count) = (DIRECTIONS[self.below(3)], list.len());
        let mapped = self.arena.map_sg(&mut list, direction);
        assert_eq!(list.len(), if mapped.is_ok() { 0 } else { count });
        self.mapped(mapped, parts)
    }

    fn mapped(&mut self, mapped: Result<ArenaSlot, DmaError>, parts: Vec<(PhysAddr, u64)>) -> Result<(), DmaError> {
        if self.live.len() == SLOTS {
            assert_eq!(mapped.unwrap_err(), DmaError::ArenaFull(SLOTS as u32));
            return Ok(());
        }
        let slot = mapped?;
        let at = self.arena.device_addr(slot)?;
        self.trace.push(format!("{} at {at}: {parts:?}", slot.index()));
        let len: u64 = parts.iter().map(|(_, len)| len).sum();
        assert_eq!(self.arena.mapped_len(slot)?, len);
        assert_eq!(self.arena.segments(slot)?.map(|(_, len)| len).sum::<u64>(), len);
        self.live.push(Mapped { slot, at, parts });
        Ok(())
    }

    fn unmap(&mut self) {
        if self.live.is_empty() {
            return;
        }
        let at = self.below(self.live.len());
        let flushes = self.mmu.state.lock().unwrap().flushes;
        let (slot, parts) = (self.live[at].slot, self.live[at].parts.len());
        match self.arena.unmap(slot) {
            Ok(buffer) => {
                assert_eq!([(buffer.phys(), buffer.len())], self.live[at].parts[..]);
                assert_eq!(self.mmu.state.lock().unwrap().flushes, flushes + 1);
                self.ended(at);
            }
            Err(e) => assert_eq!((e, self.mmu.state.lock().unwrap().flushes), (DmaError::SlotOfList(parts), flushes)),
        }
    }

    /// Some in any order, and now and then one that is not mapped.
    fn unmap_many(&mut self) {
        let (mut chosen, mut expected, mut returned) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.below(4).min(self.live.len()) {
            let at = self.below(self.live.len());
            chosen.push(self.live[at].slot);
            expected.extend(self.live[at].parts.iter().copied());
            self.ended(at);
        }
        let stale = (!chosen.is_empty() && self.below(4) == 0).then(|| chosen[0]);
        chosen.extend(stale);
        let flushes = self.mmu.state.lock().unwrap().flushes;
        let unmapped = self.arena.unmap_many(chosen.iter().copied(), &mut returned);
        assert_eq!(unmapped, stale.map_or(Ok(()), |slot| Err(DmaError::StaleSlot(slot.index()))));
        let flushed = self.mmu.state.lock().unwrap().flushes - flushes;
        assert_eq!(flushed, usize::from(!chosen.is_empty()), "one for all of them");
        assert_eq!(returned.iter().map(|buffer| (buffer.phys(), buffer.len())).collect::<Vec<_>>(), expected);
    }

    fn ended(&mut self, at: usize) {
        let mapped = self.live.swap_remove(at);
        self.gone.insert(0, mapped);
        self.gone.truncate(SLOTS);
    }

    /// The device writes a mapped buffer, and the driver reads a part of it.
    fn read(&mut self) {
        if self.live.is_empty() {
            return;
        }
        let at = self.below(self.live.len());
        let (slot, (phys, len), count) = (self.live[at].slot, self.live[at].parts[0], self.live[at].parts.len());
        let start = self.below(len as usize + 1);
        let mut read = [0; 32];
        let wanted = self.below(33);
        let written: Vec<u8> = (0..len).map(|n| (n % 251) as u8 + 1).collect();
        crate::mem::access::write_bytes(self.ram, phys, &written, crate::env::Caching::Cached).unwrap();
        let expected = match start + wanted {
            _ if count > 1 => Err(DmaError::SlotOfList(count)),
            end if end as u64 > len => Err(DmaError::BadRange { start: start as u64, end: end as u64, len }),
            _ => Ok(()),
        };
        assert_eq!(self.arena.read_bytes(slot, start as u64, &mut read[..wanted]), expected);
        if expected.is_ok() {
            assert_eq!(read[..wanted], written[start..start + wanted]);
        }
    }

    /// A mask below the addresses that free slots keep, or the one from before. Not below what is mapped: that is misuse.
    fn change_mask(&mut self) -> Result<(), DmaError> {
        let bits = [20, 24, 32][self.below(3)];
        if self.live.iter().flat_map(Mapped::bytes).any(|(at, _)| at.0 >> bits != 0) {
            return Ok(());
        }
        self.dma.set_mask(bits)?;
        self.trace.push(format!("mask of {bits} bits"));
        Ok(())
    }

    fn step(&mut self) -> Result<(), DmaError> {
        match self.below(12) {
            0..4 => self.map()?,
            4..6 => self.map_list()?,
            6..9 => self.unmap(),
            9 => self.unmap_many(),
            10 => self.read(),
            _ => self.change_mask()?,
        }
        for stale in &self.gone {
            assert_eq!(self.arena.unmap(stale.slot).unwrap_err(), DmaError::StaleSlot(stale.slot.index()));
        }
        self.check_what_the_device_reaches();
        Ok(())
    }

    fn check_what_the_device_reaches(&self) {
        let mut mmu = self.mmu.state.lock().unwrap();
        let mut expected: Vec<(DeviceAddr, Option<PhysAddr>)> = Vec::new();
        for mapped in &self.live {
            expected.extend(mapped.bytes().map(|(at, phys)| (at, Some(phys))));
        }
        let pages: Vec<_> = expected.iter().map(|(at, _)| at.page_start()).collect();
        let gone = self.gone.iter().flat_map(Mapped::bytes).map(|(at, _)| at);
        expected.extend(gone.filter(|at| !pages.contains(&at.page_start())).map(|at| (at, None)));
        for (at, phys) in expected {
            assert_eq!(mmu.access(at), phys, "{at} after {:?}", self.trace);
        }
    }
}

/// What the calls of a seed gave, on a machine where arenas take the short way or not.
fn calls(seed: u64, watch: Watch) -> Vec<String> {
    let board = TestBoard::leasing(DomainKind::Strict, watch);
    let (mmu, ram, traced) = (Arc::clone(&board.mmu), Arc::clone(&board.ram), Arc::new(Mutex::new(Vec::new())));
    let to = Arc::clone(&traced);
    board.run(move |dev| {
        let arena = dev.dma().arena(SLOTS as u32)?;
        let (live, gone, trace) = (Vec::new(), Vec::new(), Vec::new());
        let mut caller = Caller { seed, dma: dev.dma(), arena, mmu: &mmu, ram: &ram, live, gone, trace };
        for _ in 0..60 {
            caller.step()?;

            assert_eq!(dev.state.system().dma_state().mappings(), caller.live.len());
        }
        *to.lock().unwrap() = caller.trace;
        caller.arena.release()?;
        Ok(Vec::new())
    });
    assert_eq!(board.machine.dma_misuses(), []);
    Arc::try_unwrap(traced).unwrap_or_default().into_inner().unwrap()
}

#[test]
fn whatever_is_called_the_device_reaches_what_is_mapped_and_the_short_way_gives_the_same_addresses() {
    for seed in 0..12 {
        let [plain, watched @ ..] = Watch::ALL.map(|watch| calls(seed, watch));
        assert_eq!(watched, [plain.clone(), plain], "seed {seed}");
    }
}
