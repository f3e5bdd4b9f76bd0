//! The desired state in an initramfs, where devices are given before their own drivers are there.
//!
//! There, properties that only a device's driver knows are missing, and no one is there to answer. So the initramfs has the
//! entries that can be applied that early, each is applied by itself, and what is uncertain is left to the running system.

use std::collections::BTreeSet;

use crate::check::vfio_driver;
use crate::desired::{Desired, DesiredDevice, Source};
use crate::face::Face;
use crate::inventory::Inventory;
use crate::path;
use crate::select::select;

/// The part of a desired state that goes into an initramfs, as a file of the same form.
pub fn state(source: &Source<'_>, desired: &Desired) -> String {
    let mut lines = vec![
        format!(
            "# Made from {} by `bindctl initramfs state`: change that file, and make the initramfs anew.",
            path::printable(source.file)
        ),
        "version = 1".into(),
    ];
    for entry in &desired.devices {
        lines.push(String::new());
        if let Some(why) = later(entry) {
            let line = source.line(&entry.select.span());
            lines.push(format!("# Line {line} is left to the running system: {why}."));
            continue;
        }
        lines.push("[[device]]".into());
        let mut field = |key: &str, value: Option<&str>| {
            // A string of JSON is one of TOML, too.
            let value = value.map(|value| serde_json::Value::from(value).to_string());
            lines.extend(value.map(|value| format!("{key} = {value}")));
        };
        field("select", Some(entry.select.get_ref()));
        field("expect", entry.expect.as_ref().map(|expect| expect.get_ref().as_str()));
        field("serial", entry.serial.as_ref().map(|serial| serial.get_ref().as_str()));
        field("driver", Some(entry.driver.get_ref()));
        if entry.hold_siblings {
            lines.push("hold-siblings = true".into());
        }
    }
    lines.join("\n") + "\n"
}

/// Reason why an entry is left to the running system.
fn later(entry: &DesiredDevice) -> Option<&'static str> {
    let known = |key: &str| entry.select.get_ref().starts_with(key);
    match entry.driver.get_ref().as_str() {
        "host" => Some("the kernel does by itself what `driver = \"host\"` wants"),
        "none" => Some("no driver is bound yet, and one would be bound afterwards"),
        _ if known("mac=") || known("wwn=") => {
            Some("hardware addresses and names are known only to the device's own driver")
        }
        _ => None,
    }
}

/// The modules that the kernel called `release` needs for these entries, sorted.
///
/// A device that is not on this host is judged by the ids that are expected of it: an image is often made elsewhere.
pub fn modules(face: &dyn Face, inventory: &Inventory, desired: &Desired, release: &str) -> Vec<String> {
    let mut found = BTreeSet::new();
    let aliases = aliases(face, release);
    for entry in desired.devices.iter().filter(|entry| later(entry).is_none()) {
        let driver = entry.driver.get_ref();
        if driver != "vfio" {
            found.insert(driver.clone());
            continue;
        }
        let device = select(face, inventory, entry.select.get_ref()).ok();
        let bus = device.map_or(if entry.expect.is_some() { "pci" } else { "platform" }, |device| &device.bus);
        found.extend(vfio_driver(bus).map(Into::into));
        if let Some(ids) = entry.expect.as_ref() {
            found.extend(variants(&aliases, ids.get_ref()));
        }
    }
    found.into_iter().collect()
}

fn aliases(face: &dyn Face, release: &str) -> String {
    let bases = ["/lib/modules", "/usr/lib/modules"].iter();
    let mut texts = bases.filter_map(|base| face.try_text(&format!("{base}/{release}/modules.alias")));
    texts.find(|_| path::is_name(release)).unwrap_or_default()
}

/// Modules whose `vfio_pci:` alias names these ids.
fn variants(aliases: &str, ids: &str) -> Vec<String> {
    let Some((vendor, device)) = ids.split_once(':') else { return Vec::new() };
    let begin = format!("vfio_pci:v0000{}d0000{}", vendor.to_ascii_uppercase(), device.to_ascii_uppercase());
    let lines = aliases.lines().filter_map(|line| line.strip_prefix("alias ")?.rsplit_once(' '));
    lines.filter(|(pattern, _)| pattern.starts_with(&begin)).map(|(_, module)| module.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::Directory;

    const TEXT: &str = "version = 1\n\
        [[device]]\nselect = \"0000:02:00.0\"\nexpect = \"15b3:101e\"\ndriver = \"vfio\"\nowner = \"qemu\"\nhold-siblings = true\n\
        [[device]]\nselect = \"mac=02:00:00:00:00:01\"\nexpect = \"8086:1572\"\ndriver = \"vfio\"\n\
        [[device]]\nselect = \"ee300000.sata\"\ndriver = \"vfio\"\n\
        [[device]]\nselect = \"0000:03:00.0\"\nexpect = \"8086:1572\"\ndriver = \"host\"\n\
        [[device]]\nselect = \"serial=A\\\\B\\\"C\"\nexpect = \"8086:0a54\"\nserial = \"S\"\ndriver = \"pci-stub\"\n";

    #[test]
    fn what_cannot_be_done_early_is_left_out_with_its_line() {
        let source = Source { file: "/etc/bindctl.toml", text: TEXT };
        let text = state(&source, &source.parse().unwrap());
        let again = Source { file: "early", text: &text };
        let early = again.parse().unwrap_or_else(|error| panic!("{error}:\n{text}"));
        let names: Vec<&str> = early.devices.iter().map(|entry| entry.select.get_ref().as_str()).collect();
        assert_eq!(names, ["0000:02:00.0", "ee300000.sata", "serial=A\\B\"C"]);
        assert!(early.devices[0].hold_siblings && early.devices[0].owner.is_none(), "no users are known that early");
        assert_eq!(early.devices[2].serial.as_ref().unwrap().get_ref(), "S");
        assert!(text.contains("# Line 9 is left") && text.contains("# Line 16 is left"), "{text}");
    }

    #[test]
    fn the_modules_are_those_of_the_kernel_that_the_image_is_for() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("lib/modules/6.12");
        std::fs::create_dir_all(&folder).unwrap();
        let aliases =
            "alias vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i* mlx5_vfio_pci\nalias pci:v000015B3d0000101E* mlx5_core\n";
        std::fs::write(folder.join("modules.alias"), aliases).unwrap();
        let face = Directory::open(dir.path()).unwrap();
        let desired = Source { file: "f", text: TEXT }.parse().unwrap();
        let of = |release: &str| modules(&face, &Inventory::default(), &desired, release);
        assert_eq!(of("6.12"), ["mlx5_vfio_pci", "pci-stub", "vfio-pci", "vfio-platform"]);
        assert_eq!(of("6.1"), ["pci-stub", "vfio-pci", "vfio-platform"]);
    }
}
