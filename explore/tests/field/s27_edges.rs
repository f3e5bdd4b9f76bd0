//! Sizes and addresses at the edges.

use super::dma::*;
use bindery::addr::{DeviceAddr, PhysAddr};
use bindery::dma::{Attrs, Direction, DmaMemory, SegmentLimits};
use bindery::iommu::Prot;

#[test]
fn kernel_side() {
    let r = rig();
    r.machine.settle();
    r.machine.unbind(SATA, "sata_rcar").unwrap();
    r.add_master("acme-nic", 5, 929, |_| ());
    r.machine.settle();
    println!(
        "{:?}",
        [u64::MAX, u64::MAX - 4095, 1 << 52, 1 << 44, 0]
            .map(|n| DmaMemory::allocate(r.machine.memory(), n).map(|_| ()))
    );
    println!("{:?}", [u64::MAX, 1 << 44, 0].map(|n| r.machine.dma_buffer(n).map(|_| ())));
    r.master("acme-nic", |m| {
        let dma = m.dev.dma();
        println!(
            "{:?}",
            [u64::MAX, u64::MAX - 4095, 0xffff_ffff << 12, 1 << 44, 0].map(|n| dma.coherent(n).map(|_| ()))
        );
        println!(
            "{:?} {:?}",
            dma.coherent_slice::<u128>(usize::MAX).map(|_| ()),
            dma.coherent_slice::<[u8; 0]>(5).map(|_| ())
        );
        for range in [0..0, 128..128, 256..128, 0..4097, 1..4096, 0..100, u64::MAX - 127..u64::MAX, 4096..4096] {
            let b = dma.buffer(4096).unwrap();
            assert!(dma.map_range(b, range.clone(), Direction::ToDevice, Attrs::empty()).is_err(), "{range:?}");
        }
        assert!(dma.map_sg(Vec::new(), Direction::ToDevice).is_err());
        println!(
            "{:?}",
            [
                (u64::MAX, 4096),
                (u64::MAX - 4095, 4096),
                (0xee30_0000, 0),
                (0xee30_0000, u64::MAX),
                (0xee30_0000, u64::MAX >> 1),
                (0x4800_0000, 4096),
                (0xe657_0000, 4),
                (0xee4f_f000, 0x2000)
            ]
            .map(|(p, n)| dma.map_resource(PhysAddr(p), n, Direction::Bidirectional).map(|_| ()))
        );
        println!(
            "{:?}",
            [
                (0, 1, 0),
                (u64::MAX, 1, 0),
                (1 << 20, 4096, 0),
                ((1 << 20) + 1, 1, 0),
                (64, 3, 0),
                (64, 8192, 0),
                (64, 64, 32),
                (4097, 4096, 8192),
                (1 << 20, 1, 1 << 20)
            ]
            .map(|(s, a, b)| dma.pool("p", s, a, b).and_then(|p| p.alloc().map(|_| ())))
        );
        for limits in [
            SegmentLimits { max_segment_size: 0, segment_boundary: 0 },
            SegmentLimits { max_segment_size: 1, segment_boundary: 3 },
        ] {
            assert!(dma.set_limits(limits).is_err());
        }
        dma.set_limits(SegmentLimits { max_segment_size: u64::MAX, segment_boundary: 1 << 63 }).unwrap();
        let l = dma.map_sg(vec![dma.buffer(5000).unwrap(), dma.buffer(1).unwrap()], Direction::ToDevice).unwrap();
        println!("{:?}", l.segments().collect::<Vec<_>>());
        dma.set_limits(SegmentLimits { max_segment_size: 1, segment_boundary: 1 }).unwrap();
        let l = dma.map_sg(vec![dma.buffer(100).unwrap()], Direction::ToDevice).unwrap();
        assert_eq!(l.segments().count(), 100);
        for bits in [1, 11, 12, 13, 20, 31, 64] {
            dma.set_mask(bits).unwrap();
            let c = dma.coherent(4096).map(|c| c.device_addr());
            let s = dma
                .map(r.machine.dma_buffer(4096).unwrap(), Direction::ToDevice)
                .map(|m| m.device_addr())
                .map_err(|e| e.error);
            println!("{bits} bits: {c:?} {s:?}");
            for a in [c.ok(), s.ok()].into_iter().flatten() {
                assert!(bits == 64 || a.0 + 4095 < 1 << bits, "{bits}: {a}");
            }
        }
    });
    println!("{}", r.verdict());
    assert_eq!(r.machine.dma_misuses(), []);
}

