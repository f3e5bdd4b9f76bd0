//! A completion that is not seen in time, and what the device did all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::dma::*;
use bindery::env::{Env, IrqLine};
use bindery::machine::Policy;
use bindery_drivers::sata_rcar::SataRcar;
use bindery_sim::salvator::{self, Salvator};

/// While the flag is set the driver does not see that a command has ended; a soft reset ends that.
pub fn deaf(policy: Policy) -> (Rig, Arc<AtomicBool>) {
    let flag = Arc::new(AtomicBool::new(false));
    let say = Arc::clone(&flag);
    let r = rig_on(Salvator::new().disk(disk()), policy, salvator::DEVICE_TREE, move |tap| {
        tap.hook(salvator::SATA_BASE.0, move |_, offset, value, written| {
            if written && offset == 0x1204 && value & 4 != 0 {
                say.store(false, Ordering::SeqCst);
            }
            Ok(if !written && offset == 0x1508 && say.load(Ordering::SeqCst) { value & !1 } else { value })
        });
    });
    r.machine.settle();
    (r, flag)
}

#[test]
fn after_a_time_out_the_port_works_and_a_late_end_belongs_to_nobody() {
    for policy in [Policy::default(), Policy { untranslated_dma: true, ..Policy::default() }] {
        let (r, deaf) = deaf(policy);
        let c = r.machine.client::<SataRcar>(SATA).unwrap();
        deaf.store(true, Ordering::SeqCst);
        let begun = r.board.now();
        let e = c.call(|p| p.read(5, &mut [0; 512])).unwrap();
        println!("{e:?} after {:?}", r.board.now().since(begun));
        let mut b = [0; 512];
        for lba in 0..50 {
            c.call(|p| p.read(lba, &mut b)).unwrap().unwrap();
            assert!(b.chunks(2).all(|w| w == (lba as u16).to_le_bytes()), "sector {lba}");
        }
        println!("{:?}; {}", r.events().into_iter().filter(|l| l.contains("port")).collect::<Vec<_>>(), r.verdict());
        assert_eq!(r.machine.promises().broken(), []);
    }
}

#[test]
fn interrupts_that_nobody_asked_for() {
    let (r, _) = deaf(Policy::default());
    let c = r.machine.client::<SataRcar>(SATA).unwrap();
    let sink = r.tap.sink.lock().unwrap().clone().unwrap().upgrade().unwrap();
    for n in 0..20_000u64 {
        for _ in 0..3 {
            sink.interrupt(IrqLine(137));
        }
        if n % 100 == 0 {
            let mut b = [0; 512];
            c.call(|p| p.read(n % 200, &mut b)).unwrap().unwrap();
            assert!(b.chunks(2).all(|w| w == ((n % 200) as u16).to_le_bytes()));
        }
    }
    println!("{:?}; {}", r.events().into_iter().filter(|l| l.contains("storm")).collect::<Vec<_>>(), r.verdict());
}
