//! The board as the core's env and as its instrument.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bindery::addr::PhysAddr;
use bindery::device::DeviceDesc;
use bindery::env::{
    Env, EnvError, EventToken, Instant, Io, IrqControl, IrqLine, IrqSink, Memory, Vector, VectorRequest,
};
use bindery::event::Event;
use bindery::instrument::{FaultPoint, Instrument};
use bindery::sync::thread::{self, ThreadId};
use bindery::sync::{Waiter, relax};

use super::window::Window;
use super::{Board, Inner};
use crate::intc::ControlError;
use crate::trace::Traced;

/// Board time that delivering one interrupt takes, so that a line that is never deasserted does not stop the clock.
const DELIVERY: Duration = Duration::from_micros(1);
/// Devices that the board itself operates: it delivers the interrupts.
const OWNED: &[&str] = &["arm,gic-400", "arm,gic-v3"];
/// Number of times that one call delivers a line that stays high.
const ROUNDS: usize = 8;
/// Time of the host for which a wait for other threads lets them run.
const THREADS_RUN: Duration = Duration::from_micros(100);
/// Board time that then passes.
const THREADS_TICK: Duration = Duration::from_millis(1);
/// Most threads that are assigned to CPUs in their order of arrival.
const THREADS: usize = 256;

impl Board {
    /// Lets time pass to the next event, or to `until` if there is none before, as a thread does that waits for nothing
    /// in particular.
    pub fn advance(&self, until: Instant) {
        self.wait(&Waiter::of_this_thread().token(), until);
    }
}

impl Env for Board {
    fn memory(&self) -> Arc<dyn Memory> {
        Arc::<crate::memory::Ram>::clone(&self.inner.ram)
    }

    fn map_io(&self, base: PhysAddr, len: u64) -> Result<Arc<dyn Io>, EnvError> {
        let state = self.inner.state.lock();
        let (region, start) = state.find(base, len).ok_or(EnvError::NoSuchRegisters { base, len })?;
        let generation = state.regions[region].generation;
        Ok(Arc::new(Window { inner: Arc::clone(&self.inner), region, generation, start, len }))
    }

    fn irq(&self, line: IrqLine, control: IrqControl) -> Result<(), EnvError> {
        let mut state = self.inner.state.lock();
        match state.intc.control(line, control) {
            Ok(()) => Ok(()),
            Err(ControlError::NoSuchLine) => Err(EnvError::NoSuchLine(line)),
            Err(ControlError::NotEnabled) => {
                let at = state.clock.now();
                state.report.add(at, "interrupt-controller", format!("line {line} unmasked, but nobody enabled it"));
                Ok(())
            }
            Err(ControlError::AlreadyEnabled) => {
                let at = state.clock.now();
                state.report.add(at, "interrupt-controller", format!("line {line} configured while it is enabled"));
                Ok(())
            }
        }
    }

    fn alloc_vectors(&self, request: &VectorRequest<'_>) -> Result<Vec<Vector>, EnvError> {
        let mut state = self.inner.state.lock();
        let Some(doorbell) = &mut state.doorbell else { return Err(EnvError::NoVectors) };
        let lines = doorbell.allocate(request.count as u32, request.consecutive).ok_or(EnvError::NoVectors)?;
        let vector = |line| Vector { line: IrqLine(line), address: doorbell.at, data: line };
        Ok(lines.into_iter().map(vector).collect())
    }

    fn free_vectors(&self, _: &DeviceDesc, vectors: &[Vector]) {
        let mut state = self.inner.state.lock();
        if let Some(doorbell) = &mut state.doorbell {
            for vector in vectors {
                doorbell.free(vector.line.0);
            }
        }
    }

    fn connect(&self, sink: Weak<dyn IrqSink>) {
        *self.inner.sink.lock() = Some(sink);
    }

    fn now(&self) -> Instant {
        Instant(self.inner.now.load(Ordering::Acquire))
    }

