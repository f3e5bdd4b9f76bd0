//! The words that name a device on the command line.

use crate::face::Face;
use crate::inventory::{Config, Device, Inventory, Vpd};
use crate::path;
use crate::usage::Below;

/// Reason why a word does not name exactly one device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// The word cannot be a device at all.
    #[error("{word:?} is not a device: {why}")]
    Malformed {
        /// The word, control characters escaped.
        word: String,
        /// The reason.
        why: &'static str,
    },
    /// No device fits.
    #[error("{word}: no such device{hint}")]
    Missing {
        /// The word.
        word: String,
        /// A suggestion.
        hint: String,
    },
    /// More than one device fits.
    #[error("{word} is ambiguous: {}; name one of them", .candidates.join(", "))]
    Ambiguous {
        /// The word.
        word: String,
        /// The devices that fit.
        candidates: Vec<String>,
    },
}

/// The device that `word` names: an address, a `/sys` path, `BUS/NAME`, `vendor:device`, or `serial=`, `mac=`, `wwn=`,
/// `slot=`, `path=` with a value.
pub fn select<'a>(face: &dyn Face, inventory: &'a Inventory, word: &str) -> Result<&'a Device, SelectError> {
    let malformed = |why| SelectError::Malformed { word: path::printable(word), why };
    if word.is_empty() || word.len() > 4096 || word.chars().any(char::is_control) {
        return Err(malformed("a name is one line of printable characters"));
    }
    if word.split('/').any(|part| part == "..") {
        return Err(malformed("a path must not contain `..`"));
    }
    if word.starts_with('/') {
        return by_path(face, inventory, word);
    }
    let found = match word.split_once('=') {
        Some(("serial", value)) => with_serial(face, inventory, value),
        Some(("mac", value)) => by(inventory, |d| macs(face, d).iter().any(|m| m.eq_ignore_ascii_case(value))),
        Some(("wwn", value)) => by(inventory, |d| wwns(face, d).iter().any(|w| same_wwn(w, value))),
        Some(("slot", value)) => in_slot(face, inventory, value),
        Some(("path", value)) => by(inventory, |d| d.route().is_some_and(|route| route.eq_ignore_ascii_case(value))),
        Some(_) => return Err(malformed("only serial=, mac=, wwn=, slot= and path= can be asked for")),
        None => by_name(inventory, word),
    };
    // What hangs below a bridge belongs to the nearest device above it.
    let lowest = |device: &&Device| !found.iter().any(|d| d.path != device.path && path::within(&d.path, &device.path));
    let found: Vec<&Device> = found.iter().copied().filter(lowest).collect();
    match found[..] {
        [one] => Ok(one),
        [] => Err(SelectError::Missing { word: word.into(), hint: hint(inventory, word) }),
        _ => Err(SelectError::Ambiguous {
            word: word.into(),
            candidates: found.iter().map(|d| described(face, d)).collect(),
        }),
    }
}

fn by(inventory: &Inventory, fits: impl Fn(&Device) -> bool) -> Vec<&Device> {
    inventory.devices.iter().filter(|d| fits(d)).collect()
}

fn by_path<'a>(face: &dyn Face, inventory: &'a Inventory, word: &str) -> Result<&'a Device, SelectError> {
    let word = word.trim_end_matches('/');
    let missing = |hint: &str| SelectError::Missing { word: word.into(), hint: hint.into() };
    if !path::within(word, "/sys") {
        return Err(missing("; a path must lead into /sys"));
    }
    // A path may go through links, each of which is replaced by where it leads.
    let mut place = String::new();
    for part in word.split('/').filter(|part| !part.is_empty() && *part != ".") {
        place = format!("{place}/{part}");
        match face.resolve(&place) {
            Ok(Some(target)) => place = target,
            Ok(None) => {}
            Err(error) => return Err(missing(&format!("; {error}"))),
        }
    }
    if !face.exists(&place) {
        return Err(missing(""));
    }
    inventory.above(&place).ok_or_else(|| missing("; there is no device with driver_override at or above this path"))
}

