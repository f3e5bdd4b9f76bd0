//! Models of the quarantine, in every interleaving up to a bound.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use loom::thread;

use super::pin::{Pinner, Via};
use super::{DmaError, DmaMemory, PagePin, configure};
use crate::binding::{Bound, UnwindCtx};
use crate::device::{Device, DeviceDesc, NodeId};
use crate::driver::{DmaOwner, Quiesced};
use crate::env::Caching;
use crate::env::fake::FakeEnv;
use crate::machine::{Handle, Machine, Policy};
use crate::mem::{PageRequest, PageRun};
use crate::sync::atomic::{AtomicBool, Ordering};

fn machine() -> Handle {
    Machine::new(FakeEnv::silent(), Policy { check_dma: false, ..Policy::default() })
}

/// One page of the machine's frames. An allocator that gets a page twice refuses it, which the page's end asserts.
fn page(machine: &Machine) -> Arc<DmaMemory> {
    let run = PageRun::alloc(machine.memory().frames(), &PageRequest::new(1)).unwrap();
    DmaMemory::new(run, machine.memory().memory(), Caching::Cached, 1).unwrap()
}

/// Pins of `memory` by an untranslated `device`.
fn pins(machine: &Handle, device: &Arc<str>, memory: &Arc<DmaMemory>) -> Vec<PagePin> {
    Vec::from([PagePin::new(memory, &Pinner::new(machine, device, Via::Bus))])
}

/// Puts `memory` into quarantine until `device` is shown to be quiesced.
fn keep(machine: &Handle, device: &Arc<str>, memory: &Arc<DmaMemory>) {
    machine.quarantine.until_quiesced(machine, device, pins(machine, device, memory), why());
}

fn recover(machine: &Handle, device: &Arc<str>) {
    machine.quarantine.recover(machine, device, &Quiesced::stopped());
}

fn why() -> String {
    String::new()
}

/// Pages that are out are those in quarantine, no more and no less.
fn assert_all_accounted_for(machine: &Machine) {
    assert_eq!(machine.memory().frames().in_use(), machine.quarantine().len() as u64, "P2, P4");
}

/// P2, P11: pages that come in while their device is shown to be quiesced, by two drivers' statements at once, go back
/// once, or stay until the next statement.
#[test]
fn loom_a_page_in_quarantine_goes_back_once_and_is_not_lost() {
    loom::model(|| {
        let machine = machine();
        let device: Arc<str> = "a".into();
        keep(&machine, &device, &page(&machine));
        let second = page(&machine);
        let puts = {
            let (machine, device) = (machine.clone(), Arc::clone(&device));
            thread::spawn(move || {
                keep(&machine, &device, &second);
                drop(second);
            })
        };
        let recovers = {
            let (machine, device) = (machine.clone(), Arc::clone(&device));
            thread::spawn(move || recover(&machine, &device))
        };
        recover(&machine, &device);
        puts.join().unwrap();
        recovers.join().unwrap();
        assert_all_accounted_for(&machine);
        recover(&machine, &device);
        assert_eq!((machine.memory().frames().in_use(), machine.quarantine.bytes_of("a")), (0, 0), "P4");
    });
}

/// P2: memory that somebody still reads goes back when the quarantine and its last reader have both let go of it.
#[test]
fn loom_memory_that_is_read_while_it_is_recovered_goes_back_once() {
    loom::model(|| {
        let machine = machine();
        let device: Arc<str> = "a".into();
        let memory = page(&machine);
        keep(&machine, &device, &memory);
        let reader = thread::spawn(move || {
            let mut byte = [0xff];
            memory.read_bytes(0, &mut byte);
            assert_eq!(byte, [0]);
        });
        recover(&machine, &device);
        reader.join().unwrap();
        assert_eq!(machine.memory().frames().in_use(), 0, "P4");
    });
}

/// P11: what is kept because of one device stays, and is seen to stay, while another device is shown to be quiesced and
/// while more comes in.
#[test]
fn loom_a_statement_about_one_device_says_nothing_about_another() {
    loom::model(|| {
        let machine = machine();
        let b: Arc<str> = "b".into();
        let a: Arc<str> = "a".into();
        keep(&machine, &a, &page(&machine));
        keep(&machine, &b, &page(&machine));
        let second = page(&machine);
        let puts = {
            let machine = machine.clone();
            thread::spawn(move || {
                keep(&machine, &b, &second);
                drop(second);
            })
        };
        let recovers = {
            let machine = machine.clone();
            thread::spawn(move || recover(&machine, &a))
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
        let bound = Arc::new(Bound::new(Arc::clone(&machine), Arc::clone(&device), "driver", DmaOwner::Kernel));
        configure(&bound).unwrap();
        let context = bound.dma.lock().clone().unwrap();
        let stated = Arc::new(AtomicBool::new(false));
        let driver = {
            let (bound, stated) = (Arc::clone(&bound), Arc::clone(&stated));
            thread::spawn(move || {
                stated.store(true, Ordering::Relaxed);
                bound.mark_quiesced(Quiesced::stopped());
            })
        };
        keep(&machine, &device.desc().name, &page(&machine));
        match context.admit() {
            Ok(()) => assert!(stated.load(Ordering::Relaxed), "P11: nobody said that the device is quiet"),
            Err(e) => assert_eq!(e, DmaError::Quarantined(4096)),
        }
        driver.join().unwrap();
        assert_all_accounted_for(&machine);
        // One more statement, and the device is as new.
        bound.mark_quiesced(Quiesced::stopped());
        assert_eq!(context.admit(), Ok(()));
        assert_eq!(machine.memory().frames().in_use(), 0, "P4");
        while let Some((_, entry)) = bound.ledger.pop() {
            entry.release(&mut UnwindCtx { bound: &bound, quiesced: None });
        }
    });
}
