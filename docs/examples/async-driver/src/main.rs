//! Tasks of an async executor (embassy's) that wait for interrupts of two devices.
//!
//! The driver's handler signals a `Completion`, and a task awaits it; the same completion serves a thread, by
//! `SystemClock::wait_for`. The interrupts of this example come from a thread of the host, as on real hardware they come
//! whenever they like.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use bindery::binding::Bound;
use bindery::device::{DeviceDesc, Resource};
use bindery::driver::{Driver, IrqReturn, Match, ProbeError, QuiesceError, Quiesced};
use bindery::env::{Env, EnvError, EventToken, Instant, IrqControl, IrqLine, IrqSink, Trigger};
use bindery::machine::{Handle, Machine, Policy};
use bindery::sync::Completion;
use bindery_sim::board::Board;
use bindery_sim::interpose::Interpose;
use bindery_sim::salvator::Salvator;
use embassy_executor::{Executor, Spawner};

/// Device, its interrupt line, and the number of interrupts that its task waits for.
const SENSORS: [(&str, IrqLine, u32); 2] = [("thermometer", IrqLine(40), 3), ("clock", IrqLine(41), 6)];

struct Sensor;

impl Driver for Sensor {
    const NAME: &'static str = "sensor";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,sensor")];
    /// The completion that the handler signals.
    type Data<'b> = Arc<Completion>;

    fn probe(&self, dev: Bound<'_>) -> Result<Arc<Completion>, ProbeError> {
        let sampled = Arc::new(Completion::new());
        let signalled = Arc::clone(&sampled);
        dev.request_irq(0, move || {
            signalled.complete();
            IrqReturn::Handled
        })?;
        Ok(sampled)
    }

    fn quiesce(sampled: &Arc<Completion>) -> Result<Quiesced, QuiesceError> {
        // Whoever waits sees the end of the binding instead of waiting for ever.
        sampled.complete_all();
        Ok(Quiesced::never_started())
    }
}

/// Tasks that have not ended.
static RUNNING: AtomicU32 = AtomicU32::new(SENSORS.len() as u32);

/// Waits for samples of the device at `index`.
#[embassy_executor::task(pool_size = SENSORS.len())]
async fn listen(machine: Handle, index: usize) {
    let (name, _, samples) = SENSORS[index];
    let Some(client) = machine.client::<Sensor>(name) else { process::exit(1) };
    // The completion may be awaited without keeping the device bound; each access to the driver's data may fail.
    let Ok(sampled) = client.call(Arc::clone) else { process::exit(1) };
    for sample in 1..=samples {
        sampled.wait().await;
        println!("{name}: sample {sample} of {samples}");
    }
    if RUNNING.fetch_sub(1, Ordering::Relaxed) == 1 {
        machine.unregister(Sensor::NAME);
        process::exit(i32::from(!machine.promises().broken().is_empty()));
    }
}

fn main() {
    static HANDLE: OnceLock<Handle> = OnceLock::new();
    let target = Target::new();
    let machine = HANDLE.get_or_init(|| Machine::new(target.env(), Policy::default()));
    machine.register(Sensor);
    for (name, line, _) in SENSORS {
        let mut desc = DeviceDesc::new(name);
        desc.compatible.push("acme,sensor".into());
        desc.resources.push(Resource::Irq { line, trigger: Trigger::EdgeRising });
        if let Err(error) = machine.add_device(desc) {
            eprintln!("{name}: {error}");
            process::exit(1);
        }
    }
    machine.settle();
    thread::spawn(move || target.raise_for_ever());
    let executor: &'static mut Executor = Box::leak(Box::new(Executor::new()));
    executor.run(|spawner: Spawner| {
        for index in 0..SENSORS.len() {
            match listen(machine.clone(), index) {
                Ok(task) => spawner.spawn(task),
                Err(error) => eprintln!("{error:?}"),
            }
        }
    })
}

/// The simulated board's memory, on threads and with the time of the host.
struct Target {
    board: Arc<Board>,
    begun: std::time::Instant,
    sink: OnceLock<Weak<dyn IrqSink>>,
}

impl Target {
    fn new() -> Arc<Self> {
        Arc::new(Self { board: Salvator::new().build(), begun: std::time::Instant::now(), sink: OnceLock::new() })
    }

    fn raise_for_ever(&self) {
        while let Some(sink) = self.sink.get().and_then(Weak::upgrade) {
            for (_, line, _) in SENSORS {
                thread::sleep(Duration::from_millis(1));
                sink.interrupt(line);
            }
        }
    }
}

impl Interpose for Target {
    fn inner(&self) -> &dyn Env {
        &*self.board
    }

    fn irq(&self, _: IrqLine, _: IrqControl) -> Result<(), EnvError> {
        Ok(())
    }

    fn connect(&self, sink: Weak<dyn IrqSink>) {
        let _ = self.sink.set(sink);
    }

    fn now(&self) -> Instant {
        Instant(0) + self.begun.elapsed()
    }

    fn wait(&self, token: &EventToken<'_>, until: Instant) {
        token.park(until.since(self.now()));
    }
}
