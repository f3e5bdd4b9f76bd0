//! Target for the core's unit tests: some RAM, one register window, a clock that advances only in waits.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::vec::Vec;

use alloc::sync::{Arc, Weak};

#[cfg(not(loom))]
use super::Job;
use super::{
    Env, EnvError, EventToken, Instant, Io, IoError, IrqControl, IrqLine, IrqSink, MappedRegisters, Memory, PageSource,
    RamUse, Width,
};
use crate::addr::PhysAddr;
use crate::event::Event;
#[cfg(not(loom))]
use crate::event::EventKind;
use crate::instrument::{FaultPoint, Instrument};
#[cfg(not(loom))]
use crate::machine::{Handle, Machine, Policy};
use crate::mem::fake::FakeMemory;

/// Registers that hold the values written, and that the CPU reaches itself.
pub(crate) struct FakeRegs {
    memory: MappedRegisters,
    /// Accesses through the window, instead of directly.
    pub(crate) called: core::sync::atomic::AtomicUsize,
}

impl Io for FakeRegs {
    fn size(&self) -> u64 {
        self.memory.size()
    }

    fn read(&self, offset: u64, width: Width) -> Result<u64, IoError> {
        self.called.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        self.memory.read(offset, width)
    }

    fn write(&self, offset: u64, width: Width, value: u64) -> Result<(), IoError> {
        self.called.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        self.memory.write(offset, width, value)
    }

    fn mapped(&self) -> Option<&MappedRegisters> {
        Some(&self.memory)
    }
}

/// Fake target. Tests read and set its public fields.
pub(crate) struct FakeEnv {
    memory: Arc<dyn Memory>,
    /// Allocator of page frames that the target brings.
    source: Option<Arc<dyn PageSource>>,
    pub(crate) regs: Arc<FakeRegs>,
    pub(crate) events: Mutex<Vec<Event>>,
    /// Number of the call of `should_fail` that fails, counted from 0 along `calls`.
    pub(crate) fail_at: Mutex<Option<usize>>,
    pub(crate) calls: Mutex<Vec<FaultPoint>>,
    pub(crate) enabled: Mutex<BTreeSet<IrqLine>>,
    /// Lines that the interrupt controller does not have.
    pub(crate) no_lines: Mutex<BTreeSet<IrqLine>>,
    now: Mutex<u64>,
    sink: Mutex<Option<Weak<dyn IrqSink>>>,
    pub(crate) tracing_enabled: core::sync::atomic::AtomicBool,
    /// Jobs that `spawn` keeps for [`FakeEnv::run_jobs`]; with `None`, the default of `Env::spawn` has them.
    #[cfg(not(loom))]
    pub(crate) jobs: Mutex<Option<Vec<Job>>>,
    /// What another thread does during the next wait.
    #[cfg(not(loom))]
    pub(crate) during_wait: Mutex<Option<Job>>,
    /// Threads of the host run the jobs (`Some(true)`), or nothing does (`Some(false)`).
    #[cfg(not(loom))]
    pub(crate) threads: Mutex<Option<bool>>,
    /// Incremented where loom may switch threads between a call and its effect, since the locks here are not loom's. A
    /// yield would not do: loom then tries no order in which only one of two callers is delayed.
    #[cfg(loom)]
    step: crate::sync::atomic::AtomicUsize,
}

#[cfg(not(loom))]
impl FakeEnv {
    pub(crate) fn new() -> Arc<Self> {
        Self::with_memory(FakeMemory::new(&[(0x4000_0000, 64 << 12, RamUse::Frames)]).dynamic())
    }

    pub(crate) fn with_memory(memory: Arc<dyn Memory>) -> Arc<Self> {
        Arc::new(Self::of(memory, true))
    }

    /// Target that brings `source` for its page frames.
    pub(crate) fn with_source(memory: Arc<dyn Memory>, source: Arc<dyn PageSource>) -> Arc<Self> {
        Arc::new(Self { source: Some(source), ..Self::of(memory, true) })
    }

    /// Machine on this target, with this target as its instrument.
    pub(crate) fn machine(self: &Arc<Self>, policy: Policy) -> Handle {
        Machine::with_instrument(Arc::clone(self) as _, policy, Arc::clone(self) as _)
    }

    pub(crate) fn raise(&self, line: IrqLine) {
        if self.enabled.lock().unwrap().contains(&line) {
            self.deliver(line);
        }
    }

    /// Delivers a request that the controller has accepted before the line was masked or disabled.
    pub(crate) fn deliver(&self, line: IrqLine) {
        let sink = self.sink.lock().unwrap().clone().and_then(|s| s.upgrade());
        if let Some(sink) = sink {
            sink.interrupt(line);
        }
    }

    /// Runs the jobs that `spawn` has kept, and returns their number.
    pub(crate) fn run_jobs(&self) -> usize {
        let jobs = core::mem::take(self.jobs.lock().unwrap().get_or_insert_default());
        let count = jobs.len();
        for job in jobs {
            job();
        }
        count
    }

