//! Devices that come and go under ever new names leave nothing in a machine's books, whatever they did meanwhile.

use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use super::{AbsentSuppliers, AddError, Handle, Machine, Policy};
use crate::binding::{Bound, ResourceError};
use crate::device::{DeviceDesc, NodeId, Resource, Supplier, SupplierKind};
use crate::driver::{Driver, Match, Missing, ProbeError, QuiesceError, Quiesced};
use crate::env::fake::FakeEnv;
use crate::iommu::IommuError;
use crate::system::DeviceRegistry;

/// More than the nodes out of use that are remembered.
const ROUNDS: u32 = if cfg!(miri) { 30 } else { 2000 };

/// Provides a number, and has a child.
struct Parent;
/// Defers until a condition is fulfilled that is named after its device.
struct ConditionWaiter(Weak<Machine>);
/// Uses what the device at its first supplier provides; never gets that of its own condition.
struct Consumer(Weak<Machine>);
/// Comes short.
struct Short;

impl Driver for Parent {
    const NAME: &'static str = "hub";
    const MATCHES: &'static [Match] = &[Match::compatible("t,hub")];
    type Data<'b> = ();
    fn probe(&self, dev: &Bound) -> Result<(), ProbeError> {
        dev.provide(Arc::new(7_u32))?;
        let child = format!("{}-child", dev.name());
        dev.add_child(desc(&child, "t,port", &[(dev.device().node(), "port", SupplierKind::Other)]))?;
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

impl Driver for ConditionWaiter {
    const NAME: &'static str = "asker";
    const MATCHES: &'static [Match] = &[Match::compatible("t,asker")];
    type Data<'b> = ();
    fn probe(&self, dev: &Bound) -> Result<(), ProbeError> {
        let condition = format!("ready {}", dev.name());
        if self.0.upgrade().unwrap().is_fulfilled(&condition) {
            return Ok(());
        }
        Err(ProbeError::Defer { on: dev.condition(&condition) })
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

impl Driver for Consumer {
    const NAME: &'static str = "port";
    const MATCHES: &'static [Match] = &[Match::compatible("t,port")];
    type Data<'b> = ();
    fn probe(&self, dev: &Bound) -> Result<(), ProbeError> {
        let node = dev.desc().suppliers[0].node;
        dev.supplier::<u32>(node)?;
        // One that is only looked for, and is nowhere.
        let nowhere = self.0.upgrade().unwrap().with_nodes(|n| n.find_or_add(&format!("/nowhere/{}", dev.name())));
        match dev.supplier::<u32>(nowhere) {
            Err(ProbeError::Defer { on: Missing::Node(_) }) => Ok(()),
            other => panic!("{other:?}"),
        }
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

impl Driver for Short {
    const NAME: &'static str = "short";
    const MATCHES: &'static [Match] = &[Match::compatible("t,short")];
    type Data<'b> = ();
    fn probe(&self, _: &Bound) -> Result<(), ProbeError> {
        Err(ResourceError::Iommu(IommuError::OutOfMemory).into())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

fn desc(name: &str, compatible: &str, needs: &[(NodeId, &str, SupplierKind)]) -> DeviceDesc {
    let mut desc = DeviceDesc::new(name);
    desc.compatible.push(compatible.into());
    let supplier = |(node, property, kind): &(NodeId, &str, SupplierKind)| Supplier {
        node: *node,
        target: *node,
        kind: *kind,
        property: (*property).into(),
        args: Vec::new(),
    };
    desc.suppliers.extend(needs.iter().map(supplier));
    desc
}

fn machine(policy: Policy) -> Handle {
    let machine = FakeEnv::new().machine(policy);
    machine.register(Parent);
    machine.register(ConditionWaiter(Arc::downgrade(&machine)));
    machine.register(Consumer(Arc::downgrade(&machine)));
    machine.register(Short);
    machine
}

/// How much is in each book. Nodes that are only remembered are counted as `nodes`, up to their bound.
fn books(machine: &Machine) -> Vec<(&'static str, usize)> {
    let mut r = machine.registry.lock();
    r.tidy(machine.supplies());
    Vec::from([
        ("nodes", r.nodes.len()),
        ("named", r.named.len()),
        ("kept", r.kept.len()),
        ("by_node", r.by_node.len()),
        ("devices", r.devices.len()),
        ("listing", r.listing.len()),
        ("children", r.children.len()),
        ("graph", r.graph.size()),
        ("queue", r.queue.len() + r.queued.len() + r.looking.len()),
        ("waiting", r.waiting.len()),
        ("refusals", r.refusals.len()),
        ("bound", r.bound.len()),
        ("claims", machine.claims.len()),
        ("services", machine.providers.len()),
        ("lines", machine.irqs().len()),
        ("supplies", machine.supplies().in_use()),
        ("faults", machine.fault_counts().len()),
    ])
}

/// One name comes, lives and goes.
fn live(machine: &Handle, n: u32, what: &str) {
    let name = |part: &str| format!("{part}-{n}");
    let node = |machine: &Machine, part: &str| machine.with_nodes(|nodes| nodes.find_or_add(&format!("/{part}/{n}")));
    let waits = |name: &str| machine.waiting().iter().any(|w| &*w.device == name);
    let mut come = Vec::new();
    let mut add = |desc: DeviceDesc| {
        come.push(String::from(&*desc.name));
        machine.add_device(desc).unwrap().node()
    };
    match what {
        "plain" => {
            add(desc(&name("plain"), &name("t,of-a-kind"), &[]));
        }
        "hub with a child" => {
            add(desc(&name("hub"), "t,hub", &[]));
            machine.settle();
            let child = machine.device(&format!("hub-{n}-child")).unwrap();
            assert_eq!(child.driver(), Some("port"));
            let removed = machine.remove_device(child.name());
            assert!(n.is_multiple_of(2) || removed);
        }
        "waiter" => {
            let absent = node(machine, "absent");
            add(desc(&name("waiter"), "t,port", &[(absent, "clocks", SupplierKind::Clock)]));
            machine.settle();
            assert!(waits(&name("waiter")));
        }
        "waits for one that has left" => {
            let hub = add(desc(&name("hub"), "t,hub", &[]));
            add(desc(&name("port"), "t,port", &[(hub, "port", SupplierKind::Other)]));
            machine.settle();
            assert!(machine.remove_device(&name("hub")));
            machine.settle();
            assert!(waits(&name("port")));
        }
        "waits for a condition" => {
            add(desc(&name("asker"), "t,asker", &[]));
            machine.settle();
            assert_eq!(machine.waiting_for(&format!("ready asker-{n}")), [name("asker")]);
            if n.is_multiple_of(2) {
                machine.fulfil(&format!("ready asker-{n}"));
                machine.settle();
                assert!(machine.device(&name("asker")).unwrap().driver().is_some());
                assert!(machine.unfulfil(&format!("ready asker-{n}")));
            }
        }
        "cycle" => {
            let (a, b) = (node(machine, "a"), node(machine, "b"));
            for (name, own, other) in [(name("a"), a, b), (name("b"), b, a)] {
                let mut desc = desc(&name, "t,plain-port", &[(other, "gpios", SupplierKind::Other)]);
                desc.node = Some(own);
                add(desc);
            }
            machine.settle();
            assert!(machine.cycles().len() == 1);
        }
        "refused" => {
            add(desc(&name("short"), "t,short", &[]));
            machine.settle();
            assert!(waits(&name("short")));
        }
        "does without" => {
            let absent = node(machine, "absent");
            add(desc(&name("waiter"), "t,asker", &[(absent, "clocks", SupplierKind::Clock)]));
            machine.settle();
            machine.stop_waiting();
        }
        "names more than it needs" => {
            let parent = add(desc(&name("bus"), "t,bus", &[]));
            let mut desc = desc(&name("dev"), "t,none", &[(parent, "x-supply", SupplierKind::Regulator)]);
            desc.suppliers[0].target = node(machine, "target");
            desc.parent = Some(parent);
            let controller = node(machine, "controller");
            desc.resources.push(Resource::IrqBehind { controller, specifier: Vec::from([1]) });
            add(desc);
            machine.settle();
        }
        other => panic!("{other}"),
    }
    for name in &come {
        assert!(machine.remove_device(name) || come.len() > 1, "{name}");
    }
    machine.settle();
}

const LIVES: [&str; 9] = [
    "plain",
    "hub with a child",
    "waiter",
    "waits for one that has left",
    "waits for a condition",
    "cycle",
    "refused",
    "does without",
    "names more than it needs",
];

#[test]
fn every_book_is_as_it_was_after_any_number_of_names() {
    for what in LIVES {
        let policy = if what == "does without" { AbsentSuppliers::DoWithout } else { AbsentSuppliers::Wait };
        let machine = machine(Policy { absent_suppliers: policy, ..Policy::default() });
        machine.add_device(desc("stays", "t,hub", &[])).unwrap();
        machine.settle();
        let before = books(&machine);
        for n in 0..ROUNDS {
            live(&machine, n, what);
            assert!(n != 0 || books(&machine) == before, "{what}: {:?} after one, {before:?} before", books(&machine));
        }
        assert_eq!(books(&machine), before, "{what}");
        let known = machine.with_nodes(|n| n.iter().count());
        assert!(known <= machine.with_nodes(|n| n.len()) + 1024, "{what}: {known} nodes are known");
        assert_eq!(machine.promises().broken(), [], "{what}");
    }
}

/// Others come and go in such numbers that a node out of use would be forgotten.
fn crowd(machine: &Handle) {
    for n in 0..ROUNDS {
        live(machine, n, "plain");
    }
}

#[test]
fn who_waits_keeps_what_it_waits_for_known_for_as_long_as_it_waits() {
    let machine = machine(Policy::default());
    let hub = machine.add_device(desc("hub", "t,hub", &[])).unwrap().node();
    machine.add_device(desc("port", "t,port", &[(hub, "port", SupplierKind::Other)])).unwrap();
    let asker = machine.add_device(desc("asker", "t,asker", &[])).unwrap();
    machine.settle();
    machine.remove_device("hub");
    crowd(&machine);
    let on: Vec<String> = machine.waiting().into_iter().flat_map(|w| w.on).collect();
    assert_eq!(on, ["condition ready asker: not fulfilled", "/devices/hub: no such device"]);
    // The same name finds the same node, and its waiters.
    assert_eq!(machine.add_device(desc("hub", "t,hub", &[])).unwrap().node(), hub);
    assert_eq!(machine.fulfil("ready asker"), 1);
    machine.settle();
    assert!(asker.driver().is_some() && machine.device("port").unwrap().driver().is_some());
    crowd(&machine);
    assert!(machine.is_fulfilled("ready asker"), "nobody waits, and it is still fulfilled");
    assert!(machine.unfulfil("ready asker"));
    for name in ["port", "hub", "asker"] {
        machine.remove_device(name);
    }
    crowd(&machine);
    let known = machine.with_nodes(|n| n.info(hub).is_some() || n.find("condition ready asker").is_some());
    assert!(cfg!(miri) || !known, "when nobody waits any more, it goes");
    assert_eq!(machine.promises().broken(), []);
}

#[test]
fn a_number_from_long_ago_is_never_another_devices() {
    let machine = machine(Policy::default());
    let old = machine.add_device(desc("hub", "t,hub", &[])).unwrap();
    machine.remove_device("hub");
    crowd(&machine);
    // The descriptions that somebody has kept serve as before.
    machine.add_device(desc("port", "t,port", &[(old.node(), "port", SupplierKind::Other)])).unwrap();
    machine.settle();
    let on: Vec<String> = machine.waiting().into_iter().flat_map(|w| w.on).collect();
    assert!(cfg!(miri) || on == [format!("node {}: no such device", old.node().0)], "{on:?}");
    assert_eq!(machine.device_info(&old).name, "hub".into());
    let mut back = desc("hub", "t,hub", &[]);
    back.node = Some(old.node());
    machine.add_device(back).unwrap();
    machine.settle();
    assert!(machine.device("port").unwrap().driver().is_some());
    assert_eq!(machine.device_info(&old).node, "/devices/hub");
    assert_eq!(machine.promises().broken(), []);
}

#[test]
fn a_name_whose_removal_is_queued_is_taken_until_the_removal_was_carried_out() {
    let machine = machine(Policy::default());
    for vanishes in [false, true] {
        let old = machine.add_device(desc("hub", "t,hub", &[])).unwrap();
        machine.settle();
        let inside = machine.entered_driver();
        {
            let gone = if vanishes { machine.device_vanished("hub") } else { machine.remove_device("hub") };
            assert!(gone);
            assert_eq!(machine.queued(), [("removal", Some("hub".into()))]);
            let early = machine.add_device(desc("hub", "t,hub", &[]));
            assert!(matches!(&early, Err(AddError::Exists(name)) if &**name == "hub"), "{early:?}");
            assert!(Arc::ptr_eq(&machine.device("hub").unwrap(), &old), "it is as it was");
        }
        machine.left_driver(inside);
        // From outside it has been carried out by now, and the name is free.
        assert!(machine.device("hub").is_none() && machine.queued().is_empty());
        let new = machine.add_device(desc("hub", "t,hub", &[])).unwrap();
        machine.settle();
        assert!(!Arc::ptr_eq(&new, &old) && new.driver() == Some("hub"));
        machine.remove_device("hub");
        machine.settle();
    }
    assert_eq!(machine.promises().broken(), []);
}
