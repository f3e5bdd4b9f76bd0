//! Paths of directories, and relative paths for symbolic links.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::error::Refusal;
use super::node::Dir;
use crate::device::Device;
use crate::driver::Errno;
use crate::iommu::Iommu;
use crate::machine::{Devlink, Machine};

/// Limit of a path's length in bytes (linux-6.12 `include/uapi/linux/limits.h`, `PATH_MAX`).
const PATH_MAX: usize = 4096;

/// Components of an absolute path, with `.` and `..` and an empty one where slashes follow each other or end the path.
pub(super) fn components(path: &str) -> Result<impl Iterator<Item = &str>, Refusal> {
    if path.len() >= PATH_MAX {
        return Err(Refusal::new(Errno::ENAMETOOLONG, format!("a path has at most {} bytes", PATH_MAX - 1)));
    }
    match path.strip_prefix('/') {
        Some(below) if !path.contains('\0') => Ok(below.split('/')),
        _ => Err(Refusal::new(Errno::ENOENT, "a path begins with /sys and has no NUL")),
    }
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
        Dir::Root => String::new(),
        Dir::Sys => "/sys".into(),
        Dir::BusRoot => "/sys/bus".into(),
        Dir::Bus(bus) => format!("/sys/bus/{}", bus.name()),
        Dir::BusDevices(bus) => format!("/sys/bus/{}/devices", bus.name()),
        Dir::BusDrivers(bus) => format!("/sys/bus/{}/drivers", bus.name()),
        Dir::Driver(bus, name) => format!("/sys/bus/{}/drivers/{name}", bus.name()),
        Dir::ClassRoot => "/sys/class".into(),
        Dir::DevlinkClass => "/sys/class/devlink".into(),
        Dir::IommuClass => "/sys/class/iommu".into(),
        Dir::Devices => "/sys/devices".into(),
        Dir::Platform => "/sys/devices/platform".into(),
        Dir::Device(device) => machine.control_path(device),
        Dir::Power(device) => machine.control_path(device) + "/power",
        Dir::Firmware => "/sys/firmware".into(),
        Dir::FirmwareTree => "/sys/firmware/devicetree".into(),
        Dir::OfNode(node) => format!("/sys/firmware/devicetree/base{node}"),
        Dir::Virtual => "/sys/devices/virtual".into(),
        Dir::VirtualDevlink => "/sys/devices/virtual/devlink".into(),
        Dir::Devlink(link) => format!("/sys/devices/virtual/devlink/{}", link_name(link)),
        Dir::VirtualIommu => "/sys/devices/virtual/iommu".into(),
        Dir::DeviceIommu(device) => machine.control_path(device) + "/iommu",
        Dir::Instance(iommu) => match device_of(machine, &**iommu) {
            Some(device) => format!("{}/iommu/{}", machine.control_path(&device), iommu.name()),
            None => format!("/sys/devices/virtual/iommu/{}", iommu.name()),
        },
        Dir::InstanceDevices(iommu) => path_of(machine, &Dir::Instance(Arc::clone(iommu))) + "/devices",
        Dir::Kernel => "/sys/kernel".into(),
        Dir::Groups => "/sys/kernel/iommu_groups".into(),
        Dir::Group(group) => format!("/sys/kernel/iommu_groups/{}", group.id()),
        Dir::GroupDevices(group) => format!("/sys/kernel/iommu_groups/{}/devices", group.id()),
        Dir::Debug => "/sys/kernel/debug".into(),
        Dir::Bindery => "/sys/kernel/bindery".into(),
        Dir::Ledgers => "/sys/kernel/bindery/ledger".into(),
    }
}

/// The device that is `iommu`; none for one that another machine drives.
pub(super) fn device_of(machine: &Machine, iommu: &dyn Iommu) -> Option<Arc<Device>> {
    machine.device(&iommu.name())
}

/// The directory that has `dir`.
pub(super) fn parent_of(machine: &Machine, dir: &Dir) -> Dir {
    match dir {
        Dir::Root | Dir::Sys => Dir::Root,
        Dir::BusRoot | Dir::ClassRoot | Dir::Devices | Dir::Firmware | Dir::Kernel => Dir::Sys,
        Dir::Bus(_) => Dir::BusRoot,
        Dir::BusDevices(bus) | Dir::BusDrivers(bus) => Dir::Bus(*bus),
        Dir::Driver(bus, _) => Dir::BusDrivers(*bus),
        Dir::DevlinkClass | Dir::IommuClass => Dir::ClassRoot,
        Dir::Platform | Dir::Virtual => Dir::Devices,
        Dir::Device(device) => machine.ancestors(device).pop().map_or(Dir::Platform, Dir::Device),
        Dir::Power(device) | Dir::DeviceIommu(device) => Dir::Device(Arc::clone(device)),
        Dir::FirmwareTree => Dir::Firmware,
        Dir::OfNode(node) => match node.rsplit_once('/') {
            Some((above, _)) => Dir::OfNode(above.into()),
            None => Dir::FirmwareTree,
        },
        Dir::VirtualDevlink | Dir::VirtualIommu => Dir::Virtual,
        Dir::Devlink(_) => Dir::VirtualDevlink,
        Dir::Instance(iommu) => device_of(machine, &**iommu).map_or(Dir::VirtualIommu, Dir::DeviceIommu),
        Dir::InstanceDevices(iommu) => Dir::Instance(Arc::clone(iommu)),
        Dir::Groups | Dir::Debug | Dir::Bindery => Dir::Kernel,
        Dir::Group(_) => Dir::Groups,
        Dir::GroupDevices(group) => Dir::Group(Arc::clone(group)),
        Dir::Ledgers => Dir::Bindery,
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
