//! Delivery, counted: allocations, frees and locks in traps.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bindery::env::Trigger;

use super::cpu::IN_TRAPS;
use super::toys::{How, Seen, Toy, machine_with};

const LINE: usize = 1;

/// Does `rounds` transfers on one CPU; returns the number of deliveries, and allocations and locks in them.
fn count(how: How, trigger: Trigger, rounds: usize) -> (u32, usize, usize) {
    let seen = Arc::new(Seen::default());
    let (target, machine) = machine_with(Toy { how, seen, in_probe: None }, LINE, trigger);
    machine.settle();
    let counted = target.run(|cpus| {
        std::thread::scope(|s| {
            let on_cpu = || {
                cpus[0].run(|| {
                    let client = machine.client::<Toy>("toy").unwrap();
                    IN_TRAPS.take();
                    let before = target.delivered(LINE);
                    for round in 0..rounds {
                        assert_eq!(client.call(|port| port.transfer(&target, LINE)), Ok(true), "{how:?}, {round}");
                    }
                    let (allocations, locks) = IN_TRAPS.take();
                    (target.delivered(LINE) - before, allocations, locks)
                })
            };
            s.spawn(on_cpu).join().unwrap()
        })
    });
    machine.unbind("toy", "toy").unwrap();
    assert_eq!(machine.promises().broken(), []);
    counted
}

/// The handler that only counts: the whole delivery, without a lock.
#[test]
fn a_delivery_that_a_handler_serves_allocates_nothing_and_takes_no_lock() {
    use bindery::binding::Bound;
    use bindery::driver::{Driver, IrqReturn, Match, ProbeError, QuiesceError, Quiesced};
    use bindery::machine::{Machine, Policy};

    struct Counter(Arc<Seen>);
    impl Driver for Counter {
        const NAME: &'static str = "counter";
        const MATCHES: &'static [Match] = &[Match::compatible("acme,toy")];
        type Data<'b> = ();
        fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
            let (seen, regs) = (Arc::clone(&self.0), dev.mmio(0)?.handle());
            dev.request_irq(0, move || {
                let _ = regs.write32(0, 1);
                seen.hard.fetch_add(1, Ordering::SeqCst);
                IrqReturn::Handled
            })?;
            Ok(())
        }
        fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
            Ok(Quiesced::never_started())
        }
    }

    let (seen, target) = (Arc::new(Seen::default()), super::target::Target::new());
    let machine = Machine::new(Arc::new(super::target::SmpEnv(Arc::clone(&target))), Policy::default());
    machine.register(Counter(Arc::clone(&seen)));
    machine.add_device(super::toys::device("toy", LINE, Trigger::LevelHigh)).unwrap();
    machine.settle();
    let counts = target.run(|cpus| {
        std::thread::scope(|s| {
            let on_cpu = || {
                cpus[0].run(|| {
                    IN_TRAPS.take();
                    for round in 1..=500 {
                        target.raise(LINE);
                        while seen.hard.load(Ordering::SeqCst) < round {
                            // Code that a trap may interrupt anywhere: inside the allocator, too.
                            drop(std::hint::black_box(vec![round]));
                        }
                    }
                    IN_TRAPS.take()
                })
            };
            s.spawn(on_cpu).join().unwrap()
        })
    });
    assert_eq!(counts, (0, 0), "allocations and locks in 500 deliveries");
    machine.unbind("toy", "counter").unwrap();
}

#[test]
fn no_kind_of_delivery_allocates_and_each_takes_few_locks() {
    for trigger in [Trigger::LevelHigh, Trigger::EdgeRising] {
        // A completion wakes its waiter under the queue's lock; masks and threaded parts take the line's.
        for (how, locks_each) in [(How::Hard, 1), (How::Masks, 3), (How::Threaded, 1), (How::Waits, 3)] {
            if trigger == Trigger::EdgeRising && !matches!(how, How::Threaded) {
                continue;
            }
            let (delivered, allocations, locks) = count(how, trigger, 25);
            assert!(delivered > 0, "{how:?}");
            assert_eq!(allocations, 0, "{how:?}, {trigger:?}: allocations in traps");
            let most = locks_each * delivered as usize;
            assert!(locks <= most, "{how:?}, {trigger:?}: {locks} locks in {delivered} deliveries");
        }
    }
}
