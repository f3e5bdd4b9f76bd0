//! The disk is taken out and another one put in; the disk changes its mind about its size.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::dma::*;
use bindery::env::{Env, Width};
use bindery::machine::Policy;
use bindery_drivers::sata_rcar::SataRcar;
use bindery_sim::disk::Disk;
use bindery_sim::salvator::{self, Salvator};

fn first_word(r: &Rig, lba: u64) -> Result<u16, String> {
    let mut b = [0; 512];
    let c = r.machine.client::<SataRcar>(SATA).ok_or("no driver")?;
    c.call(|p| p.read(lba, &mut b)).map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    Ok(u16::from_le_bytes([b[0], b[1]]))
}

/// As when a cable is pulled and another disk plugged in: link down, link up, SError says so.
fn swap(r: &Rig, other: Disk) {
    let io = r.board.map_io(salvator::SATA_BASE, 0x20_0000).unwrap();
    io.write(0x1408, Width::W32, 0x304).unwrap();
    r.board.with_disk(|d| *d = other);
    r.sleep(Duration::from_secs(3));
    io.write(0x1408, Width::W32, 0x300).unwrap();
    r.sleep(Duration::from_secs(3));
    println!(
        "SError: {:#x}, SStatus {:#x}",
        io.read(0x1404, Width::W32).unwrap(),
        io.read(0x1400, Width::W32).unwrap()
    );
}

#[test]
fn a_disk_that_was_exchanged_while_nothing_was_asked_of_it_is_noticed() {
    let r = rig();
    r.machine.settle();
    assert_eq!(first_word(&r, 1), Ok(1));
    // Another disk, of half the size.
    swap(&r, Disk::memory((1000..1128u16).flat_map(|n| n.to_le_bytes().repeat(256)).collect()));
    r.board.take_events();
    let read = first_word(&r, 1);
    let wrote = r.machine.client::<SataRcar>(SATA).unwrap().call(|p| p.write(2, &[0x5a; 512])).unwrap();
    let there = r.board.with_disk(|d| {
        let mut b = [0; 2];
        d.read(1024, &mut b).unwrap();
        b
    });
    println!(
        "read: {read:?}; write: {wrote:?}, on the other disk now: {there:x?}; events: {:?}; {}",
        r.events(),
        r.verdict()
    );
    assert!(
        read.is_err() && wrote.is_err(),
        "the other disk's data is handed out, and written over, as if it were the first one's"
    );
}

#[test]
fn a_disk_that_comes_back_is_used_again() {
    let lost = Arc::new(AtomicBool::new(false));
    let say = Arc::clone(&lost);
    let r = rig_on(Salvator::new().disk(disk()), Policy::default(), salvator::DEVICE_TREE, move |tap| {
        tap.hook(salvator::SATA_BASE.0, move |_, offset, value, written| {
            Ok(if offset == 0x1400 && !written && say.load(Ordering::SeqCst) { 0 } else { value })
        });
    });
    r.machine.settle();
    lost.store(true, Ordering::SeqCst);
    r.board.sata_faults(|k| k.no_completion = true);
    let begun = r.board.now();
    println!("pulled in mid-command: {:?} after {:?}", first_word(&r, 1), r.board.now().since(begun));
    r.board.sata_faults(|k| k.no_completion = false);
    lost.store(false, Ordering::SeqCst);
    r.sleep(Duration::from_secs(5));
    let again = first_word(&r, 1);
    println!("back again: {again:?}; {:?}; {}", r.events().into_iter().rev().take(3).collect::<Vec<_>>(), r.verdict());
    r.machine.unbind(SATA, "sata_rcar").unwrap();
    r.machine.bind(SATA, "sata_rcar").unwrap();
    println!("bound again: {:?}", first_word(&r, 1));
    assert_eq!(again, Ok(1), "nothing but a new bind brings it back");
}

#[test]
fn the_same_disk_with_another_size_after_a_reset() {
    // A disk with a host protected area forgets its setting at a reset.
    let deaf = Arc::new(AtomicBool::new(false));
    let say = Arc::clone(&deaf);
    let r = rig_on(Salvator::new().disk(disk()), Policy::default(), salvator::DEVICE_TREE, move |tap| {
        tap.hook(salvator::SATA_BASE.0, move |_, offset, value, written| {
            if written && offset == 0x1204 && value & 4 != 0 {
                say.store(false, Ordering::SeqCst);
            }
            Ok(if !written && offset == 0x1508 && say.load(Ordering::SeqCst) { value & !1 } else { value })
        });
    });
    r.machine.settle();
    r.board.sata_faults(|k| k.reported_sectors = Some(200));
    deaf.store(true, Ordering::SeqCst);
    let first = first_word(&r, 1);
    let second = first_word(&r, 1);
    println!(
        "{first:?}; then {second:?}; {:?}",
        r.events().into_iter().filter(|l| l.contains("port") || l.contains("disk now")).collect::<Vec<_>>()
    );
    println!("{}", r.verdict());
    assert!(!second.unwrap_err().contains("another disk"), "model and serial number are the same: it is another size");
}
