//! Access to services of suppliers, which requires a link (P6).

use alloc::sync::Arc;

use super::{BindingState, ResourceError};
use crate::device::NodeId;
use crate::error::{Missing, ProbeError};
use crate::instrument::FaultPoint;
use crate::link::NotLinked;
use crate::system::NoService;

impl BindingState {
    /// Returns the `T` that the device at `node` provides, and links to that device for as long as this binding lasts. A
    /// device provides nothing before it is bound: its probe may still fail.
    ///
    /// # Errors
    ///
    /// [`ProbeError::Defer`] while the supplier is not bound, [`ResourceError::NotProvided`] when it has no such service,
    /// [`ResourceError::SupplierCycle`] when it depends on this device.
    pub(crate) fn take_service<T: ?Sized + Send + Sync + 'static>(&self, node: NodeId) -> Result<Arc<T>, ProbeError> {
        let mut service = None;
        let mut offers = || {
            service = self.system().providers.get::<T>(node);
            service.is_some()
        };
        match self.registry().link_service(self.device(), node, &mut offers) {
            Ok(()) => service.ok_or(ProbeError::Defer { on: Missing::Node(node) }),
            Err(NoService::NotProvided) => Err(ResourceError::NotProvided.into()),
            Err(NoService::NotLinked(NotLinked::Absent)) => Err(ProbeError::Defer { on: Missing::Node(node) }),
            Err(NoService::NotLinked(NotLinked::Cycle(path))) => {
                self.registry().report_cycle(self.device(), &path);
                Err(ResourceError::SupplierCycle.into())
            }
        }
    }

    /// Checks that a supplier may still be requested.
    ///
    /// # Errors
    ///
    /// [`ResourceError::Unbinding`] once unwinding has begun.
    pub(crate) fn check_link(&self) -> Result<(), ResourceError> {
        self.check(FaultPoint::LinkAcquire)?;
        if self.ledger.is_closed() { Err(ResourceError::Unbinding) } else { Ok(()) }
    }
}
