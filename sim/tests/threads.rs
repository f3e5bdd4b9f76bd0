//! Waits on a target whose threads are the host's and whose time is real.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::thread;
use std::time::Duration;

use bindery::addr::PhysAddr;
use bindery::binding::Bound;
use bindery::device::{DeviceDesc, Resource};
use bindery::driver::{Driver, IrqReturn, Match, ProbeError, QuiesceError, Quiesced};
use bindery::env::{Env, EnvError, EventToken, Instant, Io, IrqControl, IrqLine, IrqSink, Memory, Trigger};
use bindery::irq::Irq;
use bindery::machine::{Machine, Policy};
use bindery::sync::Completion;
use bindery_sim::board::Board;
use bindery_sim::salvator::Salvator;

const LINE: IrqLine = IrqLine(7);
/// A wait of this length is one that has slept through its wake-up.
const HANGS: Duration = Duration::from_mins(1);
const ROUNDS: u32 = 20_000;

/// RAM of the simulated board, on threads of the host.
struct Host {
    board: Arc<Board>,
    begun: std::time::Instant,
    sink: Mutex<Option<Weak<dyn IrqSink>>>,
}

impl Host {
    fn new() -> Arc<Self> {
        Arc::new(Self { board: Salvator::new().build(), begun: std::time::Instant::now(), sink: Mutex::default() })
    }

    fn raise(&self) {
        let sink = self.sink.lock().unwrap().clone();
        sink.and_then(|sink| sink.upgrade()).unwrap().interrupt(LINE);
    }
}

impl Env for Host {
    fn memory(&self) -> Arc<dyn Memory> {
        self.board.memory()
    }

    fn map_io(&self, base: PhysAddr, len: u64) -> Result<Arc<dyn Io>, EnvError> {
        self.board.map_io(base, len)
    }

    fn irq(&self, _: IrqLine, _: IrqControl) -> Result<(), EnvError> {
        Ok(())
    }

    fn connect(&self, sink: Weak<dyn IrqSink>) {
        *self.sink.lock().unwrap() = Some(sink);
    }

    fn now(&self) -> Instant {
        Instant(0) + self.begun.elapsed()
    }

    fn wait(&self, token: &EventToken<'_>, until: Instant) {
        token.park(until.since(self.now()));
    }
}

struct Port<'b> {
    irq: Irq<'b>,
    done: Arc<Completion>,
}

/// Driver with a handler that completes something and wakes its thread.
struct Toy;

impl Driver for Toy {
    const NAME: &'static str = "toy";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,toy")];
    type Data<'b> = Port<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Port<'b>, ProbeError> {
        let done = Arc::new(Completion::new());
        let completed = Arc::clone(&done);
        let irq = dev.request_irq(0, move || {
            completed.complete();
            IrqReturn::WakeThread
        })?;
        Ok(Port { irq, done })
    }

    fn quiesce(_: &Port<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// Lets `wait` wait for an interrupt that another thread raises at about the same moment, many times.
fn rounds(wait: impl Fn(&Machine, &Port<'_>) -> bool) {
    let host = Host::new();
    let machine = Machine::new(Arc::clone(&host) as _, Policy::default());
    let mut desc = DeviceDesc::new("toy");
    desc.compatible.push("acme,toy".into());
    desc.resources.push(Resource::Irq { line: LINE, trigger: Trigger::EdgeRising });
    machine.add_device(desc).unwrap();
    machine.settle();
    machine.register(Toy);
    machine.settle();
    let client = machine.client::<Toy>("toy").unwrap();
    let (start, started) = mpsc::channel::<u32>();
    thread::scope(|s| {
        s.spawn(|| {
            for round in started {
                // The window in which a wake-up can be lost is somewhere in these.
                (0..round % 64).for_each(|_| std::hint::spin_loop());
                host.raise();
            }
        });
        for round in 0..ROUNDS {
            start.send(round).unwrap();
            assert!(client.call(|port| wait(&machine, port)).unwrap(), "round {round}: the wake-up was lost");
        }
        drop(start);
    });
    machine.unbind("toy", "toy").unwrap();
    assert_eq!(machine.promises().broken(), []);
}

#[test]
fn no_interrupt_is_slept_through() {
    rounds(|_, port| port.irq.wait(HANGS).is_ok());
}

#[test]
fn no_completion_is_slept_through() {
    rounds(|machine, port| machine.system_clock().wait_for(&port.done, HANGS));
}

#[test]
fn no_condition_that_an_interrupt_makes_true_is_slept_through() {
    let seen = AtomicU32::new(0);
    rounds(|machine, port| {
        let done = machine.system_clock().wait_until(HANGS, HANGS, || port.done.try_wait());
        seen.fetch_add(u32::from(done), Ordering::Relaxed);
        done
    });
    assert_eq!(seen.into_inner(), ROUNDS);
}
