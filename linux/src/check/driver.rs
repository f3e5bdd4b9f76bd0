//! The driver that a device is to get.

use std::fmt;

use crate::face::Face;
use crate::inventory::Device;
use crate::path;

/// Target of a hand-over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Target {
    /// VFIO: a variant driver where the kernel has one for the device, else the bus's own.
    #[default]
    Vfio,
    /// The host's driver, as the kernel matches it.
    Host,
    /// The driver with this name.
    Driver(String),
    /// No driver.
    Nothing,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vfio => "vfio",
            Self::Host => "host",
            Self::Driver(name) => name,
            Self::Nothing => "none",
        })
    }
}

/// The driver that gives devices of this bus to user space.
pub fn vfio_driver(bus: &str) -> Option<&'static str> {
    match bus {
        "pci" => Some("vfio-pci"),
        "platform" => Some("vfio-platform"),
        "amba" => Some("vfio-amba"),
        "fsl-mc" => Some("vfio-fsl-mc"),
        "cdx" => Some("vfio-cdx"),
        _ => None,
    }
}

/// The module of a VFIO driver that is made for this device: the most particular of the kernel's `vfio_pci:` aliases.
pub fn variant(face: &dyn Face, device: &Device) -> Option<String> {
    let alias = device.modalias.as_deref()?;
    let alias = format!("vfio_{}", alias.strip_prefix("pci:").map(|rest| format!("pci:{rest}"))?);
    let list = modules_file(face, "modules.alias")?;
    let matching = list.lines().filter_map(|line| {
        let (pattern, module) = line.strip_prefix("alias ")?.rsplit_once(' ')?;
        (pattern.starts_with("vfio_pci:") && fits(pattern, &alias)).then(|| {
            let fixed = pattern.chars().filter(|c| *c != '*').count();
            (fixed, module.to_owned())
        })
    });
    let (_, module) = matching.max()?;
    (module != "vfio_pci" && module != "vfio-pci").then_some(module)
}

/// A file of the running kernel's module directory.
pub(crate) fn modules_file(face: &dyn Face, name: &str) -> Option<String> {
    let release = face.try_text("/proc/sys/kernel/osrelease")?;
    let release = release.trim();
    path::is_name(release).then_some(())?;
    ["/lib/modules", "/usr/lib/modules"].iter().find_map(|base| face.try_text(&format!("{base}/{release}/{name}")))
}

/// True when `text` fits a pattern with `*` for any run of characters.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut last = None;
    for part in parts {
        last = Some(part);
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    match last {
        None => rest.is_empty(),
        // The first occurrence was taken; the end of the text may hold a later one.
        Some(part) => text.ends_with(part),
    }
}

/// True when the driver is there, or a module of its name can be loaded.
///
/// A module's name says no more than its driver's up to dashes: when a driver is there whose name differs in these only,
/// the module has brought that one, and not the one that is asked for.
pub fn exists_or_loads(face: &dyn Face, device: &Device, driver: &str) -> bool {
    if face.exists(&device.driver_path(driver)) {
        return true;
    }
    let plain = |text: &str| text.replace('-', "_");
    let drivers = face.names(&format!("/sys/bus/{}/drivers", device.bus));
    !drivers.iter().any(|there| plain(there) == plain(driver)) && module_of(face, driver).is_some()
}

/// The module, as `modules.dep` lists it, that a driver's name stands for.
pub fn module_of(face: &dyn Face, driver: &str) -> Option<String> {
    let plain = |text: &str| text.replace('-', "_");
    let wanted = plain(driver);
    let list = modules_file(face, "modules.dep")?;
    list.lines().find_map(|line| {
        let file = path::name(line.split(':').next()?);
        let name = file.split(".ko").next()?;
        (file.contains(".ko") && plain(name) == wanted).then(|| name.to_owned())
    })
}

/// A driver of the bus whose name is close to `wanted`.
pub fn did_you_mean(face: &dyn Face, device: &Device, wanted: &str) -> Option<String> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let mut drivers = face.names(&format!("/sys/bus/{}/drivers", device.bus));
    drivers.extend(vfio_driver(&device.bus).map(Into::into));
    let distance = |name: &String| distance(&plain(name), &plain(wanted));
    let near =
        drivers.into_iter().filter(|name| distance(name) <= 2 || plain(wanted) == "vfio" && name.starts_with("vfio"));
    near.min_by_key(distance)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let best = (corner + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            corner = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_match_with_wildcards() {
        let alias = "vfio_pci:v000015B3d0000101Esv000015B3sd00000001bc02sc00i00";
        assert!(fits("vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i*", alias));
        assert!(!fits("vfio_pci:v00008086d*sv*sd*bc*sc*i*", alias));
        assert!(fits("a*c", "abcbc") && !fits("a*c", "abcd") && fits("abc", "abc") && !fits("abc", "abcd"));
    }

    #[test]
    fn near_names_are_near() {
        assert_eq!(distance("vfiopci", "vfiopic"), 2);
        assert_eq!(distance("nvme", "nvme"), 0);
        assert_eq!(distance("", "abc"), 3);
    }
}
