//! Bindings of any driver.

use alloc::sync::Arc;
use core::any::Any;

use super::Bound;
use crate::device::{CurrentBinding, Device};
use crate::error::ProbeError;
use crate::lifecycle::{IrqReturn, QuiesceError, Quiesced};

/// A binding of whatever driver.
pub(crate) trait AnyBinding: Send + Sync {
    /// What the binding holds.
    fn bound(&self) -> &Bound;
    /// The driver's name.
    fn driver(&self) -> &'static str;
    /// Calls the driver's probe and keeps the data.
    fn probe(&self) -> Result<(), ProbeError>;
    /// Lets users in.
    fn open(&self);
    /// Shuts users out; those inside stay.
    fn close(&self);
    /// Calls the driver's wind-down, when there is data.
    fn request_release(&self);
    /// Calls the driver's quiesce. `None` when there is no data.
    fn quiesce(&self) -> Option<Result<Quiesced, QuiesceError>>;
    /// Shuts users out and waits until the last one has left. A wait that lasts is told.
    fn drain(&self);
    /// The same, and drops the data.
    fn drop_data(&self);
    /// Whether there is driver data.
    fn has_data(&self) -> bool;
    /// Serves interrupt `index`, if the data is there and open.
    fn interrupt(&self, index: usize) -> Option<IrqReturn>;
    /// For [`Client`](crate::driver::Client): back to the driver's type.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// A binding, as its device has it.
struct Current(Arc<dyn AnyBinding>);

impl CurrentBinding for Current {
    fn driver(&self) -> &'static str {
        self.0.driver()
    }
}

impl Device {
    /// The binding of this device, from the beginning of its probe until it is unwound.
    pub(crate) fn binding(&self) -> Option<Arc<dyn AnyBinding>> {
        let current = self.current()?;
        let current: &dyn Any = &*current;
        current.downcast_ref::<Current>().map(|current| Arc::clone(&current.0))
    }

    pub(crate) fn set_binding(&self, binding: Option<Arc<dyn AnyBinding>>) {
        self.set_current(binding.map(|binding| Arc::new(Current(binding)) as Arc<dyn CurrentBinding>));
    }
}