    fn wait(&self, token: &EventToken<'_>, until: Instant) {
        self.inner.state.lock().run_due();
        if token.is_past() || self.inner.deliver() > 0 || self.inner.run_timer() {
            return;
        }
        let mut until = until;
        if token.awaits_threads() {
            // They run on the host's CPUs, whose time is another: the board's does not run away from them.
            token.park(THREADS_RUN);
            if token.is_past() {
                return;
            }
            until = until.min(self.now() + THREADS_TICK);
        }
        let sink = self.inner.sink();
        let deadline = sink.as_ref().and_then(|sink| sink.next_deadline());
        let until = deadline.map_or(until, |at| at.min(until));
        {
            let mut state = self.inner.state.lock();
            // Another thread may have delivered an interrupt since the check above, or a device may have requested one:
            // time must not advance past what the caller waits for. A delivery is visible in one of the three from its
            // beginning to its end.
            if token.is_past() || (sink.is_some() && state.intc.next_pending(0).is_some()) {
                return;
            }
            match state.clock.next_due() {
                Some(at) if at <= until.0 => {
                    state.clock.advance_to(at);
                    state.run_due();
                }
                // Another thread is delivering an interrupt that this one may be waiting for. Only the host's scheduler
                // can let it continue; advancing board time would cause a time-out although the device is done.
                _ if state.others_deliver() => {
                    drop(state);
                    relax();
                    return;
                }
                // No timer of the board is set. Only another thread can cause an event.
                _ if until == Instant::MAX => {
                    drop(state);
                    relax();
                    return;
                }
                _ => state.clock.advance_to(until.0),
            }
        }
        self.inner.deliver();
        self.inner.run_timer();
    }

    fn cpu(&self) -> usize {
        if self.inner.cpus == 1 {
            return 0;
        }
        let me = thread::current().id();
        let mut threads = self.inner.threads.lock();
        let index = threads.iter().position(|t| *t == me).unwrap_or_else(|| {
            if threads.len() == THREADS {
                threads.clear();
            }
            threads.push(me);
            threads.len() - 1
        });
        index % self.inner.cpus
    }

    fn tracing_enabled(&self) -> bool {
        self.inner.events.tracing_enabled()
    }

    fn emit(&self, event: &Event) {
        self.inner.events.emit(event);
    }

    fn env_owned(&self, compatible: &[Arc<str>]) -> bool {
        compatible.iter().any(|c| OWNED.contains(&&**c))
    }
}

impl Instrument for Board {
    fn should_fail(&self, point: FaultPoint) -> bool {
        self.inner.faults.should_fail(point)
    }

    fn dma_reachable(&self, base: PhysAddr, len: u64) -> bool {
        self.inner.state.lock().dma_reachable(base, len)
    }

    fn cache_matches(&self, base: PhysAddr, len: u64) -> bool {
        self.inner.ram.cache_matches(base, len)
    }
}

impl super::State {
    fn others_deliver(&self) -> bool {
        let me = thread::current().id();
        self.delivering.iter().any(|t| *t != me)
    }
}

/// Guard that marks its thread as delivering an interrupt, also when the sink panics.
struct Delivering<'a>(&'a Inner, ThreadId);

impl Drop for Delivering<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        if let Some(i) = state.delivering.iter().position(|t| *t == self.1) {
            state.delivering.swap_remove(i);
        }
    }
}

impl Inner {
    fn sink(&self) -> Option<Arc<dyn IrqSink>> {
        self.sink.lock().as_ref().and_then(Weak::upgrade)
    }

    /// Calls the machine's timer if its deadline has passed. Returns true if it has.
    fn run_timer(&self) -> bool {
        let now = Instant(self.now.load(Ordering::Acquire));
        let due = self.sink().filter(|sink| sink.next_deadline().is_some_and(|at| at <= now));
        if let Some(sink) = &due {
            sink.timer();
        }
        due.is_some()
    }

    /// Delivers pending lines, lowest first, each at most [`ROUNDS`] times. Returns the number of deliveries.
    pub(super) fn deliver(&self) -> usize {
        let mut delivered = 0;
        for _ in 0..ROUNDS {
            let before = delivered;
            let mut from = 0;
            while let Some(line) = self.deliver_one(from) {
                delivered += 1;
                from = line + 1;
            }
            if delivered == before {
                break;
            }
        }
        delivered
    }

    fn deliver_one(&self, from: u32) -> Option<u32> {
        if from >= crate::intc::LINES {
            return None;
        }
        self.state.lock().intc.next_pending(from)?;
        let sink = self.sink.lock().as_ref()?.upgrade()?;
        let me = thread::current().id();
        let line = {
            let mut state = self.state.lock();
            let line = state.intc.take_pending(from)?;
            let at = state.clock.now();
            state.trace.add(at, PhysAddr(0), Traced::Interrupt(line));
            state.clock.advance_to((at + DELIVERY).0);
            state.delivering.push(me);
            line
        };
        let _delivering = Delivering(self, me);
        sink.interrupt(IrqLine(line));
        Some(line)
    }
}
