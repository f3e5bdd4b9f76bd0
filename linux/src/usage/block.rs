//! Users of disks: mounts and swap, through partitions and any stack of LVM, md, dm, btrfs, ZFS and loop devices.

use std::collections::BTreeSet;

use super::below::{Controller, NO_DEVICES, number};
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
        for (head, hidden) in heads(scene, controller) {
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
            && self.scene.face.claimed(&format!("/dev/{name}"), node) == Some(true)
        {
            self.report(
                "claimed",
                format!("{chain} is opened exclusively by a user that neither sysfs nor proc names{also}"),
                format!("find it: fuser -v /dev/{name}; it may be a file system mounted in another namespace"),
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
            _ => path == format!("/dev/{name}") || self.mapper(name).is_some_and(|mapper| path == mapper),
        }
    }

    /// The name in `/dev/mapper` of a dm device.
    fn mapper(&self, name: &str) -> Option<String> {
        let name = self.scene.face.try_text(&format!("/sys/class/block/{name}/dm/name"))?;
        Some(format!("/dev/mapper/{name}"))
    }

    fn mounts(&mut self, name: &str, node: Option<Node>, chain: &str, also: &str) -> bool {
        let numbers = node.map(|n| (n.major, n.minor));
        let mounts = self.scene.system.mounts.iter();
        let found: Vec<_> = mounts
            .filter(|m| Some(m.number) == numbers || (m.kind != "btrfs" && self.names(&m.source, name, node)))
            .cloned()
            .collect();
        for mount in &found {
            self.mounted(mount, chain, also);
        }
        !found.is_empty()
    }

    fn mounted(&mut self, mount: &crate::system::Mount, chain: &str, also: &str) {
        let point = &mount.point;
        let within = mount
            .process
            .map_or(String::new(), |pid| format!(" in the mount namespace of {}", self.scene.system.who(pid)));
        let (kind, what, remedy) = if point == "/" && mount.process.is_none() {
            let what = format!("{chain} is mounted on / ({}): it is the root file system{also}", mount.kind);
            ("root", what, "none while this system runs from it".to_owned())
        } else {
            let what = format!("{chain} is mounted on {point} ({}){within}{also}", mount.kind);
            let remedy = match mount.process {
                None => format!("umount {point}"),
                Some(pid) => format!("nsenter -t {pid} -m umount {point}"),
            };
            ("mounted", what, remedy)
        };
        self.report(kind, what, remedy);
    }

    fn swaps(&mut self, name: &str, node: Option<Node>, chain: &str, also: &str) -> bool {
        let mut used = false;
        for swap in &self.scene.system.swaps {
            if swap.partition && self.names(&swap.path, name, node) {
                self.report(
                    "swap",
                    format!("{chain} is swap space ({}){also}", swap.path),
                    format!("swapoff {}", swap.path),
                );
                used = true;
            } else if !swap.partition && self.holds_file(&swap.path, name, node) {
                let what = format!("{chain} holds the swap file {}{also}", swap.path);
                self.report("swap", what, format!("swapoff {}", swap.path));
                used = true;
            }
        }
        used
    }

    /// True when the file is on a file system of this block device.
    fn holds_file(&self, file: &str, name: &str, node: Option<Node>) -> bool {
        let mounts = self.scene.system.mounts.iter().filter(|m| m.process.is_none());
        // The last of the longest is the one on top.
        let best = mounts.filter(|m| m.point == "/" || path::within(file, &m.point)).max_by_key(|m| m.point.len());
        best.is_some_and(|m| node.is_some_and(|n| m.number == (n.major, n.minor)) || self.names(&m.source, name, node))
    }

    fn btrfs(&mut self, name: &str, node: Option<Node>, chain: &str, also: &str) -> bool {
        let Some(file_system) = self.scene.system.btrfs.iter().find(|fs| fs.members.iter().any(|m| m == name)) else {
            // Without /sys/fs/btrfs, only the member that it was mounted by shows.
            let mounts = self.scene.system.mounts.iter();
            let found: Vec<_> =
                mounts.filter(|m| m.kind == "btrfs" && self.names(&m.source, name, node)).cloned().collect();
            for mount in &found {
                self.mounted(mount, chain, also);
            }
            return !found.is_empty();
        };
        let members = &file_system.members;
        let of_this = |source: &str| {
            members.iter().any(|member| {
                let number = number(self.scene.face, &format!("/sys/class/block/{member}"));
                let node = number.map(|(major, minor)| Node { block: true, major, minor });
                self.names(source, member, node)
            })
        };
        let uuid = &file_system.uuid;
        let others: Vec<&str> = members.iter().filter(|m| *m != name).map(String::as_str).collect();
        let with = if others.is_empty() { String::new() } else { format!(" together with {}", others.join(", ")) };
        let chain = format!("{chain}, a member of btrfs {uuid}{with},");
        let mounts = self.scene.system.mounts.iter().filter(|m| m.kind == "btrfs" && of_this(&m.source));
        let found: Vec<_> = mounts.cloned().collect();
        for mount in &found {
            self.mounted(mount, &chain, also);
        }
        if found.is_empty() {
            let what =
                format!("{chain} is in use: the file system is mounted where this process does not see it{also}");
            self.report("btrfs", what, format!("unmount the btrfs file system {uuid}"));
        }
        true
    }

    fn zfs(&mut self, node: Option<Node>, chain: &str, also: &str) -> bool {
        let Some(node) = node else { return false };
        let known = signature::of(self.scene.face, node);
        let Some(pool) = known.filter(|s| s.kind == "zfs_member").and_then(|s| s.label) else { return false };
        if !self.scene.system.zfs_pools.contains(&pool) {
            return false;
        }
        let mounts = self.scene.system.mounts.iter().filter(|m| {
            m.kind == "zfs" && (m.source == pool || m.source.strip_prefix(&pool).is_some_and(|r| r.starts_with('/')))
        });
        let points: Vec<&str> = mounts.map(|m| m.point.as_str()).collect();
        let mounted =
            if points.is_empty() { "mounted nowhere".into() } else { format!("mounted on {}", points.join(", ")) };
        let root = if points.contains(&"/") { ": it holds the root file system" } else { "" };
        let what = format!("{chain} is a member of the imported ZFS pool {pool}, {mounted}{root}{also}");
        self.report("zfs", what, format!("zpool export {pool}"));
        true
    }

    fn exports(&mut self, name: &str, node: Option<Node>, chain: &str, also: &str) -> bool {
        let mut used = false;
        for export in &self.scene.system.exports {
            let direct = self.names(&export.path, name, node);
            if direct || (export.path.starts_with('/') && self.holds_file(&export.path, name, node)) {
                let what = if direct { chain.to_owned() } else { format!("{chain}, by the file {},", export.path) };
                self.report("export", format!("{what} is used by {}{also}", export.user), export.remedy.clone());
                used = true;
                if let Some(path) = export.user.strip_prefix("/dev/loop") {
                    let block = format!("/sys/devices/virtual/block/loop{path}");
                    if self.scene.face.exists(&block) {
                        self.walk(&block, &format!("{chain}, loop{path}"), also);
                    }
                }
            }
        }
        used
    }

    fn descriptors(&mut self, name: &str, node: Option<Node>, chain: &str, also: &str) -> bool {
        let mut holders: Vec<String> = Vec::new();
        for open in &self.scene.system.open {
            let text = open.text.trim_end_matches(" (deleted)");
            if open.node.map_or_else(|| self.names(text, name, node), |n| Some(n) == node) {
                let who = self.scene.system.who(open.pid);
                if !holders.contains(&who) {
                    holders.push(who);
                }
            }
        }
        for who in &holders {
            let what = format!("{chain} is open: {who} has /dev/{name}{also}");
            self.report("open", what, format!("end {who}, or have it close /dev/{name}"));
        }
        !holders.is_empty()
    }

    /// A device that stands on this one: it is used even when nothing is mounted from it.
    fn holder(&mut self, block: &str, holder: &str, chain: &str, also: &str) -> bool {
        let face = self.scene.face;
        let path = match face.resolve(&format!("{block}/holders/{holder}")) {
            Ok(Some(path)) => path,
            // Not a link: the name still tells.
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

    /// A disk that is reached through several controllers.
    fn multipath(&mut self, controller: &Controller, head: &str, hidden: &str) {
        let others = other_paths(self.scene, controller, head);
        let also = if others.is_empty() {
            String::new()
        } else {
            format!("; the same namespace is also reached through {}", others.join(", "))
        };
        let name = path::name(head);
        let before = std::mem::replace(&mut self.used, false);
        self.walk(head, name, &also);
        let used = std::mem::replace(&mut self.used, before);
        if !used && !others.is_empty() {
            self.findings.warn(format!(
                "{name} ({} here) is also reached through {}: the host keeps that path",
                path::name(hidden),
                others.join(", ")
            ));
        }
        if !used {
            signature::warn(self.scene, head, self.findings);
        }
        self.used |= used;
    }
}

/// `active raid1` from a line `md127 : active raid1 nvme1n1p1[0]`.
fn mdstat(text: &str, name: &str) -> Option<String> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" : "))?;
    let words = rest.split_whitespace().take_while(|word| !word.contains('['));
    Some(words.collect::<Vec<_>>().join(" "))
}

