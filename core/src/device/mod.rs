//! Devices: what firmware says of them, and what the machine keeps of them.

mod desc;
mod nodes;
mod state;

pub use desc::{
    BusKind, DeviceDesc, DmaDesc, DmaRange, RegionKind, ReservedRegion, Resource, Supplier, SupplierKind, Unmet,
};
pub use nodes::{NodeId, NodeInfo, Nodes};
pub use state::Device;
pub(crate) use state::DeviceLock;
