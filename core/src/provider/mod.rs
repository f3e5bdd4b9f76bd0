//! What bound devices offer to others, by node and type.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::{Any, TypeId, type_name};

use crate::binding::{Entry, WayBack};
use crate::device::NodeId;
use crate::event::Outcome;
use crate::sync::Mutex;

type Key = (NodeId, TypeId);

/// All services of a machine.
#[derive(Default)]
pub(crate) struct Providers(Mutex<BTreeMap<Key, Box<dyn Any + Send + Sync>>>);

impl Providers {
    pub(crate) fn insert<T: ?Sized + Send + Sync + 'static>(&self, node: NodeId, service: Arc<T>) {
        self.0.lock().insert((node, TypeId::of::<Arc<T>>()), Box::new(service));
    }

    pub(crate) fn get<T: ?Sized + Send + Sync + 'static>(&self, node: NodeId) -> Option<Arc<T>> {
        self.0.lock().get(&(node, TypeId::of::<Arc<T>>()))?.downcast_ref::<Arc<T>>().cloned()
    }

    /// Whether the device at `node` offers anything.
    pub(crate) fn offered_by(&self, node: NodeId) -> bool {
        self.0.lock().keys().any(|k| k.0 == node)
    }

    /// Number of services, for leak checks.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

/// Ledger entry of a service.
pub(crate) struct ProviderEntry {
    key: Key,
    what: &'static str,
}

impl ProviderEntry {
    pub(crate) fn new<T: ?Sized + 'static>(node: NodeId) -> Self {
        Self { key: (node, TypeId::of::<Arc<T>>()), what: type_name::<T>() }
    }
}

impl Entry for ProviderEntry {
    fn resource(&self) -> &'static str {
        "service"
    }

    fn what(&self) -> String {
        self.what.into()
    }

    fn backend(&self) -> String {
        "core".into()
    }

    fn release(self: Box<Self>, way: &mut WayBack<'_>) -> Outcome {
        // Taken out under the lock, dropped outside: its destructor may be the driver's code.
        let service = way.bound.machine().providers.0.lock().remove(&self.key);
        drop(service);
        Outcome::Returned
    }
}
