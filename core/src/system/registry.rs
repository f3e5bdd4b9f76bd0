//! Requests of lower floors to the registry of devices, drivers and links, which stands above them.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::description::{DeviceDesc, NodeId};
use crate::device::Device;
use crate::error::AddError;
use crate::event::Cause;
use crate::lifecycle::Quiesced;
use crate::link::NotLinked;
use crate::sync::Nested;

/// Reasons why a consumer does not get a service.
pub(crate) enum NoService {
    /// The supplier is bound and does not offer it.
    NotProvided,
    /// There is no link to the supplier.
    NotLinked(NotLinked),
}

/// The registry of a machine, as bindings and the parts below it use it. A [`Machine`](crate::machine::Machine) is one.
pub(crate) trait DeviceRegistry: Send + Sync {
    /// Label or path of a node.
    fn node_name(&self, node: NodeId) -> String;
    /// Every device, by name.
    fn devices(&self) -> Vec<Arc<Device>>;
    /// Devices that need the one at `node`.
    fn consumers_of(&self, node: NodeId) -> Vec<Arc<Device>>;
    /// Node of the condition called `name`.
    fn condition_node(&self, name: &str) -> NodeId;
    /// True when a policy has `consumer` do without `supplier`.
    fn is_ignored(&self, consumer: NodeId, supplier: NodeId) -> bool;
    /// Links `user` to the supplier at `node` for as long as its binding lasts, if `offers`, asked under the same lock, says
    /// that the supplier offers what is wanted.
    fn link_service(&self, user: &Device, node: NodeId, offers: &mut dyn FnMut() -> bool) -> Result<(), NoService>;
    /// Makes the device at `node` a supplier of `user`, which reaches its registers: at once when it is bound, else when it
    /// is.
    ///
    /// # Errors
    ///
    /// [`NotLinked::Absent`] when it leaves the machine, and [`NotLinked::Cycle`], which is reported, when it needs `user`
    /// itself.
    fn link_peer(&self, user: &Device, node: NodeId) -> Result<(), NotLinked>;
    /// Reports that `user` cannot use the last one of `path`, which needs it, through those in between.
    fn report_cycle(&self, user: &Device, path: &[NodeId]);
    /// Queues a device to be probed.
    fn queue_probe(&self, node: NodeId);
    /// Adds a device that is on nobody's ledger.
    fn admit(self: Arc<Self>, desc: DeviceDesc) -> Result<Arc<Device>, AddError>;
    /// Takes a device and all below it off their bus.
    fn take_off(self: Arc<Self>, device: &Arc<Device>, cause: Cause);
    /// Gives back what was kept because `device` might still run (P11).
    fn device_quiesced(&self, device: &Device, quiesced: &Quiesced);
    /// Has those probed again that lacked something, after the binding of `device` has given something back.
    fn resource_returned(&self, device: &Device);
    /// Counts this thread as inside driver code until [`left_driver`](Self::left_driver).
    fn entered_driver(&self) -> Nested<'_>;
    /// Ends `inside`, and carries out what driver code has asked for meanwhile.
    fn left_driver(&self, inside: Nested<'_>);
}
