//! Directories, files and links.

use alloc::sync::Arc;

use crate::device::{BusKind, Device};
use crate::iommu::{Group, Iommu};
use crate::link::LinkState;
use crate::machine::Devlink;

/// Identity of a directory.
#[derive(Clone)]
pub(super) enum Dir {
    /// The directory that has `/sys`, and from here nothing else.
    Root,
    Sys,
    BusRoot,
    Bus(BusKind),
    BusDevices(BusKind),
    BusDrivers(BusKind),
    /// A driver, on one of the buses that it stands on.
    Driver(BusKind, &'static str),
    ClassRoot,
    DevlinkClass,
    IommuClass,
    Devices,
    Platform,
    Device(Arc<Device>),
    Power(Arc<Device>),
    Firmware,
    FirmwareTree,
    /// A node of the device tree, by its path; the root's is empty.
    OfNode(Arc<str>),
    Virtual,
    VirtualDevlink,
    Devlink(Devlink),
    VirtualIommu,
    /// `iommu` below the device that is the IOMMU.
    DeviceIommu(Arc<Device>),
    Instance(Arc<dyn Iommu>),
    InstanceDevices(Arc<dyn Iommu>),
    Kernel,
    Groups,
    Group(Arc<Group>),
    GroupDevices(Arc<Group>),
    Debug,
    Bindery,
    Ledgers,
}

/// Identity of a file.
#[derive(Clone)]
pub(super) enum File {
    DriversProbe(BusKind),
    DriversAutoprobe,
    BusUevent(BusKind),
    Bind(BusKind, &'static str),
    Unbind(BusKind, &'static str),
    DriverUevent(BusKind, &'static str),
    DeviceUevent(Arc<Device>),
    Modalias(Arc<Device>),
    /// A number of a PCI function's configuration space.
    PciNumber(PciNumber, Arc<Device>),
    DriverOverride(Arc<Device>),
    WaitingForSupplier(Arc<Device>),
    LinkStatus(LinkState),
    LinkAutoRemove {
        goes_with_consumer: bool,
    },
    LinkRuntimePm(Devlink),
    LinkSyncStateOnly(Devlink),
    LinkUevent(Devlink),
    PowerControl(Arc<Device>),
    PowerAsync(Arc<Device>),
    /// A file of `power` with this value.
    Power(&'static str),
    /// A file of `power` that another setting makes unreadable.
    AutosuspendDelay,
    /// A property of a device tree node.
    Property(Arc<[u8]>),
    GroupType(Arc<Group>),
    ReservedRegions(Arc<Group>),
    DevicesDeferred,
    /// Deferred devices with every reason.
    Deferred,
    Links,
    NotJoined,
    Promises,
    Quarantine,
    ResourceUsage,
    Claims,
    Interrupts,
    /// Active users of drivers that an unwinding waits for.
    Users,
    /// Counts of each device's IOMMU faults.
    Faults,
    Ledger(Arc<Device>),
    Early,
}

/// Number of a PCI function's configuration space that has a file.
#[derive(Clone, Copy)]
pub(super) enum PciNumber {
    Vendor,
    Device,
    SubsystemVendor,
    SubsystemDevice,
    Class,
    Revision,
}

/// Entry of a directory.
#[derive(Clone)]
pub(super) enum Node {
    Dir(Dir),
    File(File),
    /// A symbolic link to a directory.
    Link(Dir),
}

impl File {
    /// The device whose attribute it is.
    pub(super) fn device(&self) -> Option<&Arc<Device>> {
        match self {
            Self::DeviceUevent(d)
            | Self::Modalias(d)
            | Self::PciNumber(_, d)
            | Self::DriverOverride(d)
            | Self::WaitingForSupplier(d)
            | Self::PowerControl(d)
            | Self::PowerAsync(d)
            | Self::Ledger(d) => Some(d),
            _ => None,
        }
    }

    /// Readable, and writable.
    pub(super) fn access(&self) -> (bool, bool) {
        match self {
            Self::DriversAutoprobe
            | Self::DeviceUevent(_)
            | Self::DriverOverride(_)
            | Self::GroupType(_)
            | Self::LinkUevent(_)
            | Self::PowerControl(_)
            | Self::PowerAsync(_)
            | Self::AutosuspendDelay => (true, true),
            Self::DriversProbe(_) | Self::BusUevent(_) | Self::Bind(..) | Self::Unbind(..) | Self::DriverUevent(..) => {
                (false, true)
            }
            _ => (true, false),
        }
    }
}
