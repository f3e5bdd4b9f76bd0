//! Character devices below a device that processes have open: input, sound, graphics, serial ports, SCSI generic, USB.

use super::{Below, Scene};
use crate::face::Node;
use crate::inventory::Device;
use crate::obstacle::{Class, Findings, Obstacle};
use crate::path;

pub(super) fn find(scene: Scene<'_>, device: &Device, below: &Below, claimed: &[Node], findings: &mut Findings) {
    for (path, node) in below.characters.iter().filter(|(_, node)| !claimed.contains(node)) {
        if path.contains("/vfio-dev/") {
            continue;
        }
        let open = &scene.system.open;
        // Its name matters when a process has it open, or something of which only the name is known.
        if !open.iter().any(|open| open.node.is_none_or(|n| n == *node)) {
            continue;
        }
        let name = node_name(scene, path);
        let mut holders: Vec<String> = Vec::new();
        for open in open {
            let text = open.text.trim_end_matches(" (deleted)");
            if open.node.map_or_else(|| text == name, |n| n == *node) {
                let who = scene.system.who(open.pid);
                if !holders.contains(&who) {
                    holders.push(who);
                }
            }
        }
        for who in holders {
            findings.obstacle(Obstacle::new(
                &device.label(),
                Class::InUse,
                "open",
                format!("{name} is held by {who}"),
                format!("end {who}, or have it close {name}"),
            ));
        }
    }
}

/// The node in `/dev`, as the kernel names it in `uevent`, else by what is known of its class.
fn node_name(scene: Scene<'_>, path: &str) -> String {
    let uevent = scene.face.try_text(&format!("{path}/uevent")).unwrap_or_default();
    if let Some(name) = uevent.lines().find_map(|line| line.strip_prefix("DEVNAME=")) {
        return format!("/dev/{name}");
    }
    let name = path::name(path);
    let folder =
        ["input", "snd", "dri", "infiniband"].iter().find(|folder| scene.face.exists(&format!("/dev/{folder}/{name}")));
    folder.map_or_else(|| path::node(name), |folder| format!("/dev/{folder}/{name}"))
}
