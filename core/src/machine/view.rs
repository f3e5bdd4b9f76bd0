//! View of a machine for the control tree, and switches that only it has. Each call holds the registry lock briefly and
//! never takes a device lock: nothing here waits for a probe.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Machine;
use crate::binding::Phase;
use crate::device::{Device, NodeId, NodeInfo};
use crate::driver::Match;
use crate::link::LinkState;

/// Maximal depth of nested directories in the control tree. A deeper device, or one that is its own ancestor, is shown at
/// the top. Firmware is not trusted to describe a tree.
const MAX_NESTING: usize = 64;

/// A link between two devices that both exist.
#[derive(Clone)]
pub(crate) struct Devlink {
    pub(crate) supplier: Arc<Device>,
    pub(crate) consumer: Arc<Device>,
    /// As Linux has it: a link that is not waited for (`sync_state_only`) is dormant or available, too.
    pub(crate) state: LinkState,
    /// The consumer does not wait for the supplier.
    pub(crate) waived: bool,
    /// True for a link that a driver requested, not firmware: it is removed with the binding of its consumer.
    pub(crate) goes_with_consumer: bool,
}

/// True when `consumer` names the node of the device `supplier` itself, and not only nodes below it.
fn names_directly(consumer: &Device, supplier: NodeId) -> bool {
    consumer.desc().suppliers.iter().any(|s| s.node == supplier && s.target == supplier)
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
            let waived = state == LinkState::NotTracked;
            let state = match r.graph.is_available(s) {
                _ if !waived => state,
                true => LinkState::Available,
                false => LinkState::Dormant,
            };
            // Linux links a consumer to a device of which firmware names a subnode once that device was bound, and drops a
            // link that is not waited for when its consumer is bound.
            let by_subnode = !goes_with_consumer && !supplier.has_been_bound() && !names_directly(&consumer, s);
            let dropped = waived && consumer.phase() == Phase::Bound;
            (!by_subnode && !dropped).then_some(Devlink { supplier, consumer, state, waived, goes_with_consumer })
        };
        r.graph.links_of(device.node()).filter_map(link).collect()
    }

    /// True when a link is part of a cycle of devices that wait for each other.
    pub(crate) fn is_in_cycle(&self, link: &Devlink) -> bool {
        let (supplier, consumer) = (link.supplier.node(), link.consumer.node());
        let cycles = self.registry.lock().graph.cycles();
        cycles.iter().any(|c| c.contains(&supplier) && c.contains(&consumer))
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

    /// The device of the firmware node at `path`, where the root's path is empty.
    pub(crate) fn device_at(&self, path: &str) -> Option<Arc<Device>> {
        let r = self.registry.lock();
        let node = r.nodes.find(path)?;
        r.device(node).cloned()
    }

    /// Names of the firmware nodes directly below the one at `path`, where the root's path is empty.
    pub(crate) fn nodes_below(&self, path: &str) -> Vec<String> {
        self.registry.lock().nodes.below(path).map(String::from).collect()
    }

    /// True when a supplier of `device` has no device yet, so that there is no link to it (`waiting_for_supplier`).
    pub(crate) fn waits_for_absent_device(&self, device: &Device) -> bool {
        let r = self.registry.lock();
        r.graph.missing(device.node()).into_iter().any(|n| match r.device(n) {
            // A subnode may become a device of its own while the device above it is bound.
            Some(supplier) => !supplier.has_been_bound() && device.desc().suppliers.iter().any(|s| s.is_subnode_of(n)),
            None => !r.is_condition(n),
        })
    }

    /// Firmware's description of a node.
    pub(crate) fn node_info(&self, node: NodeId) -> NodeInfo {
        let r = self.registry.lock();
        let unknown = || NodeInfo { path: r.nodes.name(node).into(), label: None, aliases: Vec::new(), enabled: true };
        r.nodes.info(node).cloned().unwrap_or_else(unknown)
    }

    /// The name of a registered driver, with static lifetime.
    pub(crate) fn driver_named(&self, name: &str) -> Option<&'static str> {
        self.registry.lock().drivers.get_key_value(name).map(|(name, _)| *name)
    }

    /// What `driver` matches devices by; nothing when it is not registered.
    pub(crate) fn matches_of(&self, driver: &str) -> &'static [Match] {
        self.registry.lock().drivers.get(driver).map_or(&[], |d| d.matches())
    }

    /// Names of the files in `driver`'s directory, beside the links to its devices.
    pub(crate) fn driver_files(&self, driver: &str) -> &'static [&'static str] {
        if self.binds_by_hand(driver) { &["bind", "uevent", "unbind"] } else { &["uevent"] }
    }

    /// True when `driver` is registered and allows users to bind and unbind its devices (sysfs `bind` and `unbind`).
    pub(crate) fn binds_by_hand(&self, driver: &str) -> bool {
        self.registry.lock().drivers.get(driver).is_some_and(|d| !d.suppresses_bind_attrs())
    }
}
