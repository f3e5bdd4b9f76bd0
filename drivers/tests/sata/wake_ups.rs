//! Interrupts that another thread's wait delivers between the check of a condition and the wait for it. Simulated time
//! passes in waits only, so one that is slept through costs the whole time-out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bindery::control::Tree;
use bindery::env::Env;
use bindery::machine::Policy;
use bindery::sync::{Completion, WaitQueue};
use bindery_drivers::sata_rcar::SataRcar;
use bindery_drivers::vfio::Vfio;
use bindery_sim::guest::{GuestEnv, Layout, RAM_LEN};
use bindery_sim::salvator::GUEST_DEVICE_TREE;

use super::common::{Rig, SATA};
use super::hook::Hook;
use super::{DRIVER, hooked, port, sector, unbind, works};

/// Longer than the commands of this test take; the driver's shortest time-out is five times as long.
const SOON: Duration = Duration::from_millis(10);

/// Lets another thread deliver the controller's request while the next wait is entered, after its check. True in the
/// result once it has.
fn deliver_elsewhere(rig: &Rig, hook: &Arc<Hook>) -> Arc<AtomicBool> {
    let (other, counter) = (Arc::downgrade(&rig.board), Arc::downgrade(hook));
    let delivered = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&delivered);
    hook.at_wait(1, move || {
        let (board, hook) = (other.upgrade().unwrap(), counter.upgrade().unwrap());
        let (end, before) = (board.now() + SOON / 2, hook.delivered());
        let deliver = || {
            while hook.delivered() == before && board.now() < end {
                board.advance(end);
            }
            seen.store(hook.delivered() > before, Ordering::Relaxed);
        };
        thread::scope(|s| s.spawn(deliver).join().unwrap());
    });
    delivered
}

#[test]
fn a_request_delivered_by_another_thread_between_check_and_wait_is_seen_at_once() {
    let (rig, hook) = hooked(false);
    let delivered = deliver_elsewhere(&rig, &hook);
    let start = rig.board.now();
    works(&rig);
    assert!(delivered.load(Ordering::Relaxed), "the other thread delivered the request");
    let took = rig.board.now().since(start);
    assert!(took < SOON, "the command took {took:?}: the reader slept through its request");
    rig.assert_well();
}

#[test]
fn a_guests_request_delivered_by_a_thread_of_its_host_between_check_and_wait_is_seen_at_once() {
    let (rig, hook) = hooked(true);
    unbind(&rig);
    let tree = Tree::new(&rig.machine);
    tree.write("/sys/bus/platform/devices/ee300000.sata/driver_override", "vfio-platform\n").unwrap();
    tree.write("/sys/bus/platform/drivers_probe", SATA).unwrap();
    let session = Vfio::open(&rig.machine.client::<Vfio>(SATA).unwrap()).unwrap();
    let layout = Layout::of(rig.machine.device(SATA).unwrap().desc());
    let env = GuestEnv::new(&rig.machine, session, layout, RAM_LEN).unwrap();
    let guest = env.machine(Policy::default());
    guest.add_device_tree(GUEST_DEVICE_TREE).unwrap();
    guest.register(SataRcar);
    guest.settle();
    let port = guest.client::<SataRcar>(SATA).unwrap();

    let delivered = deliver_elsewhere(&rig, &hook);
    let (start, mut back) = (rig.board.now(), [0; 512]);
    port.call(|p| p.read(7, &mut back)).unwrap().unwrap();
    assert_eq!(back[..], sector(7)[..]);
    assert!(delivered.load(Ordering::Relaxed), "the other thread delivered the request");
    let took = rig.board.now().since(start);
    assert!(took < SOON, "the command took {took:?}: the guest slept through its request");
    assert_eq!(guest.promises().broken(), []);
    guest.unbind(SATA, DRIVER).unwrap();
    drop((guest, env));
    rig.assert_well();
}

#[test]
fn a_condition_that_an_interrupt_on_another_thread_makes_true_ends_a_wait_at_once() {
    let (rig, hook) = hooked(false);
    let (done, port) = (Arc::new(AtomicBool::new(false)), port(&rig));
    let set = Arc::clone(&done);
    hook.at_wait(1, move || {
        let read = || port.call(|p| p.read(7, &mut [0; 512])).unwrap().unwrap();
        thread::scope(|s| s.spawn(read).join().unwrap());
        set.store(true, Ordering::Relaxed);
    });
    let (start, timeout) = (rig.board.now(), Duration::from_secs(2));
    assert!(rig.machine.system_clock().wait_until(timeout, timeout, || done.load(Ordering::Relaxed)));
    let took = rig.board.now().since(start);
    assert!(took < SOON, "the wait took {took:?}");
    rig.assert_well();
}

/// The other thread comes right after the check, before the wait is entered.
#[test]
fn a_wake_up_right_after_the_check_ends_the_wait_that_follows() {
    let (rig, _) = hooked(false);
    let (queue, happened) = (WaitQueue::new(), AtomicBool::new(false));
    let wake = || {
        happened.store(true, Ordering::Relaxed);
        queue.wake_all();
    };
    let check = || {
        let seen = happened.load(Ordering::Relaxed);
        thread::scope(|s| s.spawn(wake).join().unwrap());
        seen
    };
    let start = rig.board.now();
    assert!(rig.machine.system_clock().wait_on(&queue, Duration::from_secs(2), check));
    assert_eq!(rig.board.now(), start, "no time passes");
}

#[test]
fn completions_end_one_wait_each_and_a_time_out_takes_none() {
    let (rig, _) = hooked(false);
    let (clock, done) = (rig.machine.system_clock(), Completion::new());
    assert!(!clock.wait_for(&done, SOON), "nobody completed it");
    done.complete();
    done.complete();
    assert!(clock.wait_for(&done, SOON) && clock.wait_for(&done, SOON) && !clock.wait_for(&done, SOON));
    done.complete_all();
    assert!((0..9).all(|_| clock.wait_for(&done, SOON)));
    done.reset();
    assert!(!clock.wait_for(&done, SOON));
}
