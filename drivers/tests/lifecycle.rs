//! Lifecycle of the disk controller: in each scenario promises, device models, IOMMU and DMA checker report nothing,
//! and machine and board are as before. `mutants/` has the historical bugs that each of them detects.
#![allow(clippy::unwrap_used)]
#![allow(clippy::redundant_closure_for_method_calls, reason = "a method is not general enough for `Client::call`")]

mod common;
#[path = "sata/hook.rs"]
mod hook;

use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak, mpsc};
use std::thread;
use std::time::Duration;

use bindery::binding::{Bound, MmioHandle, Phase};
use bindery::device::DeviceDesc;
use bindery::driver::{Driver, Match, Missing, ProbeError, QuiesceError, Quiesced};
use bindery::event::EventKind;
use bindery::instrument::FaultPoint;
use bindery::iommu::DomainKind;
use bindery::machine::{Policy, ResourceUsage};
use bindery_drivers::sata_rcar::SataRcar;
use bindery_sim::models::sata::Stop;
use bindery_sim::salvator::Salvator;
use common::master::Master;
use common::{IPMMU_HC, Rig, SATA, numbered_disk};
use hook::Hook;

const DRIVER: &str = "sata_rcar";

/// A board, a machine, and a hook that runs during waits.
struct Fixture {
    rig: Rig,
    hook: Arc<Hook>,
}

impl Deref for Fixture {
    type Target = Rig;
    fn deref(&self) -> &Rig {
        &self.rig
    }
}

/// Findings of a scenario itself: a state that was not restored, or wrong data.
type Findings = Vec<String>;

/// The whole board with a disk; nothing is probed yet.
fn fixture(policy: Policy) -> Fixture {
    let board = Salvator::new().disk(numbered_disk(64)).build();
    board.keep_events(1 << 16);
    let (hook, machine) = Hook::machine(&board, policy);
    let rig = Rig { board, machine };
    rig.add_board();
    bindery_drivers::register_all(&rig.machine);
    Fixture { rig, hook }
}

/// Runs `scenario`, and checks that promises, models, IOMMU, DMA checker and the scenario itself report nothing.
#[track_caller]
fn clean(policy: Policy, scenario: fn(&Fixture) -> Findings) {
    let rig = fixture(policy);
    let mut found = match catch_unwind(AssertUnwindSafe(|| scenario(&rig))) {
        Ok(findings) => findings,
        Err(_) => vec!["panic".into()],
    };
    rig.board.run_pending();
    found.extend(rig.machine.promises().broken().iter().map(|(p, what)| format!("{}: {what}", p.id())));
    found.extend(rig.board.model_errors().iter().map(|e| format!("model: {e}")));
    found.extend(rig.machine.dma_misuses().iter().map(|m| format!("dma: {m}")));
    found.extend(rig.events().iter().filter_map(|(_, kind)| match kind {
        EventKind::IommuFault { addr, reason, .. } => Some(format!("fault: {addr}: {reason}")),
        _ => None,
    }));
    assert_eq!(found, Vec::<String>::new());
}

