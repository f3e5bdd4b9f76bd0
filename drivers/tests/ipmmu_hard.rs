//! The IPMMU driver under vanishing devices, forgotten handles and concurrent threads.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bindery::binding::Phase;
use bindery_sim::salvator::{SATA_UTLB, Salvator};
use common::master::Master;
use common::{IPMMU_HC, IPMMU_MM, Rig, SATA, numbered_disk};

fn with_masters(salvator: Salvator) -> Rig {
    let rig = common::on(salvator.disk(numbered_disk(64)), bindery::machine::Policy::default());
    rig.add_board();
    common::register_suppliers(&rig.machine);
    rig.machine.register(Master);
    rig.settle();
    rig
}

#[test]
fn a_leaf_that_vanishes_unbinds_its_masters_and_can_be_added_again() {
    let rig = with_masters(Salvator::new());
    let desc = rig.machine.device(IPMMU_HC).unwrap().desc().clone();
    let used = |rig: &Rig| (rig.resource_usage().bindings.len(), rig.resource_usage().frames);
    let before = used(&rig);
    rig.board.unplug(IPMMU_HC).unwrap();
    assert!(rig.machine.device_vanished(IPMMU_HC));
    assert_eq!(rig.driver(SATA), None);
    // The leaf could not confirm a flush: its master's memory is quarantined.
    assert_eq!(rig.machine.quarantine().len(), 1);
    rig.board.plug(IPMMU_HC).unwrap();
    rig.machine.add_device(desc).unwrap();
    rig.settle();
    assert_eq!(rig.driver(SATA), Some("master"));
    assert_eq!(rig.machine.quarantine(), []);
    assert_eq!(used(&rig), before, "unconfirmed tables are freed, too");
    assert!(rig.board.translate(0, SATA_UTLB as usize, 0xffff_f000, true).unwrap().is_ok());
    rig.assert_well();
}

#[test]
fn a_root_that_vanishes_unbinds_everything_behind_it() {
    let rig = with_masters(Salvator::new());
    let desc = rig.machine.device(IPMMU_MM).unwrap().desc().clone();
    let bound = rig.resource_usage().bindings.len();
    rig.board.unplug(IPMMU_MM).unwrap();
    assert!(rig.machine.device_vanished(IPMMU_MM));
    for name in [SATA, IPMMU_HC, "e6800000.ethernet"] {
        assert_eq!(rig.driver(name), None, "{name}");
    }
    rig.board.plug(IPMMU_MM).unwrap();
    rig.machine.add_device(desc).unwrap();
    rig.settle();
    assert_eq!(rig.resource_usage().bindings.len(), bound);
    assert_eq!(rig.machine.quarantine(), []);
    rig.assert_well();
}

#[test]
fn concurrent_maps_and_binds_leave_the_same_state_as_one_thread() {
    let rig = with_masters(Salvator::new().cpus(4));
    let before = rig.resource_usage();
    let over = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    let churn = |device: &str| {
        while !over.load(Ordering::Relaxed) {
            let Some(client) = rig.machine.client::<Master>(device) else { continue };
            let _ = client.call(|m| {
                if m.alloc(3 * 4096).is_ok() {
                    m.free_newest();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    };
    std::thread::scope(|s| {
        s.spawn(|| churn(SATA));
        s.spawn(|| churn(SATA));
        s.spawn(|| churn("e6800000.ethernet"));
        s.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let _ = rig.board.translate(0, SATA_UTLB as usize, 0x1000, true);
                rig.board.run_pending();
            }
        });
        for round in 0..1000 {
            let (device, driver) = if round % 10 == 9 { (IPMMU_HC, "ipmmu-vmsa") } else { (SATA, "master") };
            rig.machine.unbind(device, driver).unwrap();
            let _ = rig.machine.bind(device, driver);
            rig.settle();
            let sata = rig.machine.device(SATA).unwrap();
            assert_eq!(rig.machine.device_info(&sata).phase, Phase::Bound, "round {round}");
        }
        while done.load(Ordering::Relaxed) < 1000 {
            std::thread::yield_now();
        }
        over.store(true, Ordering::Relaxed);
    });
    let mut after = rig.resource_usage();
    assert_eq!(after.groups.len(), before.groups.len());
    after.groups.clone_from(&before.groups);
    after.bindings.clone_from(&before.bindings);
    assert_eq!(after, before);
    rig.assert_well();
}
