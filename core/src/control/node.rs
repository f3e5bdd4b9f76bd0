//! Directories, files and links.

use alloc::sync::Arc;

use crate::device::Device;
use crate::iommu::{Group, Iommu};
use crate::link::LinkState;
use crate::machine::Devlink;

/// Identity of a directory.
#[derive(Clone)]
pub(super) enum Dir {
    Sys,
    BusRoot,
    Bus,
    BusDevices,
    BusDrivers,
    Driver(&'static str),
    ClassRoot,
    DevlinkClass,
    IommuClass,
    Devices,
    Platform,
    Device(Arc<Device>),
    Virtual,
    VirtualDevlink,
    Devlink(Devlink),
    VirtualIommu,
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
    DriversProbe,
    DriversAutoprobe,
    BusUevent,
    Bind(&'static str),
    Unbind(&'static str),
    DriverUevent(&'static str),
    DeviceUevent(Arc<Device>),
    Modalias(Arc<Device>),
    DriverOverride(Arc<Device>),
    WaitingForSupplier(Arc<Device>),
    LinkStatus(LinkState),
    LinkAutoRemove {
        goes_with_consumer: bool,
    },
    LinkRuntimePm,
    LinkSyncStateOnly(LinkState),
    GroupType(Arc<Group>),
    ReservedRegions(Arc<Group>),
    DevicesDeferred,
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
    /// Readable, and writable.
    pub(super) fn access(&self) -> (bool, bool) {
        match self {
            Self::DriversAutoprobe | Self::DeviceUevent(_) | Self::DriverOverride(_) | Self::GroupType(_) => {
                (true, true)
            }
            Self::DriversProbe | Self::BusUevent | Self::Bind(_) | Self::Unbind(_) | Self::DriverUevent(_) => {
                (false, true)
            }
            _ => (true, false),
        }
    }
}
