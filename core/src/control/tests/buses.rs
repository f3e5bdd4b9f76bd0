//! Buses beside each other: devices, drivers and files of `amba`, `pci` and `platform`.

use alloc::sync::Arc;
use std::string::String;
use std::vec::Vec;

use super::fixture::{Fixture, errno};
use crate::binding::Bound;
use crate::control::EntryKind;
use crate::device::{BusKind, Device, DeviceDesc, PciIdentity};
use crate::driver::{ClassBits, Driver, Errno, Match, ProbeError, QuiesceError, Quiesced};

/// A driver of this name, which matches these.
macro_rules! driver {
    ($type:ident, $name:literal, $matches:expr) => {
        struct $type;
        impl Driver for $type {
            const NAME: &'static str = $name;
            const MATCHES: &'static [Match] = $matches;
            type Data<'b> = ();
            fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
                Ok(())
            }
            fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
                Ok(Quiesced::never_started())
            }
        }
    };
}
driver!(Nic, "nic", &[Match::pci(0x8086, 0x10d3)]);
driver!(Net, "net", &[Match::pci_class(0x02_0000, ClassBits::Base)]);
driver!(Uart, "uart", &[Match::compatible("arm,pl011")]);
driver!(Both, "both", &[Match::compatible("acme,both"), Match::pci(0x1af4, 1)]);

const NIC: &str = "0000:00:03.0";
const UART: &str = "9000000.uart";

/// The fixture's devices on `platform`, a function without bus operations, and a peripheral of `amba`.
fn fixture() -> Fixture {
    let w = Fixture::bound();
    let mut desc = DeviceDesc::new(NIC);
    let identity = PciIdentity {
        vendor: 0x8086,
        device: 0x10d3,
        subsystem: Some((0x8086, 0xa01f)),
        class: 0x02_0000,
        revision: 0xa,
        bars: Vec::new(),
        bridges: Vec::new(),
    };
    (desc.bus, desc.compatible) = (BusKind::Pci, identity.compatible().map(Into::into).collect());
    desc.pci = Some(identity);
    w.machine.add_device(desc).unwrap();
    let mut desc = DeviceDesc::new(UART);
    (desc.bus, desc.compatible) = (BusKind::Amba, Vec::from(["arm,pl011".into(), "arm,primecell".into()]));
    w.machine.add_device(desc).unwrap();
    w.machine.register(Nic);
    w.machine.register(Net);
    w.machine.register(Uart);
    w.machine.register(Both);
    w.machine.settle();
    w
}

fn names(w: &Fixture, dir: &str) -> Vec<String> {
    w.tree.list(dir).unwrap().into_iter().map(|entry| entry.name).collect()
}

fn device(w: &Fixture, name: &str) -> Arc<Device> {
    w.machine.device(name).unwrap()
}

#[test]
fn each_bus_has_its_own_devices_and_the_drivers_that_match_them() {
    let w = fixture();
    assert_eq!(names(&w, "/sys/bus"), ["amba", "pci", "platform"]);
    assert_eq!(names(&w, "/sys/bus/pci/devices"), [NIC]);
    assert_eq!(names(&w, "/sys/bus/amba/devices"), [UART]);
    assert_eq!(names(&w, "/sys/bus/platform/devices"), ["10.iommu", "20.disk", "21.disk", "30.lamp", "soc"]);
    // `guest` matches nothing, and binds by name.
    assert_eq!(names(&w, "/sys/bus/pci/drivers"), ["both", "guest", "net", "nic"]);
    assert_eq!(names(&w, "/sys/bus/amba/drivers"), ["guest", "uart"]);
    assert_eq!(names(&w, "/sys/bus/platform/drivers"), ["both", "disk", "guest", "mirror", "uart"]);
    for (bus, name, driver) in [("pci", NIC, "nic"), ("amba", UART, "uart")] {
        assert!(w.has(&std::format!("/sys/bus/{bus}/devices/{name}")));
        assert!(w.has(&std::format!("/sys/bus/{bus}/drivers/{driver}/{name}")));
        let own = std::format!("/sys/devices/platform/{name}");
        let link = |of: &str| w.tree.read_link(&std::format!("{own}/{of}")).unwrap();
        assert_eq!(link("subsystem"), std::format!("../../../bus/{bus}"));
        assert_eq!(link("driver"), std::format!("../../../bus/{bus}/drivers/{driver}"));
    }
    for elsewhere in
        ["pci/devices/20.disk", "platform/devices/0000:00:03.0", "platform/drivers/nic", "amba/drivers/nic"]
    {
        assert!(!w.has(&std::format!("/sys/bus/{elsewhere}")), "{elsewhere}");
    }
    assert!(!w.has("/sys/bus/platform/drivers/uart/9000000.uart"), "held, and on another bus");
    w.promises_hold();
}

