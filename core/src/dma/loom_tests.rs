//! Models of the quarantine, in every interleaving up to a bound.

use alloc::string::String;
use alloc::sync::Arc;

use loom::thread;

use super::{DmaError, DmaMemory, configure};
use crate::binding::{Bound, WayBack};
use crate::device::{Device, DeviceDesc, NodeId};
use crate::driver::{DmaOwner, Quiet};
use crate::env::Caching;
use crate::env::fake::FakeEnv;
use crate::machine::{Handle, Machine, Policy};
use crate::mem::{PageRequest, PageRun};
use crate::sync::atomic::{AtomicBool, Ordering};

fn machine() -> Handle {
    Machine::new(FakeEnv::silent(), Policy { check_dma: false, ..Policy::default() })
}

/// One page of the machine's frames. An allocator that gets a page twice refuses it, which the page's end asserts.
fn page(machine: &Machine) -> PageRun {
    PageRun::take(machine.memory().frames(), &PageRequest::new(1)).unwrap()
}

fn why() -> String {
    String::new()
}

/// Pages that are out are those in quarantine, no more and no less.
fn assert_all_accounted_for(machine: &Machine) {
    assert_eq!(machine.memory().frames().in_use(), machine.quarantine().len() as u64, "P2, P4");
}

/// P2, P11: pages that come in while their device is shown to be quiet, by two drivers' statements at once, go back
/// once, or stay until the next statement.
#[test]
fn loom_a_page_in_quarantine_goes_back_once_and_is_not_lost() {
    loom::model(|| {
        let machine = machine();
        let device: Arc<str> = "a".into();
        machine.quarantine.keep_run(&machine, &device, page(&machine), why());
        let second = page(&machine);
        let puts = {
            let (machine, device) = (Arc::clone(&machine), Arc::clone(&device));
            thread::spawn(move || machine.quarantine.keep_run(&machine, &device, second, why()))
        };
        let recovers = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || machine.quarantine.recover(&machine, "a"))
        };
        machine.quarantine.recover(&machine, "a");
        puts.join().unwrap();
        recovers.join().unwrap();
        assert_all_accounted_for(&machine);
        machine.quarantine.recover(&machine, "a");
        assert_eq!((machine.memory().frames().in_use(), machine.quarantine.bytes_of("a")), (0, 0), "P4");
    });
}

/// P2: memory that somebody still reads goes back when the quarantine and its last reader have both let go of it.
#[test]
fn loom_memory_that_is_read_while_it_is_recovered_goes_back_once() {
    loom::model(|| {
        let machine = machine();
        let device: Arc<str> = "a".into();
        let memory = DmaMemory::new(page(&machine), machine.memory().memory(), Caching::Cached, 1).unwrap();
        machine.quarantine.keep(&machine, &device, Arc::clone(&memory), why());
        let reader = thread::spawn(move || {
            let mut byte = [0xff];
            memory.read_bytes(0, &mut byte);
            assert_eq!(byte, [0]);
        });
        machine.quarantine.recover(&machine, "a");
        reader.join().unwrap();
        assert_eq!(machine.memory().frames().in_use(), 0, "P4");
    });
}

/// P11: what is kept because of one device stays, and is seen to stay, while another device is shown to be quiet and
/// while more comes in.
#[test]
fn loom_a_statement_about_one_device_says_nothing_about_another() {
    loom::model(|| {
        let machine = machine();
        let b: Arc<str> = "b".into();
        machine.quarantine.keep_run(&machine, &Arc::from("a"), page(&machine), why());
        machine.quarantine.keep_run(&machine, &b, page(&machine), why());
        let second = page(&machine);
        let puts = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || machine.quarantine.keep_run(&machine, &b, second, why()))
        };
        let recovers = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || machine.quarantine.recover(&machine, "a"))
        };
        assert_ne!(machine.quarantine.bytes_of("b"), 0, "P11: memory of b was out for a moment");
        puts.join().unwrap();
        recovers.join().unwrap();
        assert_all_accounted_for(&machine);
        let kept = machine.quarantine();
        assert!(kept.len() == 2 && kept.iter().all(|q| &*q.device == "b"), "P11: {kept:?}");
    });
}

/// P11: once a page of a device is in quarantine, the device gets no more, unless a statement that it is quiet came
/// meanwhile.
#[test]
fn loom_a_device_gets_no_memory_after_its_page_was_put_into_quarantine() {
    loom::model(|| {
        let machine = machine();
        let device = Device::new(NodeId(0), DeviceDesc::new("a"));
        let bound = Arc::new(Bound::new(Arc::clone(&machine), Arc::clone(&device), DmaOwner::Kernel));
        configure(&bound).unwrap();
        let context = bound.dma.lock().clone().unwrap();
        let stated = Arc::new(AtomicBool::new(false));
        let driver = {
            let (bound, stated) = (Arc::clone(&bound), Arc::clone(&stated));
            thread::spawn(move || {
                stated.store(true, Ordering::Relaxed);
                bound.quiet(Quiet::stopped());
            })
        };
        let run = page(&machine);
        machine.quarantine.keep_run(&machine, &device.desc().name, run, why());
        match context.admit() {
            Ok(()) => assert!(stated.load(Ordering::Relaxed), "P11: nobody said that the device is quiet"),
            Err(e) => assert_eq!(e, DmaError::Quarantined(4096)),
        }
        driver.join().unwrap();
        assert_all_accounted_for(&machine);
        // One more statement, and the device is as new.
        bound.quiet(Quiet::stopped());
        assert_eq!(context.admit(), Ok(()));
        assert_eq!(machine.memory().frames().in_use(), 0, "P4");
        while let Some((_, entry)) = bound.ledger.pop() {
            entry.release(&mut WayBack { bound: &bound, quiet: None });
        }
    });
}
