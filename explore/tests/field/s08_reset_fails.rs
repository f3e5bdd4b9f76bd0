//! The reset between two users fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::dma::*;
use bindery::addr::DeviceAddr;
use bindery::dma::DmaMemory;
use bindery::env::{IoError, Width};
use bindery::iommu::Prot;
use bindery::machine::Policy;
use bindery_sim::salvator::{self, Salvator};

/// A clock controller whose reset registers can be made not to respond.
fn rig_with_broken_resets() -> (Rig, Arc<AtomicBool>) {
    rig_with_broken_registers(|_| true)
}

/// The same of those of its registers whose offsets `is_reset` tells.
fn rig_with_broken_registers(is_reset: impl Fn(u64) -> bool + Send + Sync + 'static) -> (Rig, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(false));
    let say = Arc::clone(&broken);
    let r = rig_on(Salvator::new().disk(disk()), Policy::default(), salvator::DEVICE_TREE, move |tap| {
        tap.hook(salvator::CPG_BASE.0, move |_, offset, value, written| {
            if written && is_reset(offset) && say.load(Ordering::SeqCst) { Err(IoError::Gone) } else { Ok(value) }
        });
    });
    r.machine.settle();
    (r, broken)
}

#[test]
fn the_next_user_does_not_get_a_device_that_was_not_reset() {
    let (r, broken) = rig_with_broken_resets();
    r.give(SATA);
    let first = r.open(SATA).unwrap();
    first.write(0, 0x198, Width::W32, 0xdead_b000).unwrap();
    broken.store(true, Ordering::SeqCst);
    println!("the user's own reset: {:?}", first.reset());
    drop(first);
    broken.store(false, Ordering::SeqCst);
    println!("reported: {:?}", r.events().into_iter().rev().take(3).collect::<Vec<_>>());
    let second = r.open(SATA);
    println!("next open: {second:?}");
    let left = second.as_ref().ok().map(|s| s.read(0, 0x198, Width::W32));
    println!("descriptor table address that the last user left: {left:x?}; {}", r.verdict());
    assert_ne!(left, Some(Ok(0xdead_b000)), "P12: the next user finds the device as the last one left it");
}

#[test]
fn taking_it_back_keeps_what_cannot_be_shown_to_be_quiesced() {
    let (r, broken) = rig_with_broken_resets();
    r.give(SATA);
    let first = r.open(SATA).unwrap();
    broken.store(true, Ordering::SeqCst);
    println!("unbind: {:?}", r.machine.unbind(SATA, "vfio-platform"));
    println!("{:#?}", r.events().into_iter().rev().take(12).collect::<Vec<_>>());
    println!("kept: {:?}; quarantine: {:?}; {}", r.machine.pinned_supplies(), r.machine.quarantine(), r.verdict());
    drop(first);
    assert_eq!(r.machine.promises().broken(), []);
}

/// A device that could not be reset when it was taken back is not given to the host's own driver, nor to another user.
#[test]
fn the_host_does_not_get_a_device_that_was_not_reset() {
    let (r, broken) = rig_with_broken_resets();
    r.give(SATA);
    let first = r.open(SATA).unwrap();
    first.write(0, 0x198, Width::W32, 0xdead_b000).unwrap();
    broken.store(true, Ordering::SeqCst);
    r.machine.unbind(SATA, "vfio-platform").unwrap();
    r.machine.device(SATA).unwrap().set_driver_override(None);
    let host = r.machine.bind(SATA, "sata_rcar").map_err(|e| e.to_string());
    assert!(host.is_err(), "the host's driver gets a device that was not reset");
    broken.store(false, Ordering::SeqCst);
    r.machine.bind(SATA, "sata_rcar").unwrap();
    assert_eq!((r.machine.pinned_supplies().len(), r.machine.quarantine().len()), (0, 0), "it is quiet now");
    assert_eq!(r.machine.promises().broken(), []);
}

