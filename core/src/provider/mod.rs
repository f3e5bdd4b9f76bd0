//! Services of bound devices, by node and type.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::{Any, TypeId};

use crate::description::NodeId;
use crate::sync::SpinLock;

type Service = Box<dyn Any + Send + Sync>;

/// Table of all services of a machine.
#[derive(Default)]
pub(crate) struct Providers(SpinLock<BTreeMap<NodeId, Vec<(TypeId, Service)>>>);

impl Providers {
    /// Registers `service` at `node`. The caller holds the claim to its name.
    pub(crate) fn insert<T: ?Sized + Send + Sync + 'static>(&self, node: NodeId, service: Arc<T>) {
        self.0.lock().entry(node).or_default().push((TypeId::of::<Arc<T>>(), Box::new(service)));
    }

    pub(crate) fn get<T: ?Sized + Send + Sync + 'static>(&self, node: NodeId) -> Option<Arc<T>> {
        self.0.lock().get(&node)?.iter().find_map(|(_, s)| s.downcast_ref::<Arc<T>>()).cloned()
    }

    /// True when the device at `node` provides any service.
    pub(crate) fn offered_by(&self, node: NodeId) -> bool {
        self.0.lock().contains_key(&node)
    }

    /// Number of services, for leak checks.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().values().map(Vec::len).sum()
    }

    /// Removes and returns the service of type `of`.
    pub(crate) fn remove(&self, node: NodeId, of: TypeId) -> Option<Box<dyn Any + Send + Sync>> {
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
