//! The machine: one whole instance of everything. There are no globals; a guest is a second machine in the same program.
//!
//! Its methods may be called from any thread. Lock order, outermost first: a device's lock (one at a time, or a parent's
//! before its child's), the registry, a device's group slot, the IOMMU registry, a group, then leaves (ledger, domain,
//! frames, events).

#[cfg(all(test, not(loom)))]
mod churn;
mod claims;
mod conditions;
mod devices;
mod drivers;
mod error;
mod faults;
mod life;
mod links;
mod nodes;
mod policy;
mod probe;
mod queued;
mod refusals;
mod registry;
mod report;
mod state;
mod timer;
mod view;
#[cfg(all(test, not(loom)))]
mod windows;

pub use crate::context::Context;
pub use error::{AddError, BindError, UnbindError};
pub use faults::FaultCount;
pub use policy::{AbsentSuppliers, Policy};
pub use probe::ProbeStats;
pub(crate) use report::Deferred;
pub use report::{DeferredDevice, DeviceInfo, ResourceUsage};
pub use timer::GuestTimers;
pub(crate) use view::Devlink;

use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::fmt;
use core::ops::Deref;

use crate::claim::Claims;
use crate::device::NodeId;
use crate::dma::{DmaState, Quarantine};
use crate::env::{Env, Instant, IrqLine, IrqSink};
use crate::instrument::Instrument;
use crate::iommu::Iommus;
use crate::irq::IrqTable;
pub use crate::irq::LineInfo;
use crate::mem::PhysMemory;
use crate::power::Supplies;
use crate::provider::Providers;
use crate::sync::Mutex;
use queued::{Request, Requests};
use registry::Registry;

/// One machine: its devices, drivers, bindings and memory.
pub struct Machine {
    me: Weak<Self>,
    context: Context,
    policy: Policy,
    memory: PhysMemory,
    registry: Mutex<Registry>,
    requests: Requests,
    pub(crate) claims: Arc<Claims>,
    pub(crate) providers: Providers,
    pub(crate) supplies: Supplies,
    pub(crate) irqs: IrqTable,
    pub(crate) iommus: Iommus,
    pub(crate) quarantine: Quarantine,
    faults: faults::Faults,
    pub(crate) dma: DmaState,
    pub(crate) timers: timer::Timers,
}

/// Owns a [`Machine`]. When the last clone is dropped, every binding is taken back and the machine goes.
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

/// Its env, instrument, events, promises and waits.
impl Deref for Machine {
    type Target = Context;
    fn deref(&self) -> &Context {
        &self.context
    }
}

impl Machine {
    /// Makes a machine on `env`, without devices or drivers.
    #[expect(clippy::new_ret_no_self, reason = "a machine is reached through the handle that owns it")]
    pub fn new(env: Arc<dyn Env>, policy: Policy) -> Handle {
        Self::build(env, policy, None)
    }

    /// Makes a machine on `env` that `instrument` observes: for tests, explorers and simulators.
    pub fn with_instrument(env: Arc<dyn Env>, policy: Policy, instrument: Arc<dyn Instrument>) -> Handle {
        Self::build(env, policy, Some(instrument))
    }

    fn build(env: Arc<dyn Env>, policy: Policy, instrument: Option<Arc<dyn Instrument>>) -> Handle {
        let claims = Arc::<Claims>::default();
        let machine = Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            memory: PhysMemory::new(env.memory()),
            context: Context::new(env, instrument),
            policy,
            registry: Mutex::default(),
            requests: Requests::default(),
            iommus: Iommus::new(Arc::clone(&claims)),
            claims,
            providers: Providers::default(),
            supplies: Supplies::default(),
            irqs: IrqTable::default(),
            quarantine: Quarantine::default(),
            faults: faults::Faults::default(),
            dma: DmaState::default(),
            timers: timer::Timers::default(),
        });
        let sink: Weak<dyn IrqSink> = Arc::<Self>::downgrade(&machine);
        machine.env.connect(sink);
        Handle(Arc::new(Owned(machine)))
    }

    /// Its written policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Its page frames and contiguous memory.
    pub fn memory(&self) -> &PhysMemory {
        &self.memory
    }

    /// Whether domains remember what was mapped where.
    pub(crate) fn tracks_mappings(&self) -> bool {
        self.policy.check_dma
    }

    pub(crate) fn node_name(&self, node: NodeId) -> String {
        self.registry.lock().nodes.name(node)
    }
}

impl IrqSink for Machine {
    fn interrupt(&self, line: IrqLine) {
        let inside = self.enter();
        self.irqs.deliver(self, (None, line.0));
        self.interrupt_ended(inside);
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.next_timer()
    }

    fn timer(&self) {
        self.run_timers();
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = self.registry.lock();
        write!(f, "Machine({} devices, {} drivers)", r.devices.len(), r.drivers.len())
    }
}