    /// Lets time pass to `until`.
    pub(crate) fn advance(&self, until: Instant) {
        self.wait(&crate::sync::Waiter::of_this_thread().token(), until);
    }

    /// Kinds of the events about `device`, in order.
    pub(crate) fn event_kinds(&self, device: &str) -> Vec<EventKind> {
        let events = self.events.lock().unwrap();
        let about = |e: &&Event| e.device.as_deref() == Some(device);
        events.iter().filter(about).map(|e| e.kind.clone()).collect()
    }
}

impl FakeEnv {
    /// Target with four pages of RAM and no events: as few steps as possible, for models of every interleaving.
    #[cfg(loom)]
    pub(crate) fn silent() -> Arc<Self> {
        Arc::new(Self::of(FakeMemory::new(&[(0x4000_0000, 4 << 12, RamUse::Frames)]).dynamic(), false))
    }

    fn of(memory: Arc<dyn Memory>, tracing_enabled: bool) -> Self {
        Self {
            memory,
            source: None,
            regs: Arc::new(FakeRegs { memory: MappedRegisters::leaked(64), called: 0.into() }),
            events: Mutex::default(),
            fail_at: Mutex::default(),
            calls: Mutex::default(),
            enabled: Mutex::default(),
            no_lines: Mutex::default(),
            now: Mutex::default(),
            sink: Mutex::default(),
            tracing_enabled: tracing_enabled.into(),
            #[cfg(not(loom))]
            jobs: Mutex::default(),
            #[cfg(not(loom))]
            during_wait: Mutex::default(),
            #[cfg(not(loom))]
            threads: Mutex::default(),
            #[cfg(loom)]
            step: crate::sync::atomic::AtomicUsize::new(0),
        }
    }
}

impl Env for FakeEnv {
    fn memory(&self) -> Arc<dyn Memory> {
        Arc::clone(&self.memory)
    }

    fn page_source(&self) -> Option<Arc<dyn PageSource>> {
        self.source.clone()
    }

    fn map_io(&self, _: PhysAddr, _: u64) -> Result<Arc<dyn Io>, EnvError> {
        Ok(Arc::clone(&self.regs) as _)
    }

    fn irq(&self, line: IrqLine, control: IrqControl) -> Result<(), EnvError> {
        #[cfg(loom)]
        self.step.fetch_add(1, crate::sync::atomic::Ordering::Relaxed);
        if self.no_lines.lock().unwrap().contains(&line) {
            return Err(EnvError::NoSuchLine(line));
        }
        let mut enabled = self.enabled.lock().unwrap();
        match control {
            IrqControl::Enable(_) | IrqControl::Unmask => enabled.insert(line),
            IrqControl::Mask | IrqControl::Disable => enabled.remove(&line),
        };
        Ok(())
    }

    fn connect(&self, sink: Weak<dyn IrqSink>) {
        *self.sink.lock().unwrap() = Some(sink);
    }

    fn now(&self) -> Instant {
        Instant(*self.now.lock().unwrap())
    }

    fn wait(&self, token: &EventToken<'_>, until: Instant) {
        #[cfg(not(loom))]
        {
            // A statement of its own: that thread may wait as well.
            let act = self.during_wait.lock().unwrap().take();
            if let Some(act) = act {
                std::thread::spawn(act).join().unwrap();
            }
        }
        if token.is_past() {
            return;
        }
        let until = if token.awaits_threads() {
            crate::sync::pause();
            until.min(self.now() + core::time::Duration::from_millis(1))
        } else {
            until
        };
        // Timers of the sink that expire before `until` run at their deadlines.
        let sink = self.sink.lock().unwrap().clone().and_then(|s| s.upgrade());
        while let Some(at) = sink.as_ref().and_then(|s| s.next_deadline()).filter(|at| *at <= until) {
            let mut now = self.now.lock().unwrap();
            *now = at.0.max(*now);
            drop(now);
            sink.as_ref().unwrap().timer();
        }
        let mut now = self.now.lock().unwrap();
        *now = until.0.max(*now);
    }

    #[cfg(not(loom))]
    fn spawn(&self, job: Job) -> Result<(), Job> {
        match (*self.threads.lock().unwrap(), &mut *self.jobs.lock().unwrap()) {
            (Some(false), _) => return Err(job),
            (Some(true), _) => drop(std::thread::spawn(job)),
            (None, Some(jobs)) => jobs.push(job),
            (None, None) => return crate::sync::spawn(job),
        }
        Ok(())
    }

    fn tracing_enabled(&self) -> bool {
        self.tracing_enabled.load(core::sync::atomic::Ordering::Relaxed)
    }

    fn emit(&self, event: &Event) {
        self.events.lock().unwrap().push(event.clone());
    }
}

impl Instrument for FakeEnv {
    fn should_fail(&self, point: FaultPoint) -> bool {
        let mut calls = self.calls.lock().unwrap();
        calls.push(point);
        *self.fail_at.lock().unwrap() == Some(calls.len() - 1)
    }
}
