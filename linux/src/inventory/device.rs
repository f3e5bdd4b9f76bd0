//! One device.

use std::time::Duration;

use crate::face::{Entry, Face, FaceError, READ_DEADLINE, Result};
use crate::path;

/// A device on a bus that knows `driver_override`.
#[derive(Debug, Clone, Default)]
pub struct Device {
    /// The bus: `pci`, `platform`.
    pub bus: String,
    /// The name on the bus: `0000:02:00.0`, `ee300000.sata`.
    pub name: String,
    /// The path in `/sys/devices`.
    pub path: String,
    /// The driver that is bound.
    pub driver: Option<String>,
    /// The name of the IOMMU group.
    pub group: Option<String>,
    /// The class code of a PCI device, 24 bits.
    pub class: Option<u32>,
    /// The vendor of a PCI device.
    pub vendor: Option<u16>,
    /// The device id of a PCI device.
    pub product: Option<u16>,
    /// The string that modules are found by.
    pub modalias: Option<String>,
    /// The physical function's path, for a virtual function.
    pub physical_function: Option<String>,
    /// The paths of the virtual functions, in their order, for a physical function.
    pub virtual_functions: Vec<String>,
}

/// The contents of `driver_override`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Override {
    /// Empty: drivers are matched as usual.
    None,
    /// Only the driver with this name matches.
    Driver(String),
    /// Not known, with the reason.
    Unread(FaceError),
}

impl Device {
    /// Reads the device called `name` on `bus`, and its directory; `None` when it has no `driver_override`, or has just gone.
    pub(super) fn read(face: &dyn Face, bus: &str, name: &str) -> Result<Option<(Self, Vec<Entry>)>> {
        let Some(path) = face.resolve(&format!("/sys/bus/{bus}/devices/{name}"))? else { return Ok(None) };
        let entries = match face.list(&path) {
            Ok(entries) => entries,
            Err(error) if error.is_absent() => return Ok(None),
            Err(error) => return Err(error),
        };
        if !entries.iter().any(|e| e.name == "driver_override") {
            return Ok(None);
        }
        let has = |name: &str| entries.iter().any(|e| e.name == name);
        let link = |name: &str| if has(name) { face.resolve(&format!("{path}/{name}")) } else { Ok(None) };
        let mut device = Self {
            bus: bus.into(),
            name: name.into(),
            driver: link("driver")?.map(|p| path::name(&p).into()),
            group: link("iommu_group")?.map(|p| path::name(&p).into()),
            physical_function: link("physfn")?,
            ..Self::default()
        };
        let mut functions: Vec<(u32, String)> = Vec::new();
        for entry in &entries {
            if let Some(index) = entry.name.strip_prefix("virtfn").and_then(|n| n.parse().ok())
                && let Some(target) = link(&entry.name)?
            {
                functions.push((index, target));
            }
        }
        functions.sort();
        device.virtual_functions = functions.into_iter().map(|(_, path)| path).collect();
        if has("vendor") && has("class") {
            // Not from `uevent`, which has all ids, too: some kernels (6.1 among them) take the device's lock to write it,
            // which an unbind that hangs never gives back.
            device.modalias = if has("modalias") { face.try_text(&format!("{path}/modalias")) } else { None };
            if let Some((vendor, product, class)) = device.modalias.as_deref().and_then(pci_ids) {
                (device.vendor, device.product, device.class) = (Some(vendor), Some(product), Some(class));
            } else {
                let number = |name: &str| hex(&face.try_text(&format!("{path}/{name}"))?);
                device.class = number("class");
                device.vendor = number("vendor").and_then(id);
                device.product = number("device").and_then(id);
            }
        }
        device.path = path;
        Ok(Some((device, entries)))
    }

    /// The device called `name` on `bus` now; `None` when it is not there, or has no `driver_override`.
    pub fn on(face: &dyn Face, bus: &str, name: &str) -> Option<Self> {
        let named = path::is_name(bus) && path::is_name(name);
        let found = named.then(|| Self::read(face, bus, name).ok().flatten()).flatten();
        found.map(|(device, _)| device)
    }

    /// Bus and name, as `pci 0000:02:00.0`; the bus is left out for PCI.
    pub fn label(&self) -> String {
        if self.bus == "pci" { self.name.clone() } else { format!("{}/{}", self.bus, self.name) }
    }

    /// The ids of a PCI device as `8086:0a54`.
    pub fn ids(&self) -> Option<String> {
        Some(format!("{:04x}:{:04x}", self.vendor?, self.product?))
    }

    /// Base class and subclass of a PCI device.
    pub fn class16(&self) -> Option<u16> {
        self.class.map(|class| (class >> 8) as u16)
    }

    /// True for a PCI bridge of any kind.
    pub fn is_bridge(&self) -> bool {
        self.class16().is_some_and(|class| class >> 8 == 0x06)
    }

    /// True when the device vanishes with the driver of `other`: as a virtual function of it, or below it.
    pub fn vanishes_with(&self, other: &Device) -> bool {
        self.path != other.path
            && (self.physical_function.as_ref() == Some(&other.path) || path::within(&self.path, &other.path))
    }

    /// True when the bound driver exposes the device to user space through VFIO.
    pub fn is_on_vfio(&self) -> bool {
        self.driver.as_deref().is_some_and(is_vfio)
    }

    /// True when the group stays viable with this driver bound to a member: drivers that never ask for DMA
    /// leave the group's ownership alone.
    pub fn leaves_dma_alone(&self) -> bool {
        self.driver.as_deref().is_none_or(Self::driver_leaves_dma_alone)
    }

