//! Services that are clients of a driver: the run-down of the binding protects each call.

use alloc::sync::Arc;

use super::{Binding, Client, Driver};
use crate::binding::{BindingState, ResourceError};

/// Interface that the data of driver `D` can offer through a [`Client`].
///
/// Whoever defines an interface implements it for clients of all drivers whose data has it, and this trait for its `dyn` type, once. A
/// driver then offers it in one line:
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
/// use bindery::binding::Bound;
/// use bindery::device::DeviceDesc;
/// use bindery::driver::{Client, ClientService, Driver, Gone, Match, ProbeError, QuiesceError, Quiesced};
/// use std::sync::Arc;
///
/// // The interface:
/// trait Thermometer: Send + Sync {
///     fn celsius(&self) -> Result<u32, Gone>;
/// }
///
/// impl<D: Driver> Thermometer for Client<D>
/// where
///     for<'b> D::Data<'b>: Thermometer,
/// {
///     fn celsius(&self) -> Result<u32, Gone> {
///         self.call(|data| data.celsius())?
///     }
/// }
///
/// impl<D: Driver> ClientService<D> for dyn Thermometer
/// where
///     for<'b> D::Data<'b>: Thermometer,
/// {
///     fn from_client(client: Client<D>) -> Arc<Self> {
///         Arc::new(client)
///     }
/// }
///
/// // A driver:
/// struct Sensor;
///
/// struct Probe<'b> {
///     dev: Bound<'b>,
/// }
///
/// impl Thermometer for Probe<'_> {
///     fn celsius(&self) -> Result<u32, Gone> {
///         Ok(self.dev.name().len() as u32)
///     }
/// }
///
/// impl Driver for Sensor {
///     const NAME: &'static str = "sensor";
///     const MATCHES: &'static [Match] = &[Match::compatible("acme,sensor")];
///     type Data<'b> = Probe<'b>;
///
///     fn probe<'b>(&self, dev: Bound<'b>) -> Result<Probe<'b>, ProbeError> {
///         self.provide_client::<dyn Thermometer>(dev)?;
///         Ok(Probe { dev })
///     }
///
///     fn quiesce(_: &Probe<'_>) -> Result<Quiesced, QuiesceError> {
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
///
/// // A user outside drivers finds it by the device's name, another driver with `Bound::supplier`:
/// let thermometer = machine.service::<dyn Thermometer>("sensor").expect("the sensor is bound");
/// assert_eq!(thermometer.celsius(), Ok(6));
/// machine.unbind("sensor", "sensor")?;
/// assert_eq!(thermometer.celsius(), Err(Gone));
/// assert!(machine.service::<dyn Thermometer>("sensor").is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait ClientService<D: Driver>: Send + Sync + 'static {
    /// `client` as this interface.
    fn from_client(client: Client<D>) -> Arc<Self>;
}

impl BindingState {
    /// See [`Driver::provide_client`].
    pub(super) fn provide_client<D: Driver, T: ?Sized + ClientService<D>>(&self) -> Result<(), ResourceError> {
        self.provide::<T>(T::from_client(Client(self.binding_of()?)), true)
    }

    /// The binding that this is the state of, as one of driver `D`.
    pub(crate) fn binding_of<D: Driver>(&self) -> Result<Arc<Binding<D>>, ResourceError> {
        let binding = self.device().binding().ok_or(ResourceError::Unbinding)?;
        let driver = binding.driver();
        let binding = binding.into_any().downcast::<Binding<D>>().map_err(|_| ResourceError::OtherDriver(driver))?;
        if core::ptr::eq(binding.state(), self) { Ok(binding) } else { Err(ResourceError::Unbinding) }
    }
}
