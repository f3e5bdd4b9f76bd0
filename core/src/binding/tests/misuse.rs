//! Drivers that panic, that request a resource which is held or request it twice, and a machine dropped while bound.

use alloc::string::ToString;
use alloc::sync::Arc;

use super::{good, machine, promises_hold, widget};
use crate::addr::PhysAddr;
use crate::binding::{Bound, Phase};
use crate::device::{DeviceDesc, Resource};
use crate::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use crate::env::{IrqLine, Trigger};
use crate::event::EventKind;

/// Driver whose users register actions of their own.
struct Shared;

impl Driver for Shared {
    const NAME: &'static str = "shared";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,widget")];
    type Data<'b> = Bound<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Bound<'b>, ProbeError> {
        Ok(dev)
    }

    fn quiesce(_: &Bound<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

#[test]
fn several_users_of_a_binding_may_register_actions_of_the_same_name() {
    let (_, machine, _) = machine();
    machine.register(Shared);
    machine.add_device(widget()).unwrap();
    machine.settle();
    let client = machine.client::<Shared>("1000.widget").unwrap();
    for _ in 0..2 {
        client.call(|dev| dev.action("user", || ())).unwrap().unwrap();
    }
    machine.unbind("1000.widget", "shared").unwrap();
    promises_hold(&machine);
}

/// Driver that acquires a few resources and panics.
struct Panics;

impl Driver for Panics {
    const NAME: &'static str = "panics";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,widget")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        dev.mmio(0)?;
        dev.irq(0)?;
        dev.dma().coherent(4096)?;
        panic!("a bug of the driver");
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

#[test]
fn resources_of_a_panicked_probe_are_released_by_the_next_operation() {
    let (env, machine, _) = machine();
    let before = machine.resource_usage();
    machine.register(Panics);
    machine.add_device(widget()).unwrap();
    let settle = std::panic::AssertUnwindSafe(|| machine.settle());
    assert!(std::panic::catch_unwind(settle).is_err());
    assert_eq!(machine.device("1000.widget").unwrap().phase(), Phase::Probing);
    assert!(machine.unregister("panics"));
    assert_eq!(machine.resource_usage(), before, "P4");
    assert!(env.enabled.lock().unwrap().is_empty());
    promises_hold(&machine);
}

#[test]
fn dropping_a_machine_releases_everything() {
    let (env, machine, calls) = machine();
    machine.register(good(&calls));
    machine.add_device(widget()).unwrap();
    machine.settle();
    let weak = Arc::downgrade(&machine);
    drop(machine);
    assert!(weak.upgrade().is_none(), "no cycle keeps the machine alive");
    assert!(env.enabled.lock().unwrap().is_empty());
    assert!(calls.lock().unwrap().contains(&"data dropped"));
}

struct Twice;

impl Driver for Twice {
    const NAME: &'static str = "twice";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,widget")];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        dev.provide(Arc::new(7_u32))?;
        dev.provide(Arc::new(7_u64))?;
        Ok(dev.provide(Arc::new(8_u32))?)
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

#[test]
fn a_device_offers_one_service_of_each_type() {
    let (env, machine, _) = machine();
    machine.register(Twice);
    machine.add_device(widget()).unwrap();
    machine.settle();
    let error = machine.bind("1000.widget", "twice").unwrap_err().to_string();
    assert!(error.contains("service u32 of 1000.widget is held by 1000.widget (twice)"), "{error}");
    assert!(env.event_kinds("1000.widget").iter().any(|e| matches!(e, EventKind::Refused { .. })));
    assert_eq!((machine.resource_usage().services, machine.promises().broken()), (0, std::vec::Vec::new()));
}

#[test]
fn a_second_trigger_for_a_line_is_refused_with_its_holder() {
    let (_, machine, calls) = machine();
    machine.register(good(&calls));
    machine.add_device(widget()).unwrap();
    let mut second = DeviceDesc::new("2000.widget");
    second.compatible.push("acme,widget".into());
    second.resources.push(Resource::Mem { base: PhysAddr(0x2000), len: 64 });
    second.resources.push(Resource::Irq { line: IrqLine(40), trigger: Trigger::EdgeRising });
    machine.add_device(second).unwrap();
    machine.settle();
    let error = machine.bind("2000.widget", "widget").unwrap_err().to_string();
    assert!(error.contains("interrupt line 40 is held by 1000.widget (widget), shared, level high"), "{error}");
    machine.unbind("1000.widget", "widget").unwrap();
    machine.bind("2000.widget", "widget").unwrap();
    assert_eq!(machine.promises().broken(), []);
}
