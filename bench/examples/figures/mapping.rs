//! Mapping and unmapping through the calls that a driver makes.

use std::collections::VecDeque;
use std::sync::{Arc, Barrier};

use bindery::binding::Bound;
use bindery::dma::{Arena, ArenaSlot, Direction, DmaBuffer, Mapped};
use bindery::iommu::DomainKind;
use bindery::machine::Handle;
use bindery_bench::Idle;
use bindery_bench::target::Target;

use super::session::{Length, Random, Session};

/// Machine with devices of [`Idle`] behind IOMMUs in memory.
pub(crate) struct Rig {
    pub(crate) target: Arc<Target>,
    pub(crate) machine: Handle,
}

/// Names of the devices of a rig.
pub(crate) const DEVICES: [&str; 2] = ["first", "second"];

impl Rig {
    pub(crate) fn new(bytes: u64, kind: DomainKind, check_dma: bool) -> Self {
        let target = Target::new(bytes, true);
        let machine = target.machine(&DEVICES.map(|name| (name, kind)), check_dma);
        machine.settle();
        Self { target, machine }
    }

    /// Runs `work` as the driver of the device.
    pub(crate) fn drive<R>(&self, device: &str, work: impl for<'x> FnOnce(&Bound<'x>) -> R) -> R {
        let client = self.machine.client::<Idle>(device).expect("it is bound");
        client
            .call(|dev| {
                dev.dma().set_mask(48).expect("it is bound");
                work(dev)
            })
            .expect("it stays bound")
    }
}

fn buffer(dev: &Bound<'_>, len: u64) -> DmaBuffer {
    dev.dma().buffer(len).expect("there is memory")
}

fn map<'b>(dev: &Bound<'b>, buffer: DmaBuffer) -> Mapped<'b> {
    let mapped = dev.dma().map(buffer, Direction::ToDevice).expect("there are addresses");
    std::hint::black_box(mapped.device_addr());
    mapped
}

fn unmap(mapped: Mapped<'_>) -> DmaBuffer {
    mapped.unmap().expect("the IOMMU confirms")
}

/// Maps, reads the address and unmaps one buffer of `len` bytes in an arena, again and again.
fn pair(session: &Session, row: &str, times: u32, dev: &Bound<'_>, len: u64) {
    let mut arena = dev.dma().arena(64).expect("it is bound");
    let mut own = Some(buffer(dev, len));
    session.count(row, times, || own = Some(again(&mut arena, own.take().expect("it came back"))));
}

/// Maps one buffer, reads the address, and unmaps it.
fn again(arena: &mut Arena<'_>, buffer: DmaBuffer) -> DmaBuffer {
    let slot = arena.map(buffer, Direction::ToDevice).expect("there are addresses");
    std::hint::black_box(arena.device_addr(slot).expect("it is mapped"));
    arena.unmap(slot).expect("the IOMMU confirms")
}

pub(crate) fn streaming(session: &Session) {
    let rig = Rig::new(64 << 20, DomainKind::Strict, false);
    rig.drive(DEVICES[0], |dev| {
        pair(session, "strict.4k.only", 200, dev, 4 << 10);
        // From here on the domain is never empty, as those of real devices are not.
        let _ring = dev.dma().coherent(4 << 10).expect("there is memory");
        pair(session, "strict.4k", 512, dev, 4 << 10);
        let mut own = Some(buffer(dev, 4 << 10));
        session.count("mapped.4k", 500, || own = Some(unmap(map(dev, own.take().expect("it came back")))));
        pair(session, "strict.64k", 256, dev, 64 << 10);
        pair(session, "strict.1m", 128, dev, 1 << 20);
        scatter(session, dev);
        session.count("coherent.4k", 200, || {
            let memory = dev.dma().coherent(4 << 10).expect("there is memory");
            std::hint::black_box(memory.device_addr());
            memory.release();
        });
        together(session, dev, &rig.target);
    });
    let rig = Rig::new(64 << 20, DomainKind::Lazy, false);
    rig.drive(DEVICES[0], |dev| {
        let _ring = dev.dma().coherent(4 << 10).expect("there is memory");
        // Counts are multiples of the 256 unmaps that one flush of the queue confirms.
        let mut ring: VecDeque<_> = (0..512).map(|_| buffer(dev, 4 << 10)).collect();
        let mut arena = dev.dma().arena(512).expect("it is bound");
        session.count("lazy.4k", 1024, || {
            let back = again(&mut arena, ring.pop_front().expect("the ring is full"));
            ring.push_back(back);
        });
        drop(arena);
        pair(session, "lazy.4k.same", 1024, dev, 4 << 10);
    });
    let rig = Rig::new(64 << 20, DomainKind::Strict, true);
    rig.drive(DEVICES[0], |dev| {
        let _ring = dev.dma().coherent(4 << 10).expect("there is memory");
        pair(session, "strict.4k.checked", 256, dev, 4 << 10);
    });
}

/// 16 buffers of 4 KiB in one slot.
fn scatter(session: &Session, dev: &Bound<'_>) {
    let mut arena = dev.dma().arena(4).expect("it is bound");
    let mut list: Vec<DmaBuffer> = (0..16).map(|_| buffer(dev, 4 << 10)).collect();
    session.count("sg.16x4k", 128, || {
        let slot = arena.map_sg(&mut list, Direction::ToDevice).expect("there are addresses");
        arena.segments(slot).expect("it is mapped").for_each(|segment| {
            std::hint::black_box(segment);
        });
        arena.unmap_many([slot], &mut list).expect("the IOMMU confirms");
    });
}

