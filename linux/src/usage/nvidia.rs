//! Nodes of NVIDIA's driver. They are not below the device, and in no directory of sysfs.

use super::Scene;
use crate::inventory::Device;
use crate::obstacle::{Class, Findings, Obstacle};
use crate::path;

/// The driver's name.
const DRIVER: &str = "nvidia";

pub(super) fn find(scene: Scene<'_>, device: &Device, findings: &mut Findings) {
    if device.driver.as_deref() != Some(DRIVER) {
        return;
    }
    let own = minor(scene, device);
    let mut reported = Vec::new();
    for open in &scene.system.open {
        let node = open.text.trim_end_matches(" (deleted)");
        let Some(number) = numbered(node).filter(|number| own.is_none_or(|own| own == *number)) else { continue };
        let who = scene.system.who(open.pid);
        if reported.contains(&(number, open.pid)) {
            continue;
        }
        reported.push((number, open.pid));
        let label = device.label();
        let remedy = format!("end {who}; nvidia-smi -i {label} -pm 0 ends the persistence mode");
        let (class, what) = if own.is_some() {
            (Class::InUse, format!("{node} is held by {who}"))
        } else {
            let what = format!("{who} has {node} open, and the driver does not say whether that is {label}");
            (Class::CannotTell, what)
        };
        findings.obstacle(Obstacle::new(&label, class, "open", what, remedy));
    }
}

/// The minor number of the device's node, as the driver has it in proc.
fn minor(scene: Scene<'_>, device: &Device) -> Option<u32> {
    let text = scene.face.try_text(&format!("/proc/driver/nvidia/gpus/{}/information", device.name))?;
    text.lines().find_map(|line| line.strip_prefix("Device Minor:"))?.trim().parse().ok()
}

/// The number in the name of a device's node: 0 of `/dev/nvidia0`. Other nodes of the driver's belong to all devices.
fn numbered(node: &str) -> Option<u32> {
    path::name(node).strip_prefix(DRIVER)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::numbered;

    #[test]
    fn only_nodes_of_one_device_have_a_number() {
        assert_eq!(numbered("/run/nvidia/driver/dev/nvidia12"), Some(12));
        for other in ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia", "/dev/null"] {
            assert_eq!(numbered(other), None, "{other}");
        }
    }
}
