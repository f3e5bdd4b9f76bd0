//! The state that all parts of a machine share: env and events, policy, memory, claims, services, and one table of each
//! part. The registry of devices stands above; what lower floors need of it is a trait.

mod claims;
mod parts;
mod policy;
mod registry;

pub(crate) use parts::Parts;
pub use policy::{AbsentSuppliers, Policy};
pub(crate) use registry::{DeviceRegistry, NoService};

use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::ops::Deref;

use crate::claim::Claims;
use crate::context::Context;
use crate::description::NodeId;
use crate::env::Env;
use crate::instrument::Instrument;
use crate::mem::PhysMemory;
use crate::provider::Providers;

/// The parts of a machine that need no registry of devices. A [`Machine`](crate::machine::Machine) dereferences to its own.
pub struct System {
    context: Context,
    policy: Policy,
    memory: PhysMemory,
    pub(crate) claims: Arc<Claims>,
    pub(crate) providers: Providers,
    parts: Parts,
    registry: Weak<dyn DeviceRegistry>,
}

impl System {
    /// A system on `env`, with the tables `parts`. It knows nothing of who holds what beyond `claims`.
    pub(crate) fn new(
        env: Arc<dyn Env>,
        instrument: Option<Arc<dyn Instrument>>,
        policy: Policy,
        claims: Arc<Claims>,
        parts: Parts,
        registry: Weak<dyn DeviceRegistry>,
    ) -> Self {
        let memory = PhysMemory::new(env.memory());
        let context = Context::new(env, instrument);
        Self { context, policy, memory, claims, providers: Providers::default(), parts, registry }
    }

    /// Written policy of the machine.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Page frames and contiguous memory.
    pub fn memory(&self) -> &PhysMemory {
        &self.memory
    }

    /// True when domains remember what was mapped where.
    pub(crate) fn tracks_mappings(&self) -> bool {
        self.policy.check_dma
    }

    /// The table of type `T`.
    pub(crate) fn part<T: Any>(&self) -> &T {
        self.parts.get()
    }

    /// Label or path of a node, or its number when the machine is being dropped.
    pub(crate) fn node_name(&self, node: NodeId) -> String {
        self.registry.upgrade().map_or_else(|| format!("node {}", node.0), |registry| registry.node_name(node))
    }
}

/// Env, events, promises and waits.
impl Deref for System {
    type Target = Context;
    fn deref(&self) -> &Context {
        &self.context
    }
}
