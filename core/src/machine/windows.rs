//! Windows that Linux 6.12 has (docs/teardown-models.md: `links-probe`, `links-unbind`, `power`, `stuck-link`) and this core
//! does not, and order-freedom. Those of notifications and of unbind are in `binding/tests.rs`, those of groups in
//! `control/tests`.

use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::Mutex;

use super::{BindError, Handle, Machine, Policy};
use crate::binding::{Bound, Phase};
use crate::device::{DeviceDesc, NodeId, Supplier, SupplierKind};
use crate::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use crate::env::fake::FakeEnv;
use crate::event::EventKind;
use crate::link::LinkState;
use crate::power::{Supply, SupplyError};

/// What a test driver does on the way back, from inside an action.
type Probe = Arc<dyn Fn() + Send + Sync>;

/// A supplier that offers one clock and counts how it is switched.
struct ClockDriver(Arc<Mutex<Vec<bool>>>);

struct Clock(Arc<Mutex<Vec<bool>>>);

impl Supply for Clock {
    fn switch(&self, _: SupplierKind, _: &[u32], on: bool) -> Result<(), SupplyError> {
        self.0.lock().unwrap().push(on);
        Ok(())
    }
}

impl Driver for ClockDriver {
    const NAME: &'static str = "clock";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,clock")];
    type Data<'b> = ();

