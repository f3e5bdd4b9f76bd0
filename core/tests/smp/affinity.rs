//! Messages for the CPUs that a driver asks for.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use bindery::addr::PhysAddr;
use bindery::binding::Bound;
use bindery::bus::{BusDevice, BusError, MessageKind, Messages};
use bindery::device::DeviceDesc;
use bindery::driver::{Driver, IrqReturn, Match, ProbeError, QuiesceError, Quiesced};
use bindery::env::Env;
use bindery::machine::{Machine, Policy};

use super::cpu::{CPUS, Cpu, current};
use super::target::{DOORBELL, SmpEnv, Target};

const VECTORS: usize = 4;
const ROUNDS: usize = 20;

/// A device's messages, as its bus has written them.
#[derive(Default)]
struct Queues(Mutex<Vec<(u64, u32)>>);

impl BusDevice for Queues {
    fn set_bus_master(&self, _: bool) -> Result<(), BusError> {
        Ok(())
    }
    fn set_interrupt_pin(&self, _: bool) -> Result<(), BusError> {
        Ok(())
    }
    fn messages(&self) -> Messages {
        Messages { msi_x: VECTORS, ..Messages::default() }
    }
    fn enable_messages(&self, _: MessageKind, messages: &[(u64, u32)], _: &dyn Env) -> Result<(), BusError> {
        *self.0.lock().unwrap() = messages.to_vec();
        Ok(())
    }
    fn reset(&self) -> Result<bool, BusError> {
        Ok(false)
    }
}

/// Its bus.
struct Bus(Arc<Queues>);

impl Driver for Bus {
    const NAME: &'static str = "bus";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,bus")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let mut child = DeviceDesc::new("queues");
        child.compatible.push("acme,queues".into());
        dev.add_child_on(child, Arc::clone(&self.0) as _)?;
        Ok(())
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// Deliveries of each vector, by the CPU that took them.
type Seen = [[AtomicUsize; CPUS]; VECTORS];

struct PerCpu {
    cpus: &'static [usize],
    seen: Arc<Seen>,
}

impl Driver for PerCpu {
    const NAME: &'static str = "per-cpu";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,queues")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        for queue in 0..dev.vectors_near(VECTORS..=VECTORS, self.cpus)?.len() {
            let seen = Arc::clone(&self.seen);
            dev.request_irq(queue, move || {
                seen[queue][current().map_or(usize::MAX, Cpu::number)].fetch_add(1, Ordering::SeqCst);
                IrqReturn::Handled
            })?;
        }
        Ok(())
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// A queue for each CPU, more queues than CPUs, and one CPU for all: each vector interrupts the CPU of its place in the list.
#[test]
fn vectors_interrupt_the_cpus_that_the_driver_names() {
    for cpus in [&[2, 0, 3, 1][..], &[1, 3], &[2]] {
        let (queues, seen) = (Arc::new(Queues::default()), Arc::new(Seen::default()));
        let target = Target::new();
        let machine = Machine::new(Arc::new(SmpEnv(Arc::clone(&target))), Policy::default());
        machine.register(Bus(Arc::clone(&queues)));
        machine.register(PerCpu { cpus, seen: Arc::clone(&seen) });
        let mut bus = DeviceDesc::new("bus");
        bus.compatible.push("acme,bus".into());
        machine.add_device(bus).unwrap();
        assert_eq!(machine.settle().bound, 2);
        let messages = queues.0.lock().unwrap().clone();
        assert!(messages.iter().all(|(address, _)| PhysAddr(*address) == DOORBELL));
        let count = |queue: usize| seen[queue].each_ref().map(|n| n.load(Ordering::SeqCst));
        target.run(|all| {
            let over = AtomicBool::new(false);
            thread::scope(|s| {
                for cpu in &all[..CPUS - 1] {
                    let over = &over;
                    s.spawn(move || {
                        cpu.run(|| {
                            while !over.load(Ordering::SeqCst) {
                                thread::yield_now();
                            }
                        });
                    });
                }
                for round in 1..=ROUNDS {
                    for (queue, (_, line)) in messages.iter().enumerate() {
                        target.raise(*line as usize);
                        while count(queue).iter().sum::<usize>() < round {
                            thread::yield_now();
                        }
                    }
                }
                over.store(true, Ordering::SeqCst);
            });
        });
        for queue in 0..VECTORS {
            let mut expected = [0; CPUS];
            expected[cpus[queue % cpus.len()]] = ROUNDS;
            assert_eq!(count(queue), expected, "vector {queue} of {cpus:?}");
        }
        machine.unbind("queues", "per-cpu").unwrap();
        assert_eq!(machine.promises().broken(), []);
    }
}
