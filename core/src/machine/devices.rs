//! Addition and removal of devices.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::lifecycle::BindingsOf;
use super::queued::Request;
use super::{AddError, Machine};
use crate::addr::PhysAddr;
use crate::bus::{BusDevice, Departure};
use crate::device::{Device, DeviceDesc, NodeId, Nodes, SupplierKind, Unmet};
use crate::event::{Cause, EventKind};
use crate::firmware::fdt::{Description, FdtError, describe};
use crate::iommu::{joined_late, try_join};
use crate::lifecycle::Quiesced;
use crate::sync::Nesting;
use crate::sync::atomic::Ordering;
use crate::system::DeviceRegistry;

/// Longest file name in bytes (`NAME_MAX`, `include/uapi/linux/limits.h`).
const NAME_MAX: usize = 255;

/// Files on Linux in the directory of the devices without parent (`/sys/devices/platform`), beside those devices' own.
const PLATFORM_FILES: [&str; 2] = ["power", "uevent"];

/// Files in a device's directory, here or on Linux, beside the directories of its children.
const DEVICE_FILES: [&str; 10] = [
    "driver",
    "driver_override",
    "iommu",
    "iommu_group",
    "modalias",
    "of_node",
    "power",
    "subsystem",
    "uevent",
    "waiting_for_supplier",
];
/// Prefixes of the names of device links there.
const DEVICE_LINKS: [&str; 2] = ["consumer:", "supplier:"];

/// Removes `node` from the list of `key`, and the list when it becomes empty.
fn remove_from_list<K: Ord>(lists: &mut BTreeMap<K, Vec<NodeId>>, key: &K, node: NodeId) {
    if let Some(list) = lists.get_mut(key) {
        list.retain(|n| *n != node);
        if list.is_empty() {
            lists.remove(key);
        }
    }
}

impl Machine {
    /// Adds the devices of a device tree blob; they are probed by the next [`settle`](Self::settle). A device that
    /// exists already stays as it is.
    ///
    /// # Errors
    ///
    /// [`FdtError`] when the blob is malformed; nothing was added.
    pub fn add_device_tree(self: &Arc<Self>, blob: &[u8]) -> Result<Description, FdtError> {
        let description = self.with_nodes(|nodes| describe(blob, nodes))?;
        self.add_all(&description.devices);
        Ok(description)
    }

    /// Adds the devices of a description, as [`add_device_tree`](Self::add_device_tree) does, so that one parsed
    /// blob serves many machines. `nodes` are those that the description was parsed into. False, and nothing was added,
    /// when this machine has nodes already: their numbers would not agree.
    pub fn add_description(self: &Arc<Self>, description: &Description, nodes: &Nodes) -> bool {
        let fresh = self.with_nodes(|own| {
            let fresh = own.is_empty();
            if fresh {
                own.clone_from(nodes);
            }
            fresh
        });
        if fresh {
            self.add_all(&description.devices);
        }
        fresh
    }

    /// Adds the devices of the firmware. One that cannot be added is reported, and the others are added all the same.
    fn add_all(self: &Arc<Self>, devices: &[DeviceDesc]) {
        for desc in devices {
            match self.add_device(desc.clone()) {
                Ok(_) | Err(AddError::Exists(_)) => {}
                Err(e) => {
                    self.emit(None, || EventKind::Log { text: format!("a device of the firmware is not added: {e}") });
                }
            }
        }
    }

    /// Calls `use_nodes` with the machine's firmware nodes, to build descriptions for [`add_device`](Self::add_device).
    /// The registry is locked meanwhile: do not call the machine.
    pub fn with_nodes<R>(&self, use_nodes: impl FnOnce(&mut Nodes) -> R) -> R {
        let mut r = self.registry.lock();
        r.tidy(self.supplies());
        use_nodes(&mut r.nodes)
    }

