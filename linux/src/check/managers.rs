//! Other tools that think the device is theirs to move.

use crate::face::Face;
use crate::inventory::Device;
use crate::path;

/// Directory of libvirt's definitions of guests.
const DOMAINS: &str = "/etc/libvirt/qemu";

/// Other managers of the device, in words.
pub fn managers(face: &dyn Face, device: &Device) -> Vec<String> {
    let mut found = Vec::new();
    let names = match device.bus.as_str() {
        "pci" => vec![device.name.clone(), format!("pci-{}", device.name)],
        bus => vec![format!("{bus}-{}", device.name)],
    };
    for name in names {
        let path = format!("/etc/driverctl.d/{name}");
        if let Some(driver) = face.try_text(&path) {
            found.push(format!("driverctl sets its driver to {} ({path})", driver.trim()));
        }
    }
    if let Some(ids) = device.ids() {
        let parameter = "/sys/module/vfio_pci/parameters/ids";
        let line = face.try_text("/proc/cmdline").unwrap_or_default();
        let on_line = line
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("vfio-pci.ids=").or_else(|| word.strip_prefix("vfio_pci.ids=")));
        let names_it = |list: &str| list.split(',').any(|id| id.trim().to_ascii_lowercase().starts_with(&ids));
        for (path, list) in configured(face) {
            if names_it(&list) {
                found.push(format!("{path} names {ids}: every device of that id goes to vfio-pci when it is loaded"));
            }
        }
        if on_line.clone().any(names_it) || face.try_text(parameter).is_some_and(|list| names_it(&list)) {
            found.push(format!("vfio-pci.ids names {ids}: every device of that id goes to vfio-pci"));
        }
    }
    for file in face.names(DOMAINS).into_iter().filter(|name| path::extension(name) == Some("xml")) {
        let text = face.try_text(&format!("{DOMAINS}/{file}")).unwrap_or_default();
        if let Some(managed) = libvirt(&text, &device.name) {
            let domain = file.trim_end_matches(".xml");
            let how = if managed { "moves it by itself (managed='yes')" } else { "has it (managed='no')" };
            found.push(format!("the libvirt domain {domain} {how}"));
        }
    }
    found
}

/// The ids that the configuration of modprobe gives to vfio-pci, with the files. The first folder that has a file wins.
fn configured(face: &dyn Face) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for folder in ["/etc/modprobe.d", "/run/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"] {
        for file in face.names(folder).into_iter().filter(|name| path::extension(name) == Some("conf")) {
            if seen.contains(&file) {
                continue;
            }
            let path = format!("{folder}/{file}");
            seen.push(file);
            for line in face.try_text(&path).unwrap_or_default().lines() {
                let mut words = line.split_whitespace();
                let ours = words.next() == Some("options") && matches!(words.next(), Some("vfio-pci" | "vfio_pci"));
                let lists = words.filter(|_| ours).filter_map(|word| word.strip_prefix("ids="));
                found.extend(lists.map(|list| (path.clone(), list.to_owned())));
            }
        }
    }
    found
}

/// True when a domain has the PCI device, and manages it.
fn libvirt(xml: &str, name: &str) -> Option<bool> {
    let mut numbers = name.split([':', '.']).map(|part| u32::from_str_radix(part, 16).ok());
    let wanted = [numbers.next()??, numbers.next()??, numbers.next()??, numbers.next()??];
    for device in xml.split("<hostdev").skip(1) {
        let (opening, body) = device.split_once('>')?;
        let source = body.split("</source>").next().unwrap_or_default();
        let Some((_, address)) = source.split_once("<address") else { continue };
        let field = |key: &str| {
            let (_, rest) = address.split_once(&format!("{key}="))?;
            let value = rest.get(1..)?.split(['\'', '"']).next()?;
            u32::from_str_radix(value.trim_start_matches("0x"), 16).ok()
        };
        let found = [field("domain").unwrap_or(0), field("bus")?, field("slot")?, field("function").unwrap_or(0)];
        if found == wanted {
            return Some(opening.contains("managed='yes'") || opening.contains("managed=\"yes\""));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::libvirt;

    #[test]
    fn a_domain_with_the_device_is_found() {
        let xml = "<devices><hostdev mode='subsystem' type='pci' managed='yes'><source>\
                   <address domain='0x0000' bus='0x02' slot='0x1f' function='0x3'/></source></hostdev></devices>";
        assert_eq!(libvirt(xml, "0000:02:1f.3"), Some(true));
        assert_eq!(libvirt(xml, "0000:02:1f.2"), None);
        assert_eq!(libvirt(xml, "ee300000.sata"), None);
    }
}
