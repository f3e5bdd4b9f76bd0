//! A lock that is taken in both contexts: a trap that comes while it is held never ends, and the watchdog says so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use bindery::binding::Bound;
use bindery::driver::{Driver, IrqReturn, Match, ProbeError, QuiesceError, Quiesced};
use bindery::env::Trigger;
use bindery::machine::{Machine, Policy};
use bindery::sync::SpinLock;

use super::cpu::{CPUS, LOOKS, watchdog};
use super::target::{SmpEnv, Target};
use super::toys::device;

const LINE: usize = 2;

/// Takes a lock in its handler: `guarded` says which.
struct Careless {
    sleeping: Arc<Mutex<usize>>,
    spinning: Arc<SpinLock<usize>>,
    spins: bool,
}

impl Driver for Careless {
    const NAME: &'static str = "careless";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,toy")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let regs = dev.mmio(0)?.handle();
        let (sleeping, spinning, spins) = (Arc::clone(&self.sleeping), Arc::clone(&self.spinning), self.spins);
        dev.request_irq(0, move || {
            if spins {
                *spinning.lock() += 1;
            } else {
                *sleeping.lock().unwrap() += 1;
            }
            let _ = regs.write32(0, 1);
            IrqReturn::Handled
        })?;
        Ok(())
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// A CPU holds the lock in task context while interrupts come. Returns the watchdog's report, if there is one.
fn report(spins: bool) -> Option<String> {
    let (sleeping, spinning) = (Arc::new(Mutex::new(0)), Arc::new(SpinLock::new(0)));
    let target = Target::new();
    let machine = Machine::new(Arc::new(SmpEnv(Arc::clone(&target))), Policy::default());
    machine.register(Careless { sleeping: Arc::clone(&sleeping), spinning: Arc::clone(&spinning), spins });
    machine.add_device(device("toy", LINE, Trigger::LevelHigh)).unwrap();
    machine.settle();
    let over = Arc::new(AtomicBool::new(false));
    let report = target.run_on_last(|cpus| {
        let cpu = &cpus[CPUS - 1];
        let (theirs, raising) = (Arc::clone(&over), Arc::clone(&target));
        // Enough interrupts that some come while the lock is held.
        let enough = if spins { 300 } else { u32::MAX };
        // Not scoped: it may never end, and goes with the process.
        let task = thread::spawn(move || {
            cpu.run(|| {
                while !theirs.load(Ordering::SeqCst) && raising.delivered(LINE) < enough {
                    raising.raise(LINE);
                    if spins {
                        let mut held = spinning.lock();
                        (0..2_000).for_each(|n| *held = std::hint::black_box(n));
                    } else {
                        let mut held = sleeping.lock().unwrap();
                        (0..2_000).for_each(|n| *held = std::hint::black_box(n));
                    }
                }
                theirs.store(true, Ordering::SeqCst);
            });
        });
        let report = watchdog(cpu, &over, if spins { LOOKS } else { 500 });
        over.store(true, Ordering::SeqCst);
        if report.is_none() {
            task.join().unwrap();
        }
        report
    });
    if report.is_some() {
        // Its CPU never comes back: an unbind would wait for its handler.
        std::mem::forget(machine);
    }
    report
}

#[test]
fn a_lock_that_is_taken_in_both_contexts_deadlocks_and_is_reported() {
    // The good one first: the bad one takes its CPU along.
    assert_eq!(report(true), None, "a SpinLock disables interrupts while it is held");
    let report = report(false).expect("a lock that leaves interrupts on deadlocks");
    assert!(report.contains("on line 2, does not end"), "{report}");
}
