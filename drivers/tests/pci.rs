//! Functions behind a host bridge as devices: the board `virt`.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bindery::addr::PhysAddr;
use bindery::binding::{Bound, Mmio};
use bindery::bus::{BusDevice, BusError};
use bindery::device::{BusKind, DeviceDesc};
use bindery::dma::Coherent;
use bindery::driver::{ClassBits, Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::env::{Env, Width};
use bindery::event::EventKind;
use bindery::pci::{ConfigSpace, Ecam, FunctionId};
use bindery_drivers::pci_host::PciHost;
use bindery_sim::models::edu;
use bindery_sim::virt::{self, Virt};
use common::Rig;
use common::virt::rig;

const HOST: &str = "3f000000.pcie";
const EDU: &str = "0000:02:01.0";
const AT: FunctionId = FunctionId { segment: 0, bus: 2, device: 1, function: 0 };
/// Time of one transfer of `edu`.
const TRANSFER: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Behaviour {
    /// The transfer is not waited for when the device has to stop.
    never_stops: AtomicBool,
    probe_fails: AtomicBool,
}

/// Starts a transfer into its memory in probe.
struct Starter(Arc<Behaviour>);

struct Started<'b> {
    dev: Bound<'b>,
    regs: Mmio<'b>,
    _memory: Coherent<'b>,
    behaviour: Arc<Behaviour>,
}

impl Driver for Starter {
    const NAME: &'static str = "starter";
    const MATCHES: &'static [Match] = &[Match::pci(0x1234, 0x11e8)];
    type Data<'b> = Started<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Started<'b>, ProbeError> {
        let regs = dev.mmio(0)?;
        assert_eq!(regs.read32(0)? & 0xff, 0xed, "the register that says what it is");
        // Idle: in these tests every transfer is over by now.
        dev.mark_quiesced(Quiesced::stopped());
        dev.dma().set_mask(28)?;
        let memory = dev.dma().coherent(4096)?;
        regs.write64(0x80, 0x4_0000)?;
        regs.write64(0x88, memory.device_addr().0)?;
        regs.write64(0x90, 512)?;
        regs.write64(0x98, 0b11)?;
        if self.0.probe_fails.load(Ordering::Relaxed) {
            return Err(ProbeError::Device("as the test asks"));
        }
        Ok(Started { dev, regs, _memory: memory, behaviour: Arc::clone(&self.0) })
    }

    fn quiesce(s: &Started<'_>) -> Result<Quiesced, QuiesceError> {
        if s.behaviour.never_stops.load(Ordering::Relaxed) {
            return Err(QuiesceError("it does not stop"));
        }
        let over = || s.regs.read32(0x98).is_ok_and(|command| command & 1 == 0);
        if s.dev.wait_until(2 * TRANSFER, TRANSFER / 10, over) {
            Ok(Quiesced::stopped())
        } else {
            Err(QuiesceError("the transfer does not end"))
        }
    }
}

/// A driver for a class of devices.
struct Any;

impl Driver for Any {
    const NAME: &'static str = "any";
    const MATCHES: &'static [Match] = &[Match::pci_class(0x00_ff00, ClassBits::Subclass)];
    type Data<'b> = ();

    fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
        Ok(())
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// A driver that makes sure that the device is idle.
struct Careful;

impl Driver for Careful {
    const NAME: &'static str = "careful";
    const MATCHES: &'static [Match] = &[Match::pci(0x1234, 0x11e8)];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        if dev.mmio(0)?.read32(0x98)? & 1 != 0 {
            return Err(ProbeError::Device("a transfer is under way"));
        }
        dev.mark_quiesced(Quiesced::stopped());
        Ok(())
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// As [`rig`], with the driver.
fn started() -> (Rig, Arc<Behaviour>) {
    let (rig, behaviour) = (rig(Virt::new()), Arc::default());
    rig.machine.register(Starter(Arc::clone(&behaviour)));
    rig.machine.settle();
    (rig, behaviour)
}

/// Bits of the function's command register.
fn command(rig: &Rig) -> u32 {
    Ecam::new(rig.board.map_io(virt::ECAM.0, virt::ECAM.1).unwrap(), 0).read(AT, 4, Width::W16).unwrap()
}

fn is_master(rig: &Rig) -> bool {
    command(rig) & 4 != 0
}

/// Lets a transfer that is still under way end, and checks that it touched nothing that was released.
fn assert_well_later(rig: &Rig) {
    let until = rig.board.now() + 3 * TRANSFER;
    while rig.board.now() < until {
        rig.board.advance(until);
    }
    rig.board.run_pending();
    rig.assert_well();
}

#[test]
fn functions_become_devices_and_match_by_identity_and_class() {
    let rig = rig(Virt::new().second_edu());
    let names: Vec<_> =
        rig.machine.devices().iter().map(|d| d.name().to_owned()).filter(|n| n.starts_with("0000:")).collect();
    assert_eq!(names, ["0000:00:00.0", "0000:00:01.0", "0000:00:02.0", "0000:01:00.0", EDU]);
    let edu = rig.machine.device(EDU).unwrap();
    assert_eq!(edu.desc().bus, BusKind::Pci);
    assert_eq!(
        edu.desc().pci.as_ref().map(|pci| (pci.vendor, pci.device, &*pci.bars)),
        Some((0x1234, 0x11e8, &[0][..]))
    );
    assert!(!is_master(&rig), "nobody has asked for it");
    rig.machine.register(Any);
    rig.machine.register(Starter(Arc::default()));
    rig.machine.settle();
    // The one for the very device is preferred, whichever came first.
    assert_eq!((rig.driver(EDU), rig.driver("0000:00:02.0")), (Some("starter"), Some("starter")));
    assert!(rig.machine.unregister("starter"));
    rig.machine.settle();
    assert_eq!((rig.driver(EDU), rig.driver("0000:00:01.0")), (Some("any"), None));
    rig.assert_well();
}

#[test]
fn a_function_accesses_memory_while_a_driver_has_it_and_no_longer() {
    let (rig, _) = started();
    assert_eq!(rig.driver(EDU), Some("starter"));
    assert!(is_master(&rig));
    rig.machine.unbind(EDU, "starter").unwrap();
    assert!(!is_master(&rig));
    assert_eq!(rig.machine.quarantine(), []);
    rig.machine.bind(EDU, "starter").unwrap();
    assert!(is_master(&rig));
    // With the host bridge its functions go.
    rig.machine.unbind(HOST, PciHost::NAME).unwrap();
    assert!(rig.machine.device(EDU).is_none() && !is_master(&rig));
    rig.machine.bind(HOST, PciHost::NAME).unwrap();
    rig.machine.settle();
    assert_eq!(rig.driver(EDU), Some("starter"));
    assert_well_later(&rig);
}

#[test]
fn a_transfer_that_its_driver_does_not_stop_ends_before_its_memory_goes_back() {
    let (rig, behaviour) = started();
    behaviour.never_stops.store(true, Ordering::Relaxed);
    rig.board.take_events();
    rig.machine.unbind(EDU, "starter").unwrap();
    let quiesced = rig.event_kinds(EDU).into_iter().find_map(|kind| match kind {
        EventKind::Quiesced { how } => Some(how),
        _ => None,
    });
    assert_eq!(quiesced.as_deref(), Some("bus mastering off"));
    assert_eq!(rig.machine.quarantine(), [], "the bus has stopped it");
    assert_well_later(&rig);
}

/// The transfer goes on inside the device, and would reach memory of others as soon as it can: once the next driver is bound.
#[test]
fn a_device_that_was_only_cut_off_gets_no_memory_before_it_is_shown_to_be_stopped() {
    let (rig, behaviour) = started();
    behaviour.never_stops.store(true, Ordering::Relaxed);
    rig.machine.unbind(EDU, "starter").unwrap();
    rig.machine.register(Any);
    rig.machine.bind(EDU, "any").unwrap();
    assert!(!is_master(&rig), "its driver has not said that it has stopped");
    assert_well_later(&rig);
    rig.machine.unbind(EDU, "any").unwrap();
    assert!(rig.machine.unregister("any"));
    // Its transfer is over by now, and this driver looks.
    rig.machine.register(Careful);
    rig.machine.bind(EDU, "careful").unwrap();
    assert!(is_master(&rig));
    rig.machine.unbind(EDU, "careful").unwrap();
    rig.machine.bind(EDU, "careful").unwrap();
    assert!(is_master(&rig), "and from then on it is as ever");
    assert_well_later(&rig);
}

#[test]
fn a_probe_that_fails_after_it_has_started_a_transfer_leaves_nothing_running() {
    let (rig, behaviour) = started();
    rig.machine.unbind(EDU, "starter").unwrap();
    behaviour.probe_fails.store(true, Ordering::Relaxed);
    rig.machine.bind(EDU, "starter").unwrap_err();
    assert!(!is_master(&rig));
    assert_eq!(rig.machine.quarantine(), []);
    assert_well_later(&rig);
}

#[test]
fn a_function_that_is_removed_by_surprise_leaves_nothing() {
    let (rig, _) = started();
    rig.board.unplug(virt::EDU).unwrap();
    assert!(rig.machine.device_vanished(EDU));
    assert!(rig.machine.device(EDU).is_none());
    assert_eq!(rig.machine.quarantine(), []);
    // One that goes without a word answers its driver, and its bus, with all ones.
    rig.board.plug(virt::EDU).unwrap();
    rig.machine.unbind(HOST, PciHost::NAME).unwrap();
    rig.machine.bind(HOST, PciHost::NAME).unwrap();
    rig.machine.settle();
    assert_eq!(rig.driver(EDU), Some("starter"));
    rig.board.unplug(virt::EDU).unwrap();
    rig.machine.unbind(EDU, "starter").unwrap();
    assert_well_later(&rig);
}

#[test]
fn five_hundred_bindings_leave_what_the_first_one_left() {
    let (rig, _) = started();
    rig.machine.unbind(EDU, "starter").unwrap();
    let before = rig.resource_usage();
    for _ in 0..500 {
        rig.machine.bind(EDU, "starter").unwrap();
        rig.machine.unbind(EDU, "starter").unwrap();
    }
    assert_eq!(rig.resource_usage(), before);
    assert_well_later(&rig);
}

#[test]
fn the_window_is_where_the_host_bridge_passes_it() {
    let rig = rig(Virt::new());
    let desc = rig.machine.device(EDU).unwrap().desc().clone();
    let bindery::device::Resource::Mem { base, len } = desc.resources[0] else { panic!("{desc:?}") };
    assert_eq!(len, edu::WINDOW);
    assert!(base >= virt::PCI_MEMORY.0 && base < PhysAddr(virt::PCI_MEMORY.0.0 + virt::PCI_MEMORY.1));
}

/// A bus that logs what the core asks of it, and whose device does not stop while `busy`.
#[derive(Default)]
struct LoggingBus {
    busy: AtomicBool,
    log: Mutex<Vec<&'static str>>,
}

impl BusDevice for LoggingBus {
    fn set_bus_master(&self, on: bool) -> Result<(), BusError> {
        self.log.lock().unwrap().push(if on { "on" } else { "off" });
        if !on && self.busy.load(Ordering::Relaxed) { Err(BusError::Busy) } else { Ok(()) }
    }

