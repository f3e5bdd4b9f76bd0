//! Contents of the directories.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::node::{Dir, File, Node, PciNumber};
use super::of;
use super::path::{bus_name, device_of, link_name};
use crate::device::{BusKind, Device};
use crate::iommu::{Group, Iommu};
use crate::machine::{Devlink, Machine};

type List = Vec<(String, Node)>;

/// Buses with a directory.
const BUSES: [BusKind; 3] = [BusKind::Amba, BusKind::Pci, BusKind::Platform];

fn dirs<const N: usize>(list: [(&str, Dir); N]) -> List {
    list.into_iter().map(|(name, dir)| (name.into(), Node::Dir(dir))).collect()
}

fn files<const N: usize>(list: [(&str, File); N]) -> List {
    list.into_iter().map(|(name, file)| (name.into(), Node::File(file))).collect()
}

fn links_to(devices: Vec<Arc<Device>>) -> List {
    devices.into_iter().map(|d| (d.name().into(), Node::Link(Dir::Device(d)))).collect()
}

/// Entries of `dir`, unordered, with unique names.
pub(super) fn of(machine: &Arc<Machine>, dir: &Dir) -> List {
    match dir {
        Dir::Root => dirs([("sys", Dir::Sys)]),
        Dir::Sys => dirs([
            ("bus", Dir::BusRoot),
            ("class", Dir::ClassRoot),
            ("devices", Dir::Devices),
            ("firmware", Dir::Firmware),
            ("kernel", Dir::Kernel),
        ]),
        Dir::Firmware => dirs([("devicetree", Dir::FirmwareTree)]),
        Dir::FirmwareTree => dirs([("base", Dir::OfNode("".into()))]),
        Dir::OfNode(node) => of::list(machine, node),
        Dir::BusRoot => dirs(BUSES.map(|bus| (bus.name(), Dir::Bus(bus)))),
        Dir::Bus(bus) => {
            let mut list = dirs([("devices", Dir::BusDevices(*bus)), ("drivers", Dir::BusDrivers(*bus))]);
            list.extend(files([
                ("drivers_autoprobe", File::DriversAutoprobe),
                ("drivers_probe", File::DriversProbe(*bus)),
                ("uevent", File::BusUevent(*bus)),
            ]));
            list
        }
        Dir::BusDevices(bus) => links_to(devices_on(machine, *bus).collect()),
        Dir::BusDrivers(bus) => {
            let drivers = machine.drivers().into_iter().filter(|driver| stands_on(machine, driver, *bus));
            drivers.map(|d| (d.to_string(), Node::Dir(Dir::Driver(*bus, d)))).collect()
        }
        Dir::Driver(bus, driver) => {
            let mut list = driver_files(machine, *bus, driver);
            list.extend(links_to(devices_on(machine, *bus).filter(|d| is_held(d, driver)).collect()));
            list
        }
        Dir::ClassRoot => dirs([("devlink", Dir::DevlinkClass), ("iommu", Dir::IommuClass)]),
        Dir::DevlinkClass => devlinks(machine).map(|l| (link_name(&l), Node::Link(Dir::Devlink(l)))).collect(),
        Dir::VirtualDevlink => devlinks(machine).map(|l| (link_name(&l), Node::Dir(Dir::Devlink(l)))).collect(),
        Dir::IommuClass => instances(machine).map(|(name, i)| (name, Node::Link(Dir::Instance(i)))).collect(),
        Dir::VirtualIommu => {
            let apart = instances(machine).filter(|(_, i)| device_of(machine, &**i).is_none());
            apart.map(|(name, i)| (name, Node::Dir(Dir::Instance(i)))).collect()
        }
        Dir::DeviceIommu(device) => {
            let own = instances(machine).filter(|(name, _)| *name == device.name());
            own.map(|(name, i)| (name, Node::Dir(Dir::Instance(i)))).collect()
        }
        Dir::Power(device) => power(device),
        Dir::Devices => dirs([("platform", Dir::Platform), ("virtual", Dir::Virtual)]),
        Dir::Virtual => {
            let mut list = dirs([("devlink", Dir::VirtualDevlink)]);
            if instances(machine).any(|(_, i)| device_of(machine, &*i).is_none()) {
                list.extend(dirs([("iommu", Dir::VirtualIommu)]));
            }
            list
        }
        Dir::Platform => {
            let outermost = machine.outermost_devices();
            outermost.into_iter().filter(is_on_bus).map(|d| (d.name().into(), Node::Dir(Dir::Device(d)))).collect()
        }
        Dir::Device(device) => {
            let mut list = attributes(machine, device);
            let below = machine.children(device).into_iter().filter(is_on_bus);
            let below: Vec<_> = below.filter(|d| list.iter().all(|(name, _)| name != d.name())).collect();
            list.extend(below.into_iter().map(|d| (d.name().into(), Node::Dir(Dir::Device(d)))));
            list
        }
        Dir::Devlink(link) => devlink(link),
        Dir::Instance(iommu) => {
            let mut list = dirs([("devices", Dir::InstanceDevices(Arc::clone(iommu)))]);
            list.push(("subsystem".into(), Node::Link(Dir::IommuClass)));
            list
        }
        Dir::InstanceDevices(iommu) => links_to(machine.iommus().devices_at(&iommu.name())),
        Dir::Kernel => dirs([("bindery", Dir::Bindery), ("debug", Dir::Debug), ("iommu_groups", Dir::Groups)]),
        Dir::Groups => machine.groups().into_iter().map(|g| (g.id().to_string(), Node::Dir(Dir::Group(g)))).collect(),
        Dir::Group(group) => {
            let mut list = dirs([("devices", Dir::GroupDevices(Arc::clone(group)))]);
            list.extend(files([
                ("reserved_regions", File::ReservedRegions(Arc::clone(group))),
                ("type", File::GroupType(Arc::clone(group))),
            ]));
            list
        }
        Dir::GroupDevices(group) => links_to(members(machine, group)),
        Dir::Debug => files([("devices_deferred", File::DevicesDeferred)]),
        Dir::Bindery => bindery(),
        Dir::Ledgers => {
            let held = machine.devices().into_iter().filter(|d| d.driver().is_some());
            held.map(|d| (d.name().into(), Node::File(File::Ledger(d)))).collect()
        }
    }
}

