//! Everything that hangs below a device in sysfs.

use super::Scene;
use crate::face::{Entry, Face, FaceError, Node};
use crate::inventory::Device;
use crate::path;

/// Deepest directory that is looked into. USB through hubs, SCSI and input reach about 25 below the root port.
const MAX_DEPTH: usize = 64;

/// Attribute groups and folders of links of the kernel's: nothing that can be used is ever below them.
pub(super) const NO_DEVICES: [&str; 10] =
    ["power", "msi_irqs", "link", "statistics", "queues", "queue", "mq", "integrity", "holders", "slaves"];

/// The subtree of a device.
#[derive(Debug, Default)]
pub struct Below {
    /// Disks with their partitions.
    pub blocks: Vec<Block>,
    /// NVMe controllers.
    pub controllers: Vec<Controller>,
    /// Network interfaces.
    pub interfaces: Vec<Interface>,
    /// Directories `net` without an interface.
    pub empty_net: Vec<String>,
    /// Character devices: path and number.
    pub characters: Vec<(String, Node)>,
    /// Framebuffers: their paths.
    pub framebuffers: Vec<String>,
    /// Names of what vanishes with the driver: interfaces, disks, controllers.
    pub names: Vec<String>,
    /// Directories of drivers' own classes that speak for a network device without an interface, such as InfiniBand.
    pub classes: Vec<String>,
    /// Devices with an IOMMU group of their own: mediated devices, and functions behind a controller with a bus of its own.
    pub grouped: Vec<String>,
    /// Device links to consumers, of the device and of all below it: paths.
    pub consumers: Vec<String>,
    /// Errors of files that could not be read.
    pub troubles: Vec<FaceError>,
}

/// A disk or partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its path in `/sys/devices`.
    pub path: String,
    /// Its number; one path of a multipath disk has none.
    pub node: Option<Node>,
}

/// An NVMe controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// Its path in `/sys/devices`.
    pub path: String,
    /// The paths below it that lead to multipath disks: `nvme2c4n1`.
    pub hidden: Vec<String>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its path in `/sys/devices`.
    pub path: String,
}

impl Below {
    /// Walks everything below `device`. Links are not followed, and devices that the bus itself hangs below this one
    /// (functions behind a bridge) belong to it, too.
    pub fn of(face: &dyn Face, device: &Device) -> Self {
        let mut below = Self::default();
        below.walk(face, &device.path, 0);
        below
    }

    /// The same for a device of an inventory that was read just now, whose directory is not listed again.
    pub(super) fn in_scene(scene: Scene<'_>, device: &Device) -> Self {
        let Some(entries) = scene.inventory.entries(device) else { return Self::of(scene.face, device) };
        let mut below = Self::default();
        below.descend(scene.face, &device.path, entries, 0);
        below
    }

    fn walk(&mut self, face: &dyn Face, path: &str, depth: usize) {
        match face.list(path) {
            Ok(entries) => self.descend(face, path, &entries, depth),
            Err(error) if error.is_absent() => {}
            Err(error) => self.troubles.push(error),
        }
    }

    fn descend(&mut self, face: &dyn Face, path: &str, entries: &[Entry], depth: usize) {
        if depth > 0 {
            self.note(face, path, entries);
        }
        let consumers = entries.iter().filter(|e| e.link && e.name.starts_with("consumer:"));
        self.consumers.extend(consumers.map(|e| format!("{path}/{}", e.name)));
        if depth == MAX_DEPTH {
            return;
        }
        for entry in entries.iter().filter(|e| e.dir && !NO_DEVICES.contains(&e.name.as_str())) {
            self.walk(face, &format!("{path}/{}", entry.name), depth + 1);
        }
    }

    /// Takes down what the directory at `path` is.
    fn note(&mut self, face: &dyn Face, path: &str, entries: &[Entry]) {
        let has = |name: &str| entries.iter().any(|e| e.name == name);
        if has("iommu_group") {
            self.grouped.push(path.into());
        }
        let name = path::name(path);
        let class = path::name(path::parent(path));
        let subsystem = if has("subsystem") { face.link_name(&format!("{path}/subsystem")) } else { None };
        let is = |what: &str| subsystem.as_deref().map_or(class == what, |s| s == what);
        let number = || number(face, path);
        if name == "net" && !has("dev") && !entries.iter().any(|e| e.dir || e.link) {
            self.empty_net.push(path.into());
        } else if name == "infiniband" || name == "uio" {
            self.classes.push(name.into());
        }
        if is("net") && has("address") {
            self.interfaces.push(Interface { name: name.into(), path: path.into() });
            self.names.push(name.into());
        } else if is("block") || has("partition") {
            let node = has("dev").then(number).flatten().map(|(major, minor)| Node { block: true, major, minor });
            self.blocks.push(Block { path: path.into(), node });
            self.names.push(name.into());
            if node.is_none() && face.try_text(&format!("{path}/hidden")).as_deref() == Some("1") {
                let parent = path::parent(path);
                if let Some(controller) = self.controllers.iter_mut().find(|c| c.path == parent) {
                    controller.hidden.push(path.into());
                }
            }
        } else {
            if is("graphics") && name.starts_with("fb") {
                self.framebuffers.push(path.into());
            }
            if is("nvme") && has("serial") {
                self.controllers.push(Controller { path: path.into(), hidden: Vec::new() });
                self.names.push(name.into());
            }
            if has("dev")
                && let Some((major, minor)) = number()
            {
                self.characters.push((path.into(), Node { block: false, major, minor }));
            }
        }
    }
}

/// The `dev` file of a directory.
pub(super) fn number(face: &dyn Face, path: &str) -> Option<(u32, u32)> {
    let text = face.try_text(&format!("{path}/dev"))?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