    /// Adds a device. It is probed by the next [`settle`](Self::settle). Its name must be a valid file name (at most 255
    /// bytes) that does not occur in the directory of its parent yet. One that a driver's directory has (`bind`) is added and, as on
    /// Linux, not bound to that driver: [`ResourceError::NameTaken`](crate::binding::ResourceError::NameTaken).
    ///
    /// A device that driver code adds below a bound device belongs to that binding, as with
    /// [`Bound::add_child`](crate::binding::Bound::add_child); but not on a target without thread identities (neither the
    /// feature `std` nor [`TargetHooks`](crate::sync::TargetHooks)), where the caller is not known.
    ///
    /// # Errors
    ///
    /// [`AddError::Exists`] while a device of that name, or of that firmware node, exists. A device whose removal was requested
    /// from inside driver code ([`remove_device`](Self::remove_device), [`device_vanished`](Self::device_vanished)) exists until
    /// that code has returned and the removal was carried out ([`queued`](Self::queued) lists it); so does one that another
    /// thread is still removing. Retry after the event `DeviceRemoved`. The other errors concern the name.
    pub fn add_device(self: &Arc<Self>, desc: DeviceDesc) -> Result<Arc<Device>, AddError> {
        let parent = desc
            .parent
            .filter(|_| Nesting::has_thread_ids() && self.is_inside())
            .and_then(|node| self.registry.lock().device(node).cloned());
        match parent.and_then(|parent| parent.binding()) {
            Some(binding) => binding.bound().adopt(desc),
            None => self.admit(desc, None),
        }
    }

    /// Withdraws the memory that `desc` uses from the start from the page allocators, in case the target did not reserve it.
    fn reserve_regions(&self, desc: &DeviceDesc) {
        for region in desc.dma.reserved.iter().filter(|r| r.kind.is_direct()) {
            let (first, last) = (PhysAddr(region.first.0), PhysAddr(region.last.0));
            if let Err(owner) = self.memory().withdraw(first, last) {
                self.emit(Some(&desc.name), || EventKind::Log {
                    text: format!(
                        "pages of its reserved region {first} to {last} are in use by somebody else: {owner}"
                    ),
                });
            }
        }
    }

    /// Adds a device as [`add_device`](Self::add_device) does, without an entry on a ledger.
    pub(crate) fn admit(
        self: &Arc<Self>,
        mut desc: DeviceDesc,
        bus: Option<Arc<dyn BusDevice>>,
    ) -> Result<Arc<Device>, AddError> {
        let name = Arc::clone(&desc.name);
        if matches!(&*name, "" | "." | "..") || name.contains(|c: char| c == '/' || c.is_control()) {
            return Err(AddError::BadName(name));
        }
        if name.len() > NAME_MAX {
            return Err(AddError::NameTooLong(name.len()));
        }
        let taken_above = if desc.parent.is_some() {
            DEVICE_FILES.contains(&&*name) || DEVICE_LINKS.iter().any(|link| name.starts_with(link))
        } else {
            PLATFORM_FILES.contains(&&*name)
        };
        if taken_above {
            return Err(AddError::ReservedName(name));
        }
        let device = {
            let mut r = self.registry.lock();
            let there = desc.node.and_then(|node| r.device(node));
            if let Some(there) = r.device_named(&name).or(there) {
                return Err(AddError::Exists(Arc::clone(&there.desc().name)));
            }
            let node = r.node_for(&desc);
            if let Some(there) = r.device(node) {
                return Err(AddError::Exists(Arc::clone(&there.desc().name)));
            }
            r.graph.add(node, &desc.suppliers);
            r.link_to_subnode(node, desc.parent);
            if self.policy().untranslated_dma {
                for s in desc.suppliers.iter().filter(|s| s.kind == SupplierKind::Iommu) {
                    r.graph.ignore(node, s.node);
                }
            }
            let numbers = r.matching.add_device(node, &mut desc);
            let device = Device::numbered(node, desc, numbers, bus);
            // It may have been removed since its last user had it, and is the same device.
            device.left_by_user.store(r.left_by_user.remove(&name), Ordering::Release);
            r.by_node.insert(node, Arc::clone(&device));
            r.add_names(node, device.desc());
            r.devices.insert(Arc::clone(&name), node);
            if let Some(parent) = device.desc().parent {
                r.children.entry(parent).or_default().push(node);
            }
            r.tidy(self.supplies());
            device
        };
        self.emit(Some(&name), || EventKind::DeviceAdded);
        self.reserve_regions(device.desc());
        try_join(self, &device);
        if self.env.env_owned(&device.desc().compatible) {
            self.claim_for_env(&device);
            self.arrived(&device);
        } else {
            self.registry.lock().enqueue(device.node());
        }
        Ok(device)
    }

    /// The device called `name`.
    pub fn device(&self, name: &str) -> Option<Arc<Device>> {
        self.registry.lock().device_named(name).cloned()
    }

