//! Tests of bindings on the fake target.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;
use std::sync::Mutex;

use super::{Bound, Mmio, Phase};
use crate::addr::PhysAddr;
use crate::device::{DeviceDesc, NodeId, Resource, Supplier, SupplierKind};
use crate::dma::CoherentSlice;
use crate::driver::{Driver, IrqReturn, Match, Missing, ProbeError, QuiesceError, Quiesced};
use crate::env::fake::FakeEnv;
use crate::env::{IrqLine, Trigger};
use crate::event::{Cause, EventKind, Outcome};
use crate::irq::{Irq, TimedOut};
use crate::machine::{BindError, Handle, Policy, UnbindError};

mod children;
mod devres;
mod misuse;
mod registers;
mod services;
mod work;

/// Calls that the test driver received, in order.
type CallLog = Arc<Mutex<Vec<&'static str>>>;

struct Widget {
    calls: CallLog,
    defer_on: Option<NodeId>,
}

struct State<'b> {
    regs: Mmio<'b>,
    irq: Irq<'b>,
    ring: CoherentSlice<'b, u32>,
    calls: CallLog,
}

impl Drop for State<'_> {
    fn drop(&mut self) {
        // The destructor of driver data may use what the data borrows: nothing was released yet.
        self.regs.write32(0x8, 0xdead).unwrap();
        self.ring.write(0, &7);
        self.calls.lock().unwrap().push("data dropped");
    }
}

impl Driver for Widget {
    const NAME: &'static str = "widget";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,widget")];
    type Data<'b> = State<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<State<'b>, ProbeError> {
        let regs = dev.mmio(0)?;
        let calls = Arc::clone(&self.calls);
        let late = regs.handle();
        dev.action("switch off", move || {
            late.write32(0x4, 0).unwrap();
            calls.lock().unwrap().push("action");
        })?;
        let ring = dev.dma().coherent_slice::<u32>(16)?;
        let calls = Arc::clone(&self.calls);
        let irq = dev.request_irq(0, move || {
            calls.lock().unwrap().push("interrupt");
            IrqReturn::HandledMasked
        })?;
        if let Some(node) = self.defer_on {
            return Err(ProbeError::Defer { on: Missing::Node(node) });
        }
        regs.write32(0x0, ring.device_addr().0 as u32)?;
        Ok(State { regs, irq, ring, calls: Arc::clone(&self.calls) })
    }

    fn quiesce(state: &State<'_>) -> Result<Quiesced, QuiesceError> {
        state.calls.lock().unwrap().push("quiesce");
        Ok(Quiesced::stopped())
    }
}

struct NeverStops;

impl Driver for NeverStops {
    const NAME: &'static str = "never-stops";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,widget")];
    type Data<'b> = CoherentSlice<'b, u32>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Self::Data<'b>, ProbeError> {
        let ring = dev.dma().coherent_slice::<u32>(16)?;
        let _published = ring.device_addr();
        Ok(ring)
    }

    fn quiesce(_: &Self::Data<'_>) -> Result<Quiesced, QuiesceError> {
        Err(QuiesceError("the stop bit stays set"))
    }
}

struct Resets;

