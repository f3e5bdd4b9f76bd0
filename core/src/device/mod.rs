//! Devices: what firmware says of them, and what the machine keeps of them.

mod desc;
mod state;

pub use desc::{
    BusKind, DeviceDesc, DmaDesc, DmaRange, NodeId, NodeInfo, Nodes, Resource, Supplier, SupplierKind, Unmet,
};
pub use state::Device;