    /// Removes a device in an orderly way, its children first. True when it existed.
    ///
    /// Returns when it is gone. Called from inside driver code (of any device) it returns at once, and no driver binds the
    /// device any more; the removal is queued, and carried out when that code has returned.
    pub fn remove_device(self: &Arc<Self>, name: &str) -> bool {
        self.device(name).map(|device| self.remove(device, Cause::DeviceRemoved)).is_some()
    }

    /// Reports surprise removal of a device: its registers no longer answer. It is removed as by
    /// [`remove_device`](Self::remove_device).
    pub fn device_vanished(self: &Arc<Self>, name: &str) -> bool {
        let Some(device) = self.device(name) else { return false };
        device.set_gone(&Quiesced::gone());
        self.remove(device, Cause::SurpriseRemoved);
        true
    }

    /// Reports that a device leaves its bus, and how, as [`remove_device`](Self::remove_device) and
    /// [`device_vanished`](Self::device_vanished) do of two of the ways. True when it existed.
    pub fn device_departs(self: &Arc<Self>, name: &str, how: Departure) -> bool {
        let Some(device) = self.device(name) else { return false };
        if let Some(proof) = how.proof() {
            device.set_gone(&proof);
        }
        self.remove(device, how.cause());
        true
    }

    fn remove(self: &Arc<Self>, device: Arc<Device>, cause: Cause) {
        {
            // Under the registry lock, as the check before a probe: after this no probe of the device begins.
            let _r = self.registry.lock();
            device.set_removed();
        }
        if let Err(Request::Remove { device, cause }) = self.queue_if_inside(Request::Remove { device, cause }) {
            self.from_outside(|| self.take_off(&device, cause));
        }
    }

    /// Removes a device and its descendants from their bus. The caller is outside driver code.
    pub(crate) fn take_off(self: &Arc<Self>, device: &Arc<Device>, cause: Cause) {
        let mut order = Vec::from([Arc::clone(device)]);
        let mut at = 0;
        while let Some(parent) = order.get(at).map(|d| d.node()) {
            let r = self.registry.lock();
            let below = r.children.get(&parent).into_iter().flatten();
            order.extend(below.filter_map(|n| r.device(*n).cloned()));
            at += 1;
        }
        if let Some(gone) = device.gone_proof() {
            // Descendants are reached through the device that has vanished, so they do not answer either.
            for device in &order {
                device.set_gone(&gone);
            }
        }
        for device in order.into_iter().rev() {
            {
                let _r = self.registry.lock();
                device.set_removed();
            }
            self.end_binding(&device, cause, BindingsOf::All);
            self.end_peers_of(&device);
            if let Some(gone) = device.gone_proof() {
                self.device_quiesced(&device, &gone);
            }
            // Before the name is free: a new device of that name must keep its place in the group.
            let joined = self.iommus().leave(&device);
            joined_late(self, &**self, joined);
            {
                let mut r = self.registry.lock();
                if !r.device(device.node()).is_some_and(|there| Arc::ptr_eq(there, &device)) {
                    // Another thread has removed it meanwhile; a new device may be in its place.
                    continue;
                }
                r.graph.supplier_leaves(device.node());
                r.graph.supplier_gone(device.node());
                r.graph.remove(device.node());
                r.unqueue(device.node());
                r.waiting.remove(&device.node());
                r.refusals.remove(&device.node());
                r.devices.remove(device.name());
                if device.left_by_user.load(Ordering::Acquire) && !device.is_gone() {
                    r.left_by_user.insert(Arc::clone(&device.desc().name));
                }
                if let Some(parent) = device.desc().parent {
                    remove_from_list(&mut r.children, &parent, device.node());
                }
                r.by_node.remove(&device.node());
                r.matching.remove_device(&device);
                r.remove_names(device.node(), device.desc());
                r.tidy(self.supplies());
            }
            self.release_for_env(&device);
            self.forget_faults(device.name());
            self.emit(Some(&device.desc().name), || EventKind::DeviceRemoved);
            let parent = device.desc().parent.and_then(|node| self.registry.lock().device(node).cloned());
            if let Some(binding) = parent.and_then(|parent| parent.binding()) {
                binding.bound().child_left(&device);
            }
        }
    }

    /// Needs of a device that cannot be met, without those that the policy waives.
    pub(crate) fn unmet<'d>(&self, desc: &'d DeviceDesc) -> impl Iterator<Item = &'d Unmet> + use<'d> {
        let untranslated = self.policy().untranslated_dma;
        desc.unmet.iter().filter(move |unmet| !(untranslated && unmet.kind == SupplierKind::Iommu))
    }
}