/// What Bindery knows beyond sysfs.
fn bindery() -> List {
    let mut list = dirs([("ledger", Dir::Ledgers)]);
    list.extend(files([
        ("claims", File::Claims),
        ("deferred", File::Deferred),
        ("early", File::Early),
        ("faults", File::Faults),
        ("resource_usage", File::ResourceUsage),
        ("links", File::Links),
        ("interrupts", File::Interrupts),
        ("not_joined", File::NotJoined),
        ("promises", File::Promises),
        ("quarantine", File::Quarantine),
        ("users", File::Users),
    ]));
    list
}

/// Entry `name` of `dir`, without listing directories that grow with the number of devices.
pub(super) fn named(machine: &Arc<Machine>, dir: &Dir, name: &str) -> Option<Node> {
    let pick = |list: List| list.into_iter().find(|(n, _)| n == name).map(|(_, node)| node);
    match dir {
        Dir::BusDevices(bus) => {
            let device = machine.device(name).filter(|d| d.desc().bus == *bus)?;
            Some(Node::Link(Dir::Device(device)))
        }
        Dir::BusDrivers(bus) => {
            let driver = machine.driver_named(name).filter(|driver| stands_on(machine, driver, *bus))?;
            Some(Node::Dir(Dir::Driver(*bus, driver)))
        }
        Dir::Driver(bus, driver) => pick(driver_files(machine, *bus, driver)).or_else(|| {
            let device = machine.device(name).filter(|d| d.desc().bus == *bus && is_held(d, driver))?;
            Some(Node::Link(Dir::Device(device)))
        }),
        Dir::Platform => {
            let device = machine.device(name).filter(|d| is_on_bus(d) && machine.ancestors(d).is_empty())?;
            Some(Node::Dir(Dir::Device(device)))
        }
        Dir::Device(above) => pick(attributes(machine, above)).or_else(|| {
            let is_above = |d: &Arc<Device>| machine.ancestors(d).last().is_some_and(|a| Arc::ptr_eq(a, above));
            Some(Node::Dir(Dir::Device(machine.device(name).filter(is_on_bus).filter(is_above)?)))
        }),
        Dir::DevlinkClass => Some(Node::Link(Dir::Devlink(devlink_named(machine, name)?))),
        Dir::VirtualDevlink => Some(Node::Dir(Dir::Devlink(devlink_named(machine, name)?))),
        Dir::Ledgers => Some(Node::File(File::Ledger(machine.device(name).filter(|d| d.driver().is_some())?))),
        _ => pick(of(machine, dir)),
    }
}