/// 64 mapped buffers, unmapped in one go.
fn together(session: &Session, dev: &Bound<'_>, target: &Target) {
    let mut arena = dev.dma().arena(64).expect("it is bound");
    let mut buffers: Vec<DmaBuffer> = (0..64).map(|_| buffer(dev, 4 << 10)).collect();
    let mut mapped = Vec::with_capacity(64);
    let mut waits = 0;
    session.count("batch.64", 16, || {
        for buffer in buffers.drain(..) {
            let slot = arena.map(buffer, Direction::ToDevice).expect("there are addresses");
            std::hint::black_box(arena.device_addr(slot).expect("it is mapped"));
            mapped.push(slot);
        }
        let before = target.flushes();
        arena.unmap_many(mapped.drain(..), &mut buffers).expect("the IOMMU confirms");
        waits = target.flushes() - before;
    });
    session.figure("batch.64.waits", waits as f64);
}

/// A ring: one buffer is unmapped and mapped again while `live` stay mapped.
pub(crate) fn ring(session: &Session) {
    let sizes: &[usize] = match session.length() {
        Length::Short => &[64, 4096],
        Length::Long => &[64, 4096, 65_536],
        Length::Curves => &LIVE,
    };
    for live in sizes {
        let rig = Rig::new((*live as u64 + 1024) << 12, DomainKind::Strict, false);
        rig.drive(DEVICES[0], |dev| {
            let mut arena = dev.dma().arena(*live as u32).expect("it is bound");
            let mut mapped: VecDeque<_> = (0..*live)
                .map(|_| arena.map(buffer(dev, 4 << 10), Direction::ToDevice).expect("there are addresses"))
                .collect();
            let mut random = Random(7);
            let mut again = |slot: ArenaSlot| {
                let buffer = arena.unmap(slot).expect("the IOMMU confirms");
                let slot = arena.map(buffer, Direction::ToDevice).expect("there are addresses");
                std::hint::black_box(arena.device_addr(slot).expect("it is mapped"));
                slot
            };
            session.count(&format!("ring.newest.{live}"), 256, || {
                let one = again(mapped.pop_back().expect("the ring is full"));
                mapped.push_back(one);
            });
            session.count(&format!("ring.oldest.{live}"), 256, || {
                let one = again(mapped.pop_front().expect("the ring is full"));
                mapped.push_back(one);
            });
            session.count(&format!("ring.random.{live}"), 256, || {
                let at = random.below(mapped.len());
                let one = again(mapped.swap_remove_back(at).expect("it is inside"));
                mapped.push_back(one);
            });
        });
    }
}

/// Numbers of live mappings of the curves.
const LIVE: [usize; 6] = [64, 256, 1024, 4096, 16_384, 65_536];

/// Instructions of a ring by its length, or throughput of one thread and of two by the length of each one's ring.
pub(crate) fn curves(session: &Session) {
    if session.counts() {
        return ring(session);
    }
    let mut shortest = None;
    for live in LIVE {
        let Throughput { alone, apart, one } = Throughput::measure(live);
        let shortest = *shortest.get_or_insert(alone);
        session.figure(&format!("threads.alone.{live}"), shortest / alone);
        session.figure(&format!("threads.apart.{live}"), apart * shortest / alone);
        session.figure(&format!("threads.one.{live}"), one * shortest / alone);
    }
}

/// Throughput of two threads against that of one: with a device each, and with one device.
pub(crate) fn threads(session: &Session) {
    if session.counts() {
        return;
    }
    let Throughput { apart, one, .. } = Throughput::measure(LIVE[0]);
    session.figure("threads.apart", apart);
    session.figure("threads.one", one);
}

/// Unmaps and maps of rings, oldest first.
struct Throughput {
    /// Seconds of one thread.
    alone: f64,
    /// Throughput of two threads with a device each, and with one device, against that of one thread.
    apart: f64,
    one: f64,
}

impl Throughput {
    /// Of rings of `live` buffers, one for each thread.
    fn measure(live: usize) -> Self {
        let rig = Rig::new((2 * live as u64 + 1024) << 12, DomainKind::Strict, false);
        let pairs = |device: &str, start: &Barrier| {
            rig.drive(device, |dev| {
                let mut arena = dev.dma().arena(live as u32).expect("it is bound");
                let mut mapped: VecDeque<_> = (0..live)
                    .map(|_| arena.map(buffer(dev, 4 << 10), Direction::ToDevice).expect("there are addresses"))
                    .collect();
                start.wait();
                let begun = std::time::Instant::now();
                for _ in 0..200_000 {
                    let slot = mapped.pop_front().expect("the ring is full");
                    let buffer = arena.unmap(slot).expect("the IOMMU confirms");
                    mapped.push_back(arena.map(buffer, Direction::ToDevice).expect("there are addresses"));
                }
                let taken = begun.elapsed().as_secs_f64();
                arena.unmap_many(mapped, &mut Vec::new()).expect("the IOMMU confirms");
                taken
            })
        };
        let timed = |devices: &[&str]| {
            let start = Barrier::new(devices.len());
            std::thread::scope(|scope| {
                let threads: Vec<_> = devices.iter().map(|device| scope.spawn(|| pairs(device, &start))).collect();
                threads.into_iter().map(|t| t.join().expect("it does not panic")).fold(0.0, f64::max)
            })
        };
        let (mut single, mut apart, mut one) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..9 {
            let alone = timed(&DEVICES[..1]);
            single.push(alone);
            apart.push(2.0 * alone / timed(&DEVICES));
            one.push(2.0 * alone / timed(&[DEVICES[0], DEVICES[0]]));
        }
        Self { alone: median(single), apart: median(apart), one: median(one) }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
