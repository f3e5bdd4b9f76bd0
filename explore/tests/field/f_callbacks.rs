//! Users' callbacks that do all that a callback should not: each harms its own user only.

use std::panic::panic_any;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::dma::*;
use bindery::addr::DeviceAddr;
use bindery::dma::DmaMemory;
use bindery::env::IrqLine;
use bindery::iommu::Prot;
use bindery_drivers::vfio::{Session, Vfio, VfioError};

const AT: DeviceAddr = DeviceAddr(0x10_0000);
/// Time after which a test counts as hung.
const LIMIT: Duration = Duration::from_mins(1);

/// The disk controller is a user's.
fn given() -> Rig {
    let r = rig();
    r.machine.settle();
    r.give(SATA);
    r
}

fn ring(r: &Rig) {
    r.tap.sink.lock().unwrap().clone().unwrap().upgrade().unwrap().interrupt(IrqLine(137));
}

fn page(r: &Rig) -> Arc<DmaMemory> {
    DmaMemory::allocate(r.machine.memory(), 4096).unwrap()
}

fn until(what: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while !what() {
        if begun.elapsed() > LIMIT {
            return false;
        }
        thread::yield_now();
    }
    true
}

/// Runs `end`, which takes the device away, on a thread of its own; that it comes back is the host's right.
fn host_gets_it_back(r: &Rig, end: impl FnOnce(&Arc<bindery::machine::Machine>, &str) + Send + 'static) {
    let machine = Arc::clone(&r.machine);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        end(&machine, SATA);
        let _ = sender.send(());
    });
    receiver.recv_timeout(LIMIT).expect("the host waits for its user");
}

fn unbinds(r: &Rig) {
    host_gets_it_back(r, |m, name| m.unbind(name, "vfio-platform").unwrap());
    assert_eq!(r.driver(SATA), None);
}

/// The host's driver works with the device afterwards.
fn ends_well(r: &Rig) {
    r.machine.device(SATA).unwrap().set_driver_override(None);
    r.machine.bind(SATA, "sata_rcar").unwrap();
    let disk = r.machine.client::<bindery_drivers::sata_rcar::SataRcar>(SATA).unwrap();
    assert!(disk.call(|port| port.read(1, &mut [0; 512])).unwrap().is_ok());
    assert_eq!((r.machine.promises().broken(), r.machine.quarantine()), (vec![], vec![]));
}

/// Panics when it is dropped.
struct Bomb;
impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the user's own, of a destructor");
    }
}

/// Does not come back when it is dropped, before `0` says so. Says at `1` that it is being dropped.
struct Tar(Mutex<mpsc::Receiver<()>>, mpsc::Sender<()>);
impl Drop for Tar {
    fn drop(&mut self) {
        let _ = self.1.send(());
        let _ = self.0.lock().unwrap().recv();
    }
}

fn tar() -> (Tar, mpsc::Sender<()>, mpsc::Receiver<()>) {
    let (free, freed) = mpsc::channel();
    let (sender, receiver) = mpsc::channel();
    (Tar(Mutex::new(freed), sender), free, receiver)
}

#[test]
fn a_callback_uses_its_own_session_for_all_that_it_can_do() {
    let r = given();
    let session = Arc::new(r.open(SATA).unwrap());
    let (weak, memory, done) = (Arc::downgrade(&session), page(&r), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&done);
    session
        .on_interrupt(0, move || {
            let s = weak.upgrade().unwrap();
            s.map(AT, &memory, 0, 4096, Prot::READ).unwrap();
            s.unmap(AT, 4096).unwrap();
            s.reset().unwrap();
            s.set_masked(0, false).unwrap();
            s.on_request(|| ()).unwrap();
            // Its own place, too.
            let last = Arc::clone(&count);
            s.on_interrupt(0, move || {
                let _ = last.fetch_add(10, SeqCst);
            })
            .unwrap();
            count.fetch_add(1, SeqCst);
        })
        .unwrap();
    session.set_masked(0, false).unwrap();
    ring(&r);
    assert!(until(|| done.load(SeqCst) == 1));
    ring(&r);
    assert!(until(|| done.load(SeqCst) == 11));
    unbinds(&r);
    drop(session);
    ends_well(&r);
}

