//! What every part of a machine works with: the env, the stream of events, the promises, and waits that are told.

mod waits;

use alloc::sync::Arc;

use crate::env::Env;
use crate::event::{Event, EventKind};
use crate::instrument::FaultPoint;
use crate::promise::Promises;
use crate::sync::Mutex;
pub(crate) use waits::Awaited;

/// The surroundings of one machine. A [`Machine`](crate::machine::Machine) dereferences to its own; what needs nothing else
/// of the machine takes this.
pub struct Context {
    pub(crate) env: Arc<dyn Env>,
    pub(crate) promises: Promises,
    waits: waits::LongWaits,
    /// Number of the last event. Held while an event is given out, so that numbers follow the order.
    last_event: Mutex<u64>,
}

impl Context {
    pub(crate) fn new(env: Arc<dyn Env>) -> Self {
        Self { env, promises: Promises::default(), waits: waits::LongWaits::default(), last_event: Mutex::new(0) }
    }

    /// What the machine runs on.
    pub fn env(&self) -> &dyn Env {
        &*self.env
    }

    /// The same, for objects that outlive a borrow of the machine: what a driver provides to its consumers.
    pub fn shared_env(&self) -> &Arc<dyn Env> {
        &self.env
    }

    /// How often each promise was checked, and what was broken.
    pub fn promises(&self) -> &Promises {
        &self.promises
    }

    /// Tells listeners about something. `kind` is built only when somebody listens.
    pub(crate) fn emit(&self, device: Option<&Arc<str>>, kind: impl FnOnce() -> EventKind) {
        if !self.env.tracing_enabled() {
            return;
        }
        let kind = kind();
        let mut last = self.last_event.lock();
        *last += 1;
        self.env.emit(&Event { seq: *last, at: self.env.now(), device: device.cloned(), kind });
    }

    /// Whether a fault is to strike at `site` now.
    pub(crate) fn should_fail(&self, device: Option<&str>, point: FaultPoint) -> bool {
        let strikes = self.env.should_fail(point);
        if strikes {
            self.emit(device.map(Arc::from).as_ref(), || EventKind::Injected { point });
        }
        strikes
    }
}
