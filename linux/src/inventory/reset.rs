//! Reset methods of a device, and the devices that they reset with it.

use super::{Device, Inventory};
use crate::face::Face;
use crate::path;

/// The reset methods of a PCI device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reset {
    /// The methods in the order in which the kernel tries them: `flr`, `pm`, `bus`.
    pub methods: Vec<String>,
    /// The devices that are reset with it, when the first method reaches further than the function.
    pub spreads_to: Vec<String>,
}

impl Reset {
    /// Reads the methods; `None` for a device that is not on PCI, or a kernel before 5.15.
    ///
    /// Later kernels leave the file out for a device that cannot be reset at all, so that it is another device's file
    /// that tells a kernel which has it.
    pub fn read(face: &dyn Face, inventory: &Inventory, device: &Device) -> Option<Self> {
        let text = face.try_text(&device.attribute("reset_method")).or_else(|| {
            let mut others = inventory.devices.iter().filter(|other| other.bus == "pci" && device.bus == "pci");
            others.any(|other| face.exists(&other.attribute("reset_method"))).then(String::new)
        })?;
        let methods: Vec<String> = text.split_whitespace().map(Into::into).collect();
        let spreads = methods.first().is_some_and(|first| first == "bus" || first == "cxl_bus");
        let parent = path::parent(&device.path);
        let spreads_to = inventory
            .devices
            .iter()
            .filter(|other| spreads && other.bus == "pci" && other.path != device.path)
            .filter(|other| path::parent(&other.path) == parent)
            .map(|other| other.name.clone())
            .collect();
        Some(Self { methods, spreads_to })
    }
}