    /// True for a driver that leaves the ownership of its device's group alone.
    pub fn driver_leaves_dma_alone(driver: &str) -> bool {
        is_vfio(driver) || matches!(driver, "pcieport" | "pci-stub")
    }

    /// The way from the root bus through the bridges, as `0000:00/1c.0/00.0`: it stays when bus numbers move because
    /// hardware was added elsewhere. `None` for a device that is not on PCI.
    pub fn route(&self) -> Option<String> {
        if self.bus != "pci" {
            return None;
        }
        let parts = self.path.split('/').skip_while(|part| !is_root_bus(part));
        let hops = parts.map(|part| match part.strip_prefix("pci").filter(|_| is_root_bus(part)) {
            Some(bus) => bus,
            // Behind a root bus, a device is identified by slot and function.
            None => part.rsplit_once(':').map_or(part, |(_, slot)| slot),
        });
        let route = hops.collect::<Vec<_>>().join("/");
        (!route.is_empty()).then_some(route)
    }

    /// The path of an attribute.
    pub fn attribute(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    /// The directory of a driver on the device's bus.
    pub fn driver_path(&self, driver: &str) -> String {
        format!("/sys/bus/{}/drivers/{driver}", self.bus)
    }

    /// The driver that is bound now.
    pub fn driver_now(&self, face: &dyn Face) -> Option<String> {
        face.link_name(&self.attribute("driver"))
    }

    /// The contents of `driver_override` now. Kernels show an empty one as `(null)` or as nothing.
    pub fn driver_override(&self, face: &dyn Face) -> Override {
        self.driver_override_within(face, READ_DEADLINE)
    }

    /// The same with another deadline.
    pub fn driver_override_within(&self, face: &dyn Face, deadline: Duration) -> Override {
        match face.read_within(&self.attribute("driver_override"), deadline) {
            Ok(bytes) => match String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\0']) {
                "" | "(null)" => Override::None,
                name => Override::Driver(name.into()),
            },
            Err(error) => Override::Unread(error),
        }
    }
}

impl Override {
    /// The driver that it names.
    pub fn driver(&self) -> Option<&str> {
        match self {
            Self::Driver(name) => Some(name),
            _ => None,
        }
    }
}

fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
}

fn id(number: u32) -> Option<u16> {
    number.try_into().ok()
}

/// Vendor, device and class of a PCI device's complete `modalias`: `pci:v00008086d00000A54sv...sd...bc01sc08i02`.
fn pci_ids(modalias: &str) -> Option<(u16, u16, u32)> {
    let number = |at: usize, key: &str, digits: usize| {
        let rest = modalias.get(at..)?.strip_prefix(key)?;
        u32::from_str_radix(rest.get(..digits)?, 16).ok()
    };
    if modalias.len() != 53 || number(22, "sv", 8).is_none() || number(32, "sd", 8).is_none() {
        return None;
    }
    let (vendor, product) = (number(4, "v", 8)?, number(13, "d", 8)?);
    let class = number(42, "bc", 2)? << 16 | number(46, "sc", 2)? << 8 | number(50, "i", 2)?;
    modalias.starts_with("pci:").then_some((id(vendor)?, id(product)?, class))
}

/// True for `pci0000:00`.
fn is_root_bus(part: &str) -> bool {
    part.strip_prefix("pci").is_some_and(|rest| rest.contains(':'))
}

/// True for vfio-pci, vfio-platform and the variant drivers, whose names all say it.
fn is_vfio(driver: &str) -> bool {
    driver.split(['-', '_']).any(|word| word == "vfio")
}

#[cfg(test)]
mod tests {
    use super::{Device, is_vfio, pci_ids};

    #[test]
    fn a_route_has_no_number_of_a_bus_behind_a_bridge() {
        let route = |path: &str| Device { bus: "pci".into(), path: path.into(), ..Device::default() }.route();
        assert_eq!(route("/sys/devices/pci0000:00/0000:00:1c.0/0000:02:00.0").as_deref(), Some("0000:00/1c.0/00.0"));
        let behind = "/sys/devices/pci0000:5d/0000:5d:05.5/pci10000:e0/10000:e0:02.0/10000:e1:00.0";
        assert_eq!(route(behind).as_deref(), Some("0000:5d/05.5/10000:e0/02.0/00.0"));
        assert_eq!(
            route("/sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:02.0").as_deref(),
            Some("0000:00/02.0")
        );
        assert_eq!(Device { bus: "platform".into(), path: "/sys/devices/x".into(), ..Device::default() }.route(), None);
    }

    #[test]
    fn ids_are_read_from_a_complete_modalias_only() {
        let whole = "pci:v00008086d00000A54sv00008086sd00004702bc01sc08i02";
        assert_eq!(pci_ids(whole), Some((0x8086, 0x0a54, 0x01_0802)));
        for length in 0..whole.len() {
            assert_eq!(pci_ids(&whole[..length]), None);
        }
        for other in ["pci:v00018086d00000A54sv00008086sd00004702bc01sc08i02", "of:Nsata_rcarT(null)Crenesas,sata", ""]
        {
            assert_eq!(pci_ids(other), None, "{other}");
        }
    }

    #[test]
    fn variant_drivers_are_vfio_drivers() {
        for driver in ["vfio-pci", "mlx5_vfio_pci", "nvgrace-gpu-vfio-pci", "vfio-platform", "xe-vfio-pci"] {
            assert!(is_vfio(driver), "{driver}");
        }
        for driver in ["nvme", "vfiox", "pci-stub"] {
            assert!(!is_vfio(driver), "{driver}");
        }
    }
}
