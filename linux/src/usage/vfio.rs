//! Users of devices that are on VFIO: holders of the group's node, of the device's own node, of the device itself.

use super::below::number;
use super::{Below, Scene};
use crate::face::{Kind, Node};
use crate::inventory::Device;
use crate::obstacle::{Class, Findings, Obstacle};
use crate::path;

/// A node that leads to a device on VFIO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VfioNode {
    /// The path in `/dev`.
    pub path: String,
    /// The number that the kernel has for it.
    pub number: Node,
    /// The number that the node has, `None` when there is no node.
    pub actual: Option<Node>,
}

/// A process that holds a device through VFIO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// By what it holds it.
    pub by: String,
}

/// The nodes of a device on VFIO: the group's, and the device's own where the kernel has them.
pub fn nodes(scene: Scene<'_>, device: &Device) -> Vec<VfioNode> {
    let mut places = Vec::new();
    if let Some(group) = &device.group {
        for name in [group.clone(), format!("noiommu-{group}")] {
            places.push((format!("/dev/vfio/{name}"), class_number(scene, &name)));
        }
    }
    let own = device.attribute("vfio-dev");
    for name in scene.face.names(&own) {
        places.push((format!("/dev/vfio/devices/{name}"), number(scene.face, &format!("{own}/{name}"))));
    }
    let mut found = Vec::new();
    for (path, number) in places {
        let Some((major, minor)) = number else { continue };
        let actual = match scene.face.kind(&path) {
            Ok(Kind::Node(node)) => Some(node),
            _ => None,
        };
        found.push(VfioNode { path, number: Node { block: false, major, minor }, actual });
    }
    found
}

fn class_number(scene: Scene<'_>, name: &str) -> Option<(u32, u32)> {
    let link = format!("/sys/class/vfio/{name}");
    let path = scene.face.resolve(&link).ok().flatten().unwrap_or(link);
    number(scene.face, &path)
}

/// Everybody who holds the device, or its whole group, through VFIO.
pub fn holders(scene: Scene<'_>, device: &Device) -> Vec<Holder> {
    let nodes = nodes(scene, device);
    let mut found: Vec<Holder> = Vec::new();
    for open in &scene.system.open {
        let by = if let Some(node) = open.node.and_then(|n| nodes.iter().find(|known| known.number == n)) {
            Some(format!("{} (fd {})", node.path, open.fd))
        } else if open.node.is_none() && device.group.as_ref().is_some_and(|g| open.text == format!("/dev/vfio/{g}")) {
            Some(format!("{} (fd {})", open.text, open.fd))
        } else {
            let path = open.syspath.as_deref().filter(|path| *path == device.path);
            path.map(|path| format!("the device itself (fd {}, fdinfo: {path})", open.fd))
        };
        if let Some(by) = by {
            match found.iter_mut().find(|h| h.pid == open.pid) {
                Some(holder) => holder.by = format!("{}, {by}", holder.by),
                None => found.push(Holder { pid: open.pid, by }),
            }
        }
    }
    found
}

/// Nodes whose number is not the kernel's, each in words: opening or giving away such a node means another device.
pub fn node_mismatches(scene: Scene<'_>, device: &Device) -> Vec<String> {
    let mut found = Vec::new();
    for node in nodes(scene, device) {
        let Some(actual) = node.actual.filter(|actual| *actual != node.number) else { continue };
        let owner = scene.inventory.devices.iter().find_map(|other| {
            let named = nodes(scene, other).into_iter().find(|n| n.number == actual)?;
            let holders = holders(scene, other);
            let held: Vec<String> =
                holders.iter().map(|h| scene.system.who(h.pid).replace(" (", ", ").replace(')', "")).collect();
            let held = if held.is_empty() { String::new() } else { format!(", held by {}", held.join("; ")) };
            let group = other.group.as_deref().map_or(String::new(), |g| format!("group {g}, "));
            Some(format!(" ({actual} is {group}{} of {}{held})", named.path, other.label()))
        });
        let owner = owner.unwrap_or_default();
        found.push(format!("{} is {actual}, the kernel says {}{owner}", node.path, node.number));
    }
    found
}

