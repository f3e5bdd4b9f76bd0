//! Ledger entries of services.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::{TypeId, type_name};

use super::{BindingState, Entry, ResourceError, UnwindCtx};
use crate::claim::Claim;
use crate::description::NodeId;
use crate::event::Outcome;
use crate::instrument::FaultPoint;
use crate::lifecycle::ResourceKind;

impl BindingState {
    /// Offers `service` while the device is bound. `run_down`: it refuses its users by itself afterwards.
    pub(crate) fn provide<T: ?Sized + Send + Sync + 'static>(
        &self,
        service: Arc<T>,
        run_down: bool,
    ) -> Result<(), ResourceError> {
        let node = self.device().node();
        self.check(FaultPoint::Provide)?;
        let claim = self.claim_name("service", type_name::<T>())?;
        self.system().providers.insert(node, service, run_down);
        self.push(0, ProviderEntry::new::<T>(node, claim)).map(|_| ())
    }
}

/// Ledger entry of a service.
pub(crate) struct ProviderEntry {
    node: NodeId,
    of: TypeId,
    what: &'static str,
    /// Claim to the service's name at the node.
    claim: Arc<Claim>,
}

impl ProviderEntry {
    pub(crate) fn new<T: ?Sized + 'static>(node: NodeId, claim: Arc<Claim>) -> Self {
        Self { node, of: TypeId::of::<Arc<T>>(), what: type_name::<T>(), claim }
    }
}

impl Entry for ProviderEntry {
    fn kind(&self) -> ResourceKind {
        ResourceKind::Service
    }

    fn what(&self) -> String {
        self.what.into()
    }

    fn backend(&self) -> String {
        "core".into()
    }

    fn release(self: Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome {
        // Removed under the lock but dropped outside it: the destructor may be the driver's code.
        let machine = ctx.bound.system();
        let service = machine.providers.remove(self.node, self.of);
        machine.release_claim(&self.claim);
        drop(service);
        Outcome::Returned
    }
}
