//! Users of devices on the host, read once: mounts, swap, processes, routes, storage stacks.

mod kernel_users;
mod mounts;
mod network;
mod process;

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;

pub use kernel_users::{Btrfs, Export};
pub use mounts::{Mount, Swap};
pub use network::{Address, Network, OPEN_VSWITCH, Route};
pub use process::{NetNamespace, Open, Process};

use crate::face::{Face, Kind, Node};

/// A snapshot of the host's users of devices.
#[derive(Debug, Default)]
pub struct System {
    /// Mounts of all mount namespaces that a process shows.
    pub mounts: Vec<Mount>,
    /// Swap areas.
    pub swaps: Vec<Swap>,
    /// Mounted btrfs file systems with their members.
    pub btrfs: Vec<Btrfs>,
    /// Imported ZFS pools.
    pub zfs_pools: Vec<String>,
    /// Block devices that the kernel itself serves to others (NVMe over Fabrics, LIO, loop devices over block devices).
    pub exports: Vec<Export>,
    /// Routes, addresses and stacked interfaces.
    pub network: Network,
    /// Processes.
    pub processes: Vec<Process>,
    /// Open devices and VFIO descriptors of all processes.
    pub open: Vec<Open>,
    /// Network namespaces other than the reader's, with their interfaces.
    pub namespaces: Vec<NetNamespace>,
    /// Consoles of the kernel, by name and number.
    pub consoles: Vec<(String, Node)>,
    /// True when descriptors of some processes could not be read.
    pub blind: bool,
    nodes: RefCell<BTreeMap<String, Option<Node>>>,
    framebuffers: OnceCell<Vec<(String, String)>>,
}

impl System {
    /// Reads the snapshot.
    pub fn read(face: &dyn Face) -> Self {
        let mut system = Self::default();
        process::read(face, &mut system);
        mounts::read(face, &mut system);
        kernel_users::read(face, &mut system);
        system.network = Network::read(face);
        system.consoles = consoles(&face.try_text("/proc/consoles").unwrap_or_default());
        system
    }

    /// The number of the node at `path` in `/dev`, links followed. Remembered: the same path is asked for often.
    pub fn node(&self, face: &dyn Face, path: &str) -> Option<Node> {
        if let Some(known) = self.nodes.borrow().get(path) {
            return *known;
        }
        let node = follow(face, path);
        self.nodes.borrow_mut().insert(path.into(), node);
        node
    }

    /// The firmware's framebuffers, each with its driver: looked for once, when they are asked for.
    pub(crate) fn framebuffers(
        &self,
        face: &dyn Face,
        look: impl FnOnce(&dyn Face) -> Vec<(String, String)>,
    ) -> &[(String, String)] {
        self.framebuffers.get_or_init(|| look(face))
    }

    /// The process's name, for a message: `vpp_main (6001)`.
    pub fn who(&self, pid: u32) -> String {
        let comm = self.processes.iter().find(|p| p.pid == pid).map_or("a process", |p| p.comm.as_str());
        format!("{comm} ({pid})")
    }
}

/// Links in `/dev` are made by udev, and lead to a node in one or two steps.
fn follow(face: &dyn Face, path: &str) -> Option<Node> {
    let mut path = path.to_owned();
    for _ in 0..8 {
        if !path.starts_with("/dev/") || path.split('/').any(|part| part == "..") {
            return None;
        }
        match face.kind(&path).ok()? {
            Kind::Node(node) => return Some(node),
            Kind::Link => {
                let text = face.link(&path).ok()?;
                path = if text.starts_with('/') { text } else { crate::path::target(&path, &text)? };
            }
            _ => return None,
        }
    }
    None
}

/// Lines of `/proc/consoles`: name, operations, flags in brackets, number.
fn consoles(text: &str) -> Vec<(String, Node)> {
    text.lines()
        .filter_map(|line| {
            let name = line.split_whitespace().next()?;
            let (major, minor) = line.split_whitespace().last()?.split_once(':')?;
            Some((name.into(), Node { block: false, major: major.parse().ok()?, minor: minor.parse().ok()? }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consoles_are_read_with_their_numbers() {
        let found = consoles("ttyS0                -W- (EC p a)    4:64\nnetcon0 -W- (E)\n");
        assert_eq!(found, [("ttyS0".into(), Node { block: false, major: 4, minor: 64 })]);
    }
}