#[test]
fn a_callback_drops_its_session_and_opens_another_that_is_called_too() {
    let r = given();
    let slot: Arc<Mutex<Option<Session>>> = Arc::default();
    let first = r.open(SATA).unwrap();
    let client = r.machine.client::<Vfio>(SATA).unwrap();
    let (mine, called) = (Arc::clone(&slot), Arc::new(AtomicUsize::new(0)));
    let (count, reopened) = (Arc::clone(&called), Arc::new(AtomicBool::new(false)));
    let again = Arc::clone(&reopened);
    first
        .on_interrupt(0, move || {
            let old = mine.lock().unwrap().take();
            drop(old);
            let next = Vfio::open(&client).unwrap();
            let count = Arc::clone(&count);
            next.on_interrupt(0, move || {
                let _ = count.fetch_add(1, SeqCst);
            })
            .unwrap();
            next.set_masked(0, false).unwrap();
            *mine.lock().unwrap() = Some(next);
            again.store(true, SeqCst);
        })
        .unwrap();
    first.set_masked(0, false).unwrap();
    *slot.lock().unwrap() = Some(first);
    ring(&r);
    assert!(until(|| reopened.load(SeqCst)));
    ring(&r);
    assert!(until(|| called.load(SeqCst) == 1));
    unbinds(&r);
    assert!(slot.lock().unwrap().take().unwrap().is_revoked());
    ends_well(&r);
}

#[test]
fn of_two_callbacks_the_one_that_blocks_keeps_the_other_from_being_called_and_not_the_host() {
    for vanishes in [false, true] {
        let r = given();
        let s = r.open(SATA).unwrap();
        let (free, freed) = mpsc::channel::<()>();
        let (sender, entered) = mpsc::channel();
        let (freed, asked) = (Mutex::new(freed), Arc::new(AtomicUsize::new(0)));
        s.on_interrupt(0, move || {
            sender.send(()).unwrap();
            let _ = freed.lock().unwrap().recv();
        })
        .unwrap();
        let count = Arc::clone(&asked);
        s.on_request(move || {
            let _ = count.fetch_add(1, SeqCst);
        })
        .unwrap();
        s.map(AT, &page(&r), 0, 4096, Prot::READ).unwrap();
        s.set_masked(0, false).unwrap();
        ring(&r);
        entered.recv_timeout(LIMIT).unwrap();
        if vanishes {
            host_gets_it_back(&r, |m, name| assert!(m.device_vanished(name)));
            assert!(r.machine.device(SATA).is_none());
        } else {
            unbinds(&r);
        }
        assert!(s.is_revoked());
        assert_eq!(s.map(AT, &page(&r), 0, 4096, Prot::READ), Err(VfioError::Revoked));
        free.send(()).unwrap();
        drop(s);
        assert_eq!(asked.load(SeqCst), 0, "nobody is called for a device that is gone");
        if !vanishes {
            ends_well(&r);
        }
        assert_eq!(r.machine.promises().broken(), []);
    }
}

#[test]
fn a_callback_that_panics_and_whose_destructor_panics_then() {
    let r = given();
    let s = r.open(SATA).unwrap();
    let slot: Arc<Mutex<Option<Session>>> = Arc::default();
    let mine = Arc::clone(&slot);
    let bomb = Bomb;
    s.on_interrupt(0, move || {
        let _ = &bomb;
        // From now on the call has the last reference to itself.
        let session = mine.lock().unwrap().take();
        drop(session);
        panic!("the user's own");
    })
    .unwrap();
    s.set_masked(0, false).unwrap();
    *slot.lock().unwrap() = Some(s);
    ring(&r);
    // Who drops the closure last is open: the call, or who closed the session. Neither takes the process with it.
    let is_reported =
        || r.events().iter().any(|l| l.contains("pass-through panicked: the user's callback of interrupt 0"));
    assert!(until(is_reported));
    unbinds(&r);
    ends_well(&r);
}

