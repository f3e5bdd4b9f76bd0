//! A listing of the devices in sysfs that matter to DMA: evidence for groups, IOMMUs and streams.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::host::streams;

/// Most devices that are listed.
const MOST: usize = 16_384;

/// A line for each device of `sys` that an IOMMU serves, and for `wanted`, by name.
pub(super) fn listing(sys: &Path, wanted: &str) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    let Ok(buses) = fs::read_dir(sys.join("bus")) else { return lines };
    for bus in buses.filter_map(Result::ok) {
        let Ok(devices) = fs::read_dir(bus.path().join("devices")) else { continue };
        for device in devices.filter_map(Result::ok) {
            let (Ok(name), Ok(bus)) = (device.file_name().into_string(), bus.file_name().into_string()) else {
                continue;
            };
            let path = device.path();
            if lines.len() < MOST && (name == wanted || path.join("iommu_group").exists()) {
                let line = line(sys, &name, &bus, &path);
                lines.insert(name, line);
            }
        }
    }
    lines
}

/// True when `device` is on some bus of `sys`.
pub(super) fn is_there(sys: &Path, device: &str) -> bool {
    let Ok(buses) = fs::read_dir(sys.join("bus")) else { return false };
    buses.filter_map(Result::ok).any(|bus| bus.path().join("devices").join(device).exists())
}

fn line(sys: &Path, name: &str, bus: &str, path: &Path) -> String {
    let mut line = format!("{name} bus={bus}");
    let mut add = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            // A name with a blank would read as two.
            let _ = write!(line, " {key}={}", value.replace(|c: char| c.is_whitespace() || c.is_control(), "?"));
        }
    };
    let link = |at: &str| fs::read_link(path.join(at)).ok().and_then(|to| Some(to.file_name()?.to_str()?.to_owned()));
    let text = |at: &str| fs::read_to_string(path.join(at)).ok().map(|text| text.trim().to_owned());
    add("driver", link("driver"));
    add("group", link("iommu_group"));
    add("domain", text("iommu_group/type"));
    add("iommu", link("iommu"));
    add("iommu-device", link("iommu/device"));
    let streams: Vec<String> = streams(path, name).iter().map(|stream| format!("{stream:#x}")).collect();
    add("streams", Some(streams.join(",")).filter(|streams| !streams.is_empty()));
    let real = fs::canonicalize(path).ok();
    let root = fs::canonicalize(sys).ok();
    let below = real.as_deref().zip(root.as_deref()).and_then(|(real, root)| real.strip_prefix(root).ok());
    add("at", below.map(|below| below.display().to_string()));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_listed_with_its_driver_group_and_streams() {
        let tree = tempfile::tempdir().unwrap();
        let sys = tree.path();
        let device = sys.join("devices/platform/ee300000.sata");
        for folder in ["of_node", "../../../bus/platform/devices", "../../../kernel/iommu_groups/2"] {
            fs::create_dir_all(device.join(folder)).unwrap();
        }
        fs::write(device.join("of_node/iommus"), [0, 0, 0, 7, 0, 0, 0, 2]).unwrap();
        fs::write(sys.join("kernel/iommu_groups/2/type"), "DMA\n").unwrap();
        let link = |to: &str, at: std::path::PathBuf| std::os::unix::fs::symlink(to, at).unwrap();
        link("../../../kernel/iommu_groups/2", device.join("iommu_group"));
        link("../../../bus/platform/drivers/sata_rcar", device.join("driver"));
        link("../../../devices/platform/ee300000.sata", sys.join("bus/platform/devices/ee300000.sata"));
        let lines = listing(sys, "x");
        assert_eq!(
            lines["ee300000.sata"],
            "ee300000.sata bus=platform driver=sata_rcar group=2 domain=DMA streams=0x2 \
             at=devices/platform/ee300000.sata"
        );
        assert!(is_there(sys, "ee300000.sata"));
        assert!(!is_there(sys, "ee300000.usb"));
    }
}
