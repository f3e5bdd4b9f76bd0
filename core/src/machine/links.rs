//! Links as the two ends of a binding see them, and services, which nobody gets without a link (P6).

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Machine;
use crate::binding::{Bound, ResourceError};
use crate::device::NodeId;
use crate::driver::{Missing, ProbeError};
use crate::event::EventKind;
use crate::link::NotLinked;

impl Machine {
    /// What `T` the device at `node` provides, with a link to it that lasts as long as the binding of `user`. A device
    /// provides nothing before it is bound: its probe may still fail.
    pub(crate) fn take_service<T: ?Sized + Send + Sync + 'static>(
        &self,
        user: &Bound,
        node: NodeId,
    ) -> Result<Arc<T>, ProbeError> {
        let device = user.device();
        let refused = {
            // Looked up and linked under one lock, so that a provider that leaves meanwhile finds this consumer, or is not
            // found by it.
            let mut r = self.registry.lock();
            let service = self.providers.get::<T>(node);
            let available = r.graph.is_available(node);
            let driver = device.driver().unwrap_or("driver");
            match service {
                None if available => return Err(ResourceError::NotProvided.into()),
                // The cycle comes first: a device that waits for itself waits for ever.
                None if node != device.node() => NotLinked::Absent,
                service => match (r.graph.use_supplier(device.node(), node, driver), service) {
                    (Ok(()), Some(service)) => return Ok(service),
                    (Ok(()), None) => NotLinked::Absent,
                    (Err(refused), _) => refused,
                },
            }
        };
        match refused {
            NotLinked::Absent => Err(ProbeError::Defer { on: Missing::Node(node) }),
            NotLinked::Cycle(path) => {
                user.emit(|| {
                    let through: Vec<String> = path.iter().map(|n| self.node_name(*n)).collect();
                    let supplier = through.last().cloned().unwrap_or_default();
                    let reason = alloc::format!("suppliers in a cycle: {} back to it", through.join(", used by "));
                    EventKind::Refused { what: alloc::format!("a link to {supplier}"), reason }
                });
                Err(ResourceError::SupplierCycle.into())
            }
        }
    }
}
