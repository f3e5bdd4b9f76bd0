//! Tests of what leaves: devices with others below them, drivers beside others, suppliers that never come.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{AbsentSuppliers, Machine, Policy};
use crate::addr::PhysAddr;
use crate::binding::{Bound, Mmio};
use crate::bus::Departure;
use crate::device::{DeviceDesc, Resource, Supplier, SupplierKind};
use crate::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use crate::env::fake::FakeEnv;
use crate::event::EventKind;

/// Driver that adds the children that its device's name asks for: `d:32` has three, each with two. Those of `busy:32` do not stop.
struct Hub;

impl Driver for Hub {
    const NAME: &'static str = "hub";
    const MATCHES: &'static [Match] = &[Match::compatible("t,hub")];
    type Data<'b> = Bound<'b>;
    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Bound<'b>, ProbeError> {
        let (path, shape) = dev.name().split_once(':').unwrap();
        let below = shape.chars().next().and_then(|c| c.to_digit(10)).unwrap_or(0);
        for n in 0..below {
            dev.add_child(desc(&format!("{path}.{n}:{}", &shape[1..]), "t,hub"))?;
        }
        Ok(dev)
    }
    fn quiesce(dev: &Bound<'_>) -> Result<Quiesced, QuiesceError> {
        if dev.name().starts_with("busy") {
            return Err(QuiesceError("it does not stop"));
        }
        dev.log(format_args!("stops"));
        Ok(Quiesced::stopped())
    }
}

/// A second driver for the same devices.
struct Other;

