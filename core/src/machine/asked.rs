//! The registry as lower layers see it: `DeviceRegistry` for `Machine`.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::queued::Request;
use super::{AddError, Machine};
use crate::bus::{BusDevice, Departure};
use crate::device::{Device, DeviceDesc, NodeId};
use crate::event::Cause;
use crate::lifecycle::Quiesced;
use crate::link::NotLinked;
use crate::sync::Nested;
use crate::system::{DeviceRegistry, NoService};

impl DeviceRegistry for Machine {
    fn node_name(&self, node: NodeId) -> String {
        self.registry.lock().nodes.name(node)
    }

    fn devices(&self) -> Vec<Arc<Device>> {
        Self::devices(self)
    }

    fn consumers_of(&self, node: NodeId) -> Vec<Arc<Device>> {
        let r = self.registry.lock();
        r.graph.consumers_of(node).into_iter().filter_map(|n| r.device(n).cloned()).collect()
    }

    fn condition_node(&self, name: &str) -> NodeId {
        self.registry.lock().condition(name)
    }

    fn is_ignored(&self, consumer: NodeId, supplier: NodeId) -> bool {
        self.registry.lock().graph.is_ignored(consumer, supplier)
    }

    fn link_service(&self, user: &Device, node: NodeId, offers: &mut dyn FnMut() -> bool) -> Result<(), NoService> {
        Self::link_service(self, user, node, offers)
    }

    fn link_peer(&self, user: &Device, node: NodeId) -> Result<(), NotLinked> {
        Self::link_peer(self, user, node)
    }

    fn report_cycle(&self, user: &Device, path: &[NodeId]) {
        Self::report_cycle(self, user, path);
    }

    fn queue_probe(&self, node: NodeId) {
        self.registry.lock().enqueue(node);
    }

    fn admit(self: Arc<Self>, desc: DeviceDesc, bus: Option<Arc<dyn BusDevice>>) -> Result<Arc<Device>, AddError> {
        Self::admit(&self, desc, bus)
    }

    fn take_off(self: Arc<Self>, device: &Arc<Device>, cause: Cause) {
        Self::take_off(&self, device, cause);
    }

    fn has_child(&self, parent: NodeId, name: &str) -> bool {
        self.device(name).is_some_and(|device| device.desc().parent == Some(parent))
    }

    fn device_departs(&self, name: &str, how: Departure) -> bool {
        self.me.upgrade().is_some_and(|machine| Self::device_departs(&machine, name, how))
    }

    fn settle_later(&self) {
        // A thread that is in no driver's code settles by itself.
        let _ = self.queue_if_inside(Request::Settle);
    }

    fn device_quiesced(&self, device: &Device, quiesced: &Quiesced) {
        self.quarantine_table().recover(self, &device.desc().name, quiesced);
        self.supplies().release_pinned(self, device.node());
    }

    fn resource_returned(&self, device: &Device) {
        Self::resource_returned(self, device);
    }

    fn work_scheduled(&self) {
        Self::work_scheduled(self);
    }

    fn entered_driver(&self) -> Nested<'_> {
        self.enter()
    }

    fn run_deferred_interrupts(&self) {
        self.run_deferred();
    }

    fn left_driver(&self, inside: Nested<'_>) {
        if inside.leave()
            && let Some(machine) = self.me.upgrade()
        {
            machine.run_queued();
        }
    }
}
