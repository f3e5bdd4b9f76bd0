//! A target with one CPU and one device, whose interrupt comes at a given time.

use std::sync::{Arc, Mutex, Weak};

use bindery::addr::PhysAddr;
use bindery::env::{Env, EnvError, EventToken, Instant, Io, IrqControl, IrqLine, IrqSink, Memory};
use bindery::event::Event;

use super::cpu::{Cpu, Idle, me};
use super::example;

pub(crate) const LINE: IrqLine = IrqLine(7);

/// The target.
pub(crate) struct OneCpu {
    pub(crate) cpu: Arc<Cpu>,
    /// Its memory.
    ram: Arc<dyn Env>,
    pub(crate) device: Arc<Line>,
    /// Texts of the recorded events.
    pub(crate) events: Mutex<Vec<String>>,
}

/// The device's interrupt line.
#[derive(Default)]
pub(crate) struct Line {
    enabled: Mutex<bool>,
    /// Time of the next request.
    pub(crate) at: Mutex<Option<Instant>>,
    sink: Mutex<Option<Weak<dyn IrqSink>>>,
}

impl OneCpu {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { cpu: Cpu::new(), ram: example::env(), device: Arc::default(), events: Mutex::default() })
    }

    /// Adds a thread.
    pub(crate) fn spawn(&self, name: &'static str, run: impl FnOnce() + Send + 'static) {
        self.cpu.spawn(name, Arc::clone(&self.device) as _, run);
    }

    /// Runs all threads until they have ended.
    pub(crate) fn run(&self) {
        self.cpu.run(&*self.device);
    }
}

impl Line {
    fn sink(&self) -> Option<Arc<dyn IrqSink>> {
        self.sink.lock().unwrap().as_ref().and_then(Weak::upgrade)
    }
}

impl Idle for Line {
    fn next(&self) -> Option<Instant> {
        let request = self.at.lock().unwrap().filter(|_| *self.enabled.lock().unwrap());
        let timer = self.sink().and_then(|sink| sink.next_deadline());
        request.into_iter().chain(timer).min()
    }

    fn run(&self, now: Instant) {
        let Some(sink) = self.sink() else { return };
        if sink.next_deadline().is_some_and(|at| at <= now) {
            sink.timer();
        }
        let enabled = *self.enabled.lock().unwrap();
        let is_due = self.at.lock().unwrap().take_if(|at| enabled && *at <= now).is_some();
        if is_due {
            sink.interrupt(LINE);
        }
    }
}

impl Env for OneCpu {
    fn memory(&self) -> Arc<dyn Memory> {
        self.ram.memory()
    }

    fn map_io(&self, base: PhysAddr, len: u64) -> Result<Arc<dyn Io>, EnvError> {
        Err(EnvError::NoSuchRegisters { base, len })
    }

    fn irq(&self, _: IrqLine, control: IrqControl) -> Result<(), EnvError> {
        *self.device.enabled.lock().unwrap() = matches!(control, IrqControl::Enable(_) | IrqControl::Unmask);
        Ok(())
    }

    fn connect(&self, sink: Weak<dyn IrqSink>) {
        *self.device.sink.lock().unwrap() = Some(sink);
    }

    fn now(&self) -> Instant {
        self.cpu.now()
    }

    fn wait(&self, token: &EventToken<'_>, until: Instant) {
        if !token.is_past() {
            self.cpu.park(me(), until, &*self.device);
        }
    }

    fn tracing_enabled(&self) -> bool {
        true
    }

    fn emit(&self, event: &Event) {
        self.events.lock().unwrap().push(event.kind.to_string());
    }
}
