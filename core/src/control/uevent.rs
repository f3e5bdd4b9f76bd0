//! Variables of uevents, and synthetic uevents.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::error::{Refusal, truncate};
use crate::device::Device;
use crate::driver::Errno;
use crate::machine::Machine;

/// linux-6.12 `lib/kobject_uevent.c`, `kobject_actions`.
const ACTIONS: [&str; 8] = ["add", "remove", "change", "move", "online", "offline", "bind", "unbind"];

/// Node name without unit address, from a node's path.
fn of_name(path: &str) -> &str {
    let last = path.rsplit('/').next().unwrap_or_default();
    last.split('@').next().unwrap_or_default()
}

fn text(device: &Device, property: &str) -> Option<String> {
    let value = device.desc().property(property)?;
    let first = value.split(|b| *b == 0).next()?;
    core::str::from_utf8(first).ok().filter(|t| !t.is_empty()).map(String::from)
}

/// Modalias, which module loaders match (linux-6.12 `drivers/of/module.c`, `of_modalias`).
///
/// That of a PCI function has its numbers (linux-6.12 `drivers/pci/pci-sysfs.c`, `modalias_show`).
pub(super) fn modalias(machine: &Machine, device: &Device) -> String {
    if let Some(pci) = &device.desc().pci {
        let (subvendor, subdevice) = pci.subsystem.unwrap_or_default();
        let [_, base, sub, interface] = pci.class.to_be_bytes();
        let ids = format!("v{:08X}d{:08X}sv{subvendor:08X}sd{subdevice:08X}", pci.vendor, pci.device);
        return format!("pci:{ids}bc{base:02X}sc{sub:02X}i{interface:02X}");
    }
    if device.desc().compatible.is_empty() {
        return format!("platform:{}", device.name());
    }
    let node = machine.node_info(device.node());
    let kind = text(device, "device_type");
    let mut alias = format!("of:N{}T{}", of_name(&node.path), kind.as_deref().unwrap_or("(null)"));
    for c in &device.desc().compatible {
        alias.push('C');
        alias.extend(c.chars().map(|c| if c.is_whitespace() { '_' } else { c }));
    }
    alias
}

/// The variables of a device's uevents, one a line (linux-6.12 `drivers/base/core.c` `dev_uevent`, `drivers/of/device.c`
/// `of_device_uevent`, `drivers/base/platform.c` `platform_uevent`).
pub(super) fn variables(machine: &Machine, device: &Device) -> String {
    let driver = *device.visible_driver.lock();
    let mut lines: Vec<String> = driver.map(|d| format!("DRIVER={d}")).into_iter().collect();
    let compatible = &device.desc().compatible;
    if let Some(pci) = &device.desc().pci {
        // linux-6.12 `drivers/pci/pci-driver.c`, `pci_uevent`.
        let subsystem = pci.subsystem.unwrap_or_default();
        lines.extend([
            format!("PCI_CLASS={:04X}", pci.class),
            format!("PCI_ID={:04X}:{:04X}", pci.vendor, pci.device),
            format!("PCI_SUBSYS_ID={:04X}:{:04X}", subsystem.0, subsystem.1),
            format!("PCI_SLOT_NAME={}", device.name()),
        ]);
    } else if !compatible.is_empty() {
        let node = machine.node_info(device.node());
        lines.extend([format!("OF_NAME={}", of_name(&node.path)), format!("OF_FULLNAME={}", node.path)]);
        lines.extend(text(device, "device_type").map(|kind| format!("OF_TYPE={kind}")));
        lines.extend(compatible.iter().enumerate().map(|(n, c)| format!("OF_COMPATIBLE_{n}={c}")));
        lines.push(format!("OF_COMPATIBLE_N={}", compatible.len()));
        lines.extend(node.aliases.iter().enumerate().map(|(n, alias)| format!("OF_ALIAS_{n}={alias}")));
    }
    lines.push(format!("MODALIAS={}\n", modalias(machine, device)));
    lines.join("\n")
}

/// Uevent requested by a write to a `uevent` file.
pub(super) struct SyntheticUevent {
    pub(super) action: &'static str,
    pub(super) env: Vec<String>,
}

/// Reads `ACTION [UUID [KEY=VALUE ...]]` (linux-6.12 `lib/kobject_uevent.c`, `kobject_action_type` and
/// `kobject_action_args`; `Documentation/ABI/testing/sysfs-uevent`).
pub(super) fn parse(value: &str) -> Result<SyntheticUevent, Refusal> {
    let bad = |what: &str| Refusal::new(Errno::EINVAL, format!("{what}; write ACTION [UUID [KEY=VALUE ...]]"));
    let mut words = value.strip_suffix(['\n', '\0']).unwrap_or(value).split(' ');
    let action = words.next().unwrap_or_default();
    let Some(action) = ACTIONS.into_iter().find(|a| *a == action) else {
        let known = ACTIONS.join(", ");
        return Err(bad(&format!("{:?} is not an action (known: {known})", truncate(action, 64))));
    };
    let Some(uuid) = words.next() else {
        return Ok(SyntheticUevent { action, env: Vec::from(["SYNTH_UUID=0".into()]) });
    };
    if !is_uuid(uuid) {
        return Err(bad(&format!("{:?} is not a UUID", truncate(uuid, 64))));
    }
    let mut env = Vec::from([format!("SYNTH_UUID={uuid}")]);
    for word in words {
        let plain = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric());
        if !word.split_once('=').is_some_and(|(key, value)| plain(key) && plain(value)) {
            return Err(bad(&format!("{:?} is not KEY=VALUE of letters and digits", truncate(word, 64))));
        }
        env.push(format!("SYNTH_ARG_{word}"));
    }
    Ok(SyntheticUevent { action, env })
}

/// True when `text` has the form 8-4-4-4-12 of hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    let dash = |at| matches!(at, 8 | 13 | 18 | 23);
    text.len() == 36 && text.bytes().enumerate().all(|(at, b)| if dash(at) { b == b'-' } else { b.is_ascii_hexdigit() })
}

/// Emits the uevent. `path` is the absolute path of the object.
pub(super) fn send(machine: &Machine, device: Option<&Arc<Device>>, path: &str, asked: SyntheticUevent) {
    let path = path.strip_prefix("/sys").unwrap_or(path).into();
    machine.emit(device.map(|d| &d.desc().name), || crate::event::EventKind::Uevent {
        action: asked.action,
        path,
        env: asked.env,
    });
}