impl Driver for Resets {
    const NAME: &'static str = "resets";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,widget")];
    type Data<'b> = CoherentSlice<'b, u32>;
    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Self::Data<'b>, ProbeError> {
        dev.mark_quiesced(Quiesced::in_reset());
        Ok(dev.dma().coherent_slice(4)?)
    }
    fn quiesce(_: &Self::Data<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

struct Plain;

impl Driver for Plain {
    const NAME: &'static str = "plain";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,power")];
    type Data<'b> = ();
    fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

struct Grouped;

impl Driver for Grouped {
    const NAME: &'static str = "grouped";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,widget")];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let kept = dev.dma().coherent(4096)?;
        let group = dev.devres_group();
        group.bound().dma().coherent(4096)?;
        let inner = group.bound().devres_group();
        inner.bound().dma().coherent(4096)?;
        assert_eq!(dev.state.system().memory().frames().in_use(), 3);
        group.release();
        assert_eq!(dev.state.system().memory().frames().in_use(), 1);
        let forgotten = dev.devres_group();
        core::mem::forget(forgotten.bound().dma().coherent(4096)?);
        #[expect(clippy::forget_non_drop, reason = "P9 is about this very call, whether there is a destructor or not")]
        core::mem::forget(forgotten);
        core::mem::forget(kept);
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

fn widget() -> DeviceDesc {
    let mut desc = DeviceDesc::new("1000.widget");
    desc.compatible.push("acme,widget".into());
    desc.resources.push(Resource::Mem { base: PhysAddr(0x1000), len: 64 });
    desc.resources.push(Resource::Irq { line: IrqLine(40), trigger: Trigger::LevelHigh });
    desc
}

fn machine() -> (Arc<FakeEnv>, Handle, CallLog) {
    let env = FakeEnv::new();
    let machine = env.machine(Policy::default());
    (env, machine, CallLog::default())
}

fn good(calls: &CallLog) -> Widget {
    Widget { calls: Arc::clone(calls), defer_on: None }
}

fn promises_hold(machine: &Handle) {
    assert_eq!(machine.promises().broken(), []);
}

#[test]
fn unbind_quiesces_then_drops_data_then_releases_newest_first() {
    let (env, machine, calls) = machine();
    let before = machine.resource_usage();
    machine.register(good(&calls));
    machine.add_device(widget()).unwrap();
    assert_eq!(machine.settle().bound, 1);
    machine.unbind("1000.widget", "widget").unwrap();

    assert_eq!(*calls.lock().unwrap(), ["quiesce", "data dropped", "action"]);
    let released: Vec<_> = env
        .event_kinds("1000.widget")
        .into_iter()
        .filter_map(|e| match e {
            EventKind::Released { resource, outcome, .. } => Some((resource, outcome)),
            _ => None,
        })
        .collect();
    let order = ["data", "irq", "dma coherent", "action", "mmio", "control", "translation", "links"];
    assert_eq!(released, order.map(|r| (r, Outcome::Returned)));
    assert_eq!(machine.resource_usage(), before, "P4");
    promises_hold(&machine);
}

#[test]
fn notifications_pair_for_a_binding_and_for_a_failed_probe() {
    // Every BIND event has a matching end-of-binding event, emitted after everything was released.
    let (env, machine, calls) = machine();
    machine.register(good(&calls));
    machine.add_device(widget()).unwrap();
    *env.fail_at.lock().unwrap() = None;
    machine.settle();
    machine.unbind("1000.widget", "widget").unwrap();
    let points = env.calls.lock().unwrap().len();
    for n in 0..points {
        env.events.lock().unwrap().clear();
        env.calls.lock().unwrap().clear();
        *env.fail_at.lock().unwrap() = Some(n);
        let bound = machine.bind("1000.widget", "widget").is_ok();
        if bound {
            machine.unbind("1000.widget", "widget").unwrap();
        }
        let events = env.event_kinds("1000.widget");
        let begun = events.iter().filter(|e| matches!(e, EventKind::Bind { .. })).count();
        let ended =
            events.iter().filter(|e| matches!(e, EventKind::Unbound { .. } | EventKind::NotBound { .. })).count();
        assert_eq!(begun, ended, "fault {n}: {events:#?}");
        if begun == 1 {
            let last = events.last().unwrap();
            assert!(matches!(last, EventKind::Unbound { .. } | EventKind::NotBound { .. }), "fault {n}: {last:?}");
        }
    }
}

#[test]
fn a_fault_at_each_step_leaves_the_machine_as_it_was() {
    let (env, machine, calls) = machine();
    machine.add_device(widget()).unwrap();
    machine.register(good(&calls));
    machine.settle();
    let clean = env.calls.lock().unwrap().len();
    machine.unbind("1000.widget", "widget").unwrap();
    let before = machine.resource_usage();
    assert!(clean > 10, "every fallible step has a fault point: {clean}");
    for n in 0..clean {
        env.calls.lock().unwrap().clear();
        *env.fail_at.lock().unwrap() = Some(n);
        let failed = machine.bind("1000.widget", "widget");
        assert!(matches!(failed, Err(BindError::Probe { .. })), "fault {n}: {failed:?}");
        assert_eq!(machine.resource_usage(), before, "P4, fault {n}");
        *env.fail_at.lock().unwrap() = None;
        machine.bind("1000.widget", "widget").unwrap();
        machine.unbind("1000.widget", "widget").unwrap();
    }
    promises_hold(&machine);
}

#[test]
fn a_client_that_outlives_its_binding_gets_an_error() {
    let (_, machine, calls) = machine();
    machine.register(good(&calls));
    machine.add_device(widget()).unwrap();
    machine.settle();
    let client = machine.client::<Widget>("1000.widget").unwrap();
    assert_eq!(client.call(|w| w.ring.len()), Ok(16));
    machine.unbind("1000.widget", "widget").unwrap();
    assert!(client.call(|w| w.ring.len()).is_err(), "P5");
    machine.bind("1000.widget", "widget").unwrap();
    assert!(client.call(|w| w.ring.len()).is_err(), "P5: a client of the old binding does not reach the new one");
}

#[test]
fn a_register_handle_that_outlives_its_binding_gets_an_error() {
    let (_, machine, calls) = machine();
    machine.register(good(&calls));
    machine.add_device(widget()).unwrap();
    machine.settle();
    let handle = machine.client::<Widget>("1000.widget").unwrap().call(|w| w.regs.handle()).unwrap();
    assert!(handle.read32(0).is_ok());
    machine.unbind("1000.widget", "widget").unwrap();
    assert!(handle.read32(0).is_err());
}

#[test]
fn dma_memory_stays_accessible_to_the_cpu_after_the_binding_ends() {
    let (_, machine, calls) = machine();
    machine.register(good(&calls));
    machine.add_device(widget()).unwrap();
    machine.settle();
    let memory = machine.client::<Widget>("1000.widget").unwrap().call(|w| w.ring.bytes().memory()).unwrap();
    machine.unbind("1000.widget", "widget").unwrap();
    let mut word = [0; 4];
    memory.read_bytes(0, &mut word);
    assert_eq!(u32::from_le_bytes(word), 7);
    assert_eq!(machine.memory().frames().in_use(), 1);
    drop(memory);
    assert_eq!(machine.memory().frames().in_use(), 0);
}

#[test]
fn an_interrupt_reaches_the_driver_data_only_while_bound() {
    let (env, machine, calls) = machine();
    machine.register(good(&calls));
    machine.add_device(widget()).unwrap();
    machine.settle();
    env.raise(IrqLine(40));
    let client = machine.client::<Widget>("1000.widget").unwrap();
    assert_eq!(client.call(|w| w.irq.wait(Duration::from_millis(1))), Ok(Ok(())));
    let again = client.call(|w| w.irq.wait(Duration::from_millis(1)));
    assert_eq!(again, Ok(Err(TimedOut(Duration::from_millis(1)))));
    machine.unbind("1000.widget", "widget").unwrap();
    env.raise(IrqLine(40));
    assert_eq!(calls.lock().unwrap().iter().filter(|d| **d == "interrupt").count(), 1);
}

#[test]
fn memory_of_a_device_that_does_not_stop_is_quarantined_until_it_is_quiesced() {
    let (_, machine, calls) = machine();
    machine.register(NeverStops);
    machine.add_device(widget()).unwrap();
    machine.settle();
    machine.unbind("1000.widget", "never-stops").unwrap();
    assert_eq!(machine.quarantine().len(), 1, "P11");
    assert_eq!(machine.memory().frames().in_use(), 1);
    // P11: the device cannot allocate more memory ...
    assert!(machine.bind("1000.widget", "never-stops").is_err());
    // ... until a driver has reset it and reported that.
    machine.register(Resets);
    machine.bind("1000.widget", "resets").unwrap();
    machine.unbind("1000.widget", "resets").unwrap();
    assert_eq!((machine.quarantine().len(), machine.memory().frames().in_use()), (0, 0));
    promises_hold(&machine);
    drop(calls);
}

#[test]
fn a_deferral_names_the_missing_supplier_whose_arrival_repeats_the_probe() {
    let (env, machine, calls) = machine();
    let node = machine.with_nodes(|n| n.find_or_add("/power"));
    let mut consumer = widget();
    consumer.suppliers.push(Supplier {
        node,
        kind: SupplierKind::Other,
        target: node,
        property: "power-supply".into(),
        args: Vec::new(),
    });
    machine.register(good(&calls));
    machine.add_device(consumer).unwrap();
    assert_eq!(machine.settle().waiting, 1);
    assert_eq!(machine.waiting()[0].on, ["/power: no such device"]);

    let mut power = DeviceDesc::new("pmic");
    power.node = Some(node);
    power.compatible.push("acme,power".into());
    machine.register(Plain);
    machine.add_device(power).unwrap();
    assert_eq!(machine.settle().bound, 2);

    // P6: consumers are unbound before their supplier, and bound again after it.
    env.events.lock().unwrap().clear();
    machine.unbind("pmic", "plain").unwrap();
    let ends: Vec<_> = env
        .events
        .lock()
        .unwrap()
        .iter()
        .filter_map(|e| match &e.kind {
            EventKind::Unbound { cause, .. } => Some((e.device.clone().unwrap(), *cause)),
            _ => None,
        })
        .collect();
    assert_eq!(ends, [("1000.widget".into(), Cause::SupplierLeaving), ("pmic".into(), Cause::Unbind)]);
    machine.bind("pmic", "plain").unwrap();
    machine.settle();
    assert_eq!(machine.device("1000.widget").unwrap().phase(), Phase::Bound);
    promises_hold(&machine);
}

#[test]
fn a_driver_that_defers_on_a_present_device_is_not_probed_endlessly() {
    let (_, machine, calls) = machine();
    let device = machine.add_device(DeviceDesc::new("other")).unwrap();
    let node = device.node();
    machine.register(Widget { calls, defer_on: Some(node) });
    machine.add_device(widget()).unwrap();
    assert_eq!(machine.settle().waiting, 1);
    assert_eq!(machine.settle().attempts, 0);
}

#[test]
fn unbind_checks_the_name_of_the_bound_driver() {
    // The name is compared under the device lock.
    let (_, machine, calls) = machine();
    machine.register(good(&calls));
    machine.register(NeverStops);
    machine.add_device(widget()).unwrap();
    machine.settle();
    let holder = machine.device("1000.widget").unwrap().driver().unwrap();
    assert_eq!(holder, "never-stops", "P8: by name, not by order of registration");
    assert!(matches!(machine.unbind("1000.widget", "widget"), Err(UnbindError::NotHeld { .. })));
    assert_eq!(machine.device("1000.widget").unwrap().driver(), Some("never-stops"));
}

#[test]
fn a_devres_group_is_released_early_and_a_forgotten_one_with_the_binding() {
    let (_, machine, _) = machine();
    machine.register(Grouped);
    machine.add_device(widget()).unwrap();
    assert_eq!(machine.settle().bound, 1);
    assert_eq!(machine.memory().frames().in_use(), 2);
    machine.unbind("1000.widget", "grouped").unwrap();
    // P9: forgotten handles leak their memory and nothing else, and the device can no longer reach it.
    assert_eq!(machine.memory().frames().in_use(), 2);
    let lost = machine.resource_usage();
    assert_eq!((lost.irqs, lost.services, lost.quarantine.as_str()), (0, 0, "0 runs, 0 bytes"));
    promises_hold(&machine);
}
