//! Paths of directories, and relative paths for symbolic links.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::node::Dir;
use crate::device::Device;
use crate::machine::{Devlink, Machine};

/// Limit of a path's length in bytes (linux-6.12 `include/uapi/linux/limits.h`, `PATH_MAX`).
const PATH_MAX: usize = 4096;

/// Components of `path` below `/sys`. `None` for a path that is relative, outside `/sys`, too long, or has an empty,
/// `.` or `..` component.
pub(super) fn components(path: &str) -> Option<impl Iterator<Item = &str>> {
    let below = path.strip_prefix("/sys").filter(|_| path.len() < PATH_MAX)?;
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    let below = match below {
        "" => None,
        below => Some(below.strip_prefix('/').filter(|b| b.split('/').all(plain))?),
    };
    Some(below.into_iter().flat_map(|b| b.split('/')))
}

/// Name with bus: `platform:e6150000.clock-controller`.
pub(super) fn bus_name(device: &Device) -> String {
    format!("{}:{}", device.desc().bus.name(), device.name())
}

/// The directory name of a link (linux-6.12 `drivers/base/core.c`, `device_link_add`).
pub(super) fn link_name(link: &Devlink) -> String {
    format!("{}--{}", bus_name(&link.supplier), bus_name(&link.consumer))
}

impl Machine {
    /// Path of `device` in the control tree: `/sys/devices/platform/soc/ee300000.sata`.
    pub(crate) fn control_path(&self, device: &Arc<Device>) -> String {
        let mut path = String::from("/sys/devices/platform");
        for level in self.ancestors(device).iter().chain([device]) {
            path.push('/');
            path.push_str(level.name());
        }
        path
    }
}

/// The absolute path of a directory.
pub(super) fn path_of(machine: &Machine, dir: &Dir) -> String {
    match dir {
        Dir::Sys => "/sys".into(),
        Dir::BusRoot => "/sys/bus".into(),
        Dir::Bus => "/sys/bus/platform".into(),
        Dir::BusDevices => "/sys/bus/platform/devices".into(),
        Dir::BusDrivers => "/sys/bus/platform/drivers".into(),
        Dir::Driver(name) => format!("/sys/bus/platform/drivers/{name}"),
        Dir::ClassRoot => "/sys/class".into(),
        Dir::DevlinkClass => "/sys/class/devlink".into(),
        Dir::IommuClass => "/sys/class/iommu".into(),
        Dir::Devices => "/sys/devices".into(),
        Dir::Platform => "/sys/devices/platform".into(),
        Dir::Device(device) => machine.control_path(device),
        Dir::Virtual => "/sys/devices/virtual".into(),
        Dir::VirtualDevlink => "/sys/devices/virtual/devlink".into(),
        Dir::Devlink(link) => format!("/sys/devices/virtual/devlink/{}", link_name(link)),
        Dir::VirtualIommu => "/sys/devices/virtual/iommu".into(),
        Dir::Instance(iommu) => format!("/sys/devices/virtual/iommu/{}", iommu.name()),
        Dir::InstanceDevices(iommu) => format!("/sys/devices/virtual/iommu/{}/devices", iommu.name()),
        Dir::Kernel => "/sys/kernel".into(),
        Dir::Groups => "/sys/kernel/iommu_groups".into(),
        Dir::Group(group) => format!("/sys/kernel/iommu_groups/{}", group.id()),
        Dir::GroupDevices(group) => format!("/sys/kernel/iommu_groups/{}/devices", group.id()),
        Dir::Debug => "/sys/kernel/debug".into(),
        Dir::Bindery => "/sys/kernel/bindery".into(),
        Dir::Ledgers => "/sys/kernel/bindery/ledger".into(),
    }
}

/// Relative path from the directory `from` to `to`, as a symbolic link has it: `../../devices/platform/soc`.
pub(super) fn relative(from: &str, to: &str) -> String {
    let from: Vec<_> = from.split('/').collect();
    let to: Vec<_> = to.split('/').collect();
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = core::iter::repeat_n("..", from.len() - common);
    let steps: Vec<_> = up.chain(to[common..].iter().copied()).collect();
    if steps.is_empty() { ".".to_string() } else { steps.join("/") }
}
