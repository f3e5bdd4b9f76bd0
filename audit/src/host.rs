//! A host's sysfs, as a saved tree or in a recorder's listing: evidence for which device is behind a stream.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Most devices that are read.
const MOST: usize = 65_536;

/// Devices of a host, by their streams.
#[derive(Clone, Debug, Default)]
pub struct Host {
    streams: BTreeMap<(String, u64), String>,
    /// Types of the devices' groups.
    types: rustc_hash::FxHashMap<String, GroupType>,
}

/// Type of a device's group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum GroupType {
    /// Untranslated by design.
    Identity,
    /// Translated.
    Translated,
    /// Another one, or one that was changed.
    Unsure,
}

impl GroupType {
    fn of(text: &str) -> Self {
        match text {
            "identity" => Self::Identity,
            "DMA" | "DMA-FQ" => Self::Translated,
            _ => Self::Unsure,
        }
    }
}

impl Host {
    /// Reads the tree at `root`, which holds `sys/` or is it.
    ///
    /// A platform device's streams come from its device tree node's `iommus` property, which names the stream behind the
    /// IOMMU's handle; a PCI device's from its host bridge's `iommu-map`. The IOMMU itself is told by the device's `iommu` link.
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
        if let Ok(kind) = fs::read_to_string(path.join("iommu_group/type")) {
            self.set_type(name, kind.trim());
        }
        let Some(iommu) = link(&path.join("iommu")) else { return };
        self.tie(name, &iommu, link(&path.join("iommu/device")).as_deref(), &streams(path, name));
    }

    /// Takes a line of a recorder's listing: `NAME KEY=VALUE...`.
    pub(crate) fn list(&mut self, line: &str) {
        if self.streams.len() >= MOST {
            return;
        }
        let mut words = line.split(' ');
        let Some(name) = words.next() else { return };
        let (mut iommu, mut own, mut streams) = (None, None, Vec::new());
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "iommu" => iommu = Some(value),
                "iommu-device" => own = Some(value),
                "domain" => self.set_type(name, value),
                "streams" => streams = value.split(',').filter_map(crate::event::hex).take(256).collect(),
                _ => {}
            }
        }
        if let Some(iommu) = iommu {
            self.tie(name, iommu, own, &streams);
        }
    }

    /// Notes the type of a device's group. Two that differ say nothing about the time between.
    fn set_type(&mut self, name: &str, kind: &str) {
        if self.types.len() >= MOST {
            return;
        }
        let kind = GroupType::of(kind);
        let known = self.types.entry(name.to_owned()).or_insert(kind);
        if *known != kind {
            *known = GroupType::Unsure;
        }
    }

    /// The type of the device's group.
    pub(crate) fn type_of(&self, name: &str) -> Option<GroupType> {
        self.types.get(name).copied()
    }

    /// Ties `streams` of the IOMMU to the device `name`. The kernel log calls an IOMMU by its `own` device, sysfs by its
    /// registers.
    fn tie(&mut self, name: &str, iommu: &str, own: Option<&str>, streams: &[u64]) {
        let iommu = iommu.strip_prefix("smmu3.0x").map_or_else(|| iommu.to_owned(), unit_of);
        for stream in streams {
            for iommu in own.into_iter().chain([&*iommu]) {
                self.streams.insert((iommu.to_owned(), *stream), name.to_owned());
            }
        }
    }

    /// The device behind `stream` of the IOMMU that the kernel log calls `iommu`.
    pub fn device_of(&self, iommu: &str, stream: u64) -> Option<&str> {
        let key = (iommu.to_owned(), stream);
        if let Some(device) = self.streams.get(&key) {
            return Some(device);
        }
        // A unit address is told apart by its number, whatever the node is called.
        let unit = |name: &str| {
            let unit = name.split('.').next().unwrap_or(name);
            (!unit.is_empty() && unit.bytes().all(|byte| byte.is_ascii_hexdigit()))
                .then(|| unit.trim_start_matches('0').to_owned())
        };
        let wanted = unit(iommu)?;
        self.streams
            .iter()
            .find(|((name, number), _)| *number == stream && unit(name).as_ref() == Some(&wanted))
            .map(|(_, device)| device.as_str())
    }
}

/// The streams of the device `name` at `path`, as a device tree says them.
pub(crate) fn streams(path: &Path, name: &str) -> Vec<u64> {
    let cells = fs::read(path.join("of_node/iommus")).unwrap_or_default();
    let named = cells.chunks_exact(8).map(|pair| u64::from(cell(pair, 1)));
    named.chain(pci_streams(path, name)).collect()
}

/// The last name of what the link at `path` leads to.
fn link(path: &Path) -> Option<String> {
    fs::read_link(path).ok().and_then(|to| Some(to.file_name()?.to_str()?.to_owned()))
}

/// Big-endian cell number `at` of a property.
fn cell(cells: &[u8], at: usize) -> u32 {
    let bytes = cells.get(at * 4..at * 4 + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_be_bytes)
}

/// The stream of a PCI device: its host bridge's `iommu-map` says which one its bus, device and function have. Without a device
/// tree nothing in sysfs does.
fn pci_streams(path: &Path, name: &str) -> Option<u64> {
    let (bus, function) = name.split_once(':')?.1.split_once(':')?;
    let (slot, function) = function.split_once('.')?;
    let hex = |text: &str| u32::from_str_radix(text, 16).ok();
    let id = hex(bus)? << 8 | hex(slot)? << 3 | hex(function)?;
    let real = fs::canonicalize(path).ok()?;
    for above in real.ancestors().take(64) {
        let Ok(map) = fs::read(above.join("of_node/iommu-map")) else { continue };
        let mask = fs::read(above.join("of_node/iommu-map-mask")).map_or(u32::MAX, |mask| cell(&mask, 0));
        let id = id & mask;
        return map.chunks_exact(16).find_map(|entry| {
            let (first, stream, count) = (cell(entry, 0), cell(entry, 2), cell(entry, 3));
            let at = id.checked_sub(first).filter(|at| *at < count)?;
            Some(u64::from(stream) + u64::from(at))
        });
    }
    None
}

/// The unit address of an `SMMUv3` as sysfs names it: `smmu3.0x000000002b400000`.
fn unit_of(hex: &str) -> String {
    hex.trim_start_matches('0').to_owned()
}
