//! What firmware says of devices: their resources, suppliers and interrupt lines, and the nodes that they are called by.

mod desc;
mod irq;
mod nodes;

pub use desc::{
    BusKind, DeviceDesc, DmaDesc, DmaRange, RegionKind, ReservedRegion, Resource, Supplier, SupplierKind, Unmet,
};
pub use irq::{IrqLine, Trigger};
pub use nodes::{NodeId, NodeInfo, Nodes};
