//! Bounce buffers: a device that reaches a part of RAM only.
use super::dma::*;
use bindery::addr::PhysAddr;
use bindery::device::DmaRange;
use bindery::dma::{Attrs, BOUNCE_BYTES, Direction, DmaError};
use bindery::machine::Policy;
use bindery_sim::salvator::{self, Salvator};

/// Reaches the first `len` bytes of RAM only.
fn short(len: u64) -> Rig {
    let policy = Policy { untranslated_dma: true, ..Policy::default() };
    let r = rig_on(Salvator::new().disk(disk()).frames(512 << 20), policy, salvator::DEVICE_TREE, |_| ());
    r.machine.settle();
    r.add_master("acme-nic", 5, 929, |d| d.dma.ranges.push(DmaRange { bus: 0, phys: PhysAddr(0x4800_0000), len }));
    r.machine.settle();
    r
}

#[test]
fn full_bounce_buffers_are_an_error_that_gives_the_buffer_back_and_it_works_again() {
    let r = short(256 << 20);
    r.master("acme-nic", |m| {
        let (mut out, mut near) = (Vec::new(), Vec::new());
        let refused = loop {
            let b = r.machine.dma_buffer(4 << 20).unwrap();
            if b.phys().0 < 0x4800_0000 + (256 << 20) {
                near.push(b);
                continue;
            }
            match m.dev.dma().map(b, Direction::ToDevice) {
                Ok(l) => {
                    assert!(l.is_bounced());
                    out.push(l)
                }
                Err(e) => break e,
            }
        };
        println!("after {} of 4 MiB: {}", out.len(), refused.error);
        assert_eq!(out.len() as u64, BOUNCE_BYTES >> 22);
        assert!(matches!(refused.error, DmaError::BounceFull(_)));
        assert_eq!(refused.returned.len(), 4 << 20);
        out.pop().unwrap().unmap().unwrap();
        m.dev.dma().map(refused.returned, Direction::ToDevice).unwrap();
    });
    println!("{}", r.verdict());
}

#[test]
fn twenty_thousand_rounds_leak_no_slot() {
    let r = short(1 << 20);
    r.master("acme-nic", |m| {
        for n in 0..20_000_u32 {
            let b = r.machine.dma_buffer(4000).unwrap();
            let l = m.dev.dma().map(b, Direction::FromDevice).unwrap_or_else(|e| panic!("round {n}: {}", e.error));
            l.unmap().unwrap();
        }
        // A list that is refused half way.
        for _ in 0..300 {
            let list: Vec<_> = (0..3).map(|_| r.machine.dma_buffer(512 << 10).unwrap()).collect();
            let e = m.dev.dma().map_sg(list, Direction::ToDevice).unwrap_err();
            assert_eq!(e.returned.len(), 3);
        }
        m.dev.dma().map(r.machine.dma_buffer(512 << 10).unwrap(), Direction::ToDevice).unwrap().unmap().unwrap();
    });
    println!("{}", r.verdict());
}

#[test]
fn bytes_that_the_device_does_not_write_stay_as_they_were_and_nothing_old_leaks() {
    let r = short(256 << 20);
    r.master("acme-nic", |m| {
        let mut b = r.machine.dma_buffer(4096).unwrap();
        b.as_mut_slice().fill(0x77);
        let l = m.dev.dma().map(b, Direction::FromDevice).unwrap();
        assert!(l.is_bounced());
        let at = PhysAddr(l.device_addr().0 + 0x4800_0000);
        r.board.ram().dma_write(at, &[0x11; 100], false).unwrap();
        let b = l.unmap().unwrap();
        assert_eq!(
            (b.as_slice()[0], b.as_slice()[99], b.as_slice()[100], b.as_slice()[4095]),
            (0x11, 0x11, 0x77, 0x77)
        );
    });
    println!("{}", r.verdict());
}

#[test]
fn a_device_that_works_with_pages_keeps_the_offset_in_the_page() {
    let r = short(256 << 20);
    r.master("acme-nic", |m| {
        let b = r.machine.dma_buffer(8192).unwrap();
        let l = m.dev.dma().map_range(b, 512..4608, Direction::ToDevice, Attrs::empty()).unwrap();
        println!("bounced: {}, {} bytes from offset 512 of a page are at {}", l.is_bounced(), l.len(), l.device_addr());
        assert_eq!(
            l.device_addr().page_offset(),
            512,
            "page lists of such a device (NVMe) are wrong now, and there is no way to ask"
        );
    });
}

#[test]
fn an_unaligned_tail_of_a_bounced_buffer() {
    let r = short(256 << 20);
    r.master("acme-nic", |m| {
        let b = r.machine.dma_buffer(1001).unwrap();
        let l = m.dev.dma().map_range(b, 896..1001, Direction::FromDevice, Attrs::empty()).unwrap();
        let at = PhysAddr(l.device_addr().0 + 0x4800_0000);
        r.board.ram().dma_write(at, &[0x22; 105], false).unwrap();
        let b = l.unmap().unwrap();
        assert_eq!((b.as_slice()[895], b.as_slice()[896], b.as_slice()[1000]), (0, 0x22, 0x22));
    });
    println!("{}", r.verdict());
}