macro_rules! clean {
    ($($name:ident: $policy:expr, $scenario:expr;)*) => {
        $(#[test] fn $name() { clean($policy, $scenario); })*
    };
}

fn translated() -> Policy {
    Policy::default()
}

fn untranslated() -> Policy {
    Policy { untranslated_dma: true, ..Policy::default() }
}

/// Start state of a scenario: everything is probed, and the disk controller is unbound.
fn before(rig: &Rig) -> (ResourceUsage, usize) {
    bound(rig);
    unbind(rig);
    (rig.resource_usage(), rig.board.enabled_lines())
}

fn bound(rig: &Rig) {
    rig.settle();
    assert_eq!(rig.driver(SATA), Some(DRIVER));
}

fn bind(rig: &Rig) {
    rig.machine.bind(SATA, DRIVER).unwrap();
}

fn unbind(rig: &Rig) {
    rig.machine.unbind(SATA, DRIVER).unwrap();
}

/// Reads one sector; a finding if its contents are wrong.
fn read(rig: &Rig) -> Findings {
    let mut back = vec![0; 512];
    let port = rig.machine.client::<SataRcar>(SATA).unwrap();
    match port.call(|p| p.read(7, &mut back)).unwrap() {
        Ok(()) if back == 7u16.to_le_bytes().repeat(256) => Vec::new(),
        Ok(()) => vec!["data: sector 7 holds something else".into()],
        Err(e) => vec![format!("data: {e}")],
    }
}

/// Findings if machine and board are not as before.
fn same(rig: &Rig, before: &(ResourceUsage, usize)) -> Findings {
    let now = (rig.resource_usage(), rig.board.enabled_lines());
    if now == *before { Vec::new() } else { vec![format!("left: {now:?} instead of {before:?}")] }
}

/// Binds, reads and unbinds, twice.
fn bind_read_unbind(fixture: &Fixture) -> Findings {
    let before = before(fixture);
    let mut findings = Vec::new();
    for _ in 0..2 {
        bind(fixture);
        findings.extend(read(fixture));
        unbind(fixture);
        findings.extend(same(fixture, &before));
    }
    findings
}

/// A probe that fails after it has allocated its DMA memory.
fn late_failure(fixture: &Fixture) -> Findings {
    let before = before(fixture);
    fixture.board.faults().fail_points(&[FaultPoint::IrqRequest]);
    assert!(fixture.machine.bind(SATA, DRIVER).is_err());
    fixture.board.faults().never();
    same(fixture, &before)
}

/// A bind that fails at each of its steps in turn.
fn each_failure(fixture: &Fixture) -> Findings {
    let before = before(fixture);
    let mut findings = Vec::new();
    for step in 1.. {
        fixture.board.faults().fail_nth(step);
        let done = fixture.machine.bind(SATA, DRIVER).is_ok();
        let injected = fixture.board.faults().injected() == 1;
        fixture.board.faults().never();
        if done {
            unbind(fixture);
        }
        findings.extend(same(fixture, &before));
        if !injected {
            break;
        }
    }
    findings
}

/// The supplier of a bound consumer is unbound.
fn supplier_unbound(fixture: &Fixture) -> Findings {
    bound(fixture);
    let findings = read(fixture);
    fixture.machine.unbind(IPMMU_HC, "ipmmu-vmsa").unwrap();
    findings
}

/// The driver of a bound device is removed.
fn driver_removed(fixture: &Fixture) -> Findings {
    bound(fixture);
    fixture.machine.unregister(DRIVER);
    Vec::new()
}

/// The driver of the disk controller is changed during an unbind.
fn driver_changed_meanwhile(fixture: &Fixture) -> Findings {
    bound(fixture);
    let machine = Arc::clone(&fixture.machine);
    machine.register(Master);
    fixture.hook.at_wait(1, move || {
        let device = machine.device(SATA).unwrap();
        // An unbind that holds the lock excludes this.
        if device.phase() == Phase::Bound {
            let other = || {
                machine.unbind(SATA, DRIVER).unwrap();
                machine.bind(SATA, Master::NAME).unwrap();
            };
            thread::scope(|s| s.spawn(other).join()).unwrap();
        }
    });
    let _ = fixture.machine.unbind(SATA, DRIVER);
    fixture.hook.each_wait(|| {});
    Vec::new()
}

/// The IOMMU does not confirm the unmap of a read. The read may fail, and its buffers may be quarantined.
fn invalidation_times_out(fixture: &Fixture) -> Findings {
    bound(fixture);
    fixture.board.faults().fail_points(&[FaultPoint::Invalidate]);
    let _ = read(fixture);
    fixture.board.faults().never();
    unbind(fixture);
    Vec::new()
}

/// The IOMMU does not confirm the unmap of an unbind; a reset at the next probe is the proof that frees the memory.
fn unbind_that_quarantines(fixture: &Fixture) -> Findings {
    let before = before(fixture);
    bind(fixture);
    let mut findings = read(fixture);
    fixture.board.faults().fail_points(&[FaultPoint::Invalidate]);
    unbind(fixture);
    fixture.board.faults().never();
    match fixture.machine.bind(SATA, DRIVER) {
        Ok(()) => unbind(fixture),
        Err(e) => findings.push(format!("it does not bind again: {e}")),
    }
    findings.extend(same(fixture, &before));
    findings
}

/// Driver that forgets its interrupt handle, and leaks a handle to its registers.
struct Forgetful(mpsc::Sender<MmioHandle>);

impl Driver for Forgetful {
    const NAME: &'static str = "forgetful";
    const MATCHES: &'static [Match] = &[Match::compatible("renesas,rcar-gen3-sata")];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        core::mem::forget(dev.irq(0)?);
        let _ = self.0.send(dev.mmio(0)?.handle());
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// A driver forgets one handle, and another one is used after the binding has ended.
fn handles_outlive_the_binding(fixture: &Fixture) -> Findings {
    let before = before(fixture);
    fixture.machine.unregister(DRIVER);
    let (send, handle) = mpsc::channel();
    fixture.machine.register(Forgetful(send));
    fixture.settle();
    fixture.machine.unbind(SATA, Forgetful::NAME).unwrap();
    let mut findings = same(fixture, &before);
    if handle.recv().unwrap().read32(0x180).is_ok() {
        findings.push("data: registers were read after the unbind".into());
    }
    findings
}

/// The disk controller does not stop when it is unbound.
fn stop_fails(fixture: &Fixture) -> Findings {
    bound(fixture);
    let findings = read(fixture);
    fixture.board.faults().fail_points(&[FaultPoint::Quiesce]);
    unbind(fixture);
    fixture.board.faults().never();
    findings
}

/// The disk controller is unbound inside a command that does not end, and its DMA engine ignores the stop. It has a
/// reset line of its own, by which the core can end it.
fn engine_ignores_the_stop(fixture: &Fixture) -> Findings {
    let before = before(fixture);
    bind(fixture);
    fixture.board.sata_faults(|k| (k.no_completion, k.stop) = (true, Stop::Ignored));
    let device = fixture.machine.device(SATA).unwrap();
    let (inside, entered) = mpsc::channel();
    fixture.hook.each_wait(move || {
        let _ = inside.send(());
        // Host time: the reader must not finish before the other thread has begun to unbind.
        while device.phase() == Phase::Bound {
            thread::sleep(Duration::from_micros(100));
        }
    });
    thread::scope(|s| {
        let reader = s.spawn(|| read(fixture));
        entered.recv().unwrap();
        unbind(fixture);
        assert_ne!(reader.join().unwrap(), Findings::new(), "the read was aborted");
    });
    fixture.hook.each_wait(|| {});
    same(fixture, &before)
}

/// Maps and unmaps memory in a lazy domain, without time passing in between.
fn lazy_pairs(fixture: &Fixture) -> Findings {
    let _ = before(fixture);
    fixture.machine.register(Master);
    let groups = fixture.machine.groups();
    let group = groups.iter().find(|g| g.info().members.iter().any(|m| &**m == SATA)).unwrap();
    group.set_kind(DomainKind::Lazy).unwrap();
    fixture.machine.bind(SATA, Master::NAME).unwrap();
    fixture.master(SATA, |m| {
        for _ in 0..3 {
            m.alloc(4096).unwrap();
            m.free_newest();
        }
    });
    fixture.machine.unbind(SATA, Master::NAME).unwrap();
    Vec::new()
}

/// The IOMMU fails to attach the disk controller.
fn attach_fails(fixture: &Fixture) -> Findings {
    let before = before(fixture);
    fixture.board.faults().fail_points(&[FaultPoint::DomainAttach]);
    let _ = fixture.machine.bind(SATA, DRIVER);
    fixture.board.faults().never();
    if fixture.driver(SATA).is_some() {
        unbind(fixture);
    }
    same(fixture, &before)
}

/// A pass-through owner binds a device whose group a kernel driver owns.
fn claim_in_a_shared_group(fixture: &Fixture) -> Findings {
    bound(fixture);
    fixture.add_master("neighbour", IPMMU_HC, &[3]);
    let before = (fixture.resource_usage(), fixture.board.enabled_lines());
    fixture.machine.device("neighbour").unwrap().set_driver_override(Some("vfio-platform"));
    let _ = fixture.machine.bind("neighbour", "vfio-platform");
    same(fixture, &before)
}

/// The disk does not respond to one command, and the driver resets the port.
fn port_reset(fixture: &Fixture) -> Findings {
    let before = before(fixture);
    bind(fixture);
    fixture.board.sata_faults(|k| k.no_completion = true);
    let board = Arc::downgrade(&fixture.board);
    fixture.board.on_event(Box::new(move |e| {
        if matches!(&e.kind, EventKind::Log { text } if text.contains("no answer"))
            && let Some(board) = board.upgrade()
        {
            board.sata_faults(|k| k.no_completion = false);
        }
    }));
    assert_ne!(read(fixture), Findings::new(), "the first one times out");
    let mut findings = read(fixture);
    unbind(fixture);
    findings.extend(same(fixture, &before));
    findings
}

/// Driver without suppliers.
struct Supplier;

impl Driver for Supplier {
    const NAME: &'static str = "supplier";
    const MATCHES: &'static [Match] = &[Match::compatible("test,supplier")];
    type Data<'b> = ();
    fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// Driver that finds its supplier missing; the supplier arrives before the deferral is returned.
struct Late(Weak<bindery::machine::Machine>);

impl Driver for Late {
    const NAME: &'static str = "late";
    const MATCHES: &'static [Match] = &[Match::compatible("test,late")];
    type Data<'b> = ();
    fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
        let machine = &self.0.upgrade().unwrap();
        let supplier = machine.device("supplier").unwrap();
        if supplier.phase() == Phase::Bound {
            return Ok(());
        }
        machine.register(Supplier);
        // On a thread of its own: requests of this thread are queued until the probe has returned.
        assert!(thread::scope(|s| s.spawn(|| machine.step()).join().unwrap_or(false)));
        Err(ProbeError::Defer { on: Missing::Node(supplier.node()) })
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// A supplier arrives while its consumer is being deferred because of it.
fn arrival_in_a_probe(fixture: &Fixture) -> Findings {
    bound(fixture);
    for name in ["supplier", "late"] {
        let mut desc = DeviceDesc::new(name);
        desc.compatible.push(format!("test,{name}").into());
        fixture.machine.add_device(desc).unwrap();
    }
    fixture.settle();
    fixture.machine.register(Late(Arc::downgrade(&fixture.machine)));
    fixture.settle();
    match fixture.driver("late") {
        Some(_) => Vec::new(),
        None => vec!["late is not bound".into()],
    }
}

/// Everything is probed for the first time.
fn boot(fixture: &Fixture) -> Findings {
    fixture.settle();
    Vec::new()
}

clean! {
    bind_read_unbind_twice: translated(), bind_read_unbind;
    bind_read_unbind_twice_untranslated: untranslated(), bind_read_unbind;
    a_probe_fails_after_it_allocated_dma_memory: translated(), late_failure;
    a_bind_fails_at_each_of_its_steps: translated(), each_failure;
    the_iommu_does_not_confirm_a_read: translated(), invalidation_times_out;
    the_iommu_does_not_confirm_an_unbind: translated(), unbind_that_quarantines;
    handles_are_used_after_the_unbind_or_forgotten: translated(), handles_outlive_the_binding;
    the_driver_is_changed_during_an_unbind: translated(), driver_changed_meanwhile;
    the_iommu_is_unbound_under_its_consumer: translated(), supplier_unbound;
    the_driver_is_removed: translated(), driver_removed;
    a_lazy_domain_maps_and_unmaps: translated(), lazy_pairs;
    the_iommu_does_not_attach_the_device: translated(), attach_fails;
    a_guest_is_refused_a_device_of_a_group_in_use: translated(), claim_in_a_shared_group;
    the_device_does_not_stop: untranslated(), stop_fails;
    the_engine_ignores_the_stop: untranslated(), engine_ignores_the_stop;
    the_port_is_reset_after_a_time_out: translated(), port_reset;
    everything_is_probed: translated(), boot;
    a_supplier_arrives_during_the_probe_of_its_consumer: translated(), arrival_in_a_probe;
}
