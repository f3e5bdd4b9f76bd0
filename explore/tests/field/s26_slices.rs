//! Safe code gets `&[u8]` of memory that the device can write.
use super::dma::*;
use bindery::dma::Direction;

#[test]
fn borrowed_memory_does_not_change() {
    let r = rig();
    r.machine.settle();
    r.machine.unbind(SATA, "sata_rcar").unwrap();
    r.add_master("acme-nic", 5, 929, |_| ());
    r.machine.settle();
    let changed = r.master("acme-nic", |m| {
        let mut lent = m.dev.dma().map(m.dev.dma().buffer(4096).unwrap(), Direction::FromDevice).unwrap();
        let at = lent.device_addr();
        let view = lent.sync_for_cpu();
        let bytes: &[u8] = &view;
        let before = bytes[0];
        // The device, which was never stopped, goes on.
        let seen = r.reach(5, at.0, true);
        if let Some(page) = seen {
            r.board.ram().dma_write(page, &[0xee; 64], true).unwrap();
        }
        println!("the device reaches {seen:?} while the CPU has a slice of it");
        std::hint::black_box(bytes)[0] != before
    });
    println!("{}", r.verdict());
    assert!(!changed, "a byte behind `&[u8]` changed while it was borrowed, in safe code");
}

/// The same with the device on a thread of its own, for Miri.
#[test]
fn miri_finds_no_data_race() {
    let r = rig();
    r.machine.settle();
    r.machine.unbind(SATA, "sata_rcar").unwrap();
    r.add_master("acme-nic", 5, 929, |_| ());
    r.machine.settle();
    let sum = r.master("acme-nic", |m| {
        let mut lent = m.dev.dma().map(m.dev.dma().buffer(4096).unwrap(), Direction::FromDevice).unwrap();
        let at = lent.device_addr();
        let view = lent.sync_for_cpu();
        let bytes: &[u8] = &view;
        std::thread::scope(|s| {
            s.spawn(|| {
                if let Some(page) = r.reach(5, at.0, true) {
                    r.board.ram().dma_write(page, &[0xee; 64], true).unwrap();
                }
            });
            bytes[..64].iter().map(|b| u32::from(*b)).sum::<u32>()
        })
    });
    println!("{sum}");
}
