//! Vectors of functions behind a host bridge: messages (MSI) of `edu` on the board `virt`, with an IOMMU and without.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bindery::binding::{Bound, ResourceError};
use bindery::bus::{BusDevice, BusError, MessageKind, Messages};
use bindery::device::{DeviceDesc, Resource, Supplier, SupplierKind};
use bindery::driver::{Driver, IrqReturn, Match, ProbeError, QuiesceError, Quiesced};
use bindery::env::{Env, EnvError, IrqLine, Trigger, Vector, VectorRequest, Width};
use bindery::instrument::FaultPoint;
use bindery::iommu::Grouping;
use bindery::pci::{ConfigSpace, Ecam, FunctionId};
use bindery::vectors::{VectorError, VectorKind};
use bindery_drivers::edu::{Edu, EduError};
use bindery_sim::interpose::Interpose;
use bindery_sim::mmu::Mmu;
use bindery_sim::virt::{self, Virt};
use common::Rig;
use common::virt::rig;

const EDU: &str = "0000:02:01.0";
const AT: FunctionId = FunctionId { segment: 0, bus: 2, device: 1, function: 0 };
const MSI: u16 = 0x40;
const FIRST: u32 = virt::MESSAGE_LINES.0;
/// The page of the doorbell.
const DOORBELL_PAGE: u64 = virt::DOORBELL.0 & !0xfff;

fn config(rig: &Rig, offset: u16, width: Width) -> u32 {
    let config = Ecam::new(rig.board.map_io(virt::ECAM.0, virt::ECAM.1).unwrap(), 0);
    config.read(AT, offset, width).unwrap()
}

fn messages_are_on(rig: &Rig) -> bool {
    config(rig, MSI + 2, Width::W16) & 1 != 0
}

fn with_edu() -> Rig {
    let rig = rig(Virt::new());
    rig.machine.register(Edu::default());
    rig.machine.settle();
    assert_eq!(rig.driver(EDU), Some("edu"));
    rig
}

/// The device as stream 0 of an IOMMU.
fn translated() -> (Rig, Arc<Mmu>) {
    let (rig, mmu) = common::virt::translated(Virt::new(), |machine| {
        machine.register(Edu::default());
    });
    assert_eq!(rig.driver(EDU), Some("edu"));
    (rig, mmu)
}

fn transfer(rig: &Rig) -> Result<(), EduError> {
    let mut back = [0; 5];
    let client = rig.machine.client::<Edu>(EDU).unwrap();
    client.call(|port| port.write(7, b"bytes")).unwrap()?;
    client.call(|port| port.read(7, &mut back)).unwrap()?;
    assert_eq!(&back, b"bytes");
    Ok(())
}

/// The lowest message that nobody has.
fn next_message(rig: &Rig) -> u32 {
    let desc = DeviceDesc::new("other");
    let request = VectorRequest { device: &desc, count: 1, consecutive: false, wide: true, cpus: &[] };
    let found = rig.board.alloc_vectors(&request).unwrap();
    rig.board.free_vectors(&desc, &found);
    found[0].line.0
}

#[test]
fn the_receiver_of_a_functions_messages_is_what_firmware_says() {
    let rig = with_edu();
    let host = rig.machine.device("3f000000.pcie").unwrap();
    let behind = |requester| host.desc().message_map.as_ref().unwrap().find(requester);
    // Its bus has one requester ID for all, which the bridge to it puts in their place.
    let target = rig.machine.device(EDU).unwrap().desc().messages;
    assert_eq!((target, target.map(|target| target.device)), (behind(0x200), Some(0x200)));
}

#[test]
fn a_transfer_is_completed_by_a_message_and_the_set_is_one_entry() {
    let rig = with_edu();
    assert!(messages_are_on(&rig));
    assert_eq!(
        (config(&rig, MSI + 4, Width::W32), config(&rig, MSI + 12, Width::W16)),
        (virt::DOORBELL.0 as u32, FIRST)
    );
    let edu = rig.machine.device(EDU).unwrap();
    let held = rig.machine.resources(&edu);
    let of = |kind: &str| held.iter().filter(|r| r.1 == kind).map(|r| r.2.clone()).collect::<Vec<_>>();
    assert_eq!((of("vectors"), of("irq")), (vec!["1 MSI".to_owned()], vec![FIRST.to_string()]));
    assert_ne!(config(&rig, 4, Width::W16) & 1 << 10, 0, "the pin stays off");
    transfer(&rig).unwrap();
    rig.machine.unbind(EDU, "edu").unwrap();
    assert!(!messages_are_on(&rig));
    assert_eq!(next_message(&rig), FIRST);
    let before = rig.resource_usage();
    for _ in 0..500 {
        rig.machine.bind(EDU, "edu").unwrap();
        rig.machine.unbind(EDU, "edu").unwrap();
    }
    assert_eq!((rig.resource_usage(), next_message(&rig)), (before, FIRST));
    rig.assert_well();
}

