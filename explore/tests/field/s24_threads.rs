//! Many threads map and unmap while the IOMMU hangs now and then, and the device is unbound and bound again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::dma::*;
use bindery::control::Tree;
use bindery::dma::{Attrs, Direction};
use bindery_sim::board::Stuck;

fn race(kind: &str) {
    let r = rig();
    r.machine.settle();
    r.board.keep_events(0);
    r.machine.unbind(SATA, "sata_rcar").unwrap();
    r.add_master("acme-nic", 5, 929, |_| ());
    let group = r.group_of("acme-nic");
    Tree::new(&r.machine).write(&format!("/sys/kernel/iommu_groups/{group}/type"), kind).unwrap();
    r.machine.settle();
    let before =
        (r.machine.memory().frames().in_use(), r.machine.groups().iter().map(|g| g.info().domain).collect::<Vec<_>>());
    let (stop, done, refused) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|s| {
        for t in 0..3u64 {
            let (r, stop, done, refused) = (&r, &stop, &done, &refused);
            s.spawn(move || {
                let mut seed = t + 1;
                while !stop.load(Relaxed) {
                    let Some(c) = r.machine.client::<Master>("acme-nic") else { continue };
                    let _ = c.call(|m| {
                        for _ in 0..50 {
                            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                            let len = (seed >> 40) % 20_000 + 1;
                            let Ok(b) = m.dev.dma().buffer(len) else {
                                refused.fetch_add(1, Relaxed);
                                continue;
                            };
                            match seed >> 61 {
                                0 => drop(m.dev.dma().coherent(len)),
                                1 | 2 => drop(m.dev.dma().map_sg(vec![b], Direction::Bidirectional).map(|l| l.unmap())),
                                3 => drop(m.dev.dma().map(b, Direction::ToDevice).map(std::mem::drop)),
                                _ => drop(m.dev.dma().map_range(b, 0..len, Direction::FromDevice, Attrs::empty()).map(
                                    |mut l| {
                                        l.sync_for_cpu();
                                        l.unmap()
                                    },
                                )),
                            }
                            done.fetch_add(1, Relaxed);
                        }
                    });
                }
            });
        }
        let t = Instant::now();
        let mut n = 0;
        while t.elapsed() < Duration::from_secs(1) {
            r.board.set_stuck(Stuck::IpmmuFlush, n % 4 == 1);
            std::thread::sleep(Duration::from_millis(10));
            if n % 3 == 2 {
                let _ = r.machine.unbind("acme-nic", "acme_master");
                let _ = r.machine.bind("acme-nic", "acme_master");
            }
            n += 1;
        }
        r.board.set_stuck(Stuck::IpmmuFlush, false);
        stop.store(true, Relaxed);
    });
    let _ = r.machine.unbind("acme-nic", "acme_master");
    r.machine.bind("acme-nic", "acme_master").unwrap();
    let after =
        (r.machine.memory().frames().in_use(), r.machine.groups().iter().map(|g| g.info().domain).collect::<Vec<_>>());
    println!(
        "{kind}: {} done, {} refused; quarantine {:?}; before {before:?}, after {after:?}",
        done.load(Relaxed),
        refused.load(Relaxed),
        r.machine.quarantine()
    );
    println!("{}", r.verdict());
    assert_eq!(r.machine.promises().broken(), []);
    assert_eq!(r.machine.dma_misuses(), []);
    assert_eq!(before, after);
}

#[test]
fn strict() {
    race("DMA");
}
#[test]
fn lazy() {
    race("DMA-FQ");
}