/// Reports holders of mediated devices, and of functions behind the device: they are removed with its driver.
pub(super) fn find_below(scene: Scene<'_>, device: &Device, below: &Below, findings: &mut Findings) {
    for path in &below.grouped {
        let name = path::name(path).to_owned();
        let group = scene.face.link_name(&format!("{path}/iommu_group"));
        let part = Device { name, path: path.clone(), group, ..Device::default() };
        for holder in holders(scene, &part) {
            let who = scene.system.who(holder.pid);
            findings.obstacle(Obstacle::new(
                &device.label(),
                Class::InUse,
                "vfio",
                format!("{}, below it, is held by {who}, by {}", part.name, holder.by),
                format!("end {who}, or have it give {} back", part.name),
            ));
        }
    }
}

pub(super) fn find(scene: Scene<'_>, device: &Device, findings: &mut Findings) {
    if !device.is_on_vfio() {
        return;
    }
    let label = device.label();
    let held = holders(scene, device);
    for holder in &held {
        let who = scene.system.who(holder.pid);
        findings.obstacle(Obstacle::new(
            &label,
            Class::InUse,
            "vfio",
            format!("{label} is held by {who}, by {}", holder.by),
            format!("end {who}, or have it give the device back"),
        ));
    }
    if !held.is_empty() {
        return;
    }
    // A group's node can be open once: a process that proc does not show has it.
    for node in nodes(scene, device).iter().filter(|node| !node.path.starts_with("/dev/vfio/devices/")) {
        if scene.face.claimed(&node.path, node.number) == Some(true) {
            findings.obstacle(Obstacle::new(
                &label,
                Class::InUse,
                "vfio",
                format!("{} is open: the kernel answers EBUSY, and proc shows no holder", node.path),
                format!("find it, also outside of this container: fuser -v {}", node.path),
            ));
        }
    }
    // Without the path in fdinfo, a descriptor of a device does not say of which: its process's group would.
    let anonymous = scene.system.open.iter().filter(|o| o.node.is_none() && o.syspath.is_none());
    let explained = |pid: u32| {
        let given = scene.inventory.devices.iter().filter(|other| other.is_on_vfio());
        given.flat_map(|other| holders(scene, other)).any(|holder| holder.pid == pid)
    };
    for open in anonymous.filter(|o| o.text.contains("vfio-device")) {
        if !explained(open.pid) {
            let who = scene.system.who(open.pid);
            findings.obstacle(Obstacle::new(
                &label,
                Class::CannotTell,
                "vfio",
                format!("{who} holds a VFIO device, and the kernel does not say which one"),
                format!("end {who}, or have it give its device back"),
            ));
        }
    }
    let driver = device.driver.as_deref().unwrap_or_default();
    let module = scene.face.link_name(&format!("{}/module", device.driver_path(driver)));
    let count = module.and_then(|m| scene.face.try_text(&format!("/sys/module/{m}/refcnt")));
    let count: u32 = count.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    if count == 0 {
        return;
    }
    findings.remark(format!("{driver} is in use {count} times; no holder of {label} was found"));
    for (pid, why) in hidden(scene, &explained) {
        let who = scene.system.who(pid);
        findings.obstacle(Obstacle::new(
            &label,
            Class::CannotTell,
            "vfio",
            format!("{driver} is in use {count} times, and {who} {why}"),
            format!("end {who} and wait until it is gone; if it cannot be ended, the machine must be rebooted"),
        ));
    }
}

/// Processes that may hold a device without a descriptor that shows it.
fn hidden(scene: Scene<'_>, explained: &dyn Fn(u32) -> bool) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for process in scene.system.processes.iter().filter(|p| !explained(p.pid)) {
        let maps = || scene.face.try_text(&format!("/proc/{}/maps", process.pid)).unwrap_or_default();
        let served = process.comm.strip_prefix("vhost-").and_then(|pid| pid.parse::<u32>().ok());
        let why = match (served, process.state) {
            (Some(served), _) if scene.system.processes.iter().all(|p| p.pid != served) => {
                format!("still works for process {served}, which has ended")
            }
            (None, 'D') => "waits in the kernel (state D): what it holds cannot be seen".into(),
            (None, 'Z') => "has ended and is not gone (state Z): what it holds cannot be seen".into(),
            (None, _) if maps().contains("[vfio-device]") => "has memory of a VFIO device mapped".into(),
            _ => continue,
        };
        found.push((process.pid, why));
    }
    found
}