#[test]
fn without_messages_the_pin_is_the_vector() {
    let rig = rig(Virt::new());
    rig.board.faults().fail_points(&[FaultPoint::VectorAlloc]);
    rig.machine.register(Edu::default());
    rig.machine.settle();
    rig.board.faults().never();
    assert!(!messages_are_on(&rig));
    assert_eq!(config(&rig, 4, Width::W16) & 1 << 10, 0);
    transfer(&rig).unwrap();
    rig.machine.unbind(EDU, "edu").unwrap();
    rig.assert_well();
}

#[test]
fn the_doorbell_is_mapped_in_the_devices_domain_as_long_as_it_sends_messages() {
    let (rig, mmu) = translated();
    let doorbells = || mmu.table(0).into_iter().filter(|(_, page)| *page == DOORBELL_PAGE).collect::<Vec<_>>();
    let [(at, _)] = doorbells()[..] else { panic!("{:?}", mmu.table(0)) };
    assert_ne!(at, DOORBELL_PAGE);
    assert_eq!(u64::from(config(&rig, MSI + 4, Width::W32)), at + (virt::DOORBELL.0 & 0xfff));
    transfer(&rig).unwrap();
    let usage = || (rig.resource_usage().mappings, rig.resource_usage().frames, rig.resource_usage().claims);
    let before = usage();
    rig.machine.unbind(EDU, "edu").unwrap();
    assert_eq!(doorbells(), []);
    rig.machine.bind(EDU, "edu").unwrap();
    transfer(&rig).unwrap();
    assert_eq!(usage(), before);
    rig.assert_well();
}

#[test]
fn a_bind_that_fails_at_any_step_leaves_nothing_of_its_vectors() {
    for behind in [false, true] {
        let (rig, mmu) = if behind { translated() } else { (with_edu(), Mmu::new("none", Grouping::PerStream)) };
        rig.machine.unbind(EDU, "edu").unwrap();
        let before = rig.resource_usage();
        let mut failures = 0;
        for step in 1.. {
            rig.board.faults().fail_nth(step);
            let bound = rig.machine.bind(EDU, "edu").is_ok();
            let injected = rig.board.faults().injected() > 0;
            rig.board.faults().never();
            if bound {
                rig.machine.unbind(EDU, "edu").unwrap();
            }
            failures += u32::from(!bound);
            assert!(!messages_are_on(&rig), "step {step}");
            assert_eq!((rig.resource_usage(), next_message(&rig)), (before.clone(), FIRST), "step {step}");
            assert!(!mmu.table(0).iter().any(|(_, page)| *page == DOORBELL_PAGE), "step {step}");
            if !injected {
                break;
            }
        }
        assert!(failures > 6, "{failures}");
        rig.assert_well();
    }
}

#[test]
fn a_device_that_is_pulled_out_gives_its_vectors_back() {
    for says_so in [true, false] {
        let (rig, mmu) = translated();
        rig.board.unplug(virt::EDU).unwrap();
        if says_so {
            assert!(rig.machine.device_vanished(EDU));
        } else {
            rig.machine.unbind(EDU, "edu").unwrap();
        }
        assert_eq!(next_message(&rig), FIRST);
        assert!(!mmu.table(0).iter().any(|(_, page)| *page == DOORBELL_PAGE));
        assert_eq!(rig.machine.interrupt_lines(), []);
        rig.assert_well();
    }
}

/// Asks for vectors, and keeps what it was told.
struct Asking {
    min: AtomicUsize,
    max: AtomicUsize,
    told: std::sync::Mutex<Option<Result<(usize, VectorKind), ResourceError>>>,
}

