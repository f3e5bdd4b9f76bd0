//! Callbacks of a user that has left, that does not come back, or that owns what it is called for.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use super::dma::*;
use bindery::env::IrqLine;

#[test]
fn nobody_is_called_after_its_session_is_gone() {
    let r = rig();
    r.machine.settle();
    r.give(SATA);
    let sink = r.tap.sink.lock().unwrap().clone().unwrap().upgrade().unwrap();
    let late = Arc::new(AtomicUsize::new(0));
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            while !stop.load(SeqCst) {
                sink.interrupt(IrqLine(137));
            }
        });
        let t = std::time::Instant::now();
        let mut rounds = 0;
        while t.elapsed() < Duration::from_secs(3) {
            let session = r.open(SATA).unwrap();
            let gone = Arc::new(AtomicBool::new(false));
            let (g, l) = (Arc::clone(&gone), Arc::clone(&late));
            session
                .on_interrupt(0, move || {
                    if g.load(SeqCst) {
                        l.fetch_add(1, SeqCst);
                    } else {
                        std::thread::yield_now();
                        if g.load(SeqCst) {
                            l.fetch_add(1, SeqCst);
                        }
                    }
                })
                .unwrap();
            let _ = session.set_masked(0, false);
            std::thread::yield_now();
            drop(session);
            gone.store(true, SeqCst);
            rounds += 1;
        }
        stop.store(true, SeqCst);
        println!("{rounds} sessions");
    });
    println!("callbacks after the session was gone: {}; {}", late.load(SeqCst), r.verdict());
    assert_eq!(late.load(SeqCst), 0);
}

/// Rings the disk's line once, as the hardware would.
fn ring(r: &Rig) {
    let sink = r.tap.sink.lock().unwrap().clone().unwrap().upgrade().unwrap();
    sink.interrupt(IrqLine(137));
}

#[test]
fn an_interrupt_callback_that_does_not_end_holds_nobody() {
    let r = rig();
    r.machine.settle();
    r.give(SATA);
    let s = r.open(SATA).unwrap();
    let (hold, held) = mpsc::channel::<()>();
    let (inside, entered) = mpsc::channel();
    let held = Mutex::new(held);
    s.on_interrupt(0, move || {
        inside.send(()).unwrap();
        let _ = held.lock().unwrap().recv();
    })
    .unwrap();
    s.set_masked(0, false).unwrap();
    // Whoever delivers the interrupt goes on.
    ring(&r);
    entered.recv_timeout(Duration::from_mins(1)).expect("it is called");
    ring(&r);
    let machine = Arc::clone(&r.machine);
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(machine.unbind(SATA, "vfio-platform")));
    let unbound = receiver.recv_timeout(Duration::from_mins(1));
    assert!(unbound.is_ok() && r.driver(SATA).is_none(), "the unbind waits for a user's interrupt callback");
    assert!(s.is_revoked());
    r.machine.device(SATA).unwrap().set_driver_override(None);
    r.machine.bind(SATA, "sata_rcar").unwrap();
    drop(hold);
    drop(s);
    assert_eq!(r.machine.promises().broken(), []);
}

#[test]
fn a_callback_may_own_the_session_that_it_belongs_to() {
    let r = rig();
    r.machine.settle();
    r.give(SATA);
    let slot: Arc<Mutex<Option<bindery_drivers::vfio::Session>>> = Arc::default();
    let s = r.open(SATA).unwrap();
    let mine = Arc::clone(&slot);
    s.on_request(move || {
        let _ = &mine;
    })
    .unwrap();
    *slot.lock().unwrap() = Some(s);
    drop(slot);
    // The user does not release: the closure, and the session in it, end with the host's deadline.
    r.machine.unbind(SATA, "vfio-platform").unwrap();
    r.give(SATA);
    drop(r.open(SATA).unwrap());
    assert_eq!(r.machine.promises().broken(), []);
}

#[test]
fn a_callback_asks_the_host_to_unbind_what_it_is_called_for() {
    let r = rig();
    r.machine.settle();
    r.give(SATA);
    let s = Arc::new(Mutex::new(Some(r.open(SATA).unwrap())));
    let (machine, mine) = (Arc::clone(&r.machine), Arc::clone(&s));
    s.lock()
        .unwrap()
        .as_ref()
        .unwrap()
        .on_interrupt(0, move || {
            let _ = machine.unbind(SATA, "vfio-platform");
            drop(mine.lock().unwrap().take());
        })
        .unwrap();
    s.lock().unwrap().as_ref().unwrap().set_masked(0, false).unwrap();
    ring(&r);
    let begun = std::time::Instant::now();
    while r.driver(SATA).is_some() && begun.elapsed() < Duration::from_mins(1) {
        std::thread::yield_now();
    }
    assert_eq!(r.driver(SATA), None);
    assert_eq!(r.machine.promises().broken(), []);
}

#[test]
fn a_panic_in_a_callback_is_reported_and_the_next_call_is_made() {
    let r = rig();
    r.machine.settle();
    r.give(SATA);
    let s = r.open(SATA).unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    s.on_interrupt(0, move || {
        count.fetch_add(1, SeqCst);
        panic!("the user's own");
    })
    .unwrap();
    for n in 1..=3 {
        s.set_masked(0, false).unwrap();
        ring(&r);
        let begun = std::time::Instant::now();
        while calls.load(SeqCst) < n && begun.elapsed() < Duration::from_mins(1) {
            std::thread::yield_now();
        }
    }
    drop(s);
    assert_eq!(calls.load(SeqCst), 3);
    let reported = r
        .events()
        .into_iter()
        .filter(|l| l.contains("pass-through panicked: the user's callback of interrupt 0"))
        .count();
    assert_eq!(reported, 3);
}
