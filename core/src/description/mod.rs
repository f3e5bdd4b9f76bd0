//! Firmware's description of devices: resources, suppliers, interrupt lines, and firmware nodes.

mod desc;
mod interrupt_map;
mod irq;
mod messages;
mod nodes;

pub use desc::{
    BusKind, DeviceDesc, DmaDesc, DmaRange, PciIdentity, RegionKind, ReservedRegion, Resource, Supplier, SupplierKind,
    Unmet,
};
pub(crate) use desc::{pci_class_name, pci_name, pci_subsystem_name};
pub use interrupt_map::InterruptMap;
pub use irq::{IrqLine, Trigger};
pub use messages::{MessageMap, MessageTarget};
pub use nodes::{NodeId, NodeInfo, Nodes};