#[test]
fn user_side() {
    let r = rig();
    r.machine.settle();
    r.give(SATA);
    let s = r.open(SATA).unwrap();
    let m = DmaMemory::allocate(r.machine.memory(), 4 << 20).unwrap();
    let rw = Prot::READ | Prot::WRITE;
    let mut odd = Vec::new();
    for (iova, offset, len) in [
        (0xffff_f000, 0, 8192),
        (1 << 32, 0, 4096),
        (u64::MAX - 4095, 0, 4096),
        (1 << 47, 0, 4096),
        (0, 4 << 20, 4096),
        (0, 0, 0),
        (0, u64::MAX - 4095, 8192),
        (0x1000, 0, u64::MAX - 4095),
    ] {
        let done = s.map(DeviceAddr(iova), &m, offset, len, rw);
        if done.is_ok() {
            odd.push((iova, offset, len));
        }
        println!("{iova:#x} {offset:#x} {len:#x}: {done:?}; unmap {:?}", s.unmap(DeviceAddr(iova), len));
    }
    println!(
        "no access: {:?}; registers: {:?}",
        s.map(DeviceAddr(0x1000), &m, 0, 4096, Prot::empty()),
        s.map(DeviceAddr(0x2000), &m, 0, 4096, Prot::MMIO | rw)
    );
    // Blocks of 2 MiB, then holes of 4 KiB in them, again and again.
    for _ in 0..50 {
        s.map(DeviceAddr(0x4000_0000), &m, 0, 4 << 20, rw).unwrap();
        assert!(s.unmap(DeviceAddr(0x4000_0000), 4096).is_err(), "part of a map");
        assert!(s.map(DeviceAddr(0x4010_0000), &m, 0, 4096, rw).is_err(), "over a map");
        assert_eq!(r.reach(SATA_UTLB, 0x4000_0000 + (3 << 20), true), Some(m.phys() + (3 << 20)));
        s.unmap(DeviceAddr(0x4000_0000), 4 << 20).unwrap();
        assert_eq!(r.reach(SATA_UTLB, 0x4000_0000 + (3 << 20), true), None);
    }
    println!("{odd:x?}; {}", r.verdict());
    assert!(odd.is_empty());
}

#[test]
fn device_addresses_run_out_and_come_back() {
    let r = rig();
    r.machine.settle();
    r.machine.unbind(SATA, "sata_rcar").unwrap();
    r.add_master("acme-nic", 5, 929, |_| ());
    r.machine.settle();
    r.master("acme-nic", |m| {
        let dma = m.dev.dma();
        dma.set_mask(20).unwrap();
        for round in 0..3 {
            let mut out = Vec::new();
            let refused = loop {
                match dma.map(r.machine.dma_buffer(4096).unwrap(), Direction::ToDevice) {
                    Ok(l) => out.push(l),
                    Err(e) => break e,
                }
            };
            assert_eq!(out.len(), 255, "all pages of 1 MiB but the first");
            // Every other one comes back: room for one page, none for two.
            let mut odd = false;
            let (stay, go): (Vec<_>, Vec<_>) = out.into_iter().partition(|_| {
                odd = !odd;
                odd
            });
            go.into_iter().for_each(|l| {
                l.unmap().unwrap();
            });
            let two = dma
                .map(r.machine.dma_buffer(8192).unwrap(), Direction::ToDevice)
                .map(|_| ())
                .map_err(|e| (e.error.to_string(), e.returned.len()));
            println!("{round}: {}; in holes: {two:?}", refused.error);
            assert!(two.is_err());
            dma.map(refused.returned, Direction::ToDevice).unwrap().unmap().unwrap();
            stay.into_iter().for_each(|l| {
                l.unmap().unwrap();
            });
            dma.map(r.machine.dma_buffer(512 << 10).unwrap(), Direction::ToDevice).unwrap().unmap().unwrap();
        }
    });
    println!("{}", r.verdict());
    assert_eq!(r.machine.dma_misuses(), []);
}
