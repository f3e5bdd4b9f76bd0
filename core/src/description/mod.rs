//! Firmware's description of devices: resources, suppliers, interrupt lines, and firmware nodes.

mod desc;
mod irq;
mod nodes;

pub use desc::{
    BusKind, DeviceDesc, DmaDesc, DmaRange, RegionKind, ReservedRegion, Resource, Supplier, SupplierKind, Unmet,
};
pub use irq::{IrqLine, Trigger};
pub use nodes::{NodeId, NodeInfo, Nodes};
