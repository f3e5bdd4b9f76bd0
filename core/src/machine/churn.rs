//! Tests that hot plug under ever new names leaves no entry in a machine's tables, whatever the devices did meanwhile.

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

/// More rounds than unused nodes are remembered.
const ROUNDS: u32 = if cfg!(miri) { 30 } else { 2000 };

/// Provides a number, and has a child.
struct Parent;
/// Defers until a condition is fulfilled that is named after its device.
struct ConditionWaiter(Weak<Machine>);
/// Uses the service of its first supplier, and looks for one that is nowhere.
struct Consumer(Weak<Machine>);
/// Fails its probe for a shortage.
struct OutOfMemory;

impl Driver for Parent {
    const NAME: &'static str = "hub";
    const MATCHES: &'static [Match] = &[Match::compatible("t,hub")];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        dev.provide(Arc::new(7_u32))?;
        let child = format!("{}-child", dev.name());
        dev.add_child(desc(&child, "t,port", &[(dev.state.device().node(), "port", SupplierKind::Other)]))?;
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

impl Driver for ConditionWaiter {
    const NAME: &'static str = "waiter";
    const MATCHES: &'static [Match] = &[Match::compatible("t,asker")];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
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
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let node = dev.desc().suppliers[0].node;
        dev.supplier::<u32>(node)?;
        // A lookup of a node that has no device.
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

impl Driver for OutOfMemory {
    const NAME: &'static str = "short";
    const MATCHES: &'static [Match] = &[Match::compatible("t,short")];
    type Data<'b> = ();
    fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
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
    machine.register(OutOfMemory);
    machine
}

/// Size of each table. Unused nodes that are only remembered do not count.
fn table_sizes(machine: &Machine) -> Vec<(&'static str, usize)> {
    let mut r = machine.registry.lock();
    r.tidy(machine.supplies());
    Vec::from([
        ("nodes", r.nodes.len()),
        ("named", r.named.len()),
        ("kept", r.kept.len()),
        ("by_node", r.by_node.len()),
        ("devices", r.devices.len()),
        ("names", r.matching.len()),
        ("children", r.children.len()),
        ("graph", r.graph.size()),
        ("queue", r.queue.len() + r.queued.len() + r.probing.len()),
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

/// Adds the devices of one kind under a new name, uses them, and removes them.
fn hot_plug(machine: &Handle, n: u32, what: &str) {
    let name = |part: &str| format!("{part}-{n}");
    let node = |machine: &Machine, part: &str| machine.with_nodes(|nodes| nodes.find_or_add(&format!("/{part}/{n}")));
    let waits = |name: &str| machine.waiting().iter().any(|w| &*w.device == name);
    let mut added = Vec::new();
    let mut add = |desc: DeviceDesc| {
        added.push(String::from(&*desc.name));
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
        "waits for one that was removed" => {
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
        "ignores an absent supplier" => {
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
    for name in &added {
        assert!(machine.remove_device(name) || added.len() > 1, "{name}");
    }
    machine.settle();
}

const KINDS: [&str; 9] = [
    "plain",
    "hub with a child",
    "waiter",
    "waits for one that was removed",
    "waits for a condition",
    "cycle",
    "refused",
    "ignores an absent supplier",
    "names more than it needs",
];

#[test]
fn every_table_has_its_former_size_after_any_number_of_names() {
    for what in KINDS {
        let policy =
            if what == "ignores an absent supplier" { AbsentSuppliers::DoWithout } else { AbsentSuppliers::Wait };
        let machine = machine(Policy { absent_suppliers: policy, ..Policy::default() });
        machine.add_device(desc("stays", "t,hub", &[])).unwrap();
        machine.settle();
        let before = table_sizes(&machine);
        for n in 0..ROUNDS {
            hot_plug(&machine, n, what);
            assert!(
                n != 0 || table_sizes(&machine) == before,
                "{what}: {:?} after one, {before:?} before",
                table_sizes(&machine)
            );
        }
        assert_eq!(table_sizes(&machine), before, "{what}");
        let known = machine.with_nodes(|n| n.iter().count());
        assert!(known <= machine.with_nodes(|n| n.len()) + 1024, "{what}: {known} nodes are known");
        assert_eq!(machine.promises().broken(), [], "{what}");
    }
}

#[test]
fn a_device_that_is_removed_before_it_was_probed_leaves_the_queue() {
    let machine = machine(Policy::default());
    let parent = machine.add_device(desc("hub", "t,none", &[])).unwrap().node();
    machine.settle();
    let before = table_sizes(&machine);
    for n in 0..3 {
        let mut child = desc("child", "t,hub", &[]);
        child.parent = Some(parent);
        machine.add_device(child).unwrap();
        let other = desc("other", "t,hub", &[(parent, "hub", SupplierKind::Other)]);
        machine.add_device(other).unwrap();
        for name in if n == 1 { ["other", "child"] } else { ["child", "other"] } {
            assert!(machine.remove_device(name));
        }
        assert_eq!(table_sizes(&machine), before);
        assert!(!machine.step(), "there is nothing to probe");
    }
}

/// Adds and removes so many other devices that an unused node is forgotten.
fn forget_unused(machine: &Handle) {
    for n in 0..ROUNDS {
        hot_plug(machine, n, "plain");
    }
}

#[test]
fn a_deferred_device_keeps_the_node_of_its_supplier_for_as_long_as_it_waits() {
    let machine = machine(Policy::default());
    let hub = machine.add_device(desc("hub", "t,hub", &[])).unwrap().node();
    machine.add_device(desc("port", "t,port", &[(hub, "port", SupplierKind::Other)])).unwrap();
    let asker = machine.add_device(desc("asker", "t,asker", &[])).unwrap();
    machine.settle();
    machine.remove_device("hub");
    forget_unused(&machine);
    let on: Vec<String> = machine.waiting().into_iter().flat_map(|w| w.on).collect();
    assert_eq!(on, ["condition ready asker: not fulfilled", "/devices/hub: no such device"]);
    // The same name leads to the same node, and to the devices deferred on it.
    assert_eq!(machine.add_device(desc("hub", "t,hub", &[])).unwrap().node(), hub);
    assert_eq!(machine.fulfil("ready asker"), 1);
    machine.settle();
    assert!(asker.driver().is_some() && machine.device("port").unwrap().driver().is_some());
    forget_unused(&machine);
    assert!(machine.is_fulfilled("ready asker"), "no device waits, and it is still fulfilled");
    assert!(machine.unfulfil("ready asker"));
    for name in ["port", "hub", "asker"] {
        machine.remove_device(name);
    }
    forget_unused(&machine);
    let known = machine.with_nodes(|n| n.info(hub).is_some() || n.find("condition ready asker").is_some());
    assert!(cfg!(miri) || !known, "it is forgotten once no device waits");
    assert_eq!(machine.promises().broken(), []);
}

#[test]
fn a_stale_node_id_never_denotes_another_device() {
    let machine = machine(Policy::default());
    let old = machine.add_device(desc("hub", "t,hub", &[])).unwrap();
    machine.remove_device("hub");
    forget_unused(&machine);
    // Descriptions with the stale id are still valid.
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
fn a_name_is_in_use_until_the_queued_removal_of_its_device_was_carried_out() {
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
            assert!(Arc::ptr_eq(&machine.device("hub").unwrap(), &old), "it is the same device");
        }
        machine.left_driver(inside);
        // The thread has left driver code, so the removal was carried out and the name is free.
        assert!(machine.device("hub").is_none() && machine.queued().is_empty());
        let new = machine.add_device(desc("hub", "t,hub", &[])).unwrap();
        machine.settle();
        assert!(!Arc::ptr_eq(&new, &old) && new.driver() == Some("hub"));
        machine.remove_device("hub");
        machine.settle();
    }
    assert_eq!(machine.promises().broken(), []);
}
