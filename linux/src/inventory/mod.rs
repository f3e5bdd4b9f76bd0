//! The devices that can be handed over, with their drivers and IOMMU groups.

mod device;
mod group;
mod names;
mod pci;
mod reset;
mod vpd;

use std::collections::BTreeMap;

pub use device::{Device, Override};
pub use group::{Group, Region};
pub use names::Names;
pub use pci::{Acs, Config, acs_on_the_way, rate_isolation};
pub use reset::Reset;
pub use vpd::Vpd;

use crate::face::{Entry, Face, FaceError};
use crate::path;

/// All devices of all buses that know `driver_override`, and the IOMMU groups.
#[derive(Debug, Default)]
pub struct Inventory {
    /// The devices, by bus and name.
    pub devices: Vec<Device>,
    /// The IOMMU groups by name. A name is only good until the next boot, or the next removal of a device.
    pub groups: BTreeMap<String, Group>,
    /// The IOMMUs by name, as `/sys/class/iommu` lists them.
    pub iommus: Vec<String>,
    /// Errors of files that could not be read, or of links that were not followed.
    pub troubles: Vec<FaceError>,
    by_path: BTreeMap<String, usize>,
    /// Entries of the devices' directories, by path.
    listings: BTreeMap<String, Vec<Entry>>,
}

impl Inventory {
    /// Reads the devices of `face`.
    pub fn scan(face: &dyn Face) -> Self {
        let mut inventory = Self { iommus: face.names("/sys/class/iommu"), ..Self::default() };
        for bus in face.names("/sys/bus") {
            if path::is_name(&bus) {
                inventory.scan_bus(face, &bus);
            }
        }
        inventory.devices.sort_by(|a, b| (&a.bus, &a.name).cmp(&(&b.bus, &b.name)));
        inventory.by_path = inventory.devices.iter().enumerate().map(|(i, d)| (d.path.clone(), i)).collect();
        for name in face.names("/sys/kernel/iommu_groups") {
            inventory.groups.insert(name.clone(), Group { name, members: Vec::new() });
        }
        for device in &inventory.devices {
            if let Some(name) = &device.group {
                let group = inventory.groups.entry(name.clone()).or_default();
                group.name.clone_from(name);
                group.members.push(device.path.clone());
            }
        }
        inventory
    }

    fn scan_bus(&mut self, face: &dyn Face, bus: &str) {
        let folder = format!("/sys/bus/{bus}/devices");
        let entries = match face.list(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                if !error.is_absent() {
                    self.troubles.push(error);
                }
                return;
            }
        };
        for entry in entries {
            match Device::read(face, bus, &entry.name) {
                Ok(Some((device, mut entries))) => {
                    // Attributes are asked for by their names.
                    entries.retain(|entry| entry.dir || entry.link);
                    self.listings.insert(device.path.clone(), entries);
                    self.devices.push(device);
                }
                Ok(None) => {}
                Err(error) => self.troubles.push(error),
            }
        }
    }

    /// Directories and links in the directory of a device, as they were when the inventory was read; `None` for a device
    /// that is not of this inventory.
    pub(crate) fn entries(&self, device: &Device) -> Option<&[Entry]> {
        self.listings.get(&device.path).map(Vec::as_slice)
    }

    /// The device at a path in `/sys/devices`.
    pub fn at(&self, path: &str) -> Option<&Device> {
        self.by_path.get(path).map(|&index| &self.devices[index])
    }

    /// The device that `path` lies below, or is.
    pub fn above(&self, mut path: &str) -> Option<&Device> {
        while !path.is_empty() {
            if let Some(device) = self.at(path) {
                return Some(device);
            }
            path = path::parent(path);
        }
        None
    }

    /// The device called `name` on `bus`.
    pub fn named(&self, bus: &str, name: &str) -> Option<&Device> {
        self.devices.iter().find(|d| d.bus == bus && d.name == name)
    }

    /// The other members of the device's IOMMU group, those without an entry in this inventory left out.
    pub fn siblings<'a>(&'a self, device: &'a Device) -> impl Iterator<Item = &'a Device> {
        let members = self.group_of(device).map(|group| group.members.as_slice());
        members.unwrap_or_default().iter().filter(|p| **p != device.path).filter_map(|p| self.at(p))
    }

    /// The device's IOMMU group.
    pub fn group_of(&self, device: &Device) -> Option<&Group> {
        self.groups.get(device.group.as_ref()?)
    }

    /// The virtual functions of a physical function, in their order.
    pub fn virtual_functions<'a>(&'a self, device: &Device) -> Vec<&'a Device> {
        device.virtual_functions.iter().filter_map(|path| self.at(path)).collect()
    }

    /// True when something on this machine translates for devices.
    pub fn has_iommu(&self) -> bool {
        !self.iommus.is_empty() || !self.groups.is_empty()
    }
}
