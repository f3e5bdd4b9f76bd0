//! Several CPUs bind, unbind, transfer and mask while lines trap.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bindery::env::Trigger;
use bindery::machine::{Machine, Policy};

use super::cpu::IN_TRAPS;
use super::target::{SmpEnv, Target};
use super::toys::{How, Seen, Toy, device, machine_with};

const LINE: usize = 3;

/// The same completion path in probe as afterwards, with interrupts that preempt the probe.
#[test]
fn a_handler_runs_in_probe() {
    for how in [How::Hard, How::Threaded, How::Masks] {
        let seen = Arc::new(Seen::default());
        let (target, machine) =
            machine_with(Toy { how, seen: Arc::clone(&seen), in_probe: None }, LINE, Trigger::LevelHigh);
        machine.unregister("toy");
        machine.register(Toy { how, seen: Arc::clone(&seen), in_probe: Some(Arc::clone(&target)) });
        target.run(|cpus| {
            thread::scope(|s| {
                s.spawn(|| cpus[0].run(|| assert_eq!(machine.settle().bound, 1, "{how:?}: {:?}", machine.waiting())));
            });
        });
        assert!(seen.hard.load(Ordering::SeqCst) > 0, "{how:?}");
        machine.unbind("toy", "toy").unwrap();
        assert_eq!((seen.late.load(Ordering::SeqCst), machine.promises().broken()), (0, vec![]), "{how:?}");
    }
}

/// Three CPUs use, mask and unmask three toys, two of them on one line, while the third one's binding ends and begins: no
/// handler runs after its line was released, no trap allocates, and none deadlocks.
#[test]
fn cpus_bind_unbind_transfer_and_mask_while_lines_trap() {
    for how in [How::Hard, How::Threaded, How::Masks] {
        let seen = Arc::new(Seen::default());
        let target = Target::new();
        let machine = Machine::new(Arc::new(SmpEnv(Arc::clone(&target))), Policy::default());
        machine.register(Toy { how, seen: Arc::clone(&seen), in_probe: None });
        machine.add_device(device("steady", 4, Trigger::LevelHigh)).unwrap();
        // Two devices on one line, with registers of their own: the second one never requests.
        machine.add_device(device("comes-and-goes", 5, Trigger::LevelHigh)).unwrap();
        let mut neighbour = device("neighbour", 5, Trigger::LevelHigh);
        neighbour.resources[0] = device("", 6, Trigger::LevelHigh).resources.remove(0);
        machine.add_device(neighbour).unwrap();
        assert_eq!(machine.settle().bound, 3);
        let over = AtomicBool::new(false);
        target.run(|cpus| {
            IN_TRAPS.take();
            thread::scope(|s| {
                s.spawn(|| {
                    cpus[0].run(|| {
                        let client = machine.client::<Toy>("steady").unwrap();
                        while !over.load(Ordering::SeqCst) {
                            assert_eq!(client.call(|port| port.transfer(&target, 4)), Ok(true), "{how:?}");
                        }
                    });
                });
                s.spawn(|| {
                    cpus[1].run(|| {
                        while !over.load(Ordering::SeqCst) {
                            let Some(client) = machine.client::<Toy>("neighbour") else { continue };
                            let _ = client.call(|port| {
                                port.irq.mask();
                                port.irq.unmask();
                            });
                        }
                    });
                });
                s.spawn(|| {
                    cpus[2].run(|| {
                        for _ in 0..150 {
                            // The request comes at any point of the tear-down.
                            target.raise(5);
                            machine.unbind("comes-and-goes", "toy").unwrap();
                            machine.bind("comes-and-goes", "toy").unwrap();
                        }
                        over.store(true, Ordering::SeqCst);
                    });
                });
            });
            assert_eq!(IN_TRAPS.take().0, 0, "{how:?}: allocations in traps");
        });
        machine.unregister("toy");
        let counts = [&seen.late, &seen.misplaced].map(|count| count.load(Ordering::SeqCst));
        assert_eq!(counts, [0, 0], "{how:?}: handlers after the release, and in the wrong context");
        assert_eq!(machine.promises().broken(), [], "{how:?}");
        assert!(!target.is_masked(4) || how == How::Masks);
    }
}
