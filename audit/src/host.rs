//! A saved listing of a host's sysfs: evidence for which device is behind a stream.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Most devices that are read.
const MOST: usize = 65_536;

/// Devices of a host, by their streams.
#[derive(Clone, Debug, Default)]
pub struct Host {
    streams: BTreeMap<(String, u64), String>,
    /// Groups of devices.
    pub groups: BTreeMap<String, u64>,
}

impl Host {
    /// Reads the tree at `root`, which holds `sys/` or is it.
    ///
    /// A platform device's streams come from its device tree node's `iommus` property, which names the stream behind the
    /// IOMMU's handle; the IOMMU itself is told by the device's `iommu` link.
    pub fn read(root: &Path) -> std::io::Result<Self> {
        let sys = if root.join("sys").is_dir() { root.join("sys") } else { root.to_owned() };
        let mut host = Self::default();
        let mut buses = 0;
        for bus in fs::read_dir(sys.join("bus"))? {
            let devices = bus?.path().join("devices");
            let Ok(entries) = fs::read_dir(devices) else { continue };
            buses += 1;
            for entry in entries.take(MOST) {
                host.device(&entry?.path());
            }
        }
        if buses == 0 {
            return Err(std::io::Error::new(std::io::ErrorKind::NotFound, "no bus/*/devices below it"));
        }
        Ok(host)
    }

    fn device(&mut self, path: &Path) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return };
        let link =
            |at: &str| fs::read_link(path.join(at)).ok().and_then(|to| Some(to.file_name()?.to_str()?.to_owned()));
        if let Some(group) = link("iommu_group").and_then(|group| group.parse().ok()) {
            self.groups.insert(name.to_owned(), group);
        }
        let iommu = link("iommu").map(|iommu| iommu.strip_prefix("smmu3.0x").map_or(iommu.clone(), unit_of));
        let Some(iommu) = iommu else { return };
        let Ok(cells) = fs::read(path.join("of_node/iommus")) else { return };
        for pair in cells.chunks_exact(8) {
            let stream = u32::from_be_bytes([pair[4], pair[5], pair[6], pair[7]]);
            self.streams.insert((iommu.clone(), u64::from(stream)), name.to_owned());
        }
    }

    /// The device behind `stream` of the IOMMU that the kernel log calls `iommu`.
    pub fn device_of(&self, iommu: &str, stream: u64) -> Option<&str> {
        let unit = |name: &str| name.split('.').next().unwrap_or(name).trim_start_matches('0').to_owned();
        self.streams
            .iter()
            .find(|((name, number), _)| *number == stream && unit(name) == unit(iommu))
            .map(|(_, device)| device.as_str())
    }
}

/// The unit address of an `SMMUv3` as sysfs names it: `smmu3.0x000000002b400000`.
fn unit_of(hex: &str) -> String {
    hex.trim_start_matches('0').to_owned()
}
