//! Shared state of a machine: env and events, policy, memory, claims, services, and one table for each higher floor that has
//! one. The registry of devices is on a higher floor; lower floors use it through a trait.

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

/// State of a machine below its registry of devices. A [`Machine`](crate::machine::Machine) dereferences to its own.
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
    /// Creates the state of a machine on `env`, with the tables `parts` and the claims `claims`.
    pub(crate) fn new(
        env: Arc<dyn Env>,
        instrument: Option<Arc<dyn Instrument>>,
        policy: Policy,
        claims: Arc<Claims>,
        parts: Parts,
        registry: Weak<dyn DeviceRegistry>,
    ) -> Self {
        let memory = match env.page_source() {
            None => PhysMemory::new(env.memory()),
            Some(source) => PhysMemory::with_source(env.memory(), source),
        };
        let context = Context::new(env, instrument);
        Self { context, policy, memory, claims, providers: Providers::default(), parts, registry }
    }

    /// Policy of the machine.
    #[inline]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Page frames and contiguous memory.
    pub fn memory(&self) -> &PhysMemory {
        &self.memory
    }

    /// Returns true when domains keep a history of mappings.
    #[inline]
    pub(crate) fn tracks_mappings(&self) -> bool {
        self.policy.check_dma
    }

    /// The table of type `T`.
    pub(crate) fn part<T: Any>(&self) -> &T {
        self.parts.get()
    }

    /// Starts work items that are due; see [`DeviceRegistry::work_scheduled`].
    pub(crate) fn work_scheduled(&self) {
        if let Some(registry) = self.registry.upgrade() {
            registry.work_scheduled();
        }
    }

    /// Runs what interrupt handlers have left for task context.
    pub(crate) fn run_deferred_interrupts(&self) {
        if let Some(registry) = self.registry.upgrade() {
            registry.run_deferred_interrupts();
        }
    }

    /// Label or path of a node; its number while the machine is being dropped.
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
