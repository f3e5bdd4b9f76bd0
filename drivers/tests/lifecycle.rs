//! The lifecycle of the disk controller: in each situation nobody notices anything, be it promises, device models, the IOMMU or
//! the DMA checker, and machine and board are as before. `mutants/` has the historical bugs that each of them notices.
#![allow(clippy::unwrap_used)]
#![allow(clippy::redundant_closure_for_method_calls, reason = "a method is not general enough for `Client::call`")]

mod common;
#[path = "sata/hook.rs"]
mod hook;

use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use bindery::binding::{Bound, MmioHandle, Phase};
use bindery::device::DeviceDesc;
use bindery::driver::{Driver, Match, Missing, ProbeError, QuiesceError, Quiesced};
use bindery::env::{Env, FaultPoint};
use bindery::event::EventKind;
use bindery::iommu::DomainKind;
use bindery::machine::{Machine, Policy, ResourceUsage};
use bindery_drivers::sata_rcar::SataRcar;
use bindery_sim::models::sata::Stop;
use bindery_sim::salvator::Salvator;
use common::master::Master;
use common::{IPMMU_HC, Rig, SATA, numbered_disk};
use hook::Hook;

const DRIVER: &str = "sata_rcar";

/// A board, a machine, and the moments in which somebody waits.
struct World {
    rig: Rig,
    hook: Arc<Hook>,
}

impl Deref for World {
    type Target = Rig;
    fn deref(&self) -> &Rig {
        &self.rig
    }
}

/// What a scenario saw by itself: a life that did not end as it began, or wrong data.
type Seen = Vec<String>;

/// The whole board with a disk; nothing is probed yet.
fn world(policy: Policy) -> World {
    let board = Salvator::new().disk(numbered_disk(64)).build();
    board.keep_events(1 << 16);
    let hook = Hook::on(&board);
    let machine = Machine::new(Arc::clone(&hook) as Arc<dyn Env>, policy);
    let rig = Rig { board, machine };
    rig.add_board();
    bindery_drivers::register_all(&rig.machine);
    World { rig, hook }
}

