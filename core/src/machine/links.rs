//! Supplier links made while a driver is bound: to services and to peers of DMA (P6).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Machine;
use super::lifecycle::BindingsOf;
use super::queued::Request;
use super::registry::Registry;
use crate::addr::PhysAddr;
use crate::binding::{BindingState, ResourceError};
use crate::claim::{Mode, Subject};
use crate::device::{Device, NodeId, Resource};
use crate::dma::{self, DmaError};
use crate::driver::{Missing, ProbeError};
use crate::event::{Cause, EventKind};
use crate::link::NotLinked;
use crate::system::NoService;

impl Machine {
    /// See [`DeviceRegistry::link_service`](crate::system::DeviceRegistry::link_service).
    pub(super) fn link_service(
        &self,
        device: &Device,
        node: NodeId,
        offers: &mut dyn FnMut() -> bool,
    ) -> Result<(), NoService> {
        // Looked up and linked under one lock, so that a provider that is unbound concurrently either finds this
        // consumer, or is not found by it.
        let mut r = self.registry.lock();
        let offers = offers();
        r.graph.mark_changed(node);
        let available = r.graph.is_available(node);
        let driver = device.driver().unwrap_or("driver");
        if !offers && available {
            return Err(NoService::NotProvided);
        }
        let linked = if self.peers_of(&r, device).iter().any(|peer| peer.node() == node) {
            // A device that reaches this device's registers becomes its consumer as soon as this one is bound.
            Err(NotLinked::Cycle(Vec::from([device.node(), node])))
        } else if !offers && node != device.node() {
            Err(NotLinked::Absent)
        } else {
            // A cycle takes precedence over an absent supplier: a device that waits for itself would wait for ever.
            let linked = r.graph.use_supplier(device.node(), node, driver);
            if offers { linked } else { linked.and(Err(NotLinked::Absent)) }
        };
        linked.map_err(NoService::NotLinked)
    }

    /// See [`DeviceRegistry::link_peer`](crate::system::DeviceRegistry::link_peer).
    pub(super) fn link_peer(&self, device: &Device, node: NodeId) -> Result<(), NotLinked> {
        if node == device.node() {
            return Ok(());
        }
        let driver = device.driver().unwrap_or("driver");
        let linked = {
            let mut r = self.registry.lock();
            if r.device(node).is_none_or(|peer| peer.is_removed()) {
                return Err(NotLinked::Absent);
            }
            let linked = match r.graph.use_supplier(device.node(), node, driver) {
                Err(NotLinked::Absent) => r.graph.may_use_later(device.node(), node),
                linked => linked,
            };
            r.tidy(self.supplies());
            linked
        };
        if let Err(NotLinked::Cycle(path)) = &linked {
            self.report_cycle(device, path);
        }
        linked
    }

    /// Devices of live bindings that reach registers of `device` by DMA.
    fn peers_of(&self, r: &Registry, device: &Device) -> Vec<Arc<Device>> {
        let mut peers: Vec<Arc<Device>> = Vec::new();
        for resource in &device.desc().resources {
            let Resource::Mem { base, len } = *resource else { continue };
            for holder in self.claims.peers(&Subject::whole_pages(base, len)) {
                let Some(peer) = r.device_named(holder.device()).filter(|p| p.node() != device.node()) else {
                    continue;
                };
                // Mappings of an earlier binding whose unmap is unconfirmed belong to no binding that could be ended.
                let lives = peer.binding().is_some_and(|b| dma::holder(b.bound()).is_some_and(|h| h == holder));
                if lives && !peers.iter().any(|p| Arc::ptr_eq(p, peer)) {
                    peers.push(Arc::clone(peer));
                }
            }
        }
        peers
    }

    /// Makes `device`, which is now bound, a supplier of the devices that reach its registers. Returns those for which that
    /// would close a cycle.
    pub(super) fn link_peers_of(&self, r: &mut Registry, device: &Device) -> Vec<Arc<Device>> {
        let peers = self.peers_of(r, device);
        let cannot = |peer: &Arc<Device>| {
            let driver = peer.driver().unwrap_or("driver");
            r.graph.use_supplier(peer.node(), device.node(), driver).is_err()
        };
        peers.into_iter().filter(cannot).collect()
    }

    /// Ends the bindings that reach registers of `device`, which is unbound and being removed.
    pub(super) fn end_peers_of(self: &Arc<Self>, device: &Device) {
        let peers = self.peers_of(&self.registry.lock(), device);
        for peer in peers {
            self.end_binding(&peer, Cause::SupplierLeaving, BindingsOf::All);
        }
    }

    /// Ends the binding of `peer`, which reaches registers of `device` and is its supplier: neither could be unbound first.
    pub(super) fn unbind_cyclic_peer(self: &Arc<Self>, peer: Arc<Device>, device: &Device) {
        let Some(driver) = peer.driver() else { return };
        self.emit(Some(&peer.desc().name), || EventKind::Refused {
            what: alloc::format!("reaching the registers of {}", device.name()),
            reason: alloc::format!("{} is bound now, and needs this device", device.name()),
        });
        let request = Request::Unbind { device: peer, driver: driver.into() };
        if let Err(Request::Unbind { device, driver }) = self.queue_if_inside(request) {
            self.from_outside(|| self.end_binding(&device, Cause::Unbind, BindingsOf::Name(&driver)));
        }
    }

    /// Completes the error of a probe with the holder of the conflicting claim, which a `DmaError` cannot carry.
    pub(super) fn with_holder(&self, bound: &BindingState, error: ProbeError) -> ProbeError {
        let ProbeError::Dma(DmaError::Held(PhysAddr(at))) = error else { return error };
        let conflict = self.conflict(&Subject::whole_pages(PhysAddr(at), 1), bound.holder(), Mode::Peer);
        conflict.map_or(error, |conflict| ResourceError::Held(Box::new(conflict)).into())
    }

    /// Turns a deferral on a child of the probe's own device into an error: the child is probed only after this device is
    /// bound, so the probe would wait for ever.
    pub(super) fn reject_own_child(&self, bound: &BindingState, error: ProbeError) -> ProbeError {
        let node = bound.device().node();
        match error {
            ProbeError::Defer { on: Missing::Node(on) } if self.is_below(on, node) => {
                self.report_cycle(bound.device(), &[node, on]);
                ResourceError::SupplierCycle.into()
            }
            error => error,
        }
    }

    fn is_below(&self, node: NodeId, above: NodeId) -> bool {
        let r = self.registry.lock();
        let linked = |d: &Arc<Device>| d.desc().suppliers.iter().any(|s| s.node == above);
        r.device(node).is_some_and(|d| d.desc().parent == Some(above) && linked(d))
    }

    /// See [`DeviceRegistry::report_cycle`](crate::system::DeviceRegistry::report_cycle).
    pub(super) fn report_cycle(&self, user: &Device, path: &[NodeId]) {
        self.emit(Some(&user.desc().name), || {
            let mut names: Vec<String> = path.iter().rev().map(|n| self.node_name(*n)).collect();
            let what = alloc::format!("a link to {}", names[0]);
            if names.len() == 1 {
                names.push("itself".into());
            }
            EventKind::Refused { what, reason: alloc::format!("suppliers in a cycle: {}", names.join(" needs ")) }
        });
    }
}
