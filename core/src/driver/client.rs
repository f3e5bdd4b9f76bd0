//! Using a driver from outside, without keeping it alive.

use alloc::sync::Arc;
use core::fmt;
use core::panic::Location;

use super::{Binding, Driver};
use crate::binding::{Activity, AnyBinding};

/// The binding has ended: there is no driver data to call any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the driver has let go of the device")]
pub struct Gone;

/// An open handle on a bound driver: a file, a mount, a network interface would hold one.
///
/// It outlives the binding. Each [`call`](Self::call) either runs before the driver is shut down, and then to its end,
/// or gets [`Gone`] (P5). A new binding of the same device needs a new client.
pub struct Client<D: Driver>(pub(crate) Arc<Binding<D>>);

impl<D: Driver> Client<D> {
    /// Runs `use_data` on the driver's data. Where it is called from is noted while it is inside: an unbind that waits for
    /// it says so.
    #[track_caller]
    pub fn call<R>(&self, use_data: impl for<'x> FnOnce(&D::Data<'x>) -> R) -> Result<R, Gone> {
        let activity = Activity::Call(Location::caller());
        let registry = self.0.bound().registry();
        let inside = registry.entered_driver();
        let answer = self.0.with(activity, use_data);
        registry.left_driver(inside);
        answer.ok_or(Gone)
    }
}

impl<D: Driver> Clone for Client<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D: Driver> fmt::Debug for Client<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", D::NAME)
    }
}