fn by_name<'a>(inventory: &'a Inventory, word: &str) -> Vec<&'a Device> {
    if let Some((bus, name)) = word.split_once('/') {
        return by(inventory, |d| d.bus == bus && d.name.eq_ignore_ascii_case(name));
    }
    let exact = by(inventory, |d| d.name.eq_ignore_ascii_case(word));
    if !exact.is_empty() {
        return exact;
    }
    // An address without its domain is good when only one domain has it.
    let short = by(inventory, |d| d.bus == "pci" && is_short_of(word, &d.name));
    if !short.is_empty() {
        return short;
    }
    by(inventory, |d| d.ids().is_some_and(|ids| ids.eq_ignore_ascii_case(word)))
}

fn is_short_of(word: &str, address: &str) -> bool {
    address.split_once(':').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(word))
}

fn hint(inventory: &Inventory, word: &str) -> String {
    // `02:00` instead of `02:00.0` is the usual slip.
    let near: Vec<String> = inventory
        .devices
        .iter()
        .filter(|d| d.name.starts_with(word) || d.name.contains(&format!(":{word}.")))
        .map(Device::label)
        .take(8)
        .collect();
    if near.is_empty() {
        "; `bindctl list --all` shows all".into()
    } else {
        format!("; did you mean {}?", near.join(", "))
    }
}

fn described(face: &dyn Face, device: &Device) -> String {
    let below = Below::of(face, device);
    let mut words: Vec<String> = vec![device.driver.clone().unwrap_or_else(|| "no driver".into())];
    words.extend(serials(face, device).into_iter().map(|s| format!("serial {s}")));
    words.extend(below.interfaces.iter().map(|i| i.name.clone()));
    format!("{} ({})", device.label(), words.join(", "))
}

/// Serial numbers: of NVMe controllers, of disks as udev knows them, and of the device itself by its PCI capability and
/// by its vital product data.
pub fn serials(face: &dyn Face, device: &Device) -> Vec<String> {
    let mut found = serials_of(face, device, &Below::of(face, device));
    found.extend(Vpd::read(face, device).and_then(|vpd| vpd.serial));
    found.sort();
    found.dedup();
    found
}

/// The devices with a serial number. Vital product data is slow to read, and asked for only when nothing else says it.
fn with_serial<'a>(face: &dyn Face, inventory: &'a Inventory, value: &str) -> Vec<&'a Device> {
    let is = |serial: &String| serial.eq_ignore_ascii_case(value);
    let found = by(inventory, |d| serials_of(face, d, &Below::of(face, d)).iter().any(is));
    if !found.is_empty() {
        return found;
    }
    by(inventory, |d| Vpd::read(face, d).and_then(|vpd| vpd.serial).as_ref().is_some_and(is))
}

fn serials_of(face: &dyn Face, device: &Device, below: &Below) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for controller in &below.controllers {
        found.extend(face.try_text(&format!("{}/serial", controller.path)).map(|s| s.trim().to_owned()));
    }
    for block in below.blocks.iter().filter_map(|b| b.node) {
        found.extend(udev(face, &format!("b{block}"), "ID_SERIAL_SHORT"));
    }
    found.extend(Config::read(face, device).and_then(|c| c.serial()));
    found.retain(|serial| !serial.is_empty());
    found.sort();
    found.dedup();
    found
}

/// Hardware addresses of the network interfaces.
pub fn macs(face: &dyn Face, device: &Device) -> Vec<String> {
    let interfaces = Below::of(face, device).interfaces;
    interfaces.iter().filter_map(|i| face.try_text(&format!("{}/address", i.path))).map(|m| m.trim().into()).collect()
}

/// World-wide names of the disks.
pub fn wwns(face: &dyn Face, device: &Device) -> Vec<String> {
    let mut found = Vec::new();
    for block in Below::of(face, device).blocks {
        for file in ["wwid", "device/wwid"] {
            found.extend(face.try_text(&format!("{}/{file}", block.path)).map(|w| w.trim().to_owned()));
        }
        if let Some(node) = block.node {
            found.extend(udev(face, &format!("b{node}"), "ID_WWN"));
        }
    }
    found.retain(|wwn| !wwn.is_empty());
    found.sort();
    found.dedup();
    found
}

