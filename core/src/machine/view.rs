//! View of a machine for the control tree, and switches that only it has. Each call holds the registry lock briefly and
//! never takes a device lock: nothing here waits for a probe.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Machine;
use crate::device::{Device, NodeId, NodeInfo};
use crate::link::LinkState;

/// Maximal depth of nested directories in the control tree. A deeper device, or one that is its own ancestor, is shown at
/// the top. Firmware is not trusted to describe a tree.
const MAX_NESTING: usize = 64;

/// A link between two devices that both exist.
#[derive(Clone)]
pub(crate) struct Devlink {
    pub(crate) supplier: Arc<Device>,
    pub(crate) consumer: Arc<Device>,
    pub(crate) state: LinkState,
    /// True for a link that a driver requested, not firmware: it is removed with the binding of its consumer.
    pub(crate) goes_with_consumer: bool,
}

impl Machine {
    /// The ancestors of `device`, outermost first.
    pub(crate) fn ancestors(&self, device: &Device) -> Vec<Arc<Device>> {
        let r = self.registry.lock();
        let mut above = Vec::new();
        let mut at = device.desc().parent;
        while let Some(parent) = at.and_then(|n| r.device(n)) {
            if above.len() == MAX_NESTING {
                return Vec::new();
            }
            above.push(Arc::clone(parent));
            at = parent.desc().parent;
        }
        above.reverse();
        above
    }

    /// The direct children of `parent`.
    pub(crate) fn children(&self, parent: &Device) -> Vec<Arc<Device>> {
        let below: Vec<_> = {
            let r = self.registry.lock();
            let nodes = r.children.get(&parent.node()).into_iter().flatten();
            nodes.filter_map(|n| r.device(*n).cloned()).collect()
        };
        below.into_iter().filter(|d| !self.ancestors(d).is_empty()).collect()
    }

    /// The devices without ancestors.
    pub(crate) fn outermost_devices(&self) -> Vec<Arc<Device>> {
        self.devices().into_iter().filter(|d| self.ancestors(d).is_empty()).collect()
    }

    /// The links of `device`, as consumer and as supplier.
    pub(crate) fn devlinks_of(&self, device: &Device) -> Vec<Devlink> {
        let r = self.registry.lock();
        let link = |(s, c, state, goes_with_consumer): (NodeId, NodeId, LinkState, bool)| {
            let (supplier, consumer) = (r.device(s)?.clone(), r.device(c)?.clone());
            Some(Devlink { supplier, consumer, state, goes_with_consumer })
        };
        r.graph.links_of(device.node()).filter_map(link).collect()
    }

    /// True when new devices, new drivers and arriving suppliers lead to probes.
    pub fn autoprobe(&self) -> bool {
        self.registry.lock().autoprobe
    }

    /// Switches autoprobe on or off. As on Linux, switching it on does not probe devices that were added meanwhile; but a
    /// deferred device whose last supplier was bound meanwhile is queued now (P8).
    pub fn set_autoprobe(&self, on: bool) {
        let mut r = self.registry.lock();
        let was = core::mem::replace(&mut r.autoprobe, on);
        if on && !was {
            let ready: Vec<_> = r.waiting.iter().copied().filter(|n| r.graph.missing_count(*n) == 0).collect();
            for node in ready {
                r.enqueue(node);
            }
        }
    }

    /// True when `device` misses a supplier.
    pub(crate) fn misses_supplier(&self, device: &Device) -> bool {
        self.registry.lock().graph.missing_count(device.node()) != 0
    }

    /// Firmware's description of a node.
    pub(crate) fn node_info(&self, node: NodeId) -> NodeInfo {
        let r = self.registry.lock();
        let unknown = || NodeInfo { path: r.nodes.name(node).into(), label: None, enabled: true };
        r.nodes.info(node).cloned().unwrap_or_else(unknown)
    }

    /// The name of a registered driver, with static lifetime.
    pub(crate) fn driver_named(&self, name: &str) -> Option<&'static str> {
        self.registry.lock().drivers.get_key_value(name).map(|(name, _)| *name)
    }

    /// True when `driver` is registered and allows users to bind and unbind its devices (sysfs `bind` and `unbind`).
    pub(crate) fn binds_by_hand(&self, driver: &str) -> bool {
        self.registry.lock().drivers.get(driver).is_some_and(|d| !d.suppresses_bind_attrs())
    }
}
