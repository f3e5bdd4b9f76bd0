//! F21, F22, F23: caches and buffers.

use bindery::dma::{Attrs, Direction};
use bindery::machine::Policy;
use bindery_sim::salvator;

use super::dma::*;

/// A rig with a master that does not snoop, translated or not.
fn rigs() -> impl Iterator<Item = Rig> {
    [false, true].into_iter().map(|untranslated| {
        let r = rig_with(Policy { untranslated_dma: untranslated, ..Policy::default() }, salvator::DEVICE_TREE);
        r.machine.settle();
        let _ = r.machine.unbind(SATA, "sata_rcar");
        r.add_master("acme-nic", 5, 929, |_| ());
        r.machine.settle();
        r
    })
}

/// Writes as the device would, at what the device address leads to.
fn device_writes(r: &Rig, at: u64, bytes: &[u8]) {
    let phys = if r.machine.policy().untranslated_dma {
        bindery::addr::PhysAddr(at)
    } else {
        r.reach(5, at, true).expect("mapped for the device")
    };
    r.board.ram().dma_write(phys, bytes, false).unwrap();
}

#[test]
fn f21_bytes_beside_a_mapped_range_survive_the_cache_maintenance() {
    for r in rigs() {
        r.master("acme-nic", |m| {
            let dma = m.dev.dma();
            for (start, len) in [(0_u64, 128_u64), (128, 128), (128, 1), (256, 200), (4096, 4096), (64, 64), (1, 63)] {
                let mut buffer = dma.buffer(16384).unwrap();
                buffer.as_mut_slice().fill(0xa5);
                let mapped = match dma.map_range(buffer, start..start + len, Direction::FromDevice, Attrs::empty()) {
                    Ok(mapped) => mapped,
                    // Refused is as good: the range shares a cache line with bytes that are not the device's.
                    Err(_) => continue,
                };
                device_writes(&r, mapped.device_addr().0, &vec![0x5a; len as usize]);
                let buffer = mapped.unmap().unwrap();
                for (at, byte) in buffer.as_slice().iter().enumerate() {
                    let inside = (start..start + len).contains(&(at as u64));
                    assert_eq!(*byte, if inside { 0x5a } else { 0xa5 }, "{start}+{len}: byte {at}");
                }
            }
        });
        assert_eq!((r.machine.promises().broken(), r.machine.dma_misuses()), (vec![], vec![]));
    }
}

#[test]
fn f22_a_buffer_that_the_device_did_not_write_keeps_what_the_cpu_wrote() {
    for r in rigs() {
        r.master("acme-nic", |m| {
            let dma = m.dev.dma();
            for direction in [Direction::FromDevice, Direction::Bidirectional, Direction::ToDevice] {
                let mut buffer = dma.buffer(8192).unwrap();
                buffer.as_mut_slice().fill(0x77);
                let mapped = dma.map(buffer, direction).unwrap();
                let buffer = mapped.unmap().unwrap();
                assert!(buffer.as_slice().iter().all(|b| *b == 0x77), "{direction:?}");
            }
        });
    }
}

#[test]
fn f23_the_cpu_reads_what_the_device_wrote_although_its_cache_was_dirty() {
    for r in rigs() {
        r.master("acme-nic", |m| {
            let dma = m.dev.dma();
            let mut buffer = dma.buffer(8192).unwrap();
            for round in 0..4_u8 {
                // Dirty in the cache, on every line.
                buffer.as_mut_slice().fill(0xee);
                let mapped = dma.map(buffer, Direction::FromDevice).unwrap();
                device_writes(&r, mapped.device_addr().0, &vec![round; 8192]);
                buffer = mapped.unmap().unwrap();
                assert!(buffer.as_slice().iter().all(|b| *b == round), "round {round}");
            }
        });
        assert_eq!((r.machine.promises().broken(), r.machine.dma_misuses()), (vec![], vec![]));
    }
}