/// World-wide names are written with `0x`, `naa.` or `eui.` before them, or bare.
fn same_wwn(a: &str, b: &str) -> bool {
    let bare = |text: &str| {
        let text = text.to_ascii_lowercase();
        ["0x", "naa.", "eui.", "uuid."].iter().find_map(|p| text.strip_prefix(p)).unwrap_or(&text).to_owned()
    };
    bare(a) == bare(b)
}

fn udev(face: &dyn Face, record: &str, key: &str) -> Option<String> {
    let text = face.try_text(&format!("/run/udev/data/{record}"))?;
    let value = text.lines().find_map(|line| line.strip_prefix("E:")?.strip_prefix(key)?.strip_prefix('='));
    value.map(ToOwned::to_owned)
}

/// The functions in a physical slot, whose file holds the address without the function.
fn in_slot<'a>(face: &dyn Face, inventory: &'a Inventory, slot: &str) -> Vec<&'a Device> {
    if !path::is_name(slot) {
        return Vec::new();
    }
    let Some(address) = face.try_text(&format!("/sys/bus/pci/slots/{slot}/address")) else { return Vec::new() };
    let address = address.trim();
    by(inventory, |d| d.bus == "pci" && d.name.rsplit_once('.').is_some_and(|(bare, _)| bare == address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::Directory;

    fn inventory(names: &[(&str, u16)]) -> Inventory {
        let device = |&(name, product): &(&str, u16)| Device {
            bus: "pci".into(),
            name: name.into(),
            path: format!("/sys/devices/{name}"),
            vendor: Some(0x8086),
            product: Some(product),
            ..Device::default()
        };
        let mut inventory = Inventory::default();
        inventory.devices = names.iter().map(device).collect();
        inventory
    }

    fn pick(inventory: &Inventory, word: &str) -> Result<String, SelectError> {
        let dir = tempfile::tempdir().unwrap();
        let face = Directory::open(dir.path()).unwrap();
        select(&face, inventory, word).map(|d| d.name.clone())
    }

    #[test]
    fn a_short_address_is_good_in_one_domain_only() {
        let one = inventory(&[("0000:02:00.0", 1), ("10000:03:00.0", 2)]);
        assert_eq!(pick(&one, "02:00.0").unwrap(), "0000:02:00.0");
        assert_eq!(pick(&one, "10000:03:00.0").unwrap(), "10000:03:00.0");
        let two = inventory(&[("0000:02:00.0", 1), ("10000:02:00.0", 2)]);
        assert!(
            matches!(pick(&two, "02:00.0"), Err(SelectError::Ambiguous { candidates, .. }) if candidates.len() == 2)
        );
    }

    #[test]
    fn twins_are_listed_and_not_guessed() {
        let twins = inventory(&[("0000:02:00.0", 7), ("0000:03:00.0", 7), ("0000:04:00.0", 8)]);
        let error = pick(&twins, "8086:0007").unwrap_err().to_string();
        assert!(error.contains("0000:02:00.0") && error.contains("0000:03:00.0"), "{error}");
        assert_eq!(pick(&twins, "8086:0008").unwrap(), "0000:04:00.0");
    }

    #[test]
    fn bad_names_are_refused() {
        let some = inventory(&[("0000:02:00.0", 7)]);
        for bad in ["", "a\nb", "../x", "/sys/../etc", "colour=red"] {
            assert!(matches!(pick(&some, bad), Err(SelectError::Malformed { .. })), "{bad:?}");
        }
        for missing in ["/etc/passwd", "/sys/devices", "0000:09:00.0", "a/b/c"] {
            assert!(matches!(pick(&some, missing), Err(SelectError::Missing { .. })), "{missing:?}");
        }
    }

    #[test]
    fn an_address_without_its_function_gets_a_hint() {
        let some = inventory(&[("0000:02:00.0", 7)]);
        assert!(pick(&some, "02:00").unwrap_err().to_string().contains("did you mean 0000:02:00.0"));
    }

    #[test]
    fn world_wide_names_compare_without_their_prefix() {
        assert!(same_wwn("naa.5000C500A1B2C3D4", "0x5000c500a1b2c3d4"));
        assert!(!same_wwn("naa.5", "eui.6"));
    }
}
