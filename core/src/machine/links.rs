//! Links as the two ends of a binding see them, and services, which nobody gets without a link (P6).

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Machine;
use crate::binding::{Bound, ResourceError};
use crate::device::{Device, NodeId};
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
            r.graph.touch(node);
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
            NotLinked::Cycle(path) => Err(self.cycle(user, &path)),
        }
    }

    /// The device at `node`, if it is bound, becomes a supplier of `user`, which reaches its registers. False, and told, when
    /// it uses `user` itself.
    pub(crate) fn link_peer(&self, user: &Bound, node: NodeId) -> bool {
        let device = user.device();
        if node == device.node() {
            return true;
        }
        let driver = device.driver().unwrap_or("driver");
        let linked = {
            let mut r = self.registry.lock();
            let linked = r.graph.use_supplier(device.node(), node, driver);
            r.tidy(&self.supplies);
            linked
        };
        match linked {
            Ok(()) | Err(NotLinked::Absent) => true,
            Err(NotLinked::Cycle(path)) => {
                drop(self.cycle(user, &path));
                false
            }
        }
    }

    /// A probe that waits for a child of its own device waits for ever: the child is there for as long as the probe stands,
    /// and is probed when this device is bound.
    pub(super) fn not_for_its_own_child(&self, bound: &Bound, error: ProbeError) -> ProbeError {
        let node = bound.device().node();
        match error {
            ProbeError::Defer { on: Missing::Node(on) } if self.is_below(on, node) => self.cycle(bound, &[node, on]),
            error => error,
        }
    }

    fn is_below(&self, node: NodeId, above: NodeId) -> bool {
        let r = self.registry.lock();
        let linked = |d: &Arc<Device>| d.desc().suppliers.iter().any(|s| s.node == above);
        r.device(node).is_some_and(|d| d.desc().parent == Some(above) && linked(d))
    }

    /// Tells that `user` cannot use the last one of `path`, which needs it, through those in between.
    fn cycle(&self, user: &Bound, path: &[NodeId]) -> ProbeError {
        user.emit(|| {
            let mut names: Vec<String> = path.iter().rev().map(|n| self.node_name(*n)).collect();
            let what = alloc::format!("a link to {}", names[0]);
            if names.len() == 1 {
                names.push("itself".into());
            }
            EventKind::Refused { what, reason: alloc::format!("suppliers in a cycle: {}", names.join(" needs ")) }
        });
        ResourceError::SupplierCycle.into()
    }
}
