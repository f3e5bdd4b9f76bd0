//! Access to a bound driver from outside that does not keep it bound.

use alloc::sync::Arc;
use core::fmt;
use core::panic::Location;

use super::{Binding, Driver};
use crate::binding::{Activity, AnyBinding};

/// Error of a call after the binding has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the driver is no longer bound to the device")]
pub struct Gone;

/// Open handle of a bound driver, as held by a file, a mount or a network interface.
///
/// It may outlive the binding. Each [`call`](Self::call) either completes before the driver data is dropped or fails with
/// [`Gone`] (P5). A new binding of the same device needs a new client.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
/// use bindery::binding::Bound;
/// use bindery::device::DeviceDesc;
/// use bindery::driver::{Driver, Gone, Match, ProbeError, QuiesceError, Quiesced};
///
/// struct Sensor;
///
/// impl Driver for Sensor {
///     const NAME: &'static str = "sensor";
///     const MATCHES: &'static [Match] = &[Match::compatible("acme,sensor")];
///     type Data<'b> = u32;
///
///     fn probe(&self, _: Bound<'_>) -> Result<u32, ProbeError> {
///         Ok(21)
///     }
///
///     fn quiesce(_: &u32) -> Result<Quiesced, QuiesceError> {
///         Ok(Quiesced::never_started())
///     }
/// }
///
/// let machine = example::machine();
/// machine.register(Sensor);
/// let mut desc = DeviceDesc::new("sensor");
/// desc.compatible.push("acme,sensor".into());
/// machine.add_device(desc)?;
/// machine.settle();
/// let client = machine.client::<Sensor>("sensor").expect("the sensor is bound");
/// assert_eq!(client.call(|celsius| *celsius), Ok(21));
/// machine.unbind("sensor", "sensor")?;
/// assert_eq!(client.call(|celsius| *celsius), Err(Gone));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Client<D: Driver>(pub(crate) Arc<Binding<D>>);

impl<D: Driver> Client<D> {
    /// Runs `use_data` on the driver data. An unbind that waits long for it reports the caller's location.
    ///
    /// # Errors
    ///
    /// [`Gone`] once the driver is being unbound.
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