/// Runs `scenario`: nobody notices anything, promises, models, IOMMU, DMA checker, or the scenario itself.
#[track_caller]
fn clean(policy: Policy, scenario: fn(&World) -> Seen) {
    let rig = world(policy);
    let mut found = match catch_unwind(AssertUnwindSafe(|| scenario(&rig))) {
        Ok(seen) => seen,
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

/// Everything is probed, and the disk let go of: what a life starts from.
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

/// Reads one sector; says so if it does not hold what it should.
fn read(rig: &Rig) -> Seen {
    let mut back = vec![0; 512];
    let port = rig.machine.client::<SataRcar>(SATA).unwrap();
    match port.call(|p| p.read(7, &mut back)).unwrap() {
        Ok(()) if back == 7u16.to_le_bytes().repeat(256) => Vec::new(),
        Ok(()) => vec!["data: sector 7 holds something else".into()],
        Err(e) => vec![format!("data: {e}")],
    }
}

/// Machine and board are as they were before.
fn same(rig: &Rig, before: &(ResourceUsage, usize)) -> Seen {
    let now = (rig.resource_usage(), rig.board.enabled_lines());
    if now == *before { Vec::new() } else { vec![format!("left: {now:?} instead of {before:?}")] }
}

/// Bind, read, unbind; and once more.
fn lives(world: &World) -> Seen {
    let before = before(world);
    let mut seen = Vec::new();
    for _ in 0..2 {
        bind(world);
        seen.extend(read(world));
        unbind(world);
        seen.extend(same(world, &before));
    }
    seen
}

/// A probe that fails after it has taken its DMA memory.
fn late_failure(world: &World) -> Seen {
    let before = before(world);
    world.board.faults().fail_points(&[FaultPoint::IrqRequest]);
    assert!(world.machine.bind(SATA, DRIVER).is_err());
    world.board.faults().never();
    same(world, &before)
}

/// A bind that fails at each of its steps in turn.
fn each_failure(world: &World) -> Seen {
    let before = before(world);
    let mut seen = Vec::new();
    for step in 1.. {
        world.board.faults().fail_nth(step);
        let done = world.machine.bind(SATA, DRIVER).is_ok();
        let struck = world.board.faults().injected() == 1;
        world.board.faults().never();
        if done {
            unbind(world);
        }
        seen.extend(same(world, &before));
        if !struck {
            break;
        }
    }
    seen
}

/// The supplier of a bound consumer is unbound.
fn supplier_unbound(world: &World) -> Seen {
    bound(world);
    let seen = read(world);
    world.machine.unbind(IPMMU_HC, "ipmmu-vmsa").unwrap();
    seen
}

/// The driver of a bound device is removed.
fn driver_removed(world: &World) -> Seen {
    bound(world);
    world.machine.unregister(DRIVER);
    Vec::new()
}

/// Somebody unbinds the disk controller, and while he is on his way its driver is changed.
fn driver_changed_meanwhile(world: &World) -> Seen {
    bound(world);
    let machine = Arc::clone(&world.machine);
    machine.register(Master);
    world.hook.at_wait(1, move || {
        let device = machine.device(SATA).unwrap();
        // Inside an unbind that has the lock nobody else gets that far.
        if device.phase() == Phase::Bound {
            let other = || {
                machine.unbind(SATA, DRIVER).unwrap();
                machine.bind(SATA, Master::NAME).unwrap();
            };
            thread::scope(|s| s.spawn(other).join()).unwrap();
        }
    });
    let _ = world.machine.unbind(SATA, DRIVER);
    world.hook.each_wait(|| {});
    Vec::new()
}

/// The IOMMU does not confirm what a read unmaps. The read may fail, and its buffers may be kept.
fn invalidation_times_out(world: &World) -> Seen {
    bound(world);
    world.board.faults().fail_points(&[FaultPoint::Invalidate]);
    let _ = read(world);
    world.board.faults().never();
    unbind(world);
    Vec::new()
}

/// The IOMMU does not confirm what an unbind unmaps; a reset at the next probe shows that the memory can go back.
fn unbind_that_quarantines(world: &World) -> Seen {
    let before = before(world);
    bind(world);
    let mut seen = read(world);
    world.board.faults().fail_points(&[FaultPoint::Invalidate]);
    unbind(world);
    world.board.faults().never();
    match world.machine.bind(SATA, DRIVER) {
        Ok(()) => unbind(world),
        Err(e) => seen.push(format!("left: it does not bind again: {e}")),
    }
    seen.extend(same(world, &before));
    seen
}

/// Forgets the handle on its interrupt, and keeps one on its registers.
struct Forgetful(mpsc::Sender<MmioHandle>);

impl Driver for Forgetful {
    const NAME: &'static str = "forgetful";
    const MATCHES: &'static [Match] = &[Match::compatible("renesas,rcar-gen3-sata")];
    type Data<'b> = ();
    fn probe(&self, dev: &Bound) -> Result<(), ProbeError> {
        core::mem::forget(dev.irq(0)?);
        let _ = self.0.send(dev.mmio(0)?.handle());
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// A driver forgets one handle, and somebody uses another one when the binding has ended.
fn handles_outlive_the_binding(world: &World) -> Seen {
    let before = before(world);
    world.machine.unregister(DRIVER);
    let (keep, kept) = mpsc::channel();
    world.machine.register(Forgetful(keep));
    world.settle();
    world.machine.unbind(SATA, Forgetful::NAME).unwrap();
    let mut seen = same(world, &before);
    if kept.recv().unwrap().read32(0x180).is_ok() {
        seen.push("data: registers were read after the unbind".into());
    }
    seen
}

/// The disk controller does not stop when it is unbound.
fn stop_fails(world: &World) -> Seen {
    bound(world);
    let seen = read(world);
    world.board.faults().fail_points(&[FaultPoint::Quiesce]);
    unbind(world);
    world.board.faults().never();
    seen
}

/// The disk controller is unbound inside a command that does not end, and its DMA engine ignores the stop. It has a
/// reset line of its own, by which the core can end it.
fn engine_ignores_the_stop(world: &World) -> Seen {
    let before = before(world);
    bind(world);
    world.board.sata_faults(|k| (k.no_completion, k.stop) = (true, Stop::Ignored));
    let device = world.machine.device(SATA).unwrap();
    let (inside, entered) = mpsc::channel();
    world.hook.each_wait(move || {
        let _ = inside.send(());
        // Host time: the reader must not come to its end before the other thread has begun to unbind.
        while device.phase() == Phase::Bound {
            thread::sleep(Duration::from_micros(100));
        }
    });
    thread::scope(|s| {
        let reader = s.spawn(|| read(world));
        entered.recv().unwrap();
        unbind(world);
        assert_ne!(reader.join().unwrap(), Seen::new(), "it was broken off");
    });
    world.hook.each_wait(|| {});
    same(world, &before)
}

/// Takes and gives back memory through a domain that flushes later; no time passes in between.
fn lazy_pairs(world: &World) -> Seen {
    let _ = before(world);
    world.machine.register(Master);
    let groups = world.machine.groups();
    let group = groups.iter().find(|g| g.info().members.iter().any(|m| &**m == SATA)).unwrap();
    group.set_kind(DomainKind::Lazy).unwrap();
    world.machine.bind(SATA, Master::NAME).unwrap();
    world.master(SATA, |m| {
        for _ in 0..3 {
            m.take(4096).unwrap();
            m.give_back();
        }
    });
    world.machine.unbind(SATA, Master::NAME).unwrap();
    Vec::new()
}

/// The IOMMU does not take the disk controller in.
fn attach_fails(world: &World) -> Seen {
    let before = before(world);
    world.board.faults().fail_points(&[FaultPoint::DomainAttach]);
    let _ = world.machine.bind(SATA, DRIVER);
    world.board.faults().never();
    if world.driver(SATA).is_some() {
        unbind(world);
    }
    same(world, &before)
}

/// A pass-through owner wants a device whose group a kernel driver owns.
fn claim_in_a_shared_group(world: &World) -> Seen {
    bound(world);
    world.add_master("neighbour", IPMMU_HC, &[3]);
    let before = (world.resource_usage(), world.board.enabled_lines());
    world.machine.device("neighbour").unwrap().set_driver_override(Some("vfio-platform"));
    let _ = world.machine.bind("neighbour", "vfio-platform");
    same(world, &before)
}

/// The disk goes silent for one command, and the driver brings the port up again.
fn port_reset(world: &World) -> Seen {
    let before = before(world);
    bind(world);
    world.board.sata_faults(|k| k.no_completion = true);
    let board = Arc::downgrade(&world.board);
    world.board.on_event(Box::new(move |e| {
        if matches!(&e.kind, EventKind::Log { text } if text.contains("no answer"))
            && let Some(board) = board.upgrade()
        {
            board.sata_faults(|k| k.no_completion = false);
        }
    }));
    assert_ne!(read(world), Seen::new(), "the first one times out");
    let mut seen = read(world);
    unbind(world);
    seen.extend(same(world, &before));
    seen
}

/// A driver without needs.
struct Supplier;

impl Driver for Supplier {
    const NAME: &'static str = "supplier";
    const MATCHES: &'static [Match] = &[Match::compatible("test,supplier")];
    type Data<'b> = ();
    fn probe(&self, _: &Bound) -> Result<(), ProbeError> {
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// A driver that finds its supplier missing; before it can say so, the supplier is there.
struct Late;

impl Driver for Late {
    const NAME: &'static str = "late";
    const MATCHES: &'static [Match] = &[Match::compatible("test,late")];
    type Data<'b> = ();
    fn probe(&self, dev: &Bound) -> Result<(), ProbeError> {
        let supplier = dev.machine().device("supplier").unwrap();
        if supplier.phase() == Phase::Bound {
            return Ok(());
        }
        dev.machine().register(Supplier);
        // On a thread of its own: what this one asks for is carried out when the probe has returned.
        let machine = dev.machine();
        assert!(thread::scope(|s| s.spawn(|| machine.step()).join().unwrap_or(false)));
        Err(ProbeError::Defer { on: Missing::Node(supplier.node()) })
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// A supplier arrives while its consumer is being deferred because of it.
fn arrival_in_a_probe(world: &World) -> Seen {
    bound(world);
    for name in ["supplier", "late"] {
        let mut desc = DeviceDesc::new(name);
        desc.compatible.push(format!("test,{name}").into());
        world.machine.add_device(desc).unwrap();
    }
    world.settle();
    world.machine.register(Late);
    world.settle();
    match world.driver("late") {
        Some(_) => Vec::new(),
        None => vec!["left: late is not bound".into()],
    }
}

/// Everything comes up for the first time.
fn boot(world: &World) -> Seen {
    world.settle();
    Vec::new()
}

clean! {
    bind_read_unbind_twice: translated(), lives;
    bind_read_unbind_twice_untranslated: untranslated(), lives;
    a_probe_fails_after_it_took_dma_memory: translated(), late_failure;
    a_bind_fails_at_each_of_its_steps: translated(), each_failure;
    the_iommu_does_not_confirm_a_read: translated(), invalidation_times_out;
    the_iommu_does_not_confirm_an_unbind: translated(), unbind_that_quarantines;
    handles_are_used_after_the_unbind_or_forgotten: translated(), handles_outlive_the_binding;
    the_driver_is_changed_during_an_unbind: translated(), driver_changed_meanwhile;
    the_iommu_is_unbound_under_its_consumer: translated(), supplier_unbound;
    the_driver_is_removed: translated(), driver_removed;
    a_lazy_domain_maps_and_unmaps: translated(), lazy_pairs;
    the_iommu_does_not_attach_the_device: translated(), attach_fails;
    a_guest_wants_a_device_of_a_group_in_use: translated(), claim_in_a_shared_group;
    the_device_does_not_stop: untranslated(), stop_fails;
    the_engine_ignores_the_stop: untranslated(), engine_ignores_the_stop;
    the_port_is_reset_after_a_time_out: translated(), port_reset;
    everything_comes_up: translated(), boot;
    a_supplier_arrives_during_the_probe_of_its_consumer: translated(), arrival_in_a_probe;
}
