//! The figures of docs/benchmarks.md. Run with `cargo xtask bench`.
#![allow(clippy::unwrap_used, missing_docs, reason = "the macros of criterion make undocumented items")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bindery::addr::{DeviceAddr, PhysAddr};
use bindery::dma::Direction;
use bindery::iommu::{Gather, IovaSpace, Prot};
use bindery::mem::{PageRequest, PageRun};
use bindery_bench::{Checker, Firmware, Idle, Rig, SATA, empty, settled};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// The whole lifecycle of the disk controller's binding: clock, power, group, translation, registers, interrupt, table,
/// link start-up and IDENTIFY by DMA; then all of it back.
fn bind_and_unbind(c: &mut Criterion) {
    let rig = settled(Checker::Off);
    rig.machine.unbind(SATA, "sata_rcar").unwrap();
    c.bench_function("bind + unbind: SATA behind its IPMMU", |b| {
        b.iter(|| {
            rig.machine.bind(SATA, "sata_rcar").unwrap();
            rig.machine.unbind(SATA, "sata_rcar").unwrap();
        });
    });
    let rig = settled(Checker::Off);
    let master = rig.add_master();
    rig.machine.unbind(master, "idle").unwrap();
    c.bench_function("bind + unbind: empty driver behind an IPMMU", |b| {
        b.iter(|| {
            rig.machine.bind(master, "idle").unwrap();
            rig.machine.unbind(master, "idle").unwrap();
        });
    });
}

/// Lifecycles with input and output, and set-up and tear-down of machines: the work of an explorer.
fn lifecycles(c: &mut Criterion) {
    for (name, checker) in [("checker off", Checker::Off), ("checker on", Checker::On)] {
        let rig = settled(checker);
        rig.machine.unbind(SATA, "sata_rcar").unwrap();
        c.bench_function(&format!("lifecycle: bind, write, read, unbind; {name}"), |b| b.iter(|| rig.lifecycle()));
        let firmware = Firmware::read();
        c.bench_function(&format!("set-up: board, machine, devices, drivers, all bound, dropped; {name}"), |b| {
            b.iter(|| firmware.settled(checker));
        });
        c.bench_function(&format!("the same, and the device tree blob read each time; {name}"), |b| {
            b.iter(|| settled(checker));
        });
    }
}

fn dma(c: &mut Criterion) {
    let rig = settled(Checker::Off);
    let master = rig.add_master();
    let client = rig.machine.client::<Idle>(master).unwrap();
    for (name, len) in [("4 KiB", 4 << 10), ("64 KiB", 64 << 10)] {
        c.bench_function(&format!("coherent alloc + free, translated: {name}"), |b| {
            client.call(|dev| b.iter(|| dev.dma().coherent(len).unwrap().release())).unwrap();
        });
    }
    c.bench_function("streaming map + unmap, translated: 4 KiB", |b| {
        client
            .call(|dev| {
                let mut buffer = Some(dev.dma().buffer(4096).unwrap());
                b.iter(|| {
                    let lent = dev.dma().map(buffer.take().unwrap(), Direction::ToDevice).unwrap();
                    buffer = Some(lent.unmap().unwrap());
                });
            })
            .unwrap();
    });
}

/// The translation of a domain by itself: page table, gathered invalidation through the IPMMU's registers, proof.
fn translation(c: &mut Criterion) {
    let rig = settled(Checker::Off);
    let master = rig.add_master();
    let device = rig.machine.device(master).unwrap();
    let group = rig.machine.device_info(&device).group.unwrap();
    let groups = rig.machine.groups();
    let domain = groups.iter().find(|g| g.id() == group).and_then(|g| g.domain()).unwrap();
    let ops = Arc::clone(domain.translation());
    let phys = PhysAddr(0x4800_0000);
    let prot = Prot::READ | Prot::WRITE;
    let once = |iova, len| {
        ops.map(iova, phys, len, prot).unwrap();
        let mut gather = Gather::new();
        ops.unmap(iova, len, &mut gather).unwrap();
        black_box(ops.flush(&mut gather)).unwrap();
        gather.free_tables();
    };
    c.bench_function("domain map + unmap + confirmed flush: 4 KiB, tables made and freed", |b| {
        b.iter(|| once(DeviceAddr(0x4000_0000), 4 << 10));
    });
    // A neighbour that stays keeps the tables in place.
    ops.map(DeviceAddr(0x4020_0000), phys, 4 << 10, prot).unwrap();
    for (name, iova, len) in [("4 KiB", 0x4020_1000, 4 << 10), ("2 MiB", 0x4040_0000, 2 << 20)] {
        c.bench_function(&format!("domain map + unmap + confirmed flush: {name}"), |b| {
            b.iter(|| once(DeviceAddr(iova), len));
        });
    }
}

fn allocators(c: &mut Criterion) {
    let rig = empty(Checker::Off);
    let frames = rig.machine.memory().frames();
    for pages in [1, 16] {
        let request = PageRequest::new(pages);
        c.bench_function(&format!("page frames take (zeroed) + give back: {pages}"), |b| {
            b.iter(|| drop(black_box(PageRun::alloc(frames, &request).unwrap())));
        });
    }
    let space = IovaSpace::new(DeviceAddr(0), DeviceAddr(u64::from(u32::MAX)), &[]);
    for pages in [1, 512] {
        c.bench_function(&format!("IOVA alloc + free: {pages} pages"), |b| {
            b.iter(|| {
                let iova = space.alloc(pages, DeviceAddr(u64::from(u32::MAX))).unwrap();
                space.free(black_box(iova), pages).unwrap();
            });
        });
    }
}

/// Time of `settle` alone, for a chain whose devices were added in the worst order.
fn settle_chain(count: usize) -> Duration {
    let rig: Rig = empty(Checker::Off);
    rig.machine.register(Idle);
    rig.add_reversed_chain(count);
    let start = Instant::now();
    let done = rig.machine.settle();
    let took = start.elapsed();
    assert_eq!(done.bound, count as u64);
    took
}

fn probing(c: &mut Criterion) {
    let mut group = c.benchmark_group("probe a reversed supplier chain");
    group.sample_size(10).warm_up_time(Duration::from_millis(500));
    for count in [1_000_usize, 10_000, 100_000] {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter_custom(|times| (0..times).map(|_| settle_chain(count)).sum());
        });
    }
    group.finish();
}

criterion_group!(speed, bind_and_unbind, lifecycles, dma, translation, allocators, probing);
criterion_main!(speed);
