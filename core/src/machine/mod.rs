//! The machine: devices, drivers, bindings and memory of one instance. There are no globals; a guest is a second machine
//! in the same program.
//!
//! Its methods may be called from any thread. Lock order, outermost first: a device's lock (one at a time, or a parent's
//! before its child's), the registry, a device's group slot, the IOMMU registry, a group, then leaves (ledger, domain,
//! frames, events).

mod asked;
#[cfg(all(test, not(loom)))]
mod churn;
mod claims;
mod conditions;
mod devices;
mod drivers;
mod error;
#[cfg(all(test, not(loom)))]
mod leaving;
mod lifecycle;
mod links;
mod matching;
mod nodes;
mod probe;
mod queued;
mod refusals;
mod registry;
mod report;
mod state;
mod steps;
mod timer;
mod view;
#[cfg(all(test, not(loom)))]
mod windows;

pub use crate::context::{Context, SystemClock};
pub use crate::iommu::FaultCount;
pub use crate::system::{AbsentSuppliers, Policy, System};
pub use error::{AddError, BindError, UnbindError};
pub use probe::ProbeStats;
pub(crate) use report::Deferred;
pub use report::{DeferredDevice, DeviceInfo, ResourceUsage};
pub use timer::GuestTimers;
pub(crate) use view::Devlink;

use alloc::sync::{Arc, Weak};
use core::fmt;
use core::ops::Deref;

use crate::binding::WorkQueue;
use crate::claim::Claims;
use crate::dma::{DmaState, Quarantine};
use crate::env::{Env, Instant, IrqLine, IrqSink};
use crate::instrument::Instrument;
use crate::iommu::{Faults, Iommus, Timers};
use crate::irq::IrqTable;
pub use crate::irq::LineInfo;
use crate::power::Supplies;
use crate::sync::{Delivering, LockLevel, Mutex};
use crate::system::{DeviceRegistry, Parts};
use queued::{Request, Requests};
use registry::Registry;

/// One machine: its devices, drivers, bindings and memory.
///
/// Made on an [`Env`], which a target supplies (here one of the simplest kind), it binds drivers to devices as these and
/// their suppliers appear:
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
/// use bindery::device::DeviceDesc;
/// use bindery::machine::{BindError, Machine, Policy, UnbindError};
///
/// let machine = Machine::new(example::env(), Policy::default());
/// let mut desc = DeviceDesc::new("osc");
/// desc.compatible.push("acme,clock".into());
/// let clock = machine.add_device(desc)?;
/// machine.settle();
/// assert_eq!(clock.driver(), None, "no driver matches yet");
///
/// machine.register(example::Clock);
/// assert_eq!(machine.settle().bound, 1);
/// assert_eq!(clock.driver(), Some("clock"));
///
/// machine.unbind("osc", "clock")?;
/// assert!(matches!(machine.unbind("osc", "clock"), Err(UnbindError::NotHeld { .. })));
/// machine.bind("osc", "clock")?;
/// assert!(matches!(machine.bind("osc", "clock"), Err(BindError::Busy { driver: "clock", .. })));
/// assert!(machine.remove_device("osc"));
/// assert_eq!(machine.promises().broken(), []);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Machine {
    me: Weak<Self>,
    pub(crate) system: Arc<System>,
    registry: Mutex<Registry>,
    requests: Requests,
    guests: Arc<GuestTimers>,
}

/// Owner of a [`Machine`]. When the last clone is dropped, every binding is unbound and the machine is freed.
#[derive(Clone)]
pub struct Handle(Arc<Owned>);

struct Owned(Arc<Machine>);

impl Drop for Owned {
    fn drop(&mut self) {
        if self.0.queue_if_inside(Request::ShutDown).is_err() {
            self.0.from_outside(|| self.0.shut_down());
        }
    }
}

impl Deref for Handle {
    type Target = Arc<Machine>;
    fn deref(&self) -> &Arc<Machine> {
        &self.0.0
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", **self)
    }
}

/// Access to what the parts of a machine share: env and instrument, events, policy, memory.
impl Deref for Machine {
    type Target = System;
    fn deref(&self) -> &System {
        &self.system
    }
}

impl Machine {
    /// Creates a machine on `env`, without devices or drivers.
    #[expect(clippy::new_ret_no_self, reason = "a machine is reached through the handle that owns it")]
    pub fn new(env: Arc<dyn Env>, policy: Policy) -> Handle {
        Self::build(env, policy, None)
    }

    /// Creates a machine on `env` that `instrument` observes: for tests, explorers and simulators.
    pub fn with_instrument(env: Arc<dyn Env>, policy: Policy, instrument: Arc<dyn Instrument>) -> Handle {
        Self::build(env, policy, Some(instrument))
    }

    fn build(env: Arc<dyn Env>, policy: Policy, instrument: Option<Arc<dyn Instrument>>) -> Handle {
        let claims = Arc::<Claims>::default();
        let machine = Arc::new_cyclic(|me: &Weak<Self>| {
            // The parts that each mapping looks up come first: the list is searched in order.
            let parts = Parts::default()
                .with::<IrqTable>()
                .with::<Quarantine>()
                .with::<DmaState>()
                .with::<Timers>()
                .with::<WorkQueue>()
                .with::<Supplies>()
                .with::<Faults>()
                .and(Iommus::new(Arc::clone(&claims)));
            let registry: Weak<dyn DeviceRegistry> = Weak::<Self>::clone(me);
            Self {
                me: Weak::clone(me),
                system: Arc::new(System::new(env, instrument, policy, claims, parts, registry)),
                registry: Mutex::default().at(LockLevel::Registry),
                requests: Requests::default(),
                guests: Arc::default(),
            }
        });
        let sink: Weak<dyn IrqSink> = Arc::<Self>::downgrade(&machine);
        machine.env.connect(sink);
        Handle(Arc::new(Owned(machine)))
    }
}

impl IrqSink for Machine {
    fn interrupt(&self, line: IrqLine) {
        let irqs = self.irqs();
        irqs.deliver(self, line.0);
        self.event_happened();
        // In a trap it waits for `timer`, in a delivery inside another one for the end of that.
        if irqs.has_deferred() && !Delivering::is_active() {
            self.run_deferred();
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.next_timer()
    }

    fn timer(&self) {
        self.run_timers();
        self.event_happened();
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = self.registry.lock();
        write!(f, "Machine({} devices, {} drivers)", r.devices.len(), r.drivers.len())
    }
}