/// The multipath disks that a controller leads to, each with the hidden path below the controller.
///
/// A hidden path `nvme2c4n1` belongs to subsystem instance 2, so its disk is `nvme2n1`. It stands below the subsystem.
fn heads(scene: Scene<'_>, controller: &Controller) -> Vec<(String, String)> {
    let mut heads = Vec::new();
    for hidden in &controller.hidden {
        let Some(name) = head_name(path::name(hidden)) else { continue };
        let mut candidates: Vec<String> = subsystems(scene, controller).map(|s| format!("{s}/{name}")).collect();
        candidates.extend(scene.face.resolve(&format!("/sys/block/{name}")).ok().flatten());
        if let Some(head) = candidates.into_iter().find(|path| scene.face.exists(path)) {
            heads.push((head, hidden.clone()));
        }
    }
    heads
}

fn head_name(hidden: &str) -> Option<String> {
    let rest = hidden.strip_prefix("nvme")?;
    let (subsystem, rest) = rest.split_once('c')?;
    let (_, namespace) = rest.split_once('n')?;
    Some(format!("nvme{subsystem}n{namespace}"))
}

/// The subsystems that have a link to the controller.
fn subsystems<'a>(scene: Scene<'a>, controller: &'a Controller) -> impl Iterator<Item = String> + 'a {
    const CLASS: &str = "/sys/class/nvme-subsystem";
    let name = path::name(&controller.path);
    scene.face.names(CLASS).into_iter().filter_map(move |subsystem| {
        let path = scene.face.resolve(&format!("{CLASS}/{subsystem}")).ok().flatten()?;
        let target = scene.face.resolve(&format!("{path}/{name}")).ok().flatten()?;
        (target == controller.path).then_some(path)
    })
}

