//! One CPU with cooperative threads: whatever waits for another thread must let it run. With the features of a `no_std`
//! target (`cargo test -p bindery --test cooperative`) these are the locks and waits that firmware has.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cpu;
mod env;
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unsafe_code,
    reason = "shared with the examples of the documentation"
)]
mod example {
    include!("../doc/example.rs");
}

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bindery::binding::Bound;
use bindery::device::{DeviceDesc, Resource};
use bindery::driver::{Driver, Gone, Match, ProbeError, QuiesceError, Quiesced};
use bindery::env::{Env, Instant, Trigger};
use bindery::irq::{Irq, TimedOut};
use bindery::machine::{Handle, Machine, Policy};
use bindery::sync::{HardIrq, Mutex};

use env::{LINE, OneCpu};

const SECOND: u64 = 1_000_000_000;

/// A device that is started and then interrupts.
struct Sensor {
    /// Waits for the interrupt in probe.
    probe_waits: bool,
}

impl Driver for Sensor {
    const NAME: &'static str = "sensor";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,sensor")];
    type Data<'b> = Irq<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Irq<'b>, ProbeError> {
        let irq = dev.irq(0)?;
        if self.probe_waits {
            irq.wait(Duration::from_secs(10)).map_err(|_| ProbeError::Device("no interrupt"))?;
        }
        Ok(irq)
    }

