//! Interface of lower floors to the registry of devices, drivers and links, which is above them.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::bus::{BusDevice, Departure};
use crate::description::{DeviceDesc, NodeId};
use crate::device::Device;
use crate::error::AddError;
use crate::event::Cause;
use crate::lifecycle::Quiesced;
use crate::link::NotLinked;
use crate::sync::Nested;

/// Reasons for which a consumer is refused a service.
pub(crate) enum NoService {
    /// The supplier is bound but does not offer it.
    NotProvided,
    /// There is no link to the supplier.
    NotLinked(NotLinked),
}

/// Registry of a machine, as used by bindings and lower floors. [`Machine`](crate::machine::Machine) implements it.
pub(crate) trait DeviceRegistry: Send + Sync {
    /// Label or path of a node.
    fn node_name(&self, node: NodeId) -> String;
    /// All devices, sorted by name.
    fn devices(&self) -> Vec<Arc<Device>>;
    /// Consumers of the device at `node`.
    fn consumers_of(&self, node: NodeId) -> Vec<Arc<Device>>;
    /// Node of the condition called `name`.
    fn condition_node(&self, name: &str) -> NodeId;
    /// Returns true when policy lets `consumer` probe without `supplier`.
    fn is_ignored(&self, consumer: NodeId, supplier: NodeId) -> bool;
    /// Links `user` to the supplier at `node` for the duration of its binding, if `offers`, called under the same lock,
    /// returns true: the supplier offers the requested service.
    ///
    /// # Errors
    ///
    /// [`NoService::NotProvided`] when a bound supplier does not offer it, [`NoService::NotLinked`] when there is no link.
    fn link_service(&self, user: &Device, node: NodeId, offers: &mut dyn FnMut() -> bool) -> Result<(), NoService>;
    /// Makes the device at `node` a supplier of `user`, which accesses its registers: immediately if `user` is bound,
    /// otherwise once it is.
    ///
    /// # Errors
    ///
    /// [`NotLinked::Absent`] when it is leaving the machine; [`NotLinked::Cycle`], which is also reported, when it depends on
    /// `user`.
    fn link_peer(&self, user: &Device, node: NodeId) -> Result<(), NotLinked>;
    /// Reports that `user` cannot use the last device of `path`, which depends on it through those in between.
    fn report_cycle(&self, user: &Device, path: &[NodeId]);
    /// Queues a device for probing.
    fn queue_probe(&self, node: NodeId);
    /// Adds a device that no ledger owns.
    ///
    /// # Errors
    ///
    /// As [`AddError`] lists.
    fn admit(self: Arc<Self>, desc: DeviceDesc, bus: Option<Arc<dyn BusDevice>>) -> Result<Arc<Device>, AddError>;
    /// Removes a device and all its descendants from their bus.
    fn take_off(self: Arc<Self>, device: &Arc<Device>, cause: Cause);
    /// True while the device at `parent` has a child of that name.
    fn has_child(&self, parent: NodeId, name: &str) -> bool;
    /// Has a device leave its bus, when the calling thread has left driver code. False when there is none of that name.
    fn device_departs(&self, name: &str, how: Departure) -> bool;
    /// Probes the devices that wait for it, when the calling thread has left driver code.
    fn settle_later(&self);
    /// Releases memory and supplies kept because `device` might still be running (P11).
    fn device_quiesced(&self, device: &Device, quiesced: &Quiesced);
    /// Queues devices whose probes failed for a shortage, after the binding of `device` has released a resource.
    fn resource_returned(&self, device: &Device);
    /// Starts work items that are due, now or when the calling thread has left driver code, and lets waiting threads see new
    /// deadlines.
    fn work_scheduled(&self);
    /// Counts this thread as running driver code until [`left_driver`](Self::left_driver).
    fn entered_driver(&self) -> Nested<'_>;
    /// Ends `inside`, and performs the operations that driver code requested meanwhile.
    fn left_driver(&self, inside: Nested<'_>);
    /// Runs what interrupt handlers have left for task context.
    fn run_deferred_interrupts(&self);
}
