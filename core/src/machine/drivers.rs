//! Registration and removal of drivers, and handles on them.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Machine;
use super::lifecycle::BindingsOf;
use super::queued::Request;
use crate::binding::Phase;
use crate::device::Device;
use crate::driver::{Adapter, AnyDriver, Binding, Client, Driver};
use crate::event::{Cause, EventKind};
use crate::promise::Promise;

impl Machine {
    /// Registers a driver. Devices that it matches are probed by the next [`settle`](Self::settle). False when a driver
    /// of that name is registered already.
    pub fn register<D: Driver>(self: &Arc<Self>, driver: D) -> bool {
        let erased: Arc<dyn AnyDriver> = Arc::new(Adapter(Arc::new(driver)));
        {
            let mut r = self.registry.lock();
            if r.drivers.contains_key(D::NAME) {
                drop(r);
                self.emit(None, || EventKind::Refused {
                    what: alloc::format!("a second driver {}", D::NAME),
                    reason: "a driver of that name is registered".into(),
                });
                return false;
            }
            let listed = r.matching.add_driver(&erased);
            r.drivers.insert(D::NAME, erased);
            // `driver_override` matches by name alone and excludes drivers that match by `compatible`.
            let wanted: Vec<_> = r
                .by_node
                .values()
                .filter(|d| d.driver_override().is_some_and(|o| &*o == D::NAME))
                .map(|d| d.node())
                .collect();
            for node in listed {
                if r.device(node).is_some_and(|d| d.driver_override().is_none()) {
                    r.enqueue(node);
                }
            }
            for node in wanted {
                r.enqueue(node);
            }
        }
        self.emit(None, || EventKind::DriverAdded { driver: D::NAME.into() });
        true
    }

    /// Removes a driver: it binds no device any more, and its devices are unbound, the latest first. True when it was
    /// registered. Called from inside driver code it returns at once, and the unbinding is queued.
    pub fn unregister(self: &Arc<Self>, name: &str) -> bool {
        let Some((driver, users)) = ({
            let mut r = self.registry.lock();
            r.drivers.remove(name).map(|driver| {
                r.matching.remove_driver(&driver);
                let users = r.held_by(name);
                (driver, users)
            })
        }) else {
            return false;
        };
        let request = Request::DriverRemoved { driver, users };
        if let Err(Request::DriverRemoved { driver, users }) = self.queue_if_inside(request) {
            self.from_outside(|| self.end_bindings_of(&driver, users));
        }
        true
    }

    /// Ends the bindings of a driver that is not registered any more, in the order of `users`. The caller is outside
    /// driver code.
    pub(super) fn end_bindings_of(self: &Arc<Self>, driver: &Arc<dyn AnyDriver>, users: Vec<Arc<Device>>) {
        for device in users {
            self.end_binding(&device, Cause::DriverRemoved, BindingsOf::Driver(driver));
            self.registry.lock().enqueue(device.node());
        }
        let kept = {
            let r = self.registry.lock();
            // Not by its name: a driver that was registered under it meanwhile may have bound devices rightfully.
            let of = BindingsOf::Driver(driver);
            let holds = |d: &&Arc<Device>| d.phase() == Phase::Bound && d.binding().is_some_and(|b| of.has(&*b));
            r.by_node.values().find(holds).cloned()
        };
        self.promises.check(Promise::NothingLeft, kept.is_none(), || {
            alloc::format!("{kept:?} is held by {}, which was removed", driver.name())
        });
        self.emit(None, || EventKind::DriverRemoved { driver: driver.name().into() });
    }

    /// Handle on the driver `D` of `device`, if `D` is bound to it now.
    pub fn client<D: Driver>(&self, device: &str) -> Option<Client<D>> {
        let binding = self.device(device)?.binding()?;
        binding.into_any().downcast::<Binding<D>>().ok().map(Client)
    }

    /// Service `T` of a bound device, for users outside drivers: file systems, commands. They are not linked to the device, so it must
    /// be one that [`Driver::provide_client`] offers: calls after the unbind get its error.
    /// `None` when the device is not bound, or offers no such service.
    pub fn service<T: ?Sized + Send + Sync + 'static>(&self, device: &str) -> Option<Arc<T>> {
        let device = self.device(device).filter(|device| device.phase() == Phase::Bound)?;
        self.providers.get_run_down(device.node())
    }

    /// Names of the registered drivers, in order.
    pub fn drivers(&self) -> Vec<&'static str> {
        self.registry.lock().drivers.keys().copied().collect()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::binding::Bound;
    use crate::device::DeviceDesc;
    use crate::driver::{Match, ProbeError, QuiesceError, Quiesced};
    use crate::env::fake::FakeEnv;
    use crate::machine::Policy;
    use crate::system::DeviceRegistry;

    struct Renewed;

    impl Driver for Renewed {
        const NAME: &'static str = "renewed";
        const MATCHES: &'static [Match] = &[Match::compatible("t,renewed")];
        type Data<'b> = ();
        fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
            Ok(())
        }
        fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
            Ok(Quiesced::never_started())
        }
    }

    #[test]
    fn the_removal_of_a_driver_is_about_its_own_bindings_and_not_those_of_a_later_one_of_its_name() {
        let machine = FakeEnv::new().machine(Policy::default());
        machine.register(Renewed);
        let mut desc = DeviceDesc::new("device");
        desc.compatible.push("t,renewed".into());
        let device = machine.add_device(desc).unwrap();
        let old = machine.registry.lock().drivers.get("renewed").cloned().unwrap();
        assert!(machine.unregister("renewed") && machine.register(Renewed));
        machine.settle();
        assert_eq!(device.driver(), Some("renewed"));
        // As when the removal of the old one was delayed until now: it does not end what the new one has,
        machine.end_bindings_of(&old, Vec::from([Arc::clone(&device)]));
        assert_eq!(device.driver(), Some("renewed"));
        // nor wonders at it, when the new one is being removed, too.
        let inside = machine.entered_driver();
        assert!(machine.unregister("renewed"));
        machine.end_bindings_of(&old, Vec::new());
        assert_eq!(device.driver(), Some("renewed"));
        machine.left_driver(inside);
        assert_eq!(device.driver(), None);
        assert_eq!(machine.promises().broken(), []);
    }
}