    fn probe(&self, dev: &Bound) -> Result<(), ProbeError> {
        let clock: Arc<dyn Supply> = Arc::new(Clock(Arc::clone(&self.0)));
        Ok(dev.provide(clock)?)
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// A consumer whose way back runs `look` as a managed action.
struct Looker {
    look: Probe,
    fails: bool,
}

impl Driver for Looker {
    const NAME: &'static str = "looker";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,looker")];
    type Data<'b> = ();

    fn probe(&self, dev: &Bound) -> Result<(), ProbeError> {
        let look = Arc::clone(&self.look);
        dev.action("look", move || look())?;
        if self.fails { Err(ProbeError::Device("will not start")) } else { Ok(()) }
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

struct World {
    env: Arc<FakeEnv>,
    machine: Handle,
    switched: Arc<Mutex<Vec<bool>>>,
}

/// A bound clock and a consumer of it that is not probed yet.
fn world() -> World {
    let env = FakeEnv::new();
    let machine = env.machine(Policy::default());
    let switched = Arc::default();
    machine.register(ClockDriver(Arc::clone(&switched)));
    let node = machine.with_nodes(|n| n.find_or_add("/clock"));
    let mut clock = DeviceDesc::new("clock");
    clock.node = Some(node);
    clock.compatible.push("acme,clock".into());
    machine.add_device(clock).unwrap();
    let mut looker = DeviceDesc::new("looker");
    looker.compatible.push("acme,looker".into());
    looker.suppliers.push(Supplier {
        node,
        target: node,
        kind: SupplierKind::Clock,
        property: "clocks".into(),
        args: Vec::new(),
    });
    machine.add_device(looker).unwrap();
    machine.settle();
    World { env, machine, switched }
}

fn link_state(machine: &Machine) -> LinkState {
    machine.links(&machine.device("looker").unwrap())[0].state
}

/// What `read` answers during the last managed release of the consumer's probe failure, or of its unbind.
fn during_way_back<T: Send + 'static>(
    w: &World,
    fails: bool,
    read: impl Fn(&Machine, &[bool]) -> T + Send + Sync + 'static,
) -> Vec<T> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (machine, switched, out) = (Arc::downgrade(&w.machine), Arc::clone(&w.switched), Arc::clone(&seen));
    let look: Probe = Arc::new(move || {
        let machine = machine.upgrade().unwrap();
        let switched = switched.lock().unwrap().clone();
        out.lock().unwrap().push(read(&machine, &switched));
    });
    w.machine.register(Looker { look, fails });
    w.machine.settle();
    if !fails {
        w.machine.unbind("looker", "looker").unwrap();
    }
    assert_eq!(w.machine.promises().broken(), []);
    let mut seen = seen.lock().unwrap();
    core::mem::take(&mut *seen)
}

#[test]
fn links_stay_until_a_failed_probe_has_given_everything_back() {
    let w = world();
    assert_eq!(during_way_back(&w, true, |m, _| link_state(m)), [LinkState::ConsumerProbe], "P6");
    assert_eq!(link_state(&w.machine), LinkState::Available);
}

#[test]
fn links_stay_until_an_unbind_has_given_everything_back() {
    let w = world();
    assert_eq!(during_way_back(&w, false, |m, _| link_state(m)), [LinkState::Active], "P6");
    assert_eq!(link_state(&w.machine), LinkState::Available);
}

#[test]
fn the_clock_runs_while_managed_resources_go_back() {
    for fails in [false, true] {
        let w = world();
        assert_eq!(during_way_back(&w, fails, |_, switched| switched.to_vec()), [[true]], "fails: {fails}");
        assert_eq!(*w.switched.lock().unwrap(), [true, false]);
    }
}

#[test]
fn every_early_exit_of_a_probe_puts_its_links_back() {
    let w = world();
    w.machine.register(Looker { look: Arc::new(|| {}), fails: false });
    w.env.calls.lock().unwrap().clear();
    w.machine.settle();
    let points = w.env.calls.lock().unwrap().len();
    w.machine.unbind("looker", "looker").unwrap();
    assert!(points > 5, "{points}");
    for n in 0..points {
        w.env.calls.lock().unwrap().clear();
        *w.env.fail_at.lock().unwrap() = Some(n);
        assert!(matches!(w.machine.bind("looker", "looker"), Err(BindError::Probe { .. })), "fault {n}");
        assert_eq!(link_state(&w.machine), LinkState::Available, "fault {n}");
        // The supplier can go at once: nobody hangs in its way.
        *w.env.fail_at.lock().unwrap() = None;
        w.machine.unbind("clock", "clock").unwrap();
        assert_eq!(link_state(&w.machine), LinkState::Dormant, "fault {n}");
        w.machine.bind("clock", "clock").unwrap();
        w.machine.settle();
        w.machine.unbind("looker", "looker").unwrap();
    }
}

/// A driver without needs, for graphs of any shape.
struct Plain;

impl Driver for Plain {
    const NAME: &'static str = "plain";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,plain")];
    type Data<'b> = ();

    fn probe(&self, _: &Bound) -> Result<(), ProbeError> {
        Ok(())
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// Nodes behind those of the devices of [`graph`] that have no device.
const ABSENT: u32 = 2;

/// A machine with devices 0 to `n` - 1, each needing what `edges` (consumer, supplier) says, added in `order`; the
/// driver is registered after `driver_at` of them.
fn graph(n: u32, edges: &[(u32, u32)], order: &[u32], driver_at: usize) -> (Arc<FakeEnv>, Handle, super::ProbeStats) {
    let env = FakeEnv::new();
    let machine = env.machine(Policy::default());
    let nodes: Vec<NodeId> =
        machine.with_nodes(|nodes| (0..n + ABSENT).map(|i| nodes.find_or_add(&alloc::format!("/d{i}"))).collect());
    let mut total = super::ProbeStats::default();
    let mut settle = |machine: &Handle| {
        let s = machine.settle();
        total.attempts += s.attempts;
        total.bound += s.bound;
    };
    for (at, device) in order.iter().enumerate() {
        if at == driver_at {
            machine.register(Plain);
            settle(&machine);
        }
        let mut desc = DeviceDesc::new(&alloc::format!("d{device}"));
        desc.node = Some(nodes[*device as usize]);
        desc.compatible.push("acme,plain".into());
        for (_, supplier) in edges.iter().filter(|(c, _)| c == device) {
            let node = nodes[*supplier as usize];
            let kind = SupplierKind::Other;
            desc.suppliers.push(Supplier { node, target: node, kind, property: "x".into(), args: Vec::new() });
        }
        machine.add_device(desc).unwrap();
        settle(&machine);
    }
    machine.register(Plain);
    settle(&machine);
    (env, machine, total)
}

fn bound(machine: &Machine) -> Vec<Arc<str>> {
    let bound = |d: &Arc<crate::device::Device>| (d.phase() == Phase::Bound).then(|| d.desc().name.clone());
    machine.devices().iter().filter_map(bound).collect()
}

/// Which devices can ever be bound, worked out without the machine: those that reach nothing absent. Cycles are opened.
fn reachable(n: u32, edges: &[(u32, u32)]) -> Vec<Arc<str>> {
    let mut waits: Vec<bool> = (0..n + ABSENT).map(|c| c >= n).collect();
    while let Some((c, _)) = edges.iter().find(|(c, s)| waits[*s as usize] && !waits[*c as usize]) {
        waits[*c as usize] = true;
    }
    let mut names: Vec<Arc<str>> =
        (0..n).filter(|c| !waits[*c as usize]).map(|c| alloc::format!("d{c}").into()).collect();
    names.sort();
    names
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: if cfg!(miri) { 3 } else { proptest::test_runner::Config::default().cases.max(200) }, ..Default::default() })]

    /// P8: what is bound at the end depends on the graph alone, each device is probed once, and everybody who still
    /// waits can say for whom.
    #[test]
    fn probing_ends_in_the_same_place_in_every_order(
        edges in proptest::collection::vec((0u32..12, 0u32..12 + ABSENT), 0..20),
        order in proptest::strategy::Strategy::prop_shuffle(proptest::strategy::Just((0u32..12).collect::<Vec<_>>())),
        driver_at in 0usize..13,
    ) {
        let (_, machine, total) = graph(12, &edges, &order, driver_at);
        let bound = bound(&machine);
        proptest::prop_assert_eq!(&bound, &reachable(12, &edges));
        proptest::prop_assert_eq!(total.attempts, bound.len() as u64);
        proptest::prop_assert_eq!(bound.len() + machine.waiting().len(), 12);
        proptest::prop_assert!(machine.promises().broken().is_empty());
    }
}

#[test]
fn a_reversed_chain_takes_one_attempt_a_device() {
    let n: u32 = if cfg!(miri) { 20 } else { 2_000 };
    let edges: Vec<_> = (1..n).map(|i| (i - 1, i)).collect();
    let order: Vec<_> = (0..n).collect();
    let (_, machine, total) = graph(n, &edges, &order, n as usize);
    assert_eq!((total.attempts, total.bound), (u64::from(n), u64::from(n)));
    // The first supplier's end takes the whole chain with it, without recursion, consumers first.
    machine.unbind(&alloc::format!("d{}", n - 1), "plain").unwrap();
    assert!(bound(&machine).is_empty());
    assert_eq!(machine.promises().broken(), []);
}

#[test]
fn a_cycle_that_cannot_be_opened_is_reported_by_name() {
    let env = FakeEnv::new();
    let machine = env.machine(Policy::default());
    machine.register(Plain);
    let nodes: Vec<NodeId> = machine.with_nodes(|n| (0..4).map(|i| n.find_or_add(&alloc::format!("/d{i}"))).collect());
    for (device, supplier) in [(0, 1), (1, 2), (2, 0), (3, 0)] {
        let mut desc = DeviceDesc::new(&alloc::format!("d{device}"));
        desc.node = Some(nodes[device]);
        desc.compatible.push("acme,plain".into());
        let (node, kind) = (nodes[supplier], SupplierKind::Iommu);
        desc.suppliers.push(Supplier { node, target: node, kind, property: "iommus".into(), args: Vec::new() });
        machine.add_device(desc).unwrap();
    }
    machine.settle();
    assert_eq!(machine.cycles(), [["/d0", "/d1", "/d2"]]);
    let waiting = machine.waiting();
    assert_eq!(waiting[0].on, ["/d1: in a cycle"]);
    assert_eq!(waiting[3].on, ["/d0: not bound"]);
}

#[test]
fn a_cycle_that_is_opened_is_told_and_what_waits_for_it_is_bound() {
    let (env, machine, _) = graph(4, &[(0, 1), (1, 2), (2, 0), (3, 0)], &[3, 2, 1, 0], 0);
    assert_eq!(bound(&machine).len(), 4);
    assert!(machine.cycles().is_empty() && machine.waiting().is_empty());
    let told = |device: &str| {
        env.story(device)
            .iter()
            .any(|e| matches!(e, EventKind::Policy { policy } if policy.contains("cycle: /d0, /d1, /d2")))
    };
    assert_eq!(["d0", "d1", "d2", "d3"].map(told), [true, true, false, false]);
    // The third needs the first as before; the first does not need the second any more.
    machine.unbind("d1", "plain").unwrap();
    assert_eq!(bound(&machine).len(), 3);
    machine.unbind("d0", "plain").unwrap();
    assert_eq!(bound(&machine).len(), 0);
}

#[test]
fn a_supplier_that_never_comes_is_done_without_only_when_the_policy_says_so() {
    use super::AbsentSuppliers::{DoWithout, Wait};
    for absent_suppliers in [Wait, DoWithout] {
        let env = FakeEnv::new();
        let machine = env.machine(Policy { absent_suppliers, ..Policy::default() });
        let node = machine.with_nodes(|n| n.find_or_add("/never"));
        let needs = |kind| Supplier { node, target: node, kind, property: "x".into(), args: Vec::new() };
        let mut desc = DeviceDesc::new("needy");
        desc.compatible.push("acme,plain".into());
        desc.suppliers.push(needs(SupplierKind::Other));
        machine.register(Plain);
        machine.add_device(desc).unwrap();
        machine.settle();
        let given_up = machine.stop_waiting();
        machine.settle();
        let told = env.story("needy").iter().any(|e| matches!(e, EventKind::Policy { .. }));
        let without = absent_suppliers == DoWithout;
        assert_eq!((given_up == 1, told, bound(&machine).len() == 1), (without, without, without), "P10");
    }
}