impl Driver for Asking {
    const NAME: &'static str = "asking";
    const MATCHES: &'static [Match] = &[Match::pci(0x1234, 0x11e8)];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let counts = self.min.load(Ordering::Relaxed)..=self.max.load(Ordering::Relaxed);
        let found = dev.vectors(counts.clone());
        *self.told.lock().unwrap() = Some(found.clone().map(|v| (v.len(), v.kind())));
        let found = found?;
        for n in 0..found.len() {
            dev.request_irq(n, || IrqReturn::Handled)?;
        }
        let absent = dev.request_irq(found.len(), || IrqReturn::Handled).map(drop);
        assert_eq!(absent, Err(ResourceError::Absent { kind: "vector", index: found.len() }));
        let again = dev.vectors(counts).map(drop).unwrap_err();
        assert_eq!(again, ResourceError::Vectors(Box::new(VectorError::InUse { device: dev.name().into() })));
        Ok(())
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

#[test]
fn fewer_vectors_than_needed_are_an_error_with_device_and_counts() {
    let rig = rig(Virt::new());
    let asking = Asking { min: 1.into(), max: 9.into(), told: std::sync::Mutex::default() };
    let asking = Arc::new(asking);
    rig.machine.register(Shared(Arc::clone(&asking)));
    rig.machine.settle();
    assert_eq!(*asking.told.lock().unwrap(), Some(Ok((1, VectorKind::Msi))));
    rig.machine.unbind(EDU, "asking").unwrap();
    for (min, max, why) in [
        (
            2,
            9,
            "0000:02:01.0 needs 2 vectors: it has 0 by MSI-X, 1 by MSI and 1 lines, and the target gave 0 of its messages",
        ),
        (0, 4, "0 to 4 vectors: "),
        (3, 2, "3 to 2 vectors: "),
    ] {
        asking.min.store(min, Ordering::Relaxed);
        asking.max.store(max, Ordering::Relaxed);
        rig.machine.bind(EDU, "asking").unwrap_err();
        let told = asking.told.lock().unwrap().clone().unwrap().unwrap_err().to_string();
        assert!(told.starts_with(why), "{told}");
        assert!(!messages_are_on(&rig));
    }
    assert_eq!(next_message(&rig), FIRST);
    rig.assert_well();
}

/// The same driver, of which the test keeps a reference.
struct Shared(Arc<Asking>);

impl Driver for Shared {
    const NAME: &'static str = "asking";
    const MATCHES: &'static [Match] = Asking::MATCHES;
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        self.0.probe(dev)
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

#[test]
fn messages_that_come_in_a_row_begin_at_a_multiple_of_their_number() {
    let rig = rig(Virt::new());
    let desc = DeviceDesc::new("other");
    let ask = |count, consecutive| {
        let request = VectorRequest { device: &desc, count, consecutive, wide: true, cpus: &[] };
        rig.board.alloc_vectors(&request)
    };
    let one = ask(1, false).unwrap();
    assert_eq!(one[0].line, IrqLine(FIRST));
    let row = ask(8, true).unwrap();
    assert_eq!((row[0].data % 8, row.len(), row[7].data - row[0].data), (0, 8, 7));
    let mut all = ask(100, false).unwrap();
    assert_eq!(all.len(), 64 - 9);
    assert!(ask(1, true).is_err() && ask(1, false).is_err());
    rig.board.free_vectors(&desc, &all.split_off(1));
    rig.board.free_vectors(&desc, &one);
    assert!(ask(32, true).unwrap().len() < 64);
}

/// A target that gives one message more than it is asked for.
struct Generous(Arc<dyn Env>);

impl Interpose for Generous {
    fn inner(&self) -> &dyn Env {
        &*self.0
    }