#[test]
fn a_panic_whose_payload_panics_does_not_end_the_calls() {
    let r = given();
    let s = r.open(SATA).unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    s.on_interrupt(0, move || {
        count.fetch_add(1, SeqCst);
        panic_any(Bomb);
    })
    .unwrap();
    for n in 1..=2 {
        s.set_masked(0, false).unwrap();
        ring(&r);
        assert!(until(|| calls.load(SeqCst) == n), "call {n}");
    }
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        drop(s);
        let _ = sender.send(());
    });
    receiver.recv_timeout(LIMIT).expect("the end of the session waits for a call that is over");
    unbinds(&r);
    ends_well(&r);
}

#[test]
fn a_closure_whose_destructor_does_not_come_back_when_it_is_replaced_holds_its_user_only() {
    let r = given();
    let s = Arc::new(r.open(SATA).unwrap());
    let (sticks, free, dropping) = tar();
    s.on_request(move || {
        let _ = &sticks;
    })
    .unwrap();
    let user = Arc::clone(&s);
    let stuck = thread::spawn(move || user.on_request(|| ()));
    dropping.recv_timeout(LIMIT).unwrap();
    unbinds(&r);
    assert!(s.is_revoked());
    free.send(()).unwrap();
    assert_eq!(stuck.join().unwrap(), Ok(()));
    drop(s);
    ends_well(&r);
}

#[test]
fn a_closure_whose_destructor_does_not_come_back_when_it_is_refused_holds_its_user_only() {
    let r = given();
    let s = Arc::new(r.open(SATA).unwrap());
    let (sticks, free, dropping) = tar();
    let user = Arc::clone(&s);
    let stuck = thread::spawn(move || {
        user.on_interrupt(7, move || {
            let _ = &sticks;
        })
    });
    dropping.recv_timeout(LIMIT).unwrap();
    unbinds(&r);
    free.send(()).unwrap();
    assert_eq!(stuck.join().unwrap(), Err(VfioError::NoIrq(7)));
    drop(s);
    ends_well(&r);
}

#[test]
fn closures_whose_destructors_panic_or_do_not_come_back_at_the_end_of_a_session() {
    let r = given();
    let (sticks, free, dropping) = tar();
    let (s, bomb) = (r.open(SATA).unwrap(), Bomb);
    s.on_interrupt(0, move || {
        let _ = &bomb;
    })
    .unwrap();
    s.on_request(move || {
        let _ = &sticks;
    })
    .unwrap();
    let (sender, receiver) = mpsc::channel();
    let user = thread::spawn(move || {
        drop(s);
        sender.send(()).unwrap();
    });
    let mut free = Some(free);
    dropping.recv_timeout(LIMIT).unwrap();
    // The user may have to wait for its own; the host, and the next user, have not. The destructor runs beside the end of the
    // session, which may have the device for a moment more.
    assert!(until(|| r.open(SATA).is_ok()));
    unbinds(&r);
    drop(free.take());
    receiver.recv_timeout(LIMIT).unwrap();
    user.join().unwrap();
    ends_well(&r);
}

#[test]
fn a_callback_waits_for_another_thread_that_drops_its_session() {
    let r = given();
    let s = r.open(SATA).unwrap();
    let (hand, handed) = mpsc::channel::<Session>();
    let gone = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&gone);
    // Drops whatever it is handed, which waits for the callback, which waits for this.
    let other = thread::spawn(move || {
        drop(handed.recv().unwrap());
        flag.store(true, SeqCst);
    });
    let (slot, waits) = (Arc::new(Mutex::new(None)), Arc::clone(&gone));
    let (mine, late) = (Arc::clone(&slot), Arc::new(AtomicBool::new(false)));
    let give_up = Arc::clone(&late);
    s.on_interrupt(0, move || {
        let session = mine.lock().unwrap().take();
        let _ = session.map(|s| hand.send(s));
        while !waits.load(SeqCst) && !give_up.load(SeqCst) {
            thread::yield_now();
        }
    })
    .unwrap();
    s.set_masked(0, false).unwrap();
    *slot.lock().unwrap() = Some(s);
    ring(&r);
    // The device is free all the same: its next user comes, and the host has it back.
    assert!(until(|| r.open(SATA).is_ok_and(|_| true)));
    unbinds(&r);
    assert!(!gone.load(SeqCst), "the user's own deadlock is the user's");
    late.store(true, SeqCst);
    other.join().unwrap();
    ends_well(&r);
}
