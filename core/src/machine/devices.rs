//! Devices come and go.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::queued::Request;
use super::{AddError, Machine};
use crate::addr::PhysAddr;
use crate::device::{Device, DeviceDesc, NodeId, Nodes, SupplierKind, Unmet};
use crate::event::{Cause, EventKind};
use crate::firmware::fdt::{Description, FdtError, describe};
use crate::iommu::try_join;
use crate::lifecycle::Quiesced;
use crate::sync::Nesting;
use crate::system::DeviceRegistry;

/// Longest file name in bytes (`NAME_MAX`, `include/uapi/linux/limits.h`).
const NAME_MAX: usize = 255;

/// Files that a driver's directory has, beside the links to its devices.
const DRIVER_FILES: [&str; 4] = ["bind", "unbind", "uevent", "module"];

/// What a device's directory has beside the devices below it, and what Linux has there.
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
/// How links to suppliers and consumers begin there.
const DEVICE_LINKS: [&str; 2] = ["consumer:", "supplier:"];

/// Takes `node` off the list of `key`, and an empty list off `lists`.
fn leave_list<K: Ord>(lists: &mut BTreeMap<K, Vec<NodeId>>, key: &K, node: NodeId) {
    if let Some(list) = lists.get_mut(key) {
        list.retain(|n| *n != node);
        if list.is_empty() {
            lists.remove(key);
        }
    }
}

impl Machine {
    /// Adds the devices of a device tree blob; they are probed by the next [`settle`](Self::settle). On an error
    /// nothing was added. A device that is there already stays as it is.
    pub fn add_device_tree(self: &Arc<Self>, blob: &[u8]) -> Result<Description, FdtError> {
        let description = self.with_nodes(|nodes| describe(blob, nodes))?;
        self.add_all(&description.devices);
        Ok(description)
    }

    /// Adds the devices of a description, as [`add_device_tree`](Self::add_device_tree) does, so that one reading of a
    /// blob serves many machines. `nodes` are those that it was made with. False, and nothing was added, when this
    /// machine has nodes already: their numbers would not agree.
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

    /// Adds what firmware describes. One that cannot be added is told, and does not keep the others away.
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

    /// Runs `use_nodes` on the machine's firmware nodes, to make descriptions for [`add_device`](Self::add_device).
    /// The registry is locked meanwhile: do not call the machine.
    pub fn with_nodes<R>(&self, use_nodes: impl FnOnce(&mut Nodes) -> R) -> R {
        let mut r = self.registry.lock();
        r.tidy(self.supplies());
        use_nodes(&mut r.nodes)
    }

    /// Adds a device. It is probed by the next [`settle`](Self::settle). Its name must do as a file name (at most 255
    /// bytes) that the directories of drivers and devices do not have yet.
    ///
    /// One that driver code adds below a device that a driver holds belongs to that binding, as with
    /// [`Bound::add_child`](crate::binding::Bound::add_child); but not on a target whose threads cannot be told apart
    /// (without the feature `std`), since who adds it is not known there.
    ///
    /// # Errors
    ///
    /// [`AddError::Exists`] while there is a device of that name, or of that firmware node. One that
    /// [`remove_device`](Self::remove_device) or [`device_vanished`](Self::device_vanished) was called for from inside driver
    /// code is there until that code has come out and the removal was carried out ([`queued`](Self::queued) lists it), and so
    /// is one whose removal another thread has begun and not ended: try again when `DeviceRemoved` was told. The other errors
    /// are about the name.
    pub fn add_device(self: &Arc<Self>, desc: DeviceDesc) -> Result<Arc<Device>, AddError> {
        let parent = desc
            .parent
            .filter(|_| Nesting::HAS_THREAD_IDS && self.is_inside())
            .and_then(|node| self.registry.lock().device(node).cloned());
        match parent.and_then(|parent| parent.binding()) {
            Some(binding) => binding.bound().adopt(desc),
            None => self.admit(desc),
        }
    }

    /// Memory that `desc` uses from the beginning on is nobody else's, also on a target that did not set it aside.
    fn set_aside(&self, desc: &DeviceDesc) {
        for region in desc.dma.reserved.iter().filter(|r| r.kind.is_direct()) {
            let (first, last) = (PhysAddr(region.first.0), PhysAddr(region.last.0));
            let frames = self.memory().frames().withdraw(first, last);
            let contiguous = self.memory().cma().is_none_or(|cma| cma.withdraw(first, last));
            if !frames || !contiguous {
                self.emit(Some(&desc.name), || EventKind::Log {
                    text: format!("pages of its reserved region {first} to {last} are in use by somebody else"),
                });
            }
        }
    }

