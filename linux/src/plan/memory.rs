//! State that vanishes with a driver, and that restoring the device needs.

use serde::{Deserialize, Serialize};

use super::action::{D3COLD, POWER};
use crate::face::{Face, READ_DEADLINE};
use crate::inventory::Device;
use crate::select;
use crate::usage::Below;

/// State of a device before its driver was unbound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Bus and name.
    pub device: String,
    /// Vendor and device id.
    pub ids: Option<String>,
    /// The driver on the bus, which is not always the one that makes the interface: virtio-pci, not `virtio_net`.
    pub driver: Option<String>,
    /// `driver_override`.
    pub driver_override: Option<String>,
    /// The number of virtual functions.
    pub functions: Option<u32>,
    /// Names of interfaces, disks and controllers.
    pub names: Vec<String>,
    /// Serial numbers.
    pub serials: Vec<String>,
    /// Hardware addresses.
    pub macs: Vec<String>,
    /// Runtime power management, `power/control`: `auto` or `on`.
    #[serde(default)]
    pub power: Option<String>,
    /// Whether a device that sleeps may lose its power, `d3cold_allowed`.
    #[serde(default)]
    pub d3cold: Option<bool>,
    /// Links that udev had made: `disk/by-id/...`.
    pub links: Vec<String>,
}

/// Takes down what `device` is now.
pub fn remember(face: &dyn Face, device: &Device) -> Memory {
    let below = Below::of(face, device);
    let mut links = Vec::new();
    for node in below.blocks.iter().filter_map(|b| b.node) {
        let text = face.try_text(&format!("/run/udev/data/b{node}")).unwrap_or_default();
        links.extend(text.lines().filter_map(|l| l.strip_prefix("S:")).filter(|l| l.contains("by-id")).map(Into::into));
    }
    Memory {
        device: device.label(),
        ids: device.ids(),
        driver: device.driver.clone(),
        driver_override: device.driver_override(face).driver().map(Into::into),
        functions: functions(face, device),
        power: face.try_text(&device.attribute(POWER)).filter(|power| power == "auto" || power == "on"),
        d3cold: match face.try_text(&device.attribute(D3COLD)).as_deref().map(str::trim) {
            Some("1") => Some(true),
            Some("0") => Some(false),
            _ => None,
        },
        serials: select::serials(face, device),
        macs: select::macs(face, device),
        names: below.names,
        links,
    }
}

/// `sriov_numvfs` of a physical function.
pub(super) fn functions(face: &dyn Face, device: &Device) -> Option<u32> {
    let file = device.attribute("sriov_numvfs");
    if !face.exists(&file) {
        return None;
    }
    // Reading it takes the device's lock.
    face.text_within(&file, READ_DEADLINE).ok()?.trim().parse().ok()
}