/// Neither when it was removed and added again meanwhile, as functions are with their host bridge's driver.
#[test]
fn the_host_does_not_get_it_as_a_new_device() {
    // The register that asserts resets, SRCR8: it can be released.
    let (r, broken) = rig_with_broken_registers(|offset| offset == 0x920);
    let desc = r.machine.device(SATA).unwrap().desc().clone();
    r.give(SATA);
    let first = r.open(SATA).unwrap();
    broken.store(true, Ordering::SeqCst);
    r.machine.unbind(SATA, "vfio-platform").unwrap();
    drop(first);
    for _ in 0..2 {
        assert!(r.machine.remove_device(SATA));
        r.machine.add_device(desc.clone()).unwrap();
        let host = r.machine.bind(SATA, "sata_rcar").map_err(|e| e.to_string());
        assert!(host.as_ref().is_err_and(|e| e.contains("as its last pass-through user left it")), "{host:?}");
    }
    broken.store(false, Ordering::SeqCst);
    r.machine.bind(SATA, "sata_rcar").unwrap();
    assert_eq!(r.machine.promises().broken(), []);
}

/// The reason stands until a reset has worked, which is tried at each open.
#[test]
fn an_open_that_is_refused_can_be_tried_again() {
    let (r, broken) = rig_with_broken_resets();
    r.give(SATA);
    let first = r.open(SATA).unwrap();
    broken.store(true, Ordering::SeqCst);
    drop(first);
    for _ in 0..3 {
        let refused = r.open(SATA);
        assert!(matches!(refused, Err(bindery_drivers::vfio::OpenError::NotReset(_))), "{refused:?}");
    }
    let reported = r.events().into_iter().filter(|l| l.contains("pass-through not-reset")).count();
    assert_eq!(reported, 1, "reported once");
    broken.store(false, Ordering::SeqCst);
    drop(r.open(SATA).unwrap());
    drop(r.open(SATA).unwrap());
    assert!(r.events().iter().any(|l| l.contains("pass-through reset")));
    assert_eq!(r.machine.promises().broken(), []);
}

/// The host takes a device back whose user is silent: what the device has under way ends before it loses its memory.
#[test]
fn a_device_is_reset_before_its_users_maps_are_removed() {
    let (log, recorded) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let record = |what| {
        let (log, recorded) = (Arc::clone(&log), Arc::clone(&recorded));
        move |offset: u64, written| {
            // SRCR8, by which the device's reset is asserted; any register of the IOMMU.
            if written && log.load(Ordering::SeqCst) && (what == "unmapped" || offset == 0x920) {
                recorded.lock().unwrap().push(what);
            }
        }
    };
    let (reset, unmapped) = (record("reset"), record("unmapped"));
    let r = rig_on(Salvator::new().disk(disk()), Policy::default(), salvator::DEVICE_TREE, move |tap| {
        tap.hook(salvator::CPG_BASE.0, move |_, offset, value, written| {
            reset(offset, written);
            Ok(value)
        });
        tap.hook(salvator::IPMMU_MM_BASE.0, move |_, offset, value, written| {
            unmapped(offset, written);
            Ok(value)
        });
    });
    r.machine.settle();
    r.give(SATA);
    let session = r.open(SATA).unwrap();
    let memory = DmaMemory::allocate(r.machine.memory(), 4096).unwrap();
    session.map(DeviceAddr(0x10_0000), &memory, 0, 4096, Prot::READ | Prot::WRITE).unwrap();
    log.store(true, Ordering::SeqCst);
    r.machine.unbind(SATA, "vfio-platform").unwrap();
    assert!(session.is_revoked());
    let recorded = recorded.lock().unwrap().clone();
    assert_eq!(recorded.first(), Some(&"reset"), "{recorded:?}");
    assert!(recorded.contains(&"unmapped"), "{recorded:?}");
    assert_eq!(r.machine.promises().broken(), []);
}
