//! Users of disks: mounts and swap, through partitions and any stack of LVM, md, dm, btrfs, ZFS and loop devices.

mod multipath;
mod users;

use std::collections::BTreeSet;

use super::below::{NO_DEVICES, number};
use super::{Below, Scene, signature};
use crate::face::Node;
use crate::inventory::Device;
use crate::obstacle::{Class, Findings, Obstacle};
use crate::path;

pub(super) fn find(scene: Scene<'_>, device: &Device, below: &Below, findings: &mut Findings) {
    let mut search = Search { scene, device, findings, seen: BTreeSet::new(), used: false };
    let disks: Vec<&str> = below.blocks.iter().filter(|b| b.node.is_some()).map(|b| b.path.as_str()).collect();
    for disk in &disks {
        let used_before = std::mem::replace(&mut search.used, false);
        search.walk(disk, &chain_of(disk), "");
        let used = std::mem::replace(&mut search.used, used_before);
        // Partitions are below their disk, and were walked with it.
        if !used {
            signature::warn(scene, disk, search.findings);
        }
    }
    for controller in &below.controllers {
        search.controller(controller, below);
        for (head, hidden) in multipath::heads(scene, controller) {
            search.multipath(controller, &head, &hidden);
        }
    }
}

struct Search<'a, 'b> {
    scene: Scene<'a>,
    device: &'a Device,
    findings: &'b mut Findings,
    /// Block devices that were walked, by path: a stack may join again further up.
    seen: BTreeSet<String>,
    /// True once a user was found.
    used: bool,
}

/// The way from a disk to what uses it, in names for a message: `nvme1n1p1, md127 (active raid1)`.
fn chain_of(path: &str) -> String {
    path::name(path).into()
}

impl Search<'_, '_> {
    /// Looks at one block device, its partitions and its holders. `chain` names the way to it, `also` is said behind
    /// each reason.
    fn walk(&mut self, block: &str, chain: &str, also: &str) {
        if !self.seen.insert(block.into()) {
            return;
        }
        let face = self.scene.face;
        let name = path::name(block);
        let node = number(face, block).map(|(major, minor)| Node { block: true, major, minor });
        let mut used = self.mounts(name, node, chain, also);
        used |= self.parts_of_others(name, node, chain, also);
        used |= self.swaps(name, node, chain, also);
        used |= self.btrfs(name, node, chain, also);
        used |= self.zfs(node, chain, also);
        used |= self.exports(name, node, chain, also);
        used |= self.descriptors(name, node, chain, also);
        for holder in face.names(&format!("{block}/holders")) {
            used |= self.holder(block, &holder, chain, also);
        }
        for entry in face.list(block).unwrap_or_default() {
            let partition = format!("{block}/{}", entry.name);
            let possible = entry.dir && !NO_DEVICES.contains(&entry.name.as_str());
            if possible && face.exists(&format!("{partition}/partition")) {
                let before = std::mem::replace(&mut self.used, false);
                self.walk(&partition, &chain.replace(name, &entry.name), also);
                used |= self.used;
                self.used |= before;
            }
        }
        if !used
            && let Some(node) = node
            && self.scene.face.claimed(&path::node(name), node) == Some(true)
        {
            self.report(
                "claimed",
                format!("{chain} is opened exclusively by a user that neither sysfs nor proc names{also}"),
                format!("find it: fuser -v {}; it may be a file system mounted in another namespace", path::node(name)),
            );
            used = true;
        }
        self.used |= used;
    }

    fn report(&mut self, kind: &'static str, what: String, remedy: String) {
        self.findings.obstacle(Obstacle::new(&self.device.label(), Class::InUse, kind, what, remedy));
    }

    /// True when `path` names the block device.
    fn names(&self, path: &str, name: &str, node: Option<Node>) -> bool {
        if !path.starts_with("/dev/") {
            return false;
        }
        match (self.scene.system.node(self.scene.face, path), node) {
            (Some(found), Some(node)) => found == node,
            _ => path == path::node(name) || self.mapper(name).is_some_and(|mapper| path == mapper),
        }
    }

    /// The name in `/dev/mapper` of a dm device.
    fn mapper(&self, name: &str) -> Option<String> {
        let name = self.scene.face.try_text(&format!("/sys/class/block/{name}/dm/name"))?;
        Some(format!("/dev/mapper/{name}"))
    }

    /// A device that stands on this one: it is used even when nothing is mounted from it.
    fn holder(&mut self, block: &str, holder: &str, chain: &str, also: &str) -> bool {
        let face = self.scene.face;
        let path = match face.resolve(&format!("{block}/holders/{holder}")) {
            Ok(Some(path)) => path,
            // Not a link: the name still identifies it.
            Ok(None) => format!("/sys/class/block/{holder}"),
            Err(error) => {
                self.findings.warn(error.to_string());
                return true;
            }
        };
        let (label, remedy) = self.stacked(&path, holder);
        let chain = format!("{chain}, {label}");
        let reasons = self.findings.obstacles.len();
        if !self.seen.contains(&path) {
            let before = std::mem::replace(&mut self.used, false);
            self.walk(&path, &chain, also);
            self.used |= before;
        }
        if self.findings.obstacles.len() == reasons {
            self.report("held", format!("{chain}, which is mounted nowhere but holds its member{also}"), remedy);
        }
        true
    }

    /// A name for a stacked device, and what takes it down.
    fn stacked(&self, path: &str, name: &str) -> (String, String) {
        let face = self.scene.face;
        if let Some(mapped) = face.try_text(&format!("{path}/dm/name")) {
            let uuid = face.try_text(&format!("{path}/dm/uuid")).unwrap_or_default();
            let remedy = match uuid.split('-').next().unwrap_or_default() {
                "LVM" => format!("unmount what is on it, then lvchange -an /dev/mapper/{mapped}"),
                "CRYPT" => format!("unmount what is on it, then cryptsetup close {mapped}"),
                "mpath" => format!("unmount what is on it, then multipath -f {mapped}"),
                _ => format!("unmount what is on it, then dmsetup remove {mapped}"),
            };
            return (format!("{name} ({mapped})"), remedy);
        }
        if face.exists(&format!("{path}/md")) {
            let level = face.try_text(&format!("{path}/md/level")).unwrap_or_default();
            let state = mdstat(&face.try_text("/proc/mdstat").unwrap_or_default(), name);
            let state = state.unwrap_or_else(|| {
                let state = face.try_text(&format!("{path}/md/array_state")).unwrap_or_default();
                format!("{state} {level}")
            });
            return (
                format!("{name} ({})", state.trim()),
                format!("unmount what is on it, then mdadm --stop /dev/{name}"),
            );
        }
        (name.into(), format!("stop {name}, which stands on it"))
    }
}

/// `active raid1` from a line `md127 : active raid1 nvme1n1p1[0]`.
fn mdstat(text: &str, name: &str) -> Option<String> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" : "))?;
    let words = rest.split_whitespace().take_while(|word| !word.contains('['));
    Some(words.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mdstat_names_state_and_level() {
        let text = "Personalities : [raid1]\nmd127 : active raid1 nvme1n1p1[0]\nmd1 : inactive sda[0](S)\n";
        assert_eq!(mdstat(text, "md127").as_deref(), Some("active raid1"));
        assert_eq!(mdstat(text, "md1").as_deref(), Some("inactive"));
        assert_eq!(mdstat(text, "md12"), None);
    }
}