impl Driver for Other {
    const NAME: &'static str = "other";
    const MATCHES: &'static [Match] = &[Match::compatible("t,hub")];
    type Data<'b> = ();
    fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

fn desc(name: &str, compatible: &str) -> DeviceDesc {
    let mut desc = DeviceDesc::new(name);
    desc.compatible.push(compatible.into());
    desc
}

/// Name of the device that `name` is below.
fn above(name: &str) -> Option<&str> {
    name.split_once(':')?.0.rsplit_once('.').map(|(above, _)| above)
}

/// Whatever is above it, and however that leaves: a device is stopped and removed before the one above it is.
#[test]
fn a_device_leaves_before_the_one_that_it_is_below() {
    for shape in ["1", "3", "12", "22", "121"] {
        // Children by the driver, or of firmware, which have no link to what they are below.
        for by_driver in [true, false] {
            for how in ["unbind", "remove", "vanish"] {
                let env = FakeEnv::new();
                let machine = env.machine(Policy::default());
                let root = format!("d:{}", if by_driver { shape } else { "" });
                machine.register(Hub);
                let node = machine.add_device(desc(&root, "t,hub")).unwrap().node();
                machine.settle();
                if !by_driver {
                    for n in 0..3 {
                        let mut below = desc(&format!("d.{n}:"), "t,hub");
                        below.parent = Some(node);
                        machine.add_device(below).unwrap();
                    }
                    machine.settle();
                }
                let count = machine.devices().len();
                assert!(count > 1 && machine.devices().iter().all(|d| d.driver().is_some()));
                env.events.lock().unwrap().clear();
                match how {
                    "unbind" => machine.unbind(&root, "hub").unwrap(),
                    "remove" => assert!(machine.remove_device(&root)),
                    _ => assert!(machine.device_vanished(&root)),
                }
                let events = env.events.lock().unwrap().clone();
                let said = |kind: &dyn Fn(&EventKind) -> bool| -> Vec<(usize, String)> {
                    let found = events.iter().enumerate().filter(|(_, e)| kind(&e.kind));
                    found.map(|(at, e)| (at, (**e.device.as_ref().unwrap()).into())).collect()
                };
                let stops = said(&|kind| matches!(kind, EventKind::Log { text } if text == "stops"));
                let removed = said(&|kind| matches!(kind, EventKind::DeviceRemoved));
                let case = format!("{shape} by the driver {by_driver}, {how}");
                let stays = usize::from(how == "unbind");
                let gone = if !by_driver && how == "unbind" { 0 } else { count - stays };
                assert_eq!(removed.len(), gone, "{case}");
                for (at, name) in &removed {
                    for (later, other) in stops.iter().chain(&removed) {
                        let is_above = above(name).is_some_and(|a| other.split_once(':').unwrap().0 == a);
                        assert!(!is_above || later > at, "{case}: {other} before {name}");
                    }
                }
                assert_eq!(machine.promises().broken(), [], "{case}");
            }
        }
    }
}

/// No driver can stop its device: that it is gone is the only proof.
#[test]
fn what_is_below_a_device_that_is_gone_is_gone_at_any_depth() {
    for shape in ["1", "3", "12", "22", "121", "1111"] {
        let ways =
            [Departure::Orderly, Departure::Vanished, Departure::Failed, Departure::Contained, Departure::LinkDown];
        for how in ways {
            let env = FakeEnv::new();
            let machine = env.machine(Policy::default());
            let root = format!("busy:{shape}");
            machine.register(Hub);
            machine.add_device(desc(&root, "t,hub")).unwrap();
            machine.settle();
            let count = machine.devices().len();
            assert!(machine.device_departs(&root, how));
            assert!(machine.devices().is_empty());
            let events = env.events.lock().unwrap();
            let proofs = events.iter().filter_map(|event| match &event.kind {
                EventKind::Quiesced { how } => Some(&**how),
                _ => None,
            });
            let expected = how.proof().map_or_else(Vec::new, |proof| [proof.how()].repeat(count));
            assert_eq!(proofs.collect::<Vec<_>>(), expected, "P11: {shape}, {how:?}");
            assert_eq!(machine.promises().broken(), [], "{shape}, {how:?}");
        }
    }
}

#[test]
fn a_device_whose_driver_goes_is_offered_to_the_others() {
    let machine = FakeEnv::new().machine(Policy::default());
    machine.register(Hub);
    machine.register(Other);
    for name in ["a:", "b:"] {
        machine.add_device(desc(name, "t,hub")).unwrap();
    }
    machine.settle();
    let drivers = |machine: &Machine| machine.devices().iter().map(|d| d.driver()).collect::<Vec<_>>();
    let first = drivers(&machine)[0].unwrap();
    let second = if first == "hub" { "other" } else { "hub" };
    assert_eq!(drivers(&machine), [Some(first); 2]);
    assert!(machine.unregister(first));
    machine.settle();
    assert_eq!(drivers(&machine), [Some(second); 2], "P5");
    assert!(machine.unregister(second));
    machine.settle();
    assert_eq!(drivers(&machine), [None; 2]);
}

/// A supplier that a device needs for several things is given up only if it can do without it for all of them.
#[test]
fn nothing_does_without_an_absent_iommu() {
    let kinds = [SupplierKind::Clock, SupplierKind::Iommu, SupplierKind::Other];
    for first in kinds {
        for second in kinds {
            let policy = Policy { absent_suppliers: AbsentSuppliers::DoWithout, ..Policy::default() };
            let machine = FakeEnv::new().machine(policy);
            machine.register(Other);
            let node = machine.with_nodes(|n| n.find_or_add("/never"));
            let mut device = desc("d", "t,hub");
            let needs = |kind| Supplier { node, target: node, kind, property: "x".into(), args: Vec::new() };
            device.suppliers.extend([first, second].map(needs));
            machine.add_device(device).unwrap();
            machine.settle();
            let translated = [first, second].contains(&SupplierKind::Iommu);
            assert_eq!(machine.stop_waiting(), u64::from(!translated), "{first:?}, {second:?}");
            machine.settle();
            assert_eq!(machine.device("d").unwrap().driver().is_some(), !translated, "P10: {first:?}, {second:?}");
        }
    }
}

/// Holds registers. The driver panics in its probe of `one`, or else when it is to stop a device.
struct Clumsy(bool);

impl Driver for Clumsy {
    const NAME: &'static str = "clumsy";
    const MATCHES: &'static [Match] = &[Match::compatible("t,clumsy")];
    type Data<'b> = Mmio<'b>;
    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Mmio<'b>, ProbeError> {
        dev.mark_quiesced(Quiesced::never_started());
        let registers = dev.mmio(0)?;
        assert!(!self.0 || dev.name() != "one", "in probe");
        Ok(registers)
    }
    fn quiesce(_: &Mmio<'_>) -> Result<Quiesced, QuiesceError> {
        panic!("in quiesce")
    }
}

/// What a driver held whose code has panicked is back once somebody unbinds it: who was refused for want of it is tried again.
#[test]
fn what_a_panicked_driver_held_goes_to_those_that_were_refused() {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    for in_probe in [false, true] {
        let machine = FakeEnv::new().machine(Policy::default());
        machine.register(Clumsy(in_probe));
        for name in ["one", "two"] {
            let mut device = desc(name, "t,clumsy");
            device.resources.push(Resource::Mem { base: PhysAddr(0x1000), len: 0x10 });
            machine.add_device(device).unwrap();
            let _ = catch_unwind(AssertUnwindSafe(|| machine.settle()));
        }
        machine.settle();
        let driver = |name: &str| machine.device(name).unwrap().driver();
        assert_eq!(driver("two"), None, "the registers have a holder");
        let unbind = |name: &str| catch_unwind(AssertUnwindSafe(|| machine.unbind(name, "clumsy"))).is_ok();
        assert_eq!(unbind("one"), in_probe, "it panics in quiesce");
        unbind("one");
        machine.settle();
        assert_eq!((driver("one"), driver("two")), (None, Some("clumsy")), "P8: in probe {in_probe}");
        assert_eq!(machine.promises().broken(), []);
        assert!(!unbind("two") && unbind("two"));
    }
}
