//! F15, F28, F29, F30, F38: disks at their edges, and pulled in the middle of traffic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bindery::machine::Policy;
use bindery_drivers::ata::AtaError;
use bindery_drivers::sata_rcar::SataRcar;
use bindery_sim::disk::Disk;
use bindery_sim::salvator::{self, Salvator};

use super::dma::*;

#[test]
fn f15_registers_that_read_as_all_ones_for_a_while_end_in_an_error_or_a_disk() {
    for ones in [1_u64, 10, 1_000, u64::MAX] {
        let left = Arc::new(AtomicU64::new(ones));
        let reads = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&reads);
        let r = rig_on(Salvator::new().disk(disk()), Policy::default(), salvator::DEVICE_TREE, move |tap| {
            tap.hook(salvator::SATA_BASE.0, move |_, _, value, written| {
                if written {
                    return Ok(value);
                }
                assert!(count.fetch_add(1, Ordering::SeqCst) < 1_000_000, "it reads for ever");
                let still = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
                Ok(if still { 0xffff_ffff } else { value })
            });
        });
        r.machine.settle();
        let said = r.events();
        let reported = said.iter().any(|l| l.starts_with(SATA) && l.contains("not bound"));
        assert!(r.driver(SATA).is_some() || reported, "{ones} reads: {said:?}");
        assert_eq!(r.machine.promises().broken(), []);
    }
}

/// A rig whose tap counts the commands that the disk gets.
fn counted(disk: Disk) -> (Rig, Arc<AtomicU64>) {
    let commands = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&commands);
    let r = rig_on(Salvator::new().disk(disk), Policy::default(), salvator::DEVICE_TREE, move |tap| {
        tap.hook(salvator::SATA_BASE.0, move |_, offset, value, written| {
            // The command register of the task file.
            if written && offset == 0x111c {
                count.fetch_add(1, Ordering::SeqCst);
            }
            Ok(value)
        });
    });
    r.machine.settle();
    assert_eq!(r.driver(SATA), Some("sata_rcar"));
    (r, commands)
}

#[test]
fn f28_f30_what_lies_outside_the_disk_in_whole_or_in_part_is_refused_without_a_command() {
    let (r, commands) = counted(disk());
    let client = r.machine.client::<SataRcar>(SATA).unwrap();
    let (capacity, before) = client.call(|p| (p.capacity(), commands.load(Ordering::SeqCst))).unwrap();
    assert!(before > 0, "the counter counts");
    for (lba, sectors) in [(capacity, 1), (capacity - 1, 2), (1 << 28, 1), (1 << 32, 1), (1 << 48, 1), (u64::MAX, 1)] {
        let mut buf = vec![7; sectors * 512];
        let read = client.call(|p| p.read(lba, &mut buf)).unwrap();
        let write = client.call(|p| p.write(lba, &buf)).unwrap();
        for done in [read, write] {
            assert!(matches!(done, Err(AtaError::OutOfRange { .. })), "{lba:#x}: {done:?}");
        }
        assert!(buf.iter().all(|b| *b == 7));
    }
    assert_eq!(commands.load(Ordering::SeqCst), before);
}

#[test]
fn f29_a_disk_of_more_than_28_bits_has_its_whole_size_and_does_not_wrap() {
    let sectors = (1 << 28) + 1000;
    // Sparse: nothing of it is written but what the test writes.
    let (r, _) = counted(Disk::temporary(sectors).unwrap());
    let client = r.machine.client::<SataRcar>(SATA).unwrap();
    client
        .call(|p| {
            assert_eq!(p.capacity(), sectors);
            p.write(5, &[1; 512]).unwrap();
            p.write((1 << 28) + 5, &[2; 512]).unwrap();
            p.write((1 << 28) - 1, &[3; 1024]).unwrap();
            let mut buf = [0; 512];
            for (lba, value) in [(5, 1), ((1 << 28) + 5, 2), ((1 << 28) - 1, 3), (1 << 28, 3), (0, 0)] {
                p.read(lba, &mut buf).unwrap();
                assert_eq!(buf, [value; 512], "sector {lba:#x}");
            }
        })
        .unwrap();
}

#[test]
fn f38_a_controller_that_is_unplugged_in_the_middle_of_traffic_releases_every_thread() {
    for vanish in [true, false] {
        let (r, _) = counted(disk());
        r.board.keep_events(0);
        std::thread::scope(|s| {
            let users: Vec<_> = (0..4)
                .map(|t| {
                    let client = r.machine.client::<SataRcar>(SATA).unwrap();
                    s.spawn(move || {
                        let mut done = 0_u64;
                        let mut buf = [0; 1024];
                        loop {
                            match client.call(|p| p.read((done + t * 50) % 200, &mut buf)) {
                                Ok(Ok(())) => done += 1,
                                Ok(Err(_)) => {}
                                Err(_gone) => return done,
                            }
                        }
                    })
                })
                .collect();
            while users.iter().all(|u| !u.is_finished()) && r.board.with_disk(|_| ()).is_some() {
                std::thread::sleep(std::time::Duration::from_millis(20));
                break;
            }
            r.board.unplug(SATA).unwrap();
            if vanish {
                assert!(r.machine.device_vanished(SATA));
            } else {
                assert!(r.machine.remove_device(SATA));
            }
            for user in users {
                user.join().unwrap();
            }
        });
        assert!(r.machine.device(SATA).is_none());
        assert_eq!(r.machine.promises().broken(), []);
    }
}
