//! Services that are clients of a driver.

use alloc::sync::Arc;

use super::*;
use crate::binding::ResourceError;
use crate::driver::{Client, ClientService, Gone};

trait Count: Send + Sync {
    fn count(&self) -> Result<u32, Gone>;
}

impl<D: Driver> Count for Client<D>
where
    for<'b> D::Data<'b>: Count,
{
    fn count(&self) -> Result<u32, Gone> {
        self.call(|data| data.count())?
    }
}

impl<D: Driver> ClientService<D> for dyn Count
where
    for<'b> D::Data<'b>: Count,
{
    fn from_client(client: Client<D>) -> Arc<Self> {
        Arc::new(client)
    }
}

struct Counter;

/// Borrows from the binding, so it cannot be a service itself.
struct Counted<'b>(CoherentSlice<'b, u32>);

impl Count for Counted<'_> {
    fn count(&self) -> Result<u32, Gone> {
        self.0.write(0, &(self.0.read(0) + 1));
        Ok(self.0.read(0))
    }
}

impl Driver for Counter {
    const NAME: &'static str = "counter";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,power")];
    type Data<'b> = Counted<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Counted<'b>, ProbeError> {
        let wrong = NotMe.provide_client::<dyn Count>(dev).unwrap_err();
        assert_eq!(wrong, ResourceError::OtherDriver("counter"));
        self.provide_client::<dyn Count>(dev)?;
        dev.provide(Arc::new(5_u32))?;
        Ok(Counted(dev.dma().coherent_slice(1)?))
    }

    fn quiesce(_: &Counted<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

struct NotMe;

impl Driver for NotMe {
    const NAME: &'static str = "not-me";
    const MATCHES: &'static [Match] = &[];
    type Data<'b> = Counted<'b>;
    fn probe<'b>(&self, _: Bound<'b>) -> Result<Counted<'b>, ProbeError> {
        Err(ProbeError::NoDevice)
    }
    fn quiesce(_: &Counted<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// Takes the service by the device of its parent.
struct User(Arc<Mutex<Option<Arc<dyn Count>>>>);

impl Driver for User {
    const NAME: &'static str = "user";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,widget")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let counter = dev.state.registry().devices().into_iter().find(|d| d.name() == "counter");
        let counter = counter.ok_or(ProbeError::NoDevice)?;
        let service = dev.supplier::<dyn Count>(&counter)?;
        assert!(service.count().is_ok());
        *self.0.lock().unwrap() = Some(service);
        Ok(())
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

#[test]
fn a_client_service_is_found_by_device_and_refuses_after_the_unbind() {
    let (_, machine, _) = machine();
    let mut counter = DeviceDesc::new("counter");
    counter.compatible.push("acme,power".into());
    machine.add_device(counter).unwrap();
    machine.add_device(widget()).unwrap();
    let taken = Arc::default();
    machine.register(User(Arc::clone(&taken)));
    machine.settle();
    assert!(machine.service::<dyn Count>("counter").is_none(), "it is not bound");
    machine.register(Counter);
    assert_eq!(machine.settle().bound, 2, "the user was deferred until then");

    let found = machine.service::<dyn Count>("counter").unwrap();
    assert_eq!(found.count(), Ok(2));
    assert!(machine.service::<u32>("counter").is_none(), "P6: without run-down it is for linked consumers only");
    assert!(machine.service::<dyn Count>("1000.widget").is_none() && machine.service::<dyn Count>("none").is_none());

    machine.unbind("counter", "counter").unwrap();
    assert_eq!(found.count(), Err(Gone), "P5");
    assert_eq!(taken.lock().unwrap().as_ref().map(|service| service.count()), Some(Err(Gone)), "P5");
    assert_ne!(machine.device("1000.widget").unwrap().driver(), Some("user"), "P6: the consumer was unbound first");
    machine.bind("counter", "counter").unwrap();
    machine.settle();
    assert_eq!(found.count(), Err(Gone), "P5: it is the service of the old binding");
    assert_eq!(machine.service::<dyn Count>("counter").unwrap().count(), Ok(2), "the consumer is bound again");
    promises_hold(&machine);
}