    fn quiesce(_: &Irq<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

fn machine(env: &Arc<OneCpu>) -> Handle {
    let machine = Machine::new(Arc::clone(env) as _, Policy::default());
    let mut desc = DeviceDesc::new("sensor");
    desc.compatible.push("acme,sensor".into());
    desc.resources.push(Resource::Irq { line: LINE, trigger: Trigger::LevelHigh });
    machine.add_device(desc).unwrap();
    machine
}

/// A client waits for the device's interrupt, which comes at `at`, for 10 seconds. Another thread unbinds. Returns what
/// the client got, the recorded events, and the time at which the unbind was over.
fn unbind_while_a_client_waits(at: Option<u64>) -> (Result<(), TimedOut>, Vec<String>, Instant) {
    let env = OneCpu::new();
    let result = Arc::new(std::sync::Mutex::new(None));
    let (target, out) = (Arc::clone(&env), Arc::clone(&result));
    env.spawn("main", move || {
        let machine = machine(&target);
        machine.register(Sensor { probe_waits: false });
        machine.settle();
        *target.device.at.lock().unwrap() = at.map(Instant);
        let client = machine.client::<Sensor>("sensor").expect("it is bound");
        let shared = Arc::new(machine);
        let unbinding = Arc::clone(&shared);
        target.spawn("client", move || {
            *out.lock().unwrap() = client.call(|irq| irq.wait(Duration::from_secs(10))).ok();
            assert_eq!(client.call(|_| ()), Err(Gone), "the unbinding thread ran first");
            assert_eq!(shared.promises().broken(), []);
        });
        target.spawn("unbind", move || {
            assert_eq!(unbinding.unbind("sensor", "sensor"), Ok(()));
            assert_eq!(unbinding.device("sensor").unwrap().driver(), None);
        });
    });
    env.run();
    let got = result.lock().unwrap().take().expect("the client was served");
    let events = env.events.lock().unwrap().clone();
    (got, events, env.now())
}

#[test]
fn a_device_is_unbound_while_a_client_waits_for_its_interrupt() {
    let (got, events, end) = unbind_while_a_client_waits(Some(10_000_000));
    assert_eq!((got, end), (Ok(()), Instant(10_000_000)));
    assert!(!events.iter().any(|e| e.contains("a call from")), "nobody has waited for a second: {events:?}");
}

#[test]
fn a_client_whose_interrupt_does_not_come_is_waited_for_and_reported() {
    let (got, events, end) = unbind_while_a_client_waits(None);
    assert_eq!(got, Err(TimedOut(Duration::from_secs(10))));
    assert_eq!(end, Instant(10 * SECOND), "the client wakes the unbinding thread, not its next report");
    assert_eq!(
        events.iter().filter(|e| e.contains("a call from")).count(),
        4,
        "after 1, 2, 4 and 8 seconds: {events:?}"
    );
}

/// On a target with several CPUs one is in an interrupt handler at almost any time.
#[test]
fn a_device_is_bound_and_unbound_while_another_cpu_is_in_a_handler() {
    let other = OneCpu::new();
    other.spawn("interrupted", || {
        let _trap = HardIrq::enter();
        let env = OneCpu::new();
        let target = Arc::clone(&env);
        env.spawn("main", move || {
            assert!(!HardIrq::is_active());
            let machine = machine(&target);
            machine.register(Sensor { probe_waits: false });
            machine.settle();
            assert!(machine.client::<Sensor>("sensor").is_some(), "nothing was put off");
            assert_eq!(machine.unbind("sensor", "sensor"), Ok(()));
            assert_eq!(machine.device("sensor").unwrap().driver(), None, "nor this");
        });
        env.run();
        assert!(HardIrq::is_active());
    });
    other.run();
}

#[test]
fn an_unbind_waits_for_a_probe_that_waits_for_its_interrupt() {
    let env = OneCpu::new();
    let target = Arc::clone(&env);
    env.spawn("main", move || {
        let machine = Arc::new(machine(&target));
        *target.device.at.lock().unwrap() = Some(Instant(SECOND / 2));
        let unbinding = Arc::clone(&machine);
        target.spawn("probe", move || {
            machine.register(Sensor { probe_waits: true });
            machine.settle();
        });
        let now = Arc::clone(&target);
        target.spawn("unbind", move || {
            assert_eq!(unbinding.unbind("sensor", "sensor"), Ok(()));
            assert_eq!(now.now(), Instant(SECOND / 2), "the probe has ended");
            assert_eq!(unbinding.promises().broken(), []);
        });
    });
    env.run();
}

#[test]
fn threads_sleep_until_a_lock_is_free_whose_holder_waits_for_a_device() {
    let env = OneCpu::new();
    let (lock, done) = (Arc::new(Mutex::new(0)), Arc::new(AtomicU32::new(0)));
    for _ in 0..3 {
        let (target, lock, done) = (Arc::clone(&env), Arc::clone(&lock), Arc::clone(&done));
        env.spawn("holder", move || {
            let mut guard = lock.lock();
            let until = target.now() + Duration::from_secs(1);
            while target.now() < until {
                target.wait(&bindery::sync::Waiter::of_this_thread().token(), until);
            }
            *guard += 1;
            done.fetch_add(1, Ordering::Relaxed);
        });
    }
    env.run();
    assert_eq!(
        (done.load(Ordering::Relaxed), env.now(), lock.try_lock().map(|n| *n)),
        (3, Instant(3 * SECOND), Some(3))
    );
}

/// The thread that was woken does not run before the one that releases the lock sleeps, which by then has taken it again.
#[test]
fn a_thread_that_takes_a_lock_again_and_again_keeps_nobody_out() {
    let env = OneCpu::new();
    let lock = Arc::new(Mutex::new(Vec::new()));
    for (name, turns) in [("loops", 10), ("first", 1), ("second", 1)] {
        let (target, lock) = (Arc::clone(&env), Arc::clone(&lock));
        env.spawn(name, move || {
            for _ in 0..turns {
                let mut taken = lock.lock();
                taken.push(name);
                let until = target.now() + Duration::from_millis(1);
                while target.now() < until {
                    target.wait(&bindery::sync::Waiter::of_this_thread().token(), until);
                }
            }
        });
    }
    env.run();
    let taken = lock.try_lock().expect("all threads have ended").clone();
    assert_eq!(taken.len(), 12);
    assert_eq!(
        taken[..4],
        ["loops", "loops", "first", "second"],
        "the loop gets in between once, before a waiter was woken in vain"
    );
}

/// A thread binds and unbinds a device again and again; its driver waits in probe, with the device lock held.
#[test]
fn a_thread_that_takes_the_device_lock_again_and_again_keeps_nobody_out() {
    let env = OneCpu::new();
    let (target, got) = (Arc::clone(&env), Arc::new(std::sync::Mutex::new(None)));
    let theirs = Arc::clone(&got);
    env.spawn("main", move || {
        let machine = Arc::new(machine(&target));
        machine.register(Sensor { probe_waits: true });
        let other = Arc::clone(&machine);
        target.spawn("loops", move || {
            for _ in 0..10 {
                // It waits for ten seconds, and fails.
                machine.bind("sensor", "sensor").unwrap_err();
            }
        });
        let now = Arc::clone(&target);
        target.spawn("other", move || {
            other.unbind("sensor", "sensor").unwrap_err();
            *theirs.lock().unwrap() = Some(now.now());
            assert_eq!(other.promises().broken(), []);
        });
    });
    env.run();
    let answered = got.lock().unwrap().take();
    assert_eq!(answered, Some(Instant(10 * SECOND)), "the unbind comes after the bind for which it had to wait");
}
