//! Bindings with the driver's type erased.

use alloc::sync::Arc;
use core::any::Any;

use super::BindingState;
use crate::device::{CurrentBinding, Device};
use crate::error::ProbeError;
use crate::lifecycle::{QuiesceError, Quiesced};

/// Binding of a device to a driver of any type.
pub(crate) trait AnyBinding: Send + Sync {
    /// State of the binding, with the ledger.
    fn bound(&self) -> &BindingState;
    /// Name of the driver.
    fn driver(&self) -> &'static str;
    /// [Place](crate::driver::AnyDriver::place) of the driver.
    fn driver_place(&self) -> *const ();
    /// Calls the driver's probe and stores the driver data.
    ///
    /// # Errors
    ///
    /// The error of the driver's probe.
    fn probe(&self) -> Result<(), ProbeError>;
    /// Admits users.
    fn open(&self);
    /// Refuses new users; active ones may finish.
    fn close(&self);
    /// Calls the driver's `request_release` if there is driver data.
    fn request_release(&self);
    /// Calls the driver's `quiesce`. `None` without driver data.
    fn quiesce(&self) -> Option<Result<Quiesced, QuiesceError>>;
    /// Refuses new users and waits until the last one has left. A long wait is reported.
    fn drain(&self);
    /// As [`drain`](Self::drain), then drops the driver data.
    fn drop_data(&self);
    /// True while there is driver data.
    fn has_data(&self) -> bool;
    /// True while users are let in.
    fn is_open(&self) -> bool;
    /// Upcast from which [`Client`](crate::driver::Client) recovers the driver's type.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// Binding as stored in its device.
struct Current(Arc<dyn AnyBinding>);

impl CurrentBinding for Current {
    fn driver(&self) -> &'static str {
        self.0.driver()
    }
}

impl Device {
    /// The binding of this device, from the start of its probe until it is unwound.
    pub(crate) fn binding(&self) -> Option<Arc<dyn AnyBinding>> {
        let current = self.current()?;
        let current: &dyn Any = &*current;
        current.downcast_ref::<Current>().map(|current| Arc::clone(&current.0))
    }

    pub(crate) fn set_binding(&self, binding: Option<Arc<dyn AnyBinding>>) {
        self.set_current(binding.map(|binding| Arc::new(Current(binding)) as Arc<dyn CurrentBinding>));
    }
}