/// The devices of the other controllers that lead to the same disk.
fn other_paths(scene: Scene<'_>, controller: &Controller, head: &str) -> Vec<String> {
    let mut others = Vec::new();
    let own = scene.inventory.above(&controller.path).map(|d| d.path.clone());
    for subsystem in subsystems(scene, controller) {
        for entry in scene.face.names(&subsystem) {
            let Some(other) = scene.face.resolve(&format!("{subsystem}/{entry}")).ok().flatten() else { continue };
            let leads =
                scene.face.names(&other).iter().any(|name| head_name(name).as_deref() == Some(path::name(head)));
            if other == controller.path || !leads {
                continue;
            }
            let label = match scene.inventory.above(&other) {
                Some(device) if Some(&device.path) == own.as_ref() => continue,
                Some(device) => device.label(),
                None => format!("{} (not on a local bus)", path::name(&other)),
            };
            if !others.contains(&label) {
                others.push(label);
            }
        }
    }
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_of_a_hidden_path_is_numbered_by_its_subsystem() {
        assert_eq!(head_name("nvme2c4n1").as_deref(), Some("nvme2n1"));
        assert_eq!(head_name("nvme0n1"), None);
        assert_eq!(head_name("cntlid"), None);
    }

    #[test]
    fn mdstat_names_state_and_level() {
        let text = "Personalities : [raid1]\nmd127 : active raid1 nvme1n1p1[0]\nmd1 : inactive sda[0](S)\n";
        assert_eq!(mdstat(text, "md127").as_deref(), Some("active raid1"));
        assert_eq!(mdstat(text, "md1").as_deref(), Some("inactive"));
        assert_eq!(mdstat(text, "md12"), None);
    }
}