    fn set_interrupt_pin(&self, _: bool) -> Result<(), BusError> {
        Ok(())
    }

    fn reset(&self) -> Result<bool, BusError> {
        self.log.lock().unwrap().push("reset");
        Ok(true)
    }
}

/// Adds one device on that bus.
struct BusDriver(Arc<LoggingBus>);

impl Driver for BusDriver {
    const NAME: &'static str = "bus";
    const MATCHES: &'static [Match] = &[Match::compatible("test,bus")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let mut desc = DeviceDesc::new("on-bus");
        desc.compatible.push("test,on-bus".into());
        dev.add_child_on(desc, Arc::clone(&self.0) as _)?;
        Ok(())
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// A driver that says that its device has stopped, which knows an address of memory.
struct OnBus;

impl Driver for OnBus {
    const NAME: &'static str = "on-bus";
    const MATCHES: &'static [Match] = &[Match::compatible("test,on-bus")];
    type Data<'b> = Coherent<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Coherent<'b>, ProbeError> {
        let memory = dev.dma().coherent(4096)?;
        let _ = memory.device_addr();
        Ok(memory)
    }

    fn quiesce(_: &Coherent<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

#[test]
fn a_device_that_its_bus_could_not_stop_is_reset_before_it_may_access_memory_again() {
    let rig = rig(Virt::new());
    let bus = Arc::new(LoggingBus::default());
    rig.machine.register(BusDriver(Arc::clone(&bus)));
    rig.machine.register(OnBus);
    let mut desc = DeviceDesc::new("bus");
    desc.compatible.push("test,bus".into());
    rig.machine.add_device(desc).unwrap();
    rig.machine.settle();
    let cycle = || {
        rig.machine.unbind("on-bus", "on-bus").unwrap();
        let busy = bus.busy.swap(false, Ordering::Relaxed);
        assert_eq!(rig.machine.quarantine().len(), usize::from(busy), "P11: the bus is believed, not the driver");
        rig.machine.bind("on-bus", "on-bus").unwrap();
        assert_eq!(rig.machine.quarantine(), [], "P4: it is reset");
        std::mem::take(&mut *bus.log.lock().unwrap())
    };
    assert_eq!(cycle(), ["reset", "on", "off", "on"], "the first binding does not know what firmware has left running");
    bus.busy.store(true, Ordering::Relaxed);
    let log = cycle();
    assert_eq!((log.first(), &log[log.len() - 2..]), (Some(&"off"), &["reset", "on"][..]), "{log:?}");
    assert_eq!(cycle(), ["off", "on"], "one reset is enough");
}