/// Files of a driver. One that is being removed has no `bind` and `unbind` any more, as on Linux (`bus_remove_driver`).
fn driver_files(machine: &Machine, bus: BusKind, driver: &'static str) -> List {
    let file = |name| match name {
        "bind" => File::Bind(bus, driver),
        "unbind" => File::Unbind(bus, driver),
        _ => File::DriverUevent(bus, driver),
    };
    machine.driver_files(driver).iter().map(|name| ((*name).into(), Node::File(file(*name)))).collect()
}

fn devices_on(machine: &Machine, bus: BusKind) -> impl Iterator<Item = Arc<Device>> {
    machine.devices().into_iter().filter(move |device| device.desc().bus == bus)
}

/// True when `driver` has a directory on `bus`: it matches devices by the names of that bus, or by its own name alone
/// (`driver_override`), or there is a device that it holds or may bind. A driver has one name on all of its buses.
fn stands_on(machine: &Machine, driver: &str, bus: BusKind) -> bool {
    let matches = machine.matches_of(driver);
    if matches.is_empty() || matches.iter().any(|m| m.bus() == bus) {
        return true;
    }
    devices_on(machine, bus).any(|d| is_held(&d, driver) || machine.candidates(&d).any(|name| name == driver))
}

/// True for a device that Linux has, too.
fn is_on_bus(device: &Arc<Device>) -> bool {
    device.desc().bus != BusKind::Early
}

fn is_held(device: &Device, driver: &str) -> bool {
    *device.visible_driver.lock() == Some(driver)
}

/// A device's own files and links, without the devices below it.
fn attributes(machine: &Arc<Machine>, device: &Arc<Device>) -> List {
    let mut list = files([
        ("driver_override", File::DriverOverride(Arc::clone(device))),
        ("modalias", File::Modalias(Arc::clone(device))),
        ("uevent", File::DeviceUevent(Arc::clone(device))),
    ]);
    if device.desc().pci.is_some() {
        let numbers = [
            ("vendor", PciNumber::Vendor),
            ("device", PciNumber::Device),
            ("subsystem_vendor", PciNumber::SubsystemVendor),
            ("subsystem_device", PciNumber::SubsystemDevice),
            ("class", PciNumber::Class),
            ("revision", PciNumber::Revision),
        ];
        list.extend(files(numbers.map(|(name, number)| (name, File::PciNumber(number, Arc::clone(device))))));
    }
    // As on Linux, it never comes back after the first binding.
    if device.desc().node.is_some() && !device.has_been_bound() {
        list.extend(files([("waiting_for_supplier", File::WaitingForSupplier(Arc::clone(device)))]));
    }
    list.extend(dirs([("power", Dir::Power(Arc::clone(device)))]));
    let is_iommu = instances(machine).any(|(name, _)| name == device.name());
    if is_iommu {
        list.extend(dirs([("iommu", Dir::DeviceIommu(Arc::clone(device)))]));
    }
    let mut link = |name: String, to| list.push((name, Node::Link(to)));
    let bus = device.desc().bus;
    link("subsystem".into(), Dir::Bus(bus));
    if let Some(node) = of::dir_of(machine, device) {
        link("of_node".into(), node);
    }
    let driver = *device.visible_driver.lock();
    if let Some(driver) = driver {
        link("driver".into(), Dir::Driver(bus, driver));
    }
    if let Some(member) = machine.iommus().membership(device) {
        // The first IOMMU: the link's name is unique, as on Linux. Others are found by their own `devices`.
        if let Some(iommu) = machine.iommus().instances_of(device).into_iter().next().filter(|_| !is_iommu) {
            link("iommu".into(), Dir::Instance(iommu));
        }
        link("iommu_group".into(), Dir::Group(member.group));
    }
    for l in machine.devlinks_of(device).into_iter().filter(is_shown) {
        let name = if Arc::ptr_eq(&l.consumer, device) {
            format!("supplier:{}", bus_name(&l.supplier))
        } else {
            format!("consumer:{}", bus_name(&l.consumer))
        };
        link(name, Dir::Devlink(l));
    }
    list
}

