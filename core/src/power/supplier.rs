//! What the driver of a bound device asks of its suppliers.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;

use super::{CountedSupply, ResetLine, Supply, SupplyUse, handle};
use crate::binding::{Bound, ResourceError};
use crate::device::NodeId;
use crate::error::ProbeError;

impl Bound {
    /// What `T` the supplier at `node` provides; defers until that device is bound. From then on the supplier is linked
    /// to this binding: it is not unbound before this binding has ended (P6).
    ///
    /// # Errors
    ///
    /// [`ResourceError::NotProvided`] when it is bound and provides no `T`, [`ResourceError::SupplierCycle`] when it uses
    /// this device itself, directly or through others; an event names them.
    pub fn supplier<T: ?Sized + Send + Sync + 'static>(&self, node: NodeId) -> Result<Arc<T>, ProbeError> {
        self.check_link()?;
        let service = self.take_service::<T>(node)?;
        // A provider of supplies is never given away itself: one user could switch off what another one runs on.
        let service: Box<dyn Any> = Box::new(service);
        let service: Box<dyn Any> = match service.downcast::<Arc<dyn Supply>>() {
            Ok(supply) => {
                let counted: Arc<dyn Supply> = Arc::new(CountedSupply::new(self, node, *supply));
                Box::new(counted)
            }
            Err(other) => other,
        };
        service.downcast::<Arc<T>>().map(|service| *service).map_err(|_| ResourceError::NotProvided.into())
    }

    /// The regulator that the firmware property `NAME-supply` refers to, off as far as this binding is concerned; defers
    /// until its provider is bound. Under [`AbsentSuppliers::DoWithout`](crate::machine::AbsentSuppliers::DoWithout) an
    /// absent one counts as always on.
    pub fn regulator(&self, name: &str) -> Result<SupplyUse, ProbeError> {
        handle::regulator(self, name)
    }

    /// The device's clock number `index` (the `clocks` entries, from 0), which is on when probe begins: to switch it off
    /// while the device idles.
    pub fn clock(&self, index: usize) -> Result<SupplyUse, ResourceError> {
        handle::clock(self, index)
    }

    /// The device's reset lines; `None` when the firmware gives it none. Each use of them is refused while somebody else
    /// holds one.
    pub fn reset_line(&self) -> Option<ResetLine> {
        ResetLine::of(self)
    }
}
