//! Tests for race windows of Linux 6.12 (docs/teardown-models.md: `links-probe`, `links-unbind`, `power`, `stuck-link`) that
//! this core does not have, and for order independence. Those of notifications and of unbind are in `binding/tests.rs`,
//! those of groups in `control/tests`.

use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::Mutex;

use super::lifecycle::BindingsOf;
use super::{BindError, Handle, Machine, Policy};
use crate::binding::{Bound, Phase};
use crate::device::{DeviceDesc, NodeId, Supplier, SupplierKind};
use crate::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use crate::env::fake::FakeEnv;
use crate::event::{Cause, EventKind};
use crate::link::LinkState;
use crate::power::{Supply, SupplyError};

/// Observation by a test driver during unwinding, from inside a managed action.
type Observation = Arc<dyn Fn() + Send + Sync>;

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

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let clock: Arc<dyn Supply> = Arc::new(Clock(Arc::clone(&self.0)));
        Ok(dev.provide(clock)?)
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// A consumer whose unwinding runs `observe` as a managed action.
struct Observer {
    observe: Observation,
    fails: bool,
}

impl Driver for Observer {
    const NAME: &'static str = "observer";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,observer")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let observe = Arc::clone(&self.observe);
        dev.action("observe", move || observe())?;
        if self.fails { Err(ProbeError::Device("will not start")) } else { Ok(()) }
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

struct Fixture {
    env: Arc<FakeEnv>,
    machine: Handle,
    switched: Arc<Mutex<Vec<bool>>>,
}

/// A bound clock and a consumer of it that is not probed yet.
fn fixture() -> Fixture {
    let env = FakeEnv::new();
    let machine = env.machine(Policy::default());
    let switched = Arc::default();
    machine.register(ClockDriver(Arc::clone(&switched)));
    let node = machine.with_nodes(|n| n.find_or_add("/clock"));
    let mut clock = DeviceDesc::new("clock");
    clock.node = Some(node);
    clock.compatible.push("acme,clock".into());
    machine.add_device(clock).unwrap();
    let mut observer = DeviceDesc::new("observer");
    observer.compatible.push("acme,observer".into());
    observer.suppliers.push(Supplier {
        node,
        target: node,
        kind: SupplierKind::Clock,
        property: "clocks".into(),
        args: Vec::new(),
    });
    machine.add_device(observer).unwrap();
    machine.settle();
    Fixture { env, machine, switched }
}

fn link_state(machine: &Machine) -> LinkState {
    machine.links(&machine.device("observer").unwrap())[0].state
}

/// Results of `read` during the last managed release of a failed probe of the consumer, or of its unbind.
fn during_unwind<T: Send + 'static>(
    w: &Fixture,
    fails: bool,
    read: impl Fn(&Machine, &[bool]) -> T + Send + Sync + 'static,
) -> Vec<T> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (machine, switched, out) = (Arc::downgrade(&w.machine), Arc::clone(&w.switched), Arc::clone(&seen));
    let observe: Observation = Arc::new(move || {
        let machine = machine.upgrade().unwrap();
        let switched = switched.lock().unwrap().clone();
        out.lock().unwrap().push(read(&machine, &switched));
    });
    w.machine.register(Observer { observe, fails });
    w.machine.settle();
    if !fails {
        w.machine.unbind("observer", "observer").unwrap();
    }
    assert_eq!(w.machine.promises().broken(), []);
    let mut seen = seen.lock().unwrap();
    core::mem::take(&mut *seen)
}

#[test]
fn links_stay_until_a_failed_probe_is_unwound() {
    let w = fixture();
    assert_eq!(during_unwind(&w, true, |m, _| link_state(m)), [LinkState::ConsumerProbe], "P6");
    assert_eq!(link_state(&w.machine), LinkState::Available);
}

#[test]
fn links_stay_until_an_unbind_is_complete() {
    let w = fixture();
    assert_eq!(during_unwind(&w, false, |m, _| link_state(m)), [LinkState::Active], "P6");
    assert_eq!(link_state(&w.machine), LinkState::Available);
}

#[test]
fn the_clock_runs_while_managed_resources_are_released() {
    for fails in [false, true] {
        let w = fixture();
        assert_eq!(during_unwind(&w, fails, |_, switched| switched.to_vec()), [[true]], "fails: {fails}");
        assert_eq!(*w.switched.lock().unwrap(), [true, false]);
    }
}

/// An unbind from a driver that does not have the device any more, as it finds when it has the device lock.
#[test]
fn an_unbind_that_comes_too_late_keeps_no_consumer_from_the_device() {
    let w = fixture();
    let clock = w.machine.device("clock").unwrap();
    // What it has done before it had the lock.
    w.machine.registry.lock().graph.supplier_leaves(clock.node());
    assert_eq!(w.machine.end_locked(&clock, Cause::Unbind, BindingsOf::Name("another")), Some(false));
    assert_eq!(clock.driver(), Some("clock"));
    w.machine.register(Observer { observe: Arc::new(|| {}), fails: false });
    w.machine.settle();
    assert_eq!(w.machine.device("observer").unwrap().driver(), Some("observer"));
    assert_eq!(w.machine.promises().broken(), []);
}

