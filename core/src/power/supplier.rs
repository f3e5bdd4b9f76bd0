//! Access of a driver to the suppliers of its device.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;

use super::{CountedSupply, ResetLine, Supply, SupplyUse, handle};
use crate::binding::{Bound, ResourceError};
use crate::device::NodeId;
use crate::error::ProbeError;

impl Bound<'_> {
    /// Service `T` of a supplier, which is given as a firmware node or as a device; defers until that device is bound. From then on the supplier is linked to
    /// this binding: it is not unbound before this binding has ended (P6).
    ///
    /// # Errors
    ///
    /// [`ResourceError::NotProvided`] when it is bound and provides no `T`, [`ResourceError::SupplierCycle`] when it uses
    /// this device itself, directly or through others; an event names them.
    pub fn supplier<T: ?Sized + Send + Sync + 'static>(
        &self,
        supplier: impl Into<NodeId>,
    ) -> Result<Arc<T>, ProbeError> {
        let node = supplier.into();
        self.state.check_link()?;
        let service = self.state.take_service::<T>(node)?;
        // Never the provider itself: one user could switch off a line that another one needs.
        let service: Box<dyn Any> = Box::new(service);
        let service: Box<dyn Any> = match service.downcast::<Arc<dyn Supply>>() {
            Ok(supply) => {
                let counted: Arc<dyn Supply> = Arc::new(CountedSupply::new(self.state, node, *supply));
                Box::new(counted)
            }
            Err(other) => other,
        };
        service.downcast::<Arc<T>>().map(|service| *service).map_err(|_| ResourceError::NotProvided.into())
    }

    /// Use of the regulator that the firmware property `NAME-supply` refers to, off at first; defers until its provider
    /// is bound. With [`AbsentSuppliers::DoWithout`](crate::machine::AbsentSuppliers::DoWithout) an absent regulator
    /// counts as always on.
    ///
    /// # Errors
    ///
    /// [`ResourceError::AbsentSupply`] without such a property, and those of [`supplier`](Self::supplier).
    pub fn regulator(&self, name: &str) -> Result<SupplyUse, ProbeError> {
        handle::regulator(self.state, name)
    }

    /// Use of the device's clock number `index` (the `clocks` entries, from 0), which is on when probe begins and may
    /// be switched off while the device idles.
    ///
    /// # Errors
    ///
    /// [`ResourceError::Absent`] when there is no such entry.
    pub fn clock(&self, index: usize) -> Result<SupplyUse, ResourceError> {
        handle::clock(self.state, index)
    }

    /// The device's reset lines; `None` when firmware lists none, or one is absent that the device does without
    /// ([`AbsentSuppliers::DoWithout`](crate::machine::AbsentSuppliers::DoWithout)): the device is reset by all of them or not at all.
    /// Each use is refused while another user holds one of them.
    pub fn reset_line(&self) -> Option<ResetLine> {
        ResetLine::of(self.state)
    }
}