    /// As [`add_device`](Self::add_device), for nobody's ledger.
    pub(crate) fn admit(self: &Arc<Self>, desc: DeviceDesc) -> Result<Arc<Device>, AddError> {
        let name = Arc::clone(&desc.name);
        if matches!(&*name, "" | "." | "..") || name.contains(|c: char| c == '/' || c.is_control()) {
            return Err(AddError::BadName(name));
        }
        if name.len() > NAME_MAX {
            return Err(AddError::NameTooLong(name.len()));
        }
        let taken_above = || DEVICE_FILES.contains(&&*name) || DEVICE_LINKS.iter().any(|link| name.starts_with(link));
        if DRIVER_FILES.contains(&&*name) || desc.parent.is_some() && taken_above() {
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
            if self.policy().untranslated_dma {
                for s in desc.suppliers.iter().filter(|s| s.kind == SupplierKind::Iommu) {
                    r.graph.ignore(node, s.node);
                }
            }
            let device = Device::new(node, desc);
            r.by_node.insert(node, Arc::clone(&device));
            r.names_nodes(node, device.desc());
            r.devices.insert(Arc::clone(&name), node);
            if let Some(parent) = device.desc().parent {
                r.children.entry(parent).or_default().push(node);
            }
            for c in &device.desc().compatible {
                r.listing.entry(Arc::clone(c)).or_default().push(node);
            }
            r.tidy(self.supplies());
            device
        };
        self.emit(Some(&name), || EventKind::DeviceAdded);
        self.set_aside(device.desc());
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

    /// Removes a device in an orderly way, its children first. True when it was there.
    ///
    /// Returns when it is gone. Called from inside driver code (of whatever device) it returns at once, and nothing
    /// binds the device any more; the removal is queued, and carried out when that code has come out.
    pub fn remove_device(self: &Arc<Self>, name: &str) -> bool {
        self.device(name).map(|device| self.leaves(device, Cause::DeviceRemoved)).is_some()
    }

    /// Tells the machine that a device has vanished from its bus: its registers do not answer any more. It is removed as
    /// by [`remove_device`](Self::remove_device).
    pub fn device_vanished(self: &Arc<Self>, name: &str) -> bool {
        let Some(device) = self.device(name) else { return false };
        device.set_gone();
        self.leaves(device, Cause::SurpriseRemoved);
        true
    }

    fn leaves(self: &Arc<Self>, device: Arc<Device>, cause: Cause) {
        {
            let _r = self.registry.lock();
            device.set_removed();
        }
        if let Err(Request::Remove { device, cause }) = self.queue_if_inside(Request::Remove { device, cause }) {
            self.from_outside(|| self.take_off(&device, cause));
        }
    }

    /// Takes a device and all below it off their bus. The caller is outside driver code.
    pub(crate) fn take_off(self: &Arc<Self>, device: &Arc<Device>, cause: Cause) {
        let mut order = Vec::from([Arc::clone(device)]);
        let mut at = 0;
        while let Some(parent) = order.get(at).map(|d| d.node()) {
            let r = self.registry.lock();
            let below = r.children.get(&parent).into_iter().flatten();
            order.extend(below.filter_map(|n| r.device(*n).cloned()));
            at += 1;
        }
        if cause == Cause::SurpriseRemoved {
            // What is reached through a device that has vanished does not answer either.
            for device in &order {
                device.set_gone();
            }
        }
        for device in order.into_iter().rev() {
            {
                let _r = self.registry.lock();
                device.set_removed();
            }
            self.end_binding(&device, cause, None);
            self.end_peers_of(&device);
            if device.is_gone() {
                self.device_quiesced(&device, &Quiesced::gone());
            }
            // Before its name is free for another device: that one's place is not touched.
            self.iommus().leave(&device);
            {
                let mut r = self.registry.lock();
                if !r.device(device.node()).is_some_and(|there| Arc::ptr_eq(there, &device)) {
                    // Somebody else has removed it meanwhile; another one may be in its place.
                    continue;
                }
                r.graph.supplier_leaves(device.node());
                r.graph.supplier_gone(device.node());
                r.graph.remove(device.node());
                r.waiting.remove(&device.node());
                r.refusals.remove(&device.node());
                r.devices.remove(device.name());
                if let Some(parent) = device.desc().parent {
                    leave_list(&mut r.children, &parent, device.node());
                }
                r.by_node.remove(&device.node());
                for c in &device.desc().compatible {
                    leave_list(&mut r.listing, c, device.node());
                }
                r.names_no_more(device.node(), device.desc());
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

    /// What a device needs and cannot get, as far as the policy has it need it.
    pub(crate) fn unmet<'d>(&self, desc: &'d DeviceDesc) -> impl Iterator<Item = &'d Unmet> + use<'d> {
        let untranslated = self.policy().untranslated_dma;
        desc.unmet.iter().filter(move |unmet| !(untranslated && unmet.kind == SupplierKind::Iommu))
    }
}
