//! Devices: their firmware descriptions and their run-time state.

mod state;

pub use crate::description::{
    BusKind, DeviceDesc, DmaDesc, DmaRange, InterruptMap, IrqLine, MessageMap, MessageTarget, NodeId, NodeInfo, Nodes,
    PciIdentity, RegionKind, ReservedRegion, Resource, Supplier, SupplierKind, Trigger, Unmet,
};
pub use state::Device;
pub(crate) use state::MatchNumbers;
pub(crate) use state::{CurrentBinding, DeviceLock};
