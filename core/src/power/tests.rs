//! Tests of lines that stay pinned for a device that was not shown to be quiesced.

mod absent;
mod buses;
mod handles;
mod shared;

use alloc::collections::BTreeSet;
use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;

use super::{Supply, SupplyError};
use crate::binding::Bound;
use crate::device::{DeviceDesc, NodeId, Resource, Supplier, SupplierKind};
use crate::driver::{Driver, IrqReturn, Match, ProbeError, QuiesceError, Quiesced};
use crate::env::fake::FakeEnv;
use crate::env::{IrqLine, Trigger};
use crate::event::EventKind;
use crate::machine::{Handle, Policy};
use crate::sync::SpinLock;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// First cells of the lines that are on; a reset line that is on lets its device run.
type On = Arc<SpinLock<BTreeSet<u32>>>;

struct Lines(On, Weak<FakeEnv>);

impl Supply for Lines {
    fn switch(&self, _: SupplierKind, args: &[u32], on: bool) -> Result<(), SupplyError> {
        let mut lines = self.0.lock();
        if on {
            lines.insert(args[0])
        } else {
            lines.remove(&args[0])
        };
        drop(lines);
        // As another device on the user's interrupt line does at any time.
        self.1.upgrade().unwrap().raise(IRQ);
        Ok(())
    }
}

struct Provider(On, Weak<FakeEnv>);

impl Driver for Provider {
    const NAME: &'static str = "provider";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,lines")];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        Ok(dev.provide::<dyn Supply>(Arc::new(Lines(Arc::clone(&self.0), Weak::clone(&self.1))))?)
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// Driver that publishes a DMA address to its device, and then succeeds or fails. Its interrupt handler would read the device.
struct User {
    fails: bool,
    on: On,
    env: Weak<FakeEnv>,
    /// Calls of the handler, and those while the device was held in reset.
    calls: Arc<[AtomicUsize; 2]>,
}

impl Driver for User {
    const NAME: &'static str = "user";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,user")];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let (on, calls) = (Arc::clone(&self.on), Arc::clone(&self.calls));
        dev.request_irq(0, move || {
            calls[usize::from(!on.lock().contains(&RESET))].fetch_add(1, Ordering::Relaxed);
            IrqReturn::Handled
        })?;
        // Released before the line: the device's interrupt in between.
        let env = Weak::clone(&self.env);
        dev.action("interrupt", move || env.upgrade().unwrap().raise(IRQ))?;
        let _published = dev.dma().coherent(64)?.device_addr();
        if self.fails { Err(ProbeError::Device("it does not respond")) } else { Ok(()) }
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Err(QuiesceError("the stop bit stays set"))
    }
}

const FIRST: u32 = 1;
const SECOND: u32 = 2;
const RESET: u32 = 3;
const IRQ: IrqLine = IrqLine(9);

/// A machine in which `user` needs line 2 of `second`, which needs line 1 of `first`; with `reset`, line 3 of `second`
/// resets `user`.
fn fixture(fails: bool, reset: bool) -> (Arc<FakeEnv>, Handle, On, Arc<[AtomicUsize; 2]>) {
    let env = FakeEnv::new();
    let machine = env.machine(Policy::default());
    let (on, calls) = (On::default(), Arc::default());
    machine.register(Provider(Arc::clone(&on), Arc::downgrade(&env)));
    let user = User { fails, on: Arc::clone(&on), env: Arc::downgrade(&env), calls: Arc::clone(&calls) };
    machine.register(user);
    let add = |name: &str, compatible: &str, needs: &[(NodeId, SupplierKind, u32)]| {
        let mut desc = DeviceDesc::new(name);
        desc.compatible.push(compatible.into());
        desc.resources.push(Resource::Irq { line: IRQ, trigger: Trigger::LevelHigh });
        let supplier = |(node, kind, line): &(NodeId, SupplierKind, u32)| {
            let args = Vec::from([*line]);
            Supplier { node: *node, target: *node, kind: *kind, property: "x".into(), args }
        };
        desc.suppliers.extend(needs.iter().map(supplier));
        machine.add_device(desc).unwrap().node()
    };
    let first = add("first", "acme,lines", &[]);
    let second = add("second", "acme,lines", &[(first, SupplierKind::Clock, FIRST)]);
    let mut needs = Vec::from([(second, SupplierKind::Power, SECOND)]);
    if reset {
        needs.push((second, SupplierKind::Reset, RESET));
    }
    add("user", "acme,user", &needs);
    machine.settle();
    (env, machine, on, calls)
}

fn lines(on: &On) -> Vec<u32> {
    on.lock().iter().copied().collect()
}

