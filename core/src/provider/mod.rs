//! Services of bound devices, by node and type.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::{Any, TypeId};

use crate::description::NodeId;
use crate::sync::SpinLock;

/// Service of a device.
struct Service {
    of: TypeId,
    /// An `Arc` of it.
    object: Box<dyn Any + Send + Sync>,
    /// A use after the binding has ended gets an error, so that users without a link may have it.
    run_down: bool,
}

/// Table of all services of a machine.
#[derive(Default)]
pub(crate) struct Providers(SpinLock<BTreeMap<NodeId, Vec<Service>>>);

impl Providers {
    /// Registers `service` at `node`. The caller holds the claim to its name.
    pub(crate) fn insert<T: ?Sized + Send + Sync + 'static>(&self, node: NodeId, service: Arc<T>, run_down: bool) {
        let service = Service { of: TypeId::of::<Arc<T>>(), object: Box::new(service), run_down };
        self.0.lock().entry(node).or_default().push(service);
    }

    pub(crate) fn get<T: ?Sized + Send + Sync + 'static>(&self, node: NodeId) -> Option<Arc<T>> {
        self.find(node, |_| true)
    }

    /// The service for a user that is not linked to its provider.
    pub(crate) fn get_run_down<T: ?Sized + Send + Sync + 'static>(&self, node: NodeId) -> Option<Arc<T>> {
        self.find(node, |service| service.run_down)
    }

    fn find<T: ?Sized + Send + Sync + 'static>(
        &self,
        node: NodeId,
        picks: impl Fn(&Service) -> bool,
    ) -> Option<Arc<T>> {
        let all = self.0.lock();
        all.get(&node)?.iter().filter(|s| picks(s)).find_map(|s| s.object.downcast_ref::<Arc<T>>()).cloned()
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
        let at = services.iter().rposition(|s| s.of == of)?;
        let Service { object, .. } = services.remove(at);
        if services.is_empty() {
            all.remove(&node);
        }
        Some(object)
    }
}
