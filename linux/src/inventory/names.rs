//! Names of PCI vendors and devices.

use std::collections::BTreeMap;

use crate::face::Face;

/// Paths of the list on distributions.
const LISTS: [&str; 3] = ["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids", "/usr/share/pci.ids"];

/// Names from `pci.ids`; empty when the host has no list.
#[derive(Debug, Default)]
pub struct Names {
    devices: BTreeMap<(u16, u16), String>,
}

impl Names {
    /// Looks up the names of these ids.
    pub fn of(face: &dyn Face, ids: impl IntoIterator<Item = (u16, u16)>) -> Self {
        let mut wanted: BTreeMap<u16, Vec<u16>> = BTreeMap::new();
        for (vendor, device) in ids {
            wanted.entry(vendor).or_default().push(device);
        }
        let list = LISTS.iter().find_map(|path| face.read(path).ok()).unwrap_or_default();
        Self { devices: search(&String::from_utf8_lossy(&list), &wanted) }
    }

    /// The name of a device, `Vendor Device`.
    pub fn device(&self, vendor: u16, device: u16) -> Option<&str> {
        self.devices.get(&(vendor, device)).map(String::as_str)
    }
}

fn search(list: &str, wanted: &BTreeMap<u16, Vec<u16>>) -> BTreeMap<(u16, u16), String> {
    let mut found = BTreeMap::new();
    let mut vendor: Option<(u16, &str, &[u16])> = None;
    for line in list.lines() {
        // Device classes come last, in lines that would read like vendors.
        if line.starts_with("C ") {
            break;
        }
        let Some((id, name)) = line.trim_start().split_once("  ") else { continue };
        let Ok(id) = u16::from_str_radix(id, 16) else { continue };
        if !line.starts_with('\t') {
            vendor = wanted.get(&id).map(|devices| (id, name, devices.as_slice()));
        } else if !line.starts_with("\t\t")
            && let Some((vendor, maker, devices)) = vendor
            && devices.contains(&id)
        {
            found.insert((vendor, id), format!("{maker} {name}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_wanted_devices_are_found() {
        let list = "# c\n8086  Intel Corporation\n\t0a54  NVMe SSD\n\t\t1234 5678  Sub\n10de  NVIDIA\n\t0a54  Other\nC 01  x\n";
        let found = search(list, &BTreeMap::from([(0x8086, vec![0x0a54])]));
        assert_eq!(found.len(), 1);
        assert_eq!(found[&(0x8086, 0x0a54)], "Intel Corporation NVMe SSD");
    }
}