/// True for a link between devices that Linux has, too.
fn is_shown(link: &Devlink) -> bool {
    is_on_bus(&link.supplier) && is_on_bus(&link.consumer)
}

/// Files of `power`. Devices have no runtime power management of Linux's kind: the core switches supplies with bindings.
fn power(device: &Arc<Device>) -> List {
    files([
        ("async", File::PowerAsync(Arc::clone(device))),
        ("autosuspend_delay_ms", File::AutosuspendDelay),
        ("control", File::PowerControl(Arc::clone(device))),
        ("runtime_active_kids", File::Power("0\n")),
        ("runtime_active_time", File::Power("0\n")),
        ("runtime_enabled", File::Power("disabled\n")),
        ("runtime_status", File::Power("unsupported\n")),
        ("runtime_suspended_time", File::Power("0\n")),
        ("runtime_usage", File::Power("0\n")),
    ])
}

fn devlink(link: &Devlink) -> List {
    let mut list = files([
        ("auto_remove_on", File::LinkAutoRemove { goes_with_consumer: link.goes_with_consumer }),
        ("runtime_pm", File::LinkRuntimePm(link.clone())),
        ("status", File::LinkStatus(link.state)),
        ("sync_state_only", File::LinkSyncStateOnly(link.clone())),
        ("uevent", File::LinkUevent(link.clone())),
    ]);
    list.push(("consumer".into(), Node::Link(Dir::Device(Arc::clone(&link.consumer)))));
    list.push(("subsystem".into(), Node::Link(Dir::DevlinkClass)));
    list.push(("supplier".into(), Node::Link(Dir::Device(Arc::clone(&link.supplier)))));
    list
}

/// All links, each once.
fn devlinks(machine: &Arc<Machine>) -> impl Iterator<Item = Devlink> {
    machine.devices().into_iter().flat_map(|device| {
        let links = machine.devlinks_of(&device);
        links.into_iter().filter(move |l| Arc::ptr_eq(&l.consumer, &device) && is_shown(l))
    })
}

fn devlink_named(machine: &Arc<Machine>, name: &str) -> Option<Devlink> {
    // Device names may contain "--": try each place for two devices with a link.
    name.match_indices("--").find_map(|(at, dashes)| {
        let (_, consumer) = name[at + dashes.len()..].split_once(':')?;
        let consumer = machine.device(consumer).filter(|d| bus_name(d) == name[at + dashes.len()..])?;
        let mut links = machine.devlinks_of(&consumer).into_iter().filter(is_shown);
        links.find(|l| Arc::ptr_eq(&l.consumer, &consumer) && bus_name(&l.supplier) == name[..at])
    })
}

/// All IOMMUs by name: those of this machine's drivers, and host-owned ones that devices are behind.
fn instances(machine: &Arc<Machine>) -> impl Iterator<Item = (String, Arc<dyn Iommu>)> {
    let foreign = machine.groups().into_iter().flat_map(|g| g.iommus());
    let all: BTreeMap<_, _> = machine.iommus().instances().into_iter().chain(foreign).map(|i| (i.name(), i)).collect();
    all.into_iter()
}

fn members(machine: &Arc<Machine>, group: &Group) -> Vec<Arc<Device>> {
    group.info().members.iter().filter_map(|name| machine.device(name)).collect()
}
