//! Loom models of the quarantine, of arenas and of released coherent pages.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::Mutex;

use loom::thread;

use super::arena::{Shared, Slots};
use super::backend::Backend;
use super::coherent_cache::Released;
use super::flush_queue::{Addresses, Batch, BatchState};
use super::pin::{AccessPath, PagePin, PinOwner};
use super::{DmaContext, DmaError, DmaMemory, PagePins, configure};
use crate::addr::{DeviceAddr, PAGE_SIZE, PhysAddr};
use crate::binding::{BindingState, Bound, UnwindCtx};
use crate::device::{Device, DeviceDesc, NodeId};
use crate::driver::{DmaOwner, Quiesced};
use crate::env::Caching;
use crate::env::fake::FakeEnv;
use crate::event::Outcome;
use crate::iommu::{Domain, DomainKind, Gather, Geometry, IommuError, MapError, Prot, Range, Translation};
use crate::machine::{Handle, Machine, Policy};
use crate::mem::{PageRequest, PageRun};
use crate::rundown::Rundown;
use crate::sync::atomic::{AtomicBool, Ordering};

fn machine() -> Handle {
    Machine::new(FakeEnv::silent(), Policy { check_dma: false, ..Policy::default() })
}

/// One page of the machine's frames. The allocator refuses a double free, which the drop of the page asserts.
fn page(machine: &Machine) -> Arc<DmaMemory> {
    let run = PageRun::alloc(machine.memory().frames(), &PageRequest::new(1)).unwrap();
    DmaMemory::new(run, machine.memory().memory(), Caching::Cached, 1).unwrap()
}

/// Pins of `memory` by an untranslated `device`.
fn pins(machine: &Handle, device: &Arc<str>, memory: &Arc<DmaMemory>) -> PagePins {
    PagePins::from_iter([PagePin::new(memory, &PinOwner::new(&machine.system, device, AccessPath::Direct))])
}

/// Puts `memory` into quarantine until `device` is quiesced.
fn quarantine(machine: &Handle, device: &Arc<str>, memory: &Arc<DmaMemory>) {
    machine.quarantine_table().hold_until_quiesced(machine, device, pins(machine, device, memory), reason());
}

fn recover(machine: &Handle, device: &Arc<str>) {
    machine.quarantine_table().recover(machine, device, &Quiesced::stopped());
}

fn reason() -> String {
    String::new()
}

/// The allocated pages are exactly those in quarantine.
fn assert_all_accounted_for(machine: &Machine) {
    assert_eq!(machine.memory().frames().in_use(), machine.quarantine().len() as u64, "P2, P4");
}