#[test]
fn a_function_has_the_numbers_of_its_configuration_space() {
    let w = fixture();
    let read = |name: &str| w.cat(&std::format!("/sys/bus/pci/devices/{NIC}/{name}"));
    for (name, contents) in [
        ("vendor", "0x8086\n"),
        ("device", "0x10d3\n"),
        ("subsystem_vendor", "0x8086\n"),
        ("subsystem_device", "0xa01f\n"),
        ("class", "0x020000\n"),
        ("revision", "0x0a\n"),
        ("modalias", "pci:v00008086d000010D3sv00008086sd0000A01Fbc02sc00i00\n"),
        (
            "uevent",
            "DRIVER=nic\nPCI_CLASS=20000\nPCI_ID=8086:10D3\nPCI_SUBSYS_ID=8086:A01F\nPCI_SLOT_NAME=0000:00:03.0\n\
             MODALIAS=pci:v00008086d000010D3sv00008086sd0000A01Fbc02sc00i00\n",
        ),
    ] {
        assert_eq!(read(name), contents, "{name}");
    }
    assert!(!w.has("/sys/devices/platform/soc/20.disk/vendor"));
    // Written to, it refuses as a file that can only be read does.
    assert_eq!(errno(w.tree.write(&std::format!("/sys/bus/pci/devices/{NIC}/vendor"), "1")), Errno::EACCES);
}

#[test]
fn a_device_is_bound_and_unbound_by_the_files_of_its_own_bus() {
    let w = fixture();
    let refused = |path: &str, name: &str, words: &str| {
        let error = w.tree.write(&std::format!("/sys/bus/{path}"), name).unwrap_err();
        assert!(error.errno == Errno::ENODEV && error.why.contains(words), "{path}: {error}");
    };
    refused("platform/drivers/both/unbind", NIC, "it is on the bus pci");
    refused("platform/drivers_probe", NIC, "/sys/bus/platform/devices lists them; it is on the bus pci");
    refused("pci/drivers/nic/bind", "20.disk", "it is on the bus platform");
    refused("pci/drivers/nic/unbind", "0000:00:04.0", "/sys/bus/pci/devices lists them");
    refused("platform/drivers/uart/unbind", UART, "it is on the bus amba");
    assert_eq!(device(&w, NIC).driver(), Some("nic"));
    w.echo(NIC, "/sys/bus/pci/drivers/nic/unbind");
    assert_eq!(device(&w, NIC).driver(), None);
    assert!(w.tree.list("/sys/bus/pci/drivers/nic").unwrap().iter().all(|e| !matches!(e.kind, EntryKind::Link { .. })));
    w.echo(NIC, "/sys/bus/pci/drivers/net/bind");
    assert_eq!(device(&w, NIC).driver(), Some("net"));
    w.echo(NIC, "/sys/bus/pci/drivers/net/unbind");
    w.echo(NIC, "/sys/bus/pci/drivers_probe");
    assert_eq!(device(&w, NIC).driver(), Some("nic"), "the more specific one");
    w.echo(UART, "/sys/bus/amba/drivers/uart/unbind");
    w.echo(UART, "/sys/bus/amba/drivers/uart/bind");
    assert_eq!(device(&w, UART).driver(), Some("uart"));
    w.promises_hold();
}

#[test]
fn a_driver_that_a_device_is_told_stands_on_that_devices_bus() {
    let w = fixture();
    w.echo(NIC, "/sys/bus/pci/drivers/nic/unbind");
    assert!(!w.has("/sys/bus/pci/drivers/uart"));
    w.echo("uart", &std::format!("/sys/bus/pci/devices/{NIC}/driver_override"));
    assert!(w.has("/sys/bus/pci/drivers/uart"), "it may bind a device there");
    w.echo(NIC, "/sys/bus/pci/drivers_probe");
    assert!(w.has("/sys/bus/pci/drivers/uart/0000:00:03.0"));
    w.echo("", &std::format!("/sys/bus/pci/devices/{NIC}/driver_override"));
    assert!(w.has("/sys/bus/pci/drivers/uart"), "it holds one");
    w.echo(NIC, "/sys/bus/pci/drivers/uart/unbind");
    assert!(!w.has("/sys/bus/pci/drivers/uart"));
    assert_eq!(device(&w, NIC).driver(), None);
}

#[test]
fn uevents_of_a_bus_and_of_its_drivers_have_their_paths() {
    let w = fixture();
    w.echo("change", "/sys/bus/pci/uevent");
    w.echo("add", "/sys/bus/amba/drivers/uart/uevent");
    let events = w.env.events.lock().unwrap().clone();
    let paths: Vec<String> = events
        .iter()
        .filter_map(|e| match &e.kind {
            crate::event::EventKind::Uevent { path, .. } => Some(path.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(paths, ["/bus/pci", "/bus/amba/drivers/uart"]);
}
