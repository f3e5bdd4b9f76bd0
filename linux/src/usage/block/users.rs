//! Users of one block device: mounts, swap, pools of file systems, exports of the kernel's, and open descriptors.

use super::Search;
use crate::face::Node;
use crate::path;
use crate::system::Mount;
use crate::usage::below::{Below, Controller, number};
use crate::usage::signature;

impl Search<'_, '_> {
    pub(super) fn mounts(&mut self, name: &str, node: Option<Node>, chain: &str, also: &str) -> bool {
        let numbers = node.map(|n| (n.major, n.minor));
        let mounts = self.scene.system.mounts.iter();
        // All members of a btrfs that sysfs knows are named with it.
        let known = self.scene.system.btrfs.iter().any(|fs| fs.members.iter().any(|member| member == name));
        let found: Vec<_> = mounts
            .filter(|m| Some(m.number) == numbers || (!(known && m.kind == "btrfs") && self.is_source(m, name, node)))
            .cloned()
            .collect();
        for mount in &found {
            self.mounted(mount, chain, also);
        }
        !found.is_empty()
    }

    /// True when the file system was mounted from this block device. A bcachefs names all of its members.
    fn is_source(&self, mount: &Mount, name: &str, node: Option<Node>) -> bool {
        match mount.kind.as_str() {
            "bcachefs" => mount.source.split(':').any(|member| self.names(member, name, node)),
            _ => self.names(&mount.source, name, node),
        }
    }

    /// File systems of other disks that keep a log or real-time data on this one.
    pub(super) fn parts_of_others(&mut self, name: &str, node: Option<Node>, chain: &str, also: &str) -> bool {
        const PARTS: [(&str, &str); 3] =
            [("logdev=", "log device"), ("jdev=", "log device"), ("rtdev=", "real-time device")];
        let mut found = Vec::new();
        for mount in &self.scene.system.mounts {
            for option in mount.options.split(',') {
                let part = PARTS.iter().find_map(|(key, what)| Some((option.strip_prefix(key)?, *what)));
                if let Some((path, what)) = part
                    && self.names(path, name, node)
                {
                    found.push((mount.point.clone(), mount.kind.clone(), what));
                }
            }
        }
        for (point, kind, what) in &found {
            let what = format!("{chain} is the {what} of the file system on {point} ({kind}){also}");
            self.report("mounted", what, format!("umount {point}"));
        }
        !found.is_empty()
    }

    fn mounted(&mut self, mount: &Mount, chain: &str, also: &str) {
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

    /// Exports of a controller's own node, with all of its namespaces.
    pub(super) fn controller(&mut self, controller: &Controller, below: &Below) {
        let name = path::name(&controller.path);
        let node = below.characters.iter().find(|(path, _)| path == &controller.path).map(|(_, node)| *node);
        for export in &self.scene.system.exports {
            let found = self.scene.system.node(self.scene.face, &export.path);
            if export.path == path::node(name) || found.is_some() && found == node {
                self.report("exported", format!("{name} is used by {}", export.user), export.remedy.clone());
            }
        }
    }

    pub(super) fn swaps(&mut self, name: &str, node: Option<Node>, chain: &str, also: &str) -> bool {
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
        best.is_some_and(|m| node.is_some_and(|n| m.number == (n.major, n.minor)) || self.is_source(m, name, node))
    }

    pub(super) fn btrfs(&mut self, name: &str, node: Option<Node>, chain: &str, also: &str) -> bool {
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

    pub(super) fn zfs(&mut self, node: Option<Node>, chain: &str, also: &str) -> bool {
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

    pub(super) fn exports(&mut self, name: &str, node: Option<Node>, chain: &str, also: &str) -> bool {
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

    pub(super) fn descriptors(&mut self, name: &str, node: Option<Node>, chain: &str, also: &str) -> bool {
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
}