/// P2, P11: a page that is added while two threads report its device as quiesced is freed once, or stays until the next
/// report.
#[test]
fn loom_a_page_in_quarantine_is_freed_once_and_not_leaked() {
    loom::model(|| {
        let machine = machine();
        let device: Arc<str> = "a".into();
        quarantine(&machine, &device, &page(&machine));
        let second = page(&machine);
        let puts = {
            let (machine, device) = (machine.clone(), Arc::clone(&device));
            thread::spawn(move || {
                quarantine(&machine, &device, &second);
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
        assert_eq!((machine.memory().frames().in_use(), machine.quarantine_table().bytes_of("a")), (0, 0), "P4");
    });
}

/// P2: memory that the CPU still reads is freed once the quarantine and the last reader have released it.
#[test]
fn loom_memory_that_is_read_while_it_is_recovered_is_freed_once() {
    loom::model(|| {
        let machine = machine();
        let device: Arc<str> = "a".into();
        let memory = page(&machine);
        quarantine(&machine, &device, &memory);
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

/// P11: memory of one device stays in quarantine, without a gap, while another device is quiesced and more memory is
/// added.
#[test]
fn loom_quiescing_one_device_releases_nothing_of_another() {
    loom::model(|| {
        let machine = machine();
        let b: Arc<str> = "b".into();
        let a: Arc<str> = "a".into();
        quarantine(&machine, &a, &page(&machine));
        quarantine(&machine, &b, &page(&machine));
        let second = page(&machine);
        let puts = {
            let machine = machine.clone();
            thread::spawn(move || {
                quarantine(&machine, &b, &second);
                drop(second);
            })
        };
        let recovers = {
            let machine = machine.clone();
            thread::spawn(move || recover(&machine, &a))
        };
        assert_ne!(machine.quarantine_table().bytes_of("b"), 0, "P11: memory of b left the quarantine for a moment");
        puts.join().unwrap();
        recovers.join().unwrap();
        assert_all_accounted_for(&machine);
        let quarantined = machine.quarantine();
        assert!(quarantined.len() == 2 && quarantined.iter().all(|q| &*q.device == "b"), "P11: {quarantined:?}");
    });
}

/// P11: once a page of a device is in quarantine, the device gets no more memory, unless it was quiesced concurrently.
#[test]
fn loom_a_device_gets_no_memory_after_its_page_was_put_into_quarantine() {
    loom::model(|| {
        let machine = machine();
        let device = Device::new(NodeId(0), DeviceDesc::new("a"), None);
        let bound = Arc::new(machine.new_bound(Arc::clone(&device), "driver", DmaOwner::Kernel));
        configure(&bound).unwrap();
        let context = bound.slots.get::<DmaContext>().unwrap();
        let stated = Arc::new(AtomicBool::new(false));
        let driver = {
            let (bound, stated) = (Arc::clone(&bound), Arc::clone(&stated));
            thread::spawn(move || {
                stated.store(true, Ordering::Relaxed);
                bound.mark_quiesced(Quiesced::stopped());
            })
        };
        quarantine(&machine, &device.desc().name, &page(&machine));
        match context.admit() {
            Ok(()) => assert!(stated.load(Ordering::Relaxed), "P11: the device was not quiesced"),
            Err(e) => assert_eq!(e, DmaError::Quarantined(4096)),
        }
        driver.join().unwrap();
        assert_all_accounted_for(&machine);
        // Quiesced once more, the device gets memory again.
        bound.mark_quiesced(Quiesced::stopped());
        assert_eq!(context.admit(), Ok(()));
        assert_eq!(machine.memory().frames().in_use(), 0, "P4");
        while let Some((_, entry)) = bound.ledger.pop() {
            entry.release(&mut UnwindCtx { bound: &bound, quiesced: None });
        }
    });
}

/// P4, P5: an arena that is mapped in while its binding is unwound is taken away after the last use: the unwinder finds what was
/// mapped, or the slots themselves, and no use begins later.
#[test]
fn loom_an_arena_is_taken_away_after_its_last_use() {
    loom::model(|| {
        let machine = machine();
        let device = Device::new(NodeId(0), DeviceDesc::new("a"), None);
        let bound = machine.new_bound(Arc::clone(&device), "driver", DmaOwner::Kernel);
        configure(&bound).unwrap();
        let shared = Shared::new(&bound.slots.get::<DmaContext>().unwrap(), 1, 0);
        // Users of the driver data, which the unwinder waits for before it touches the ledger.
        let users = Arc::new(Rundown::open());
        let driver = {
            let (shared, users) = (Arc::clone(&shared), Arc::clone(&users));
            thread::spawn(move || {
                let slots = Slots::in_model();
                let Some(_inside) = users.enter() else {
                    core::mem::forget(slots);
                    return 0;
                };
                assert!(!shared.is_revoked(), "P5: it was taken away while it was in use");
                shared.map_in_model(7);
                assert!(!shared.is_revoked(), "P5: it was taken away while it was in use");
                shared.give_back(slots);
                7
            })
        };
        users.close();
        while !users.drained() {
            crate::sync::relax();
        }
        let slots = shared.revoke();
        let found = shared.mapped_in_model();
        let mapped = driver.join().unwrap();
        assert_eq!((slots.is_some(), found), (mapped != 0, mapped), "P4: a mapping that the unwinder does not know of");
        assert!(shared.is_revoked(), "P5");
        while let Some((_, entry)) = bound.ledger.pop() {
            entry.release(&mut UnwindCtx { bound: &bound, quiesced: None });
        }
    });
}

/// Translation whose leased pages are listed: mapped, or not flushed since their lease has ended.
#[derive(Default)]
struct Leasing(Mutex<Vec<DeviceAddr>>);

impl Translation for Leasing {
    fn map(&self, iova: DeviceAddr, _: PhysAddr, _: u64, _: Prot) -> Result<(), MapError> {
        Err(MapError::Exists(iova))
    }

    fn unmap(&self, iova: DeviceAddr, _: u64, _: &mut Gather) -> Result<(), MapError> {
        Err(MapError::Missing(iova))
    }

    fn end_lease(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<bool, MapError> {
        assert!(self.0.lock().unwrap().contains(&iova), "P1: {iova} is not leased");
        gather.add(iova, len);
        Ok(true)
    }

    fn flush(&self, gather: &mut Gather) -> Result<(), IommuError> {
        let range = gather.range();
        self.0.lock().unwrap().retain(|iova| range.is_none_or(|(first, last)| *iova < first || *iova > last));
        Ok(())
    }

    fn resolve(&self, _: DeviceAddr) -> Option<PhysAddr> {
        None
    }

    fn label(&self) -> String {
        "leasing".into()
    }
}

/// P1, P2, P4: what a forgotten arena has leased while its binding begins to end is ended and flushed, once, before its addresses are
/// free: that of a slot, and what waits without one. (Seen to fail: a run-down whose last user leaves without release.)
#[test]
fn loom_leases_of_an_arena_end_after_its_last_use() {
    loom::model(|| {
        let machine = machine();
        let device = Device::new(NodeId(0), DeviceDesc::new("a"), None);
        let bound = machine.new_bound(device, "driver", DmaOwner::Kernel);
        let leasing = Arc::new(Leasing::default());
        let (first, last) = (DeviceAddr(0), DeviceAddr(0xffff));
        let geometry = Geometry { first, last, page_sizes: PAGE_SIZE, reserved: Vec::new() };
        let domain = Domain::new(DomainKind::Strict, Arc::<Leasing>::clone(&leasing), &geometry);
        let [one, two] = [(); 2].map(|()| domain.space().alloc(1, last).unwrap());
        let shared = Shared::new(&DmaContext::new(&bound, Backend::Translated(Arc::clone(&domain)), Vec::new()), 1, 1);
        let users = Arc::new(Rundown::open());
        let driver = {
            let (shared, users, leasing) = (Arc::clone(&shared), Arc::clone(&users), Arc::clone(&leasing));
            thread::spawn(move || {
                let Some(_inside) = users.enter() else { return false };
                leasing.0.lock().unwrap().extend([one, two]);
                shared.lease_in_model(one, two);
                true
            })
        };
        users.close();
        while !users.drained() {
            crate::sync::relax();
        }
        assert_eq!(shared.end_in_model(), Outcome::Returned);
        assert_eq!(*leasing.0.lock().unwrap(), [], "P2: leased after the end");
        let used = driver.join().unwrap();
        assert_eq!(domain.iova_in_use(), if used { 0 } else { 2 }, "P4");
    });
}

/// P1, P2, P4: while another CPU flushes what an arena queues, the arena is told that the addresses which it keeps are confirmed after
/// their flush only, page and address wait at every moment until then, and what is queued meanwhile waits for the next flush. (Seen to
/// fail: a batch that ends when its queue is taken.)
#[test]
fn loom_what_an_arena_queues_is_confirmed_by_another_cpus_flush_of_it() {
    loom::model(|| {
        let machine = machine();
        let device: Arc<str> = "a".into();
        let leasing = Arc::new(Leasing::default());
        let (first, last) = (DeviceAddr(0), DeviceAddr(0xffff));
        let geometry = Geometry { first, last, page_sizes: PAGE_SIZE, reserved: Vec::new() };
        let domain = Domain::new(DomainKind::Lazy, Arc::<Leasing>::clone(&leasing), &geometry);
        let by = PinOwner::new(&machine.system, &device, AccessPath::Domain(Arc::downgrade(&domain)));
        let pages = [(); 2].map(|()| page(&machine));
        let mut batch = None;
        let queue = |iova: DeviceAddr, memory: &Arc<DmaMemory>, batch: &mut Option<Arc<Batch>>| {
            leasing.0.lock().unwrap().push(iova);
            let mut gather = Gather::new();
            gather.add(iova, PAGE_SIZE);
            memory.record().claim_batch(&by);
            let kept = Addresses::Kept(Range { iova, len: PAGE_SIZE }, batch);
            domain.enqueue_pages(&machine, kept, gather, &by, core::iter::once(memory));
        };
        let (one, two) = (DeviceAddr(0x1000), DeviceAddr(0x2000));
        queue(one, &pages[0], &mut batch);
        let timer = {
            let (machine, domain) = (machine.clone(), Arc::clone(&domain));
            thread::spawn(move || domain.confirm_queue(&machine))
        };
        queue(two, &pages[1], &mut batch);
        let reached = leasing.0.lock().unwrap().clone();
        match batch.as_ref().unwrap().state() {
            BatchState::Confirmed => {
                assert!(!leasing.0.lock().unwrap().contains(&two), "P1: the IOTLB still has the address");
                assert!(!pages[1].record().is_pinned(), "P4: confirmed, and still pinned");
            }
            // Read before: what is reached then is pinned, and waits at every moment from the one list to the other.
            BatchState::Waiting if reached.contains(&two) => {
                assert!(pages[1].record().is_pinned() || !leasing.0.lock().unwrap().contains(&two), "P2");
            }
            state => assert_eq!(state, BatchState::Waiting),
        }
        assert!(timer.join().unwrap(), "the first one is flushed by it");
        assert!(!leasing.0.lock().unwrap().contains(&one), "P1");
        domain.confirm_queue(&machine);
        assert_eq!(batch.unwrap().state(), BatchState::Confirmed);
        assert_eq!(*leasing.0.lock().unwrap(), [], "P1");
        assert!(!pages.iter().any(|memory| memory.record().is_pinned()), "P4");
        drop(pages);
        assert_eq!(machine.memory().frames().in_use(), 0, "P4");
    });
}

/// A binding with an open cache of coherent pages, of which one waits.
fn caching(machine: &Handle) -> (Arc<BindingState>, Arc<DmaContext>) {
    let device = Device::new(NodeId(0), DeviceDesc::new("a"), None);
    let bound = Arc::new(machine.new_bound(device, "driver", DmaOwner::Kernel));
    configure(&bound).unwrap();
    let context = bound.slots.get::<DmaContext>().unwrap();
    context.coherent_cache.open_in_model();
    context.coherent_cache.put_in_model(Released::in_model(Bound::new(&bound, 0)));
    (bound, context)
}

fn end(bound: &BindingState) {
    while let Some((_, entry)) = bound.ledger.pop() {
        entry.release(&mut UnwindCtx { bound, quiesced: None });
    }
}

/// P2, P4: a page that waits is taken by its driver or freed by who needs memory, and when the end of the binding has emptied the cache
/// all pages are freed, also those that another thread had taken out. (Seen to fail: an end that does not wait for that thread.)
#[test]
fn loom_the_end_of_a_binding_waits_for_who_empties_its_cache() {
    loom::model(|| {
        let machine = machine();
        let (bound, context) = caching(&machine);
        let needs_memory = {
            let context = Arc::clone(&context);
            thread::spawn(move || context.coherent_cache.empty_in_model(&context, false))
        };
        if let Some(page) = context.coherent_cache.take_in_model() {
            context.coherent_cache.put_in_model(page);
        }
        context.coherent_cache.empty_in_model(&context, true);
        assert_eq!(machine.memory().frames().in_use(), 0, "P4: a page outlives the binding");
        needs_memory.join().unwrap();
        end(&bound);
    });
}

/// P4: what is released while the cache ends does not wait in it. (Seen to fail: a cache that takes pages after its end.)
#[test]
fn loom_nothing_waits_in_a_cache_that_has_ended() {
    loom::model(|| {
        let machine = machine();
        let (bound, context) = caching(&machine);
        let page = Released::in_model(Bound::new(&bound, 0));
        let releases = {
            let context = Arc::clone(&context);
            thread::spawn(move || context.coherent_cache.put_in_model(page))
        };
        context.coherent_cache.empty_in_model(&context, true);
        releases.join().unwrap();
        assert_eq!(machine.memory().frames().in_use(), 0, "P4: a page waits for nobody");
        end(&bound);
    });
}
