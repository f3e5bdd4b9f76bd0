//! An operation that holds a lock of its own while an unbind runs: the deadlock is found, and reported with device, lock
//! and caller.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bindery::binding::Bound;
use bindery::device::DeviceDesc;
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::machine::Machine;
use bindery::sync::Mutex;
use bindery_explore::{Bounded, Operation, Scene, boards, scenario};

/// A driver whose users and whose quiesce take its own lock.
struct Gpu;

impl Driver for Gpu {
    const NAME: &'static str = "gpu";
    const MATCHES: &'static [Match] = &[Match::compatible("t,gpu")];
    type Data<'b> = Mutex<u32>;

    fn probe(&self, _: Bound<'_>) -> Result<Mutex<u32>, ProbeError> {
        Ok(Mutex::new(0))
    }

    fn quiesce(own: &Mutex<u32>) -> Result<Quiesced, QuiesceError> {
        drop(own.lock());
        Ok(Quiesced::stopped())
    }
}

fn bind_gpu(machine: &Arc<Machine>) {
    machine.register(Gpu);
    let mut desc = DeviceDesc::new("gpu");
    desc.compatible.push("t,gpu".into());
    machine.add_device(desc).unwrap();
    machine.settle();
}

/// A call takes its lock, and then waits for an unbind that wants the lock.
/// Lets a millisecond pass: a scheduling point.
fn pass_time(scene: &Scene) {
    let millisecond = std::time::Duration::from_millis(1);
    scene.machine().system_clock().wait_until(millisecond, millisecond, || false);
}

#[test]
fn an_operation_that_waits_with_its_lock_held_for_the_unbind_that_wants_the_lock() {
    let report = {
        let explored = scenario("own lock", boards::salvator_xs()).preemptions(1).concurrent_with(|machine| {
            let m = Arc::clone(machine);
            vec![Operation::new("an unbind", move || Ok(m.unbind("gpu", "gpu").is_ok()))]
        });
        let engine = explored.engine();
        explored.run(&engine, |scene| {
            bind_gpu(scene.machine());
            scene.step("bound")?;
            if let Some(client) = scene.machine().client::<Gpu>("gpu") {
                let _ = client.call(|own| {
                    let mut held = own.lock();
                    pass_time(scene);
                    // Until the unbind is over, which it never is.
                    while scene.machine().device("gpu").is_some_and(|d| d.phase().to_string() == "quiescing") {
                        bindery::sync::relax();
                    }
                    *held += 1;
                });
            }
            scene.step("used")
        })
    };
    let text = report.to_string();
    assert!(text.contains("deadlock: every thread waits for another"), "{text}");
    assert!(text.contains("an unbind of gpu: the lock that is taken at explore/tests/deadlock.rs:"), "{text}");
    assert!(!text.contains("NONDETERMINISTIC"), "{text}");
}

/// The caller of an unbind holds a lock that a call into the driver wants. Each path has its own lock.
#[test]
fn an_unbind_with_a_lock_held_that_a_call_inside_wants() {
    let explored = scenario("outer lock", boards::salvator_xs()).preemptions(2);
    let engine = explored.engine();
    let shared: Arc<Mutex<std::collections::BTreeMap<usize, Arc<Mutex<()>>>>> = Arc::default();
    let lock_of = {
        let shared = Arc::clone(&shared);
        move |machine: &Arc<Machine>| Arc::clone(shared.lock().entry(Arc::as_ptr(machine) as usize).or_default())
    };
    let lock_in = lock_of.clone();
    let explored = explored.concurrent_with(move |machine| {
        let (m, own) = (Arc::clone(machine), lock_in(machine));
        vec![Operation::new("a call", move || {
            let Some(client) = m.client::<Gpu>("gpu") else { return Ok(false) };
            Ok(client.call(|_| drop(own.lock())).is_ok())
        })]
    });
    let report = explored.run(&engine, |scene| {
        bind_gpu(scene.machine());
        scene.step("bound")?;
        let own = lock_of(scene.machine());
        {
            let _held = own.lock();
            // A scheduling point: the call may start.
            pass_time(scene);
            let _ = scene.machine().unbind("gpu", "gpu");
        }
        scene.step("unbound")
    });
    let text = report.to_string();
    let expected = "an unbind of gpu: gpu waits until its users are out: a call from explore/tests/deadlock.rs:";
    assert!(text.contains("deadlock: every thread waits for another") && text.contains(expected), "{text}");
    assert!(text.contains("; the lock that is taken at explore/tests/deadlock.rs:"), "{text}");
    assert!(!text.contains("NONDETERMINISTIC"), "{text}");
}

/// The same with one lock for all paths: paths that are executed at the same time hold it in turns, which is no deadlock.
#[test]
fn a_lock_that_all_paths_share() {
    let own: Arc<Mutex<u32>> = Arc::default();
    let explored = scenario("shared lock", boards::salvator_xs()).preemptions(1);
    let theirs = Arc::clone(&own);
    let explored = explored.concurrent_with(move |machine| {
        let (m, own) = (Arc::clone(machine), Arc::clone(&theirs));
        vec![Operation::new("an unbind", move || {
            let unbound = m.unbind("gpu", "gpu").is_ok();
            *own.lock() += 1;
            Ok(unbound)
        })]
    });
    let engine = explored.engine().threads(4);
    let report = explored.run(&engine, |scene| {
        bind_gpu(scene.machine());
        scene.step("bound")?;
        {
            let mut held = own.lock();
            pass_time(scene);
            *held += 1;
        }
        scene.step("used")
    });
    assert!(report.passed(), "{report}");
}
