//! Children of bound devices, beside a plain list of them.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::binding::ResourceError;
use crate::bus::Departure;
use crate::driver::Client;
use crate::error::AddError;
use crate::sync::Nesting;

const HUBS: [&str; 2] = ["hub0", "hub1"];
const CHILDREN: [&str; 4] = ["a", "b", "c", "d"];
const WAYS: [Departure; 5] =
    [Departure::Orderly, Departure::Vanished, Departure::Failed, Departure::Contained, Departure::LinkDown];

/// Under Miri each takes a second.
const STEPS: usize = if cfg!(miri) { 8 } else { 40 };

/// Its driver data is the handle itself, so that a test may act as the driver.
struct Hub;

impl Driver for Hub {
    const NAME: &'static str = "hub";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,hub")];
    type Data<'b> = Bound<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Bound<'b>, ProbeError> {
        Ok(dev)
    }

    fn quiesce(_: &Bound<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// Driver of the children, and the number of those that it is bound to.
#[derive(Clone, Default)]
struct Port(Arc<AtomicUsize>);

impl Drop for Port {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Registers [`Port`] devices: the driver itself must not count.
struct Ports(Arc<AtomicUsize>);

impl Driver for Ports {
    const NAME: &'static str = "port";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,port")];
    type Data<'b> = Port;

    fn probe(&self, _: Bound<'_>) -> Result<Port, ProbeError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Port(Arc::clone(&self.0)))
    }

    fn quiesce(_: &Port) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// The driver of a hub adds a child by its handle, or, `by_machine`, by a call of the machine.
    Add {
        hub: usize,
        child: usize,
        by_machine: bool,
    },
    /// The driver of a hub has a child leave.
    Leaves {
        hub: usize,
        child: usize,
        how: Departure,
    },
    /// Somebody removes a child by its name.
    Remove {
        child: usize,
    },
    Unbind {
        hub: usize,
    },
    Bind {
        hub: usize,
    },
    /// The hub itself leaves.
    Departs {
        hub: usize,
        how: Departure,
    },
    /// The hub is there again.
    Arrives {
        hub: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (hub, child) = (0..HUBS.len(), 0..CHILDREN.len());
    let how = || proptest::sample::select(&WAYS[..]);
    prop_oneof![
        6 => (hub.clone(), child.clone(), any::<bool>())
            .prop_map(|(hub, child, by_machine)| Step::Add { hub, child, by_machine }),
        3 => (hub.clone(), child.clone(), how()).prop_map(|(hub, child, how)| Step::Leaves { hub, child, how }),
        1 => child.prop_map(|child| Step::Remove { child }),
        1 => hub.clone().prop_map(|hub| Step::Unbind { hub }),
        2 => hub.clone().prop_map(|hub| Step::Bind { hub }),
        1 => (hub.clone(), how()).prop_map(|(hub, how)| Step::Departs { hub, how }),
        2 => hub.prop_map(|hub| Step::Arrives { hub }),
    ]
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum HubState {
    Absent,
    Unbound,
    Bound,
}

/// What must be so.
struct Model {
    hubs: [HubState; HUBS.len()],
    /// The children and their hubs, oldest first.
    children: Vec<(usize, usize)>,
    /// Children that have left, with the cause of the end of their bindings.
    left: Vec<(usize, Cause)>,
}

impl Model {
    fn has(&self, hub: usize, child: usize) -> bool {
        self.children.contains(&(child, hub))
    }

    fn leaves(&mut self, child: usize, cause: Cause) {
        self.children.retain(|(other, _)| *other != child);
        self.left.push((child, cause));
    }

    /// The binding of a hub ends, and with it its children.
    fn ends(&mut self, hub: usize, cause: Cause) {
        let own: Vec<_> = self.children.iter().filter(|(_, of)| *of == hub).map(|(child, _)| *child).collect();
        for child in own {
            self.leaves(child, cause);
        }
    }
}

struct Rig {
    env: Arc<FakeEnv>,
    machine: Handle,
    bound: Arc<AtomicUsize>,
    model: Model,
}

fn hub(name: &str) -> DeviceDesc {
    let mut desc = DeviceDesc::new(name);
    desc.compatible.push("acme,hub".into());
    desc
}

fn port(name: &str) -> DeviceDesc {
    let mut desc = DeviceDesc::new(name);
    desc.compatible.push("acme,port".into());
    desc
}

impl Rig {
    fn new() -> Self {
        let (env, machine, _) = machine();
        let bound = Arc::<AtomicUsize>::default();
        machine.register(Hub);
        machine.register(Ports(Arc::clone(&bound)));
        for name in HUBS {
            machine.add_device(hub(name)).unwrap();
        }
        machine.settle();
        let model = Model { hubs: [HubState::Bound; HUBS.len()], children: Vec::new(), left: Vec::new() };
        Self { env, machine, bound, model }
    }

    fn client(&self, hub: usize) -> Option<Client<Hub>> {
        self.machine.client::<Hub>(HUBS[hub])
    }

    fn act(&mut self, step: &Step) {
        let (machine, model) = (self.machine.clone(), &mut self.model);
        match *step {
            Step::Add { hub, child, by_machine } => {
                let Some(client) = self.machine.client::<Hub>(HUBS[hub]) else { return };
                let mut desc = port(CHILDREN[child]);
                let exists = model.children.iter().any(|(other, _)| *other == child);
                let added = client.call(|dev| {
                    // Without identities of threads the machine does not know that a driver calls it.
                    if by_machine && Nesting::has_thread_ids() {
                        desc.parent = Some(machine.device(HUBS[hub]).unwrap().node());
                        let refused = |e| assert_eq!(e, AddError::Exists(CHILDREN[child].into()));
                        machine.add_device(desc).map(drop).map_err(refused).is_ok()
                    } else {
                        dev.add_child(desc).map(drop).map_err(|e| assert_eq!(e, ResourceError::ChildExists)).is_ok()
                    }
                });
                assert_eq!(added, Ok(!exists));
                if !exists {
                    model.children.push((child, hub));
                }
            }
            Step::Leaves { hub, child, how } => {
                let Some(client) = self.machine.client::<Hub>(HUBS[hub]) else { return };
                let there = client.call(|dev| {
                    let there = dev.remove_child(CHILDREN[child], how);
                    // It leaves once this thread has returned from the driver.
                    assert_eq!(there, machine.device(CHILDREN[child]).is_some() && model.has(hub, child));
                    there
                });
                assert_eq!(there, Ok(model.has(hub, child)));
                if model.has(hub, child) {
                    model.leaves(child, how.cause());
                }
            }
            Step::Remove { child } => {
                let there = model.children.iter().any(|(other, _)| *other == child);
                assert_eq!(machine.remove_device(CHILDREN[child]), there);
                if there {
                    model.leaves(child, Cause::DeviceRemoved);
                }
            }
            Step::Unbind { hub } => {
                let is_bound = model.hubs[hub] == HubState::Bound;
                assert_eq!(machine.unbind(HUBS[hub], "hub").is_ok(), is_bound);
                if is_bound {
                    model.ends(hub, Cause::SupplierLeaving);
                    model.hubs[hub] = HubState::Unbound;
                }
            }
            Step::Bind { hub } => {
                let is_unbound = model.hubs[hub] == HubState::Unbound;
                assert_eq!(machine.bind(HUBS[hub], "hub").is_ok(), is_unbound);
                if is_unbound {
                    model.hubs[hub] = HubState::Bound;
                }
            }
            Step::Departs { hub, how } => {
                let there = model.hubs[hub] != HubState::Absent;
                assert_eq!(machine.device_departs(HUBS[hub], how), there);
                model.ends(hub, how.cause());
                model.hubs[hub] = HubState::Absent;
            }
            Step::Arrives { hub: at } => {
                let is_absent = model.hubs[at] == HubState::Absent;
                assert_eq!(machine.add_device(hub(HUBS[at])).is_ok(), is_absent);
                machine.settle();
                if is_absent {
                    model.hubs[at] = HubState::Bound;
                }
            }
        }
    }

    fn check(&self) {
        for (hub, state) in self.model.hubs.iter().enumerate() {
            let client = self.client(hub);
            assert_eq!(client.is_some(), *state == HubState::Bound, "{}", HUBS[hub]);
            let Some(client) = client else { continue };
            let of_hub = || self.model.children.iter().filter(|(_, of)| *of == hub).map(|(child, _)| CHILDREN[*child]);
            let (has, listed) =
                client.call(|dev| (CHILDREN.map(|child| dev.has_child(child)), dev.resources())).unwrap();
            assert_eq!(has, core::array::from_fn(|child| self.model.has(hub, child)), "{}", HUBS[hub]);
            // Whatever has taken a child off, the ledger does not keep it.
            let listed: Vec<_> = listed.into_iter().filter(|(_, kind, ..)| *kind == "child").collect();
            let named: Vec<_> = listed.iter().map(|(_, _, what, backend)| (&**what, &**backend)).collect();
            assert_eq!(named, of_hub().map(|child| (child, "core")).collect::<Vec<_>>(), "{}", HUBS[hub]);
        }
        for (child, name) in CHILDREN.iter().enumerate() {
            let device = self.machine.device(name);
            let hub = self.model.children.iter().find(|(other, _)| *other == child).map(|(_, hub)| HUBS[*hub]);
            let parent = device.as_ref().map(|device| device.desc().parent);
            assert_eq!(parent, hub.map(|hub| self.machine.device(hub).map(|hub| hub.node())), "{name}");
            assert_eq!(device.is_some_and(|device| device.driver() == Some("port")), hub.is_some(), "{name}");
        }
        assert_eq!(self.bound.load(Ordering::SeqCst), self.model.children.len());
        self.check_events();
        promises_hold(&self.machine);
    }

    /// The binding of each child ended once for each time that it has left, for the causes of the model, and its device then left.
    fn check_events(&self) {
        for (child, name) in CHILDREN.iter().enumerate() {
            let seen = self.env.event_kinds(name).into_iter().filter_map(|kind| match kind {
                EventKind::Unbind { cause, .. } => Some(Some(cause)),
                EventKind::DeviceRemoved => Some(None),
                _ => None,
            });
            let left = self.model.left.iter().filter(|(other, _)| *other == child);
            let expected: Vec<_> = left.flat_map(|(_, cause)| [Some(*cause), None]).collect();
            assert_eq!(seen.collect::<Vec<_>>(), expected, "{name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// P3, P4: a child belongs to the binding of its hub, whoever removes it, and however that ends.
    #[test]
    fn children_are_those_that_were_added_and_have_not_left(steps in proptest::collection::vec(step(), 1..STEPS)) {
        let mut rig = Rig::new();
        let before = rig.machine.resource_usage();
        for step in &steps {
            rig.act(step);
            rig.machine.settle();
            rig.check();
        }
        for hub in 0..HUBS.len() {
            rig.act(&Step::Departs { hub, how: Departure::Orderly });
            rig.act(&Step::Arrives { hub });
        }
        rig.check();
        prop_assert_eq!(rig.machine.resource_usage(), before);
    }
}

#[test]
fn a_child_is_probed_once_its_hub_asks_for_it() {
    let rig = Rig::new();
    let client = rig.client(0).unwrap();
    client.call(|dev| dev.add_child(port("a")).map(drop)).unwrap().unwrap();
    assert_eq!(rig.bound.load(Ordering::SeqCst), 0, "adding one probes nothing");
    client
        .call(|dev| {
            dev.probe_children();
            assert_eq!(rig.bound.load(Ordering::SeqCst), 0, "the thread is in a driver");
        })
        .unwrap();
    assert_eq!(rig.bound.load(Ordering::SeqCst), 1);
}

#[test]
fn a_child_needs_a_name_that_no_device_and_no_file_has() {
    let rig = Rig::new();
    let client = rig.client(0).unwrap();
    for (name, error) in [
        ("hub1", ResourceError::ChildExists),
        ("", ResourceError::ChildName),
        ("a/b", ResourceError::ChildName),
        ("driver_override", ResourceError::ChildName),
    ] {
        assert_eq!(client.call(|dev| dev.add_child(port(name)).map(drop)), Ok(Err(error)), "{name}");
    }
    let refused = rig.env.event_kinds("hub0").into_iter().filter(|event| matches!(event, EventKind::Refused { .. }));
    assert_eq!(refused.count(), 4, "an event says why");
    rig.check();
}

#[test]
fn what_a_hub_reports_is_about_its_child() {
    let rig = Rig::new();
    let client = rig.client(0).unwrap();
    client
        .call(|dev| {
            dev.add_child(port("a")).unwrap();
            dev.report_error("a", "fatal", &"port 3", &"poisoned request");
            dev.report_link("a", Some(&"held in reset"));
            dev.report_link("a", None);
        })
        .unwrap();
    let reported = rig.env.event_kinds("a").into_iter().filter(|event| *event != EventKind::DeviceAdded);
    let error = EventKind::BusError { severity: "fatal", port: "port 3".into(), what: "poisoned request".into() };
    let down = EventKind::LinkDown { reason: "held in reset".to_string() };
    assert_eq!(reported.collect::<Vec<_>>(), [error, down, EventKind::LinkUp]);
}

/// A supplier that a description names itself is not named twice: the child would wait for both.
#[test]
fn a_hub_that_the_description_names_is_one_supplier() {
    let rig = Rig::new();
    let node = rig.machine.device("hub0").unwrap().node();
    let named = |property: &str| Supplier {
        node,
        target: node,
        kind: SupplierKind::Other,
        property: property.into(),
        args: [].into(),
    };
    let (mut own, mut other) = (port("a"), port("b"));
    own.suppliers.push(named("vbus-supply"));
    other.suppliers.push(Supplier { node: rig.machine.device("hub1").unwrap().node(), ..named("vbus-supply") });
    rig.client(0).unwrap().call(|dev| [own, other].map(|desc| drop(dev.add_child(desc).unwrap()))).unwrap();
    let properties = |name: &str| -> Vec<String> {
        let device = rig.machine.device(name).unwrap();
        device.desc().suppliers.iter().map(|supplier| supplier.property.to_string()).collect()
    };
    assert_eq!(
        (properties("a"), properties("b")),
        (["vbus-supply".into()].into(), ["vbus-supply".into(), "parent".into()].into())
    );
}