    fn alloc_vectors(&self, request: &VectorRequest<'_>) -> Result<Vec<Vector>, EnvError> {
        self.inner().alloc_vectors(&VectorRequest { count: request.count + 1, consecutive: false, ..*request })
    }
}

#[test]
fn messages_that_the_driver_cannot_use_go_back_to_the_target() {
    let (rig, _) = common::virt::translated_on(
        Virt::new(),
        |board| Arc::new(Generous(board)).env(),
        |machine| {
            machine.register(Edu::default());
        },
    );
    for _ in 0..3 {
        assert_eq!((rig.driver(EDU), messages_are_on(&rig), next_message(&rig)), (Some("edu"), false, FIRST));
        transfer(&rig).unwrap();
        rig.machine.unbind(EDU, "edu").unwrap();
        rig.machine.bind(EDU, "edu").unwrap();
    }
    rig.assert_well();
}

/// The bus of a device that sends four messages of one kind, if it accepts them.
struct Picky {
    kind: MessageKind,
    accepts: bool,
}

impl BusDevice for Picky {
    fn set_bus_master(&self, _: bool) -> Result<(), BusError> {
        Ok(())
    }

    fn set_interrupt_pin(&self, _: bool) -> Result<(), BusError> {
        Ok(())
    }

    fn messages(&self) -> Messages {
        match self.kind {
            MessageKind::Msi => Messages { msi: 4, wide: true, ..Messages::default() },
            MessageKind::MsiX => Messages { msi_x: 4, ..Messages::default() },
        }
    }

    fn enable_messages(&self, _: MessageKind, _: &[(u64, u32)], _: &dyn Env) -> Result<(), BusError> {
        if self.accepts { Ok(()) } else { Err(BusError::Gone) }
    }

    fn reset(&self) -> Result<bool, BusError> {
        Ok(true)
    }
}

/// Adds a device on that bus.
struct PickyBus(Arc<Picky>, DeviceDesc);

impl Driver for PickyBus {
    const NAME: &'static str = "picky-bus";
    const MATCHES: &'static [Match] = &[Match::compatible("test,picky-bus")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        dev.add_child_on(self.1.clone(), Arc::clone(&self.0) as _)?;
        Ok(())
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// Its driver, which goes on with the pin.
struct Undemanding;

impl Driver for Undemanding {
    const NAME: &'static str = "undemanding";
    const MATCHES: &'static [Match] = &[Match::compatible("test,picky")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let before = dev.resources();
        for counts in [1..=1, 1..=4] {
            let Err(error) = dev.vectors(counts) else { break };
            assert_eq!((error, dev.resources()), (ResourceError::Bus(BusError::Gone), before.clone()));
        }
        dev.request_irq(0, || IrqReturn::Handled)?;
        Ok(())
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

#[test]
fn nothing_stays_of_vectors_that_the_device_does_not_accept() {
    let pin = virt::PCI_LINES[3];
    for kind in [MessageKind::Msi, MessageKind::MsiX] {
        for (accepts, behind) in [(false, false), (false, true), (true, false), (true, true)] {
            let (rig, mmu) = common::virt::translated(Virt::new(), |_| ());
            let mut desc = DeviceDesc::new("picky");
            desc.compatible.push("test,picky".into());
            desc.resources.push(Resource::Irq { line: IrqLine(pin), trigger: Trigger::LevelHigh });
            let node = rig.machine.device("mmu").unwrap().node();
            let (iommu, property) = (SupplierKind::Iommu, "iommus".into());
            let stream = Supplier { node, target: node, kind: iommu, property, args: vec![3] };
            desc.suppliers.extend(Some(stream).filter(|_| behind));
            rig.machine.register(PickyBus(Arc::new(Picky { kind, accepts }), desc));
            rig.machine.register(Undemanding);
            let mut bus = DeviceDesc::new("picky-bus");
            bus.compatible.push("test,picky-bus".into());
            rig.machine.add_device(bus).unwrap();
            rig.machine.settle();
            let case = format!("{kind:?}, accepts: {accepts}, behind an IOMMU: {behind}");
            assert_eq!(rig.driver("picky"), Some("undemanding"), "{case}");
            let lines: Vec<_> = rig.machine.interrupt_lines().iter().map(|line| line.line).collect();
            assert!(lines.contains(if accepts { &FIRST } else { &pin }), "{case}: {lines:?}");
            assert_eq!(next_message(&rig) == FIRST, !accepts, "{case}");
            let doorbell = mmu.table(3).iter().any(|(_, page)| *page == DOORBELL_PAGE);
            assert_eq!(doorbell, accepts && behind, "{case}");
            rig.machine.unbind("picky", "undemanding").unwrap();
            assert_eq!(next_message(&rig), FIRST, "{case}");
            rig.assert_well();
        }
    }
}
