//! Devices: what firmware says of them, and what the machine keeps of them.

mod state;

pub use crate::description::{
    BusKind, DeviceDesc, DmaDesc, DmaRange, NodeId, NodeInfo, Nodes, RegionKind, ReservedRegion, Resource, Supplier,
    SupplierKind, Unmet,
};
pub use state::Device;
pub(crate) use state::{CurrentBinding, DeviceLock};
