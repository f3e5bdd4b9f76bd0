//! What bound devices offer to others, by node and type.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::{Any, TypeId, type_name};

use crate::binding::{Entry, WayBack};
use crate::claim::Claim;
use crate::description::NodeId;
use crate::event::Outcome;
use crate::lifecycle::HoldingKind;
use crate::sync::Mutex;

type Service = Box<dyn Any + Send + Sync>;

/// All services of a machine: a few of different types at each node that offers any.
#[derive(Default)]
pub(crate) struct Providers(Mutex<BTreeMap<NodeId, Vec<(TypeId, Service)>>>);

impl Providers {
    /// Offers `service` at `node`, whose name is claimed for it.
    pub(crate) fn insert<T: ?Sized + Send + Sync + 'static>(&self, node: NodeId, service: Arc<T>) {
        self.0.lock().entry(node).or_default().push((TypeId::of::<Arc<T>>(), Box::new(service)));
    }

    pub(crate) fn get<T: ?Sized + Send + Sync + 'static>(&self, node: NodeId) -> Option<Arc<T>> {
        self.0.lock().get(&node)?.iter().find_map(|(_, s)| s.downcast_ref::<Arc<T>>()).cloned()
    }

    /// Whether the device at `node` offers anything.
    pub(crate) fn offered_by(&self, node: NodeId) -> bool {
        self.0.lock().contains_key(&node)
    }

    /// Number of services, for leak checks.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().values().map(Vec::len).sum()
    }

    fn remove(&self, node: NodeId, of: TypeId) -> Option<Service> {
        let mut all = self.0.lock();
        let services = all.get_mut(&node)?;
        let at = services.iter().rposition(|(t, _)| *t == of)?;
        let (_, service) = services.remove(at);
        if services.is_empty() {
            all.remove(&node);
        }
        Some(service)
    }
}

/// Ledger entry of a service.
pub(crate) struct ProviderEntry {
    node: NodeId,
    of: TypeId,
    what: &'static str,
    /// To be who offers this at the node.
    claim: Arc<Claim>,
}

impl ProviderEntry {
    pub(crate) fn new<T: ?Sized + 'static>(node: NodeId, claim: Arc<Claim>) -> Self {
        Self { node, of: TypeId::of::<Arc<T>>(), what: type_name::<T>(), claim }
    }
}

impl Entry for ProviderEntry {
    fn kind(&self) -> HoldingKind {
        HoldingKind::Service
    }

    fn what(&self) -> String {
        self.what.into()
    }

    fn backend(&self) -> String {
        "core".into()
    }

    fn release(self: Box<Self>, way: &mut WayBack<'_>) -> Outcome {
        // Taken out under the lock, dropped outside: its destructor may be the driver's code.
        let machine = way.bound.machine();
        let service = machine.providers.remove(self.node, self.of);
        machine.release_claim(&self.claim);
        drop(service);
        Outcome::Returned
    }
}
