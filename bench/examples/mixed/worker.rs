//! One thread of the load: a driver that maps, unmaps, allocates and frees at random.

use std::sync::{Mutex, PoisonError};

use bindery::binding::Bound;
use bindery::dma::{Arena, ArenaSlot, Coherent, Direction, DmaBuffer, Mapped};

/// Slots of the arena.
const SLOTS: u32 = 512;
/// Most pages that one thread holds in buffers.
pub(crate) const MOST_PAGES: u64 = 3072;
/// Most pages of one buffer.
pub(crate) const LARGEST: u64 = 64;
/// Most buffers that are mapped without an arena, and most pieces of coherent memory.
pub(crate) const MOST_OTHERS: usize = 64;

/// Buffers that one thread has unmapped and another one takes.
#[derive(Default)]
pub(crate) struct Exchange(Mutex<Vec<DmaBuffer>>);

impl Exchange {
    const MOST: usize = 64;

    fn swap(&self, own: &mut Vec<DmaBuffer>, random: &mut Random) {
        let mut there = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if there.len() < Self::MOST {
            there.extend(own.pop());
        } else {
            let at = random.below(there.len());
            own.push(there.swap_remove(at));
        }
    }

    /// Pages of the buffers that are in it.
    pub(crate) fn pages(&self) -> u64 {
        pages(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn pages(buffers: &[DmaBuffer]) -> u64 {
    buffers.iter().map(|b| b.len() >> 12).sum()
}

/// What a thread holds.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Held {
    /// Pages of buffers, mapped or not, and of coherent memory.
    pub(crate) pages: u64,
    /// Pages that are mapped.
    pub(crate) mapped: u64,
    /// Lowest and highest device address of a mapping.
    pub(crate) window: Option<(u64, u64)>,
}

/// A driver with work to do.
pub(crate) struct Worker<'b, 'x> {
    dev: Bound<'b>,
    arena: Arena<'b>,
    slots: Vec<(ArenaSlot, u64)>,
    mapped: Vec<Mapped<'b>>,
    coherent: Vec<Coherent<'b>>,
    /// Buffers that are not mapped.
    idle: Vec<DmaBuffer>,
    /// Pages of all buffers of this thread.
    pages: u64,
    /// Buffers that come back from an unmap.
    list: Vec<DmaBuffer>,
    /// Buffers that are about to be mapped together.
    next: Vec<DmaBuffer>,
    exchange: &'x Exchange,
    random: Random,
}

impl<'b, 'x> Worker<'b, 'x> {
    pub(crate) fn new(dev: Bound<'b>, exchange: &'x Exchange, seed: u64) -> Self {
        dev.dma().set_mask(48).expect("it is bound");
        let arena = dev.dma().arena(SLOTS).expect("it is bound");
        let (slots, mapped, coherent) = Default::default();
        let (idle, list, next) = Default::default();
        Self { dev, arena, slots, mapped, coherent, idle, pages: 0, list, next, exchange, random: Random(seed) }
    }

    /// Does one operation, chosen at random.
    pub(crate) fn step(&mut self) {
        match self.random.below(10_000) {
            0..3500 => self.map(1),
            3500..7000 => self.unmap(),
            7000..7600 => {
                let most = 1 << self.random.below(7);
                let pages = 1 + self.random.below(most) as u64;
                self.map(pages);
            }
            7600..8000 => self.map_list(),
            8000..8100 => self.unmap_many(),
            8100..8550 => self.map_alone(),
            8550..9000 => self.unmap_alone(),
            9000..9300 => self.alloc_coherent(),
            9300..9600 => self.free_coherent(),
            9600..9800 => self.swap(),
            9800..9950 => self.forget_one(),
            9950..9998 => self.borrow(),
            _ => self.renew(),
        }
    }

    /// A buffer of so many pages. Each has its address in its first bytes.
    fn buffer(&mut self, pages: u64) -> DmaBuffer {
        if let Some(at) = self.idle.iter().rposition(|b| b.len() >> 12 == pages) {
            return self.idle.swap_remove(at);
        }
        while self.pages + pages > MOST_PAGES {
            if self.idle.is_empty() {
                self.unmap_many();
            }
            self.forget_one();
        }
        self.pages += pages;
        let mut buffer = self.dev.dma().buffer(pages << 12).expect("there is memory");
        let (mark, first) = (buffer.phys().0.to_le_bytes(), &mut buffer.as_mut_slice()[..8]);
        assert_eq!(first, [0; 8], "P12: a new buffer is zeroed");
        first.copy_from_slice(&mark);
        buffer
    }

    /// Takes back what was mapped.
    fn keep(&mut self, buffer: DmaBuffer) {
        assert_eq!(buffer.as_slice()[..8], buffer.phys().0.to_le_bytes(), "the bytes of a buffer stay");
        self.idle.push(buffer);
    }

    /// Takes all of `list` back.
    fn keep_list(&mut self) {
        while let Some(buffer) = self.list.pop() {
            self.keep(buffer);
        }
    }

    fn map(&mut self, pages: u64) {
        if self.slots.len() == SLOTS as usize {
            return self.unmap();
        }
        let buffer = self.buffer(pages);
        let slot = self.arena.map(buffer, Direction::Bidirectional).expect("there are addresses");
        self.slots.push((slot, pages));
    }

    fn map_list(&mut self) {
        if self.slots.len() == SLOTS as usize {
            return self.unmap();
        }
        let mut pages = 0;
        for _ in 0..2 + self.random.below(15) {
            let more = 1 + self.random.below(2) as u64;
            let buffer = self.buffer(more);
            self.next.push(buffer);
            pages += more;
        }
        let slot = self.arena.map_sg(&mut self.next, Direction::Bidirectional).expect("there are addresses");
        self.slots.push((slot, pages));
    }

    fn unmap(&mut self) {
        if self.slots.is_empty() {
            return;
        }
        let at = self.random.below(self.slots.len());
        let (slot, _) = self.slots.swap_remove(at);
        self.arena.unmap_many([slot], &mut self.list).expect("the IOMMU confirms");
        self.keep_list();
    }

    fn unmap_many(&mut self) {
        let from = self.slots.len() - self.random.below(17).min(self.slots.len());
        let gone = self.slots.drain(from..).map(|(slot, _)| slot);
        self.arena.unmap_many(gone, &mut self.list).expect("the IOMMU confirms");
        self.keep_list();
    }

    fn map_alone(&mut self) {
        if self.mapped.len() == MOST_OTHERS {
            return self.unmap_alone();
        }
        let buffer = self.buffer(1);
        self.mapped.push(self.dev.dma().map(buffer, Direction::Bidirectional).expect("there are addresses"));
    }

    fn unmap_alone(&mut self) {
        if !self.mapped.is_empty() {
            let at = self.random.below(self.mapped.len());
            let buffer = self.mapped.swap_remove(at).unmap().expect("the IOMMU confirms");
            self.keep(buffer);
        }
    }

    fn alloc_coherent(&mut self) {
        if self.coherent.len() == MOST_OTHERS {
            return self.free_coherent();
        }
        let memory = self.dev.dma().coherent((1 + self.random.below(4) as u64) << 12).expect("there is memory");
        assert_eq!(memory.read::<u64>(memory.len() - 8), 0, "P12: it is zeroed");
        memory.write(memory.len() - 8, &u64::MAX);
        self.coherent.push(memory);
    }

    fn free_coherent(&mut self) {
        if !self.coherent.is_empty() {
            let at = self.random.below(self.coherent.len());
            self.coherent.swap_remove(at).release();
        }
    }

    fn swap(&mut self) {
        self.pages -= pages(&self.idle);
        self.exchange.swap(&mut self.idle, &mut self.random);
        self.pages += pages(&self.idle);
    }

    /// Frees a buffer that is not mapped.
    fn forget_one(&mut self) {
        if !self.idle.is_empty() {
            let at = self.random.below(self.idle.len());
            self.pages -= self.idle.swap_remove(at).len() >> 12;
        }
    }

    fn borrow(&mut self) {
        let mut buffers = [self.buffer(1), self.buffer(2)];
        let dma = self.dev.dma();
        dma.scope(|scope| {
            for buffer in &mut buffers {
                let mapped = scope.map(buffer, Direction::Bidirectional).expect("there are addresses");
                std::hint::black_box(mapped.device_addr());
            }
        })
        .expect("the IOMMU confirms");
        for buffer in buffers {
            self.keep(buffer);
        }
    }

    /// Another arena in the place of this one.
    fn renew(&mut self) {
        self.arena.unmap_many(self.slots.drain(..).map(|(slot, _)| slot), &mut self.list).expect("the IOMMU confirms");
        self.keep_list();
        let arena = self.dev.dma().arena(SLOTS).expect("it is bound");
        std::mem::replace(&mut self.arena, arena).release().expect("the IOMMU confirms");
    }

    /// What it holds now.
    pub(crate) fn held(&self) -> Held {
        let coherent: u64 = self.coherent.iter().map(|c| c.len() >> 12).sum();
        let alone = self.mapped.iter().map(|m| (m.device_addr().0, m.len()));
        let coherent_at = self.coherent.iter().map(|c| (c.device_addr().0, c.len()));
        let slots = self.slots.iter().flat_map(|(slot, _)| self.arena.segments(*slot).into_iter().flatten());
        let ranges = slots.map(|(addr, len)| (addr.0, len)).chain(alone).chain(coherent_at);
        let window = ranges.fold(None, |window, (addr, len)| {
            let (low, high) = window.unwrap_or((addr, addr));
            Some((low.min(addr), high.max(addr + len)))
        });
        let mapped = self.slots.iter().map(|(_, pages)| pages).sum::<u64>() + self.mapped.len() as u64 + coherent;
        Held { pages: self.pages + coherent, mapped, window }
    }
}

/// Random numbers: a linear congruential generator (Knuth's MMIX), upper bits.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit
    }
}