#[test]
fn the_supplies_of_a_running_device_stay_on_through_all_its_suppliers() {
    let (_, machine, on, _) = fixture(false, false);
    machine.unbind("second", "provider").unwrap();
    assert_eq!(lines(&on), [FIRST, SECOND], "the user's line, and the line that feeds its provider");
    machine.unbind("first", "provider").unwrap();
    assert_eq!(lines(&on), [FIRST, SECOND]);
    let pinned: Vec<_> = machine.pinned_supplies().into_iter().map(|k| (k.device, k.kind.name(), k.args)).collect();
    let second = ("second".into(), "clock", Vec::from([FIRST]));
    assert_eq!(pinned, [second, ("user".into(), "power", Vec::from([SECOND]))]);
    // Both providers are bound again; the user's memory is still in quarantine, so its probe fails: nothing changes.
    for provider in ["first", "second"] {
        machine.bind(provider, "provider").unwrap();
    }
    machine.settle();
    assert!(machine.bind("user", "user").is_err());
    assert_eq!((lines(&on), machine.pinned_supplies().len()), (Vec::from([FIRST, SECOND]), 1));
    assert!(machine.device_vanished("user"));
    assert_eq!((lines(&on), machine.quarantine().len()), (Vec::from([FIRST]), 0));
    machine.unbind("second", "provider").unwrap();
    assert_eq!((lines(&on), machine.resource_usage().supplies), (Vec::new(), 0), "P4");
    assert_eq!(machine.promises().broken(), []);
}

#[test]
fn an_orderly_removal_is_no_proof_of_a_quiesced_device() {
    let (_, machine, on, _) = fixture(false, false);
    assert!(machine.remove_device("user"));
    assert_eq!((lines(&on), machine.pinned_supplies().len()), (Vec::from([FIRST, SECOND]), 1));
    assert_eq!(machine.promises().broken(), []);
}

#[test]
fn a_device_with_a_published_address_is_reset_after_a_failed_probe() {
    let (env, machine, on, _) = fixture(true, true);
    assert!(env.event_kinds("user").contains(&EventKind::Quiesced { how: "held in reset".into() }), "P11");
    assert_eq!(
        (lines(&on), machine.pinned_supplies(), machine.quarantine()),
        (Vec::from([FIRST]), vec![], vec![]),
        "P4"
    );
    assert_eq!(machine.memory().frames().in_use(), 0);
}

#[test]
fn no_handler_reads_a_device_that_is_held_in_reset() {
    for fails in [false, true] {
        let (env, machine, _, calls) = fixture(fails, true);
        if !fails {
            env.raise(IRQ);
            machine.unbind("user", "user").unwrap();
        }
        assert!(env.event_kinds("user").contains(&EventKind::Quiesced { how: "held in reset".into() }));
        let [outside, in_reset] = &*calls;
        assert_eq!((outside.load(Ordering::Relaxed) > 0, in_reset.load(Ordering::Relaxed)), (!fails, 0), "{fails}");
        assert_eq!(machine.promises().broken(), []);
    }
}

#[test]
fn a_device_whose_reset_is_refused_keeps_its_handlers_until_its_line_is_released() {
    let (env, machine, on, calls) = fixture(false, true);
    machine.register(Orderly);
    let second = machine.device("second").unwrap().node();
    let mut desc = DeviceDesc::new("neighbour");
    desc.compatible.push("acme,orderly".into());
    let args = Vec::from([RESET]);
    desc.suppliers.push(Supplier {
        node: second,
        target: second,
        kind: SupplierKind::Reset,
        property: "x".into(),
        args,
    });
    machine.add_device(desc).unwrap();
    machine.settle();
    let before = calls[0].load(Ordering::Relaxed);
    machine.unbind("user", "user").unwrap();
    assert!(lines(&on).contains(&RESET), "the neighbour runs");
    assert!(!env.event_kinds("user").contains(&EventKind::Quiesced { how: "held in reset".into() }));
    assert_eq!(calls[0].load(Ordering::Relaxed), before + 1, "it interrupts still, and somebody has to look");
    assert_eq!(machine.promises().broken(), []);
}

#[test]
fn without_a_reset_line_all_supplies_of_the_device_are_pinned() {
    let (_, machine, on, _) = fixture(true, false);
    assert_eq!((lines(&on), machine.pinned_supplies().len()), (Vec::from([FIRST, SECOND]), 1));
    assert_eq!(machine.quarantine().len(), 1);
}

/// Driver that quiesces its device.
struct Orderly;

impl Driver for Orderly {
    const NAME: &'static str = "orderly";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,orderly")];
    type Data<'b> = ();
    fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

#[test]
fn unbinding_a_second_user_does_not_switch_off_a_line_pinned_for_the_first() {
    let (_, machine, on, _) = fixture(false, false);
    machine.register(Orderly);
    let mut desc = DeviceDesc::new("neighbour");
    desc.compatible.push("acme,orderly".into());
    let second = machine.device("second").unwrap().node();
    let power = SupplierKind::Power;
    let args = Vec::from([SECOND]);
    desc.suppliers.push(Supplier { node: second, target: second, kind: power, property: "x".into(), args });
    machine.add_device(desc).unwrap();
    machine.settle();
    machine.unbind("user", "user").unwrap();
    machine.unbind("neighbour", "orderly").unwrap();
    assert_eq!((lines(&on), machine.pinned_supplies().len()), (Vec::from([FIRST, SECOND]), 1), "P11");
    // The other way round: the pin is released while the neighbour uses the line.
    machine.bind("neighbour", "orderly").unwrap();
    assert!(machine.device_vanished("user"));
    assert_eq!((lines(&on), machine.pinned_supplies().len()), (Vec::from([FIRST, SECOND]), 0));
    machine.unbind("neighbour", "orderly").unwrap();
    assert_eq!(lines(&on), [FIRST], "P4");
    assert_eq!(machine.promises().broken(), []);
}
