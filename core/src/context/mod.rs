//! Context shared by all floors: env, instrument, events, promises, and reports of long waits.

mod clock;
#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
mod waits;

use alloc::sync::Arc;

use crate::env::Env;
use crate::event::{Event, EventKind};
use crate::instrument::{CoveragePoint, FaultPoint, Instrument};
use crate::promise::Promises;
use crate::sync::{SpinLock, WaitQueue};
pub use clock::SystemClock;
pub(crate) use waits::Awaited;

/// Env, instrument, event stream and promises of one machine. A [`Machine`](crate::machine::Machine) dereferences to its
/// own; code that needs nothing else of the machine takes a `Context`.
pub struct Context {
    pub(crate) env: Arc<dyn Env>,
    pub(crate) instrument: Option<Arc<dyn Instrument>>,
    pub(crate) promises: Promises,
    waits: waits::LongWaits,
    /// Waits that end with any interrupt or timer of the machine.
    events: Arc<WaitQueue>,
    /// All waits, which look for the env's next deadline again when it becomes earlier.
    deadlines: Arc<WaitQueue>,
    /// Number of the last event. Held while an event is emitted, so that numbers follow the order of emission.
    last_event: SpinLock<u64>,
}

impl Context {
    pub(crate) fn new(env: Arc<dyn Env>, instrument: Option<Arc<dyn Instrument>>) -> Self {
        Self {
            env,
            instrument,
            promises: Promises::default(),
            waits: waits::LongWaits::default(),
            events: Arc::default(),
            deadlines: Arc::default(),
            last_event: SpinLock::new(0),
        }
    }

    /// Target that the machine runs on.
    #[inline]
    pub fn env(&self) -> &dyn Env {
        &*self.env
    }

    /// Target that the machine runs on, for objects that outlive a borrow of the machine, such as providers.
    pub fn shared_env(&self) -> &Arc<dyn Env> {
        &self.env
    }

    /// Instrument of the machine, if there is one.
    pub fn instrument(&self) -> Option<&Arc<dyn Instrument>> {
        self.instrument.as_ref()
    }

    /// Counts of checks of each promise, and the violations found.
    pub fn promises(&self) -> &Promises {
        &self.promises
    }

    /// Ends the waits of [`SystemClock::wait_until`], so that they check their conditions.
    pub(crate) fn event_happened(&self) {
        self.events.wake_all();
    }

    /// Interrupts all waits: [`IrqSink::next_deadline`](crate::env::IrqSink::next_deadline) may be earlier than when they began.
    pub(crate) fn deadline_changed(&self) {
        self.deadlines.wake_all();
    }

    /// Emits an event. `kind` is called only when events are recorded.
    pub(crate) fn emit(&self, device: Option<&Arc<str>>, kind: impl FnOnce() -> EventKind) {
        if !self.env.tracing_enabled() {
            return;
        }
        let kind = kind();
        let mut last = self.last_event.lock();
        *last += 1;
        self.env.emit(&Event { seq: *last, at: self.env.now(), device: device.cloned(), kind });
    }

    /// Asks the instrument whether the call at `point` fails now, and emits an event if so.
    #[inline]
    pub(crate) fn should_fail(&self, device: Option<&str>, point: FaultPoint) -> bool {
        let fails = self.instrument.should_fail(point);
        if fails {
            self.report_injected(device, point);
        }
        fails
    }

    #[cold]
    fn report_injected(&self, device: Option<&str>, point: FaultPoint) {
        self.emit(device.map(Arc::from).as_ref(), || EventKind::Injected { point });
    }

    /// Reports to the instrument that `point` was passed.
    pub(crate) fn cover(&self, point: CoveragePoint) {
        self.instrument.cover(point);
    }
}