#[test]
fn every_early_exit_of_a_probe_restores_its_links() {
    let w = fixture();
    w.machine.register(Observer { observe: Arc::new(|| {}), fails: false });
    w.env.calls.lock().unwrap().clear();
    w.machine.settle();
    let points = w.env.calls.lock().unwrap().len();
    w.machine.unbind("observer", "observer").unwrap();
    assert!(points > 5, "{points}");
    for n in 0..points {
        w.env.calls.lock().unwrap().clear();
        *w.env.fail_at.lock().unwrap() = Some(n);
        assert!(matches!(w.machine.bind("observer", "observer"), Err(BindError::Probe { .. })), "fault {n}");
        assert_eq!(link_state(&w.machine), LinkState::Available, "fault {n}");
        // The supplier can be unbound at once: no busy link keeps it.
        *w.env.fail_at.lock().unwrap() = None;
        w.machine.unbind("clock", "clock").unwrap();
        assert_eq!(link_state(&w.machine), LinkState::Dormant, "fault {n}");
        w.machine.bind("clock", "clock").unwrap();
        w.machine.settle();
        w.machine.unbind("observer", "observer").unwrap();
    }
}

/// A driver without resources, for graphs of any shape.
struct Plain;

impl Driver for Plain {
    const NAME: &'static str = "plain";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,plain")];
    type Data<'b> = ();

    fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
        Ok(())
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// Number of nodes without a device, which follow those of the devices of [`graph`].
const ABSENT: u32 = 2;

/// A machine with devices 0 to `n` - 1, with the links of `edges` (consumer, supplier), added in `order`; the
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

/// Devices that can be bound, computed without the machine: those that reach no absent supplier. Cycles are relaxed.
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

    /// P8: the set of bound devices depends on the graph alone, each device is probed once, and every other device is
    /// listed as deferred.
    #[test]
    fn probing_in_any_order_binds_the_same_devices(
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
    // Unbinding the first supplier unbinds the whole chain, without recursion, consumers first.
    machine.unbind(&alloc::format!("d{}", n - 1), "plain").unwrap();
    assert!(bound(&machine).is_empty());
    assert_eq!(machine.promises().broken(), []);
}

#[test]
fn a_cycle_that_cannot_be_relaxed_is_reported_by_name() {
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
fn a_relaxed_cycle_is_reported_and_its_consumers_are_bound() {
    let (env, machine, _) = graph(4, &[(0, 1), (1, 2), (2, 0), (3, 0)], &[3, 2, 1, 0], 0);
    assert_eq!(bound(&machine).len(), 4);
    assert!(machine.cycles().is_empty() && machine.waiting().is_empty());
    let reported = |device: &str| {
        env.event_kinds(device)
            .iter()
            .any(|e| matches!(e, EventKind::Policy { policy } if policy.contains("cycle: /d0, /d1, /d2")))
    };
    assert_eq!(["d0", "d1", "d2", "d3"].map(reported), [true, true, false, false]);
    // The third device still needs the first; the first no longer needs the second.
    machine.unbind("d1", "plain").unwrap();
    assert_eq!(bound(&machine).len(), 3);
    machine.unbind("d0", "plain").unwrap();
    assert_eq!(bound(&machine).len(), 0);
}

#[test]
fn an_absent_supplier_is_ignored_only_under_the_policy_for_it() {
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
        let ignored = machine.stop_waiting();
        machine.settle();
        let reported = env.event_kinds("needy").iter().any(|e| matches!(e, EventKind::Policy { .. }));
        let without = absent_suppliers == DoWithout;
        assert_eq!((ignored == 1, reported, bound(&machine).len() == 1), (without, without, without), "P10");
    }
}

/// Driver of what firmware describes below a clock.
struct OutputDriver;

impl Driver for OutputDriver {
    const NAME: &'static str = "output";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,output")];
    type Data<'b> = ();

    fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
        Ok(())
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// P6: the device above stands for the subnode until it is a device of its own; those that are not bound yet then wait for that one.
#[test]
fn a_consumer_waits_for_a_subnode_of_its_supplier_that_becomes_a_device() {
    let machine = FakeEnv::new().machine(Policy::default());
    machine.register(ClockDriver(Arc::default()));
    let (node, target) = machine.with_nodes(|n| (n.find_or_add("/clock"), n.find_or_add("/clock/output")));
    let mut clock = DeviceDesc::new("clock");
    clock.node = Some(node);
    clock.compatible.push("acme,clock".into());
    machine.add_device(clock).unwrap();
    let mut observer = DeviceDesc::new("observer");
    observer.compatible.push("acme,observer".into());
    let property = "acme,reference".into();
    observer.suppliers.push(Supplier { node, target, kind: SupplierKind::Other, property, args: Vec::new() });
    machine.add_device(observer).unwrap();
    machine.settle();
    let mut output = DeviceDesc::new("output");
    (output.node, output.parent) = (Some(target), Some(node));
    output.compatible.push("acme,output".into());
    machine.add_device(output).unwrap();
    machine.register(Observer { observe: Arc::new(|| {}), fails: false });
    machine.settle();
    let bound = |name| machine.device(name).unwrap().driver().is_some();
    assert_eq!((bound("clock"), bound("observer")), (true, false), "its supplier has no driver yet");
    machine.register(OutputDriver);
    machine.settle();
    assert_eq!((bound("output"), bound("observer")), (true, true));
    // Now it goes first.
    machine.unregister("output");
    assert!(!bound("observer"), "P6");
}
