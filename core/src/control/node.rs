//! What a path can lead to.

use alloc::sync::Arc;

use crate::device::Device;
use crate::iommu::{Group, Iommu};
use crate::link::LinkState;
use crate::machine::Devlink;

/// A directory.
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

/// A file.
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
    /// Users inside a driver that the way back waits for.
    Users,
    /// Refused accesses of each device.
    Faults,
    Ledger(Arc<Device>),
}

/// What a name in a directory stands for.
#[derive(Clone)]
pub(super) enum Node {
    Dir(Dir),
    File(File),
    /// A symbolic link to a directory.
    Link(Dir),
}

impl File {
    /// Whether it can be read, and whether it can be written.
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
