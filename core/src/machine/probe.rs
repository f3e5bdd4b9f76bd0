//! Probing: the queue, and the ways in by hand.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::queued::Request;
use super::{AbsentSuppliers, BindError, Machine, UnbindError};
use crate::binding::Phase;
use crate::device::{Device, DeviceLock, NodeId, SupplierKind};
use crate::driver::{AnyDriver, Match, Missing, ProbeError};
use crate::event::{Cause, EventKind};
use crate::link::RelaxedLink;
use crate::promise::Promise;

/// What [`Machine::settle`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProbeStats {
    /// Probes that were begun.
    pub attempts: u64,
    /// Devices that were bound.
    pub bound: u64,
    /// Devices that were looked at and wait for suppliers.
    pub waiting: u64,
    /// Probes that failed.
    pub failed: u64,
}

/// Members of a cycle that an event names.
const MEMBERS_TOLD: usize = 8;

enum Attempt {
    Nothing,
    Waiting(Vec<NodeId>),
    Bound,
    Deferred(NodeId),
    Failed(ProbeError),
}

impl Machine {
    /// Carries out what driver code has asked for, and probes what is to be probed, until nothing is left that could be
    /// bound. Called from inside driver code it does nothing at once: it is queued, and done when that code has come out.
    pub fn settle(self: &Arc<Self>) -> ProbeStats {
        let mut all = ProbeStats::default();
        if self.queue_if_inside(Request::Settle).is_ok() {
            return all;
        }
        loop {
            let done = self.from_outside(|| self.settle_here());
            all.attempts += done.attempts;
            all.bound += done.bound;
            all.waiting += done.waiting;
            all.failed += done.failed;
            // What was queued by driver code may have left devices to other drivers.
            if self.registry.lock().queue.is_empty() {
                return all;
            }
        }
    }

    pub(super) fn settle_here(self: &Arc<Self>) -> ProbeStats {
        self.look_for_frames();
        let mut done = ProbeStats::default();
        while self.step_into(&mut done) || self.anybody_waits() && self.break_cycles() {}
        if done == ProbeStats::default() {
            return done;
        }
        let forgotten = self.registry.lock().forgotten();
        self.promises.check(Promise::OrderIndependent, forgotten.is_none(), || {
            alloc::format!("{:?} could be bound and was not woken", forgotten.map(|n| self.node_name(n)))
        });
        done
    }

    fn anybody_waits(&self) -> bool {
        !self.registry.lock().waiting.is_empty()
    }

    /// Lets devices that wait for nothing but each other do without the links that close the cycle. False when there were
    /// none. What is left to wait for then decides alone which links these are (P8).
    fn break_cycles(&self) -> bool {
        let given_up: Vec<_> = {
            let mut r = self.registry.lock();
            let ready: BTreeSet<NodeId> = r
                .by_node
                .values()
                .filter(|d| d.phase() == Phase::Unbound && !d.is_removed() && !r.candidates(d).is_empty())
                .filter(|d| self.unmet(d.desc()).next().is_none())
                .map(|d| d.node())
                .collect();
            let links = r.graph.break_cycles(|n| ready.contains(&n));
            for link in links.iter().filter(|link| link.ready) {
                r.enqueue(link.consumer);
            }
            let told = |l: RelaxedLink| {
                let members: Vec<_> = l.members.iter().take(MEMBERS_TOLD).map(|n| r.nodes.name(*n)).collect();
                let more = l.members.len() - members.len();
                let more = if more == 0 { String::new() } else { alloc::format!(" and {more} more") };
                let (property, supplier) = (l.property, r.nodes.name(l.supplier));
                let members = members.join(", ");
                let consumer = r.device(l.consumer).cloned();
                (
                    consumer,
                    alloc::format!("does not wait for {supplier} ({property}), which closes a cycle: {members}{more}"),
                )
            };
            links.into_iter().map(told).collect()
        };
        for (device, policy) in &given_up {
            self.emit(device.as_ref().map(|d| &d.desc().name), || EventKind::Policy { policy: policy.clone() });
        }
        !given_up.is_empty()
    }

    /// Probes the device that has waited longest. False when there was none, and from inside driver code.
    pub fn step(self: &Arc<Self>) -> bool {
        !self.is_inside() && self.from_outside(|| self.step_into(&mut ProbeStats::default()))
    }

    fn step_into(self: &Arc<Self>, done: &mut ProbeStats) -> bool {
        let next = {
            let mut r = self.registry.lock();
            r.dequeue(&self.instrument).map(|node| (node, r.device(node).cloned()))
        };
        let Some((node, device)) = next else { return false };
        let attempt = device.map_or(Attempt::Nothing, |d| self.attempt(&d, &d.acquire(self, "a probe")));
        self.registry.lock().looked_at(node);
        match attempt {
            Attempt::Nothing => {}
            Attempt::Waiting(_) => done.waiting += 1,
            Attempt::Bound => {
                done.attempts += 1;
                done.bound += 1;
            }
            Attempt::Deferred(_) => {
                done.attempts += 1;
                done.waiting += 1;
            }
            Attempt::Failed(_) => {
                done.attempts += 1;
                done.failed += 1;
            }
        }
        true
    }

    /// Tries the drivers that match `device`, whose lock the caller holds.
    fn attempt(self: &Arc<Self>, device: &Arc<Device>, _: &DeviceLock<'_>) -> Attempt {
        if device.phase() != Phase::Unbound || device.is_removed() {
            return Attempt::Nothing;
        }
        let (candidates, missing, arrivals) = {
            let mut r = self.registry.lock();
            let c = r.candidates(device);
            // What was said of the last attempt is void.
            r.refusals.remove(&device.node());
            r.graph.retain_requests_of(device.node(), |driver| c.iter().any(|d| d.name() == driver));
            r.tidy(self.supplies());
            let missing: Vec<NodeId> = if c.is_empty() { Vec::new() } else { r.graph.missing(device.node()) };
            if missing.is_empty() {
                r.waiting.remove(&device.node());
            } else {
                r.waiting.insert(device.node());
            }
            (c, missing, r.graph.arrivals())
        };
        let Some(first) = candidates.first() else { return Attempt::Nothing };
        if !missing.is_empty() {
            self.tell_deferred(device, Some(first.name()), &missing);
            return Attempt::Waiting(missing);
        }
        for driver in &candidates {
            match self.begin_binding(device, driver) {
                Ok(()) => return Attempt::Bound,
                Err((ProbeError::NoDevice, _)) => {}
                Err((ProbeError::Defer { on }, _)) => return self.defer(device, driver, on, arrivals),
                Err((error, before_bind)) => {
                    self.refused(device, driver.name(), &error, before_bind);
                    return Attempt::Failed(error);
                }
            }
        }
        Attempt::Failed(ProbeError::NoDevice)
    }

    fn defer(&self, device: &Device, driver: &Arc<dyn AnyDriver>, on: Missing, arrivals: u64) -> Attempt {
        let supplier = {
            let mut r = self.registry.lock();
            let supplier = match on {
                Missing::Node(node) => node,
                Missing::Condition(name) => r.condition(name),
            };
            let waits = r.graph.request_supplier(device.node(), supplier, driver.name());
            r.tidy(self.supplies());
            if !waits {
                // It is there. Only an arrival while the probe ran is worth another try; else the driver asks for more
                // than the supplier gives, and would do so for ever.
                if r.graph.arrived_since(supplier, arrivals) {
                    r.waiting.insert(device.node());
                    r.enqueue(device.node());
                    return Attempt::Deferred(supplier);
                }
                return Attempt::Failed(ProbeError::Defer { on });
            }
            r.waiting.insert(device.node());
            supplier
        };
        self.tell_deferred(device, Some(driver.name()), &[supplier]);
        Attempt::Deferred(supplier)
    }

    fn tell_deferred(&self, device: &Device, driver: Option<&'static str>, missing: &[NodeId]) {
        self.emit(Some(&device.desc().name), || EventKind::Deferred {
            driver: driver.map(Arc::from),
            on: missing.iter().map(|n| self.node_name(*n)).collect(),
        });
    }

    /// The lock of `device`, for a user who asks for a probe. From inside driver code it is not waited for: whoever
    /// holds it may wait for that code.
    fn lock_to_probe<'d>(&self, device: &'d Device) -> Result<DeviceLock<'d>, BindError> {
        if self.is_inside() {
            device
                .try_acquire("a bind", self.env().now())
                .ok_or_else(|| BindError::Underway { device: device.name().into() })
        } else {
            Ok(device.acquire(self, "a bind"))
        }
    }

    /// Binds `driver` to `device` now (a write to `bind`). A bind that has to wait is not queued.
    pub fn bind(self: &Arc<Self>, device: &str, driver: &str) -> Result<(), BindError> {
        self.run_queued();
        let outcome = self.bind_here(device, driver);
        self.run_queued();
        outcome
    }

    fn bind_here(self: &Arc<Self>, device: &str, driver: &str) -> Result<(), BindError> {
        let (device, driver) = {
            let r = self.registry.lock();
            let d = r.drivers.get(driver).cloned().ok_or_else(|| BindError::NoDriver(driver.into()))?;
            (r.device_named(device).cloned().ok_or_else(|| BindError::NoDevice(device.into()))?, d)
        };
        let _lock = self.lock_to_probe(&device)?;
        let _inside = self.enter();
        if device.is_removed() {
            return Err(BindError::NoDevice(device.name().into()));
        }
        if !matches(&device, &driver) {
            return Err(BindError::NoMatch { device: device.name().into(), driver: driver.name().into() });
        }
        if let Some(holder) = device.driver() {
            return Err(BindError::Busy { device: device.name().into(), driver: holder });
        }
        let misses = {
            let mut r = self.registry.lock();
            r.graph.retain_requests_of(device.node(), |asker| asker == driver.name());
            r.tidy(self.supplies());
            r.graph.missing_count(device.node()) != 0
        };
        if misses {
            self.break_cycles();
        }
        let missing: Vec<String> = {
            let r = self.registry.lock();
            r.graph.missing(device.node()).into_iter().map(|n| r.nodes.name(n)).collect()
        };
        if !missing.is_empty() {
            return Err(BindError::Deferred { device: device.name().into(), missing });
        }
        self.begin_binding(&device, &driver).map_err(|(error, _)| match error {
            ProbeError::Defer { on: Missing::Node(n) } => {
                BindError::Deferred { device: device.name().to_string(), missing: Vec::from([self.node_name(n)]) }
            }
            error => BindError::Probe { device: device.name().to_string(), error },
        })
    }

    /// Unbinds `device` from `driver` (a write to `unbind`), its consumers first. Once it is held by that driver this
    /// cannot fail.
    ///
    /// Returns when everything is given back. Called from inside driver code (of whatever device) it returns at once: the
    /// unbind is queued, and carried out when that code has come out.
    pub fn unbind(self: &Arc<Self>, device: &str, driver: &str) -> Result<(), UnbindError> {
        let found = self.device(device).ok_or_else(|| UnbindError::NoDevice(device.into()))?;
        let not_held = || UnbindError::NotHeld { device: device.into(), driver: driver.into() };
        if self.is_inside() && found.driver() != Some(driver) {
            return Err(not_held());
        }
        let request = Request::Unbind { device: Arc::clone(&found), driver: driver.into() };
        let ended = self.queue_if_inside(request).is_ok()
            || self.from_outside(|| self.end_binding(&found, Cause::Unbind, Some(driver)));
        if ended { Ok(()) } else { Err(not_held()) }
    }

    /// Probes `device` now with the drivers that match it (a write to `drivers_probe`), whether autoprobe is on or not.
    /// True when it was bound here; false when it was bound already, nothing matched, or no driver found its device. A
    /// device that has to wait is woken like any other.
    pub fn probe(self: &Arc<Self>, device: &str) -> Result<bool, BindError> {
        let found = self.device(device).ok_or_else(|| BindError::NoDevice(device.into()))?;
        let deferred = |missing: Vec<NodeId>| BindError::Deferred {
            device: device.into(),
            missing: missing.into_iter().map(|n| self.node_name(n)).collect(),
        };
        self.run_queued();
        let attempt = {
            let lock = self.lock_to_probe(&found)?;
            let _inside = self.enter();
            self.attempt(&found, &lock)
        };
        self.run_queued();
        match attempt {
            Attempt::Bound => Ok(true),
            Attempt::Nothing | Attempt::Failed(ProbeError::NoDevice) => Ok(false),
            Attempt::Waiting(missing) => Err(deferred(missing)),
            Attempt::Deferred(supplier) => Err(deferred(Vec::from([supplier]))),
            Attempt::Failed(error) => Err(BindError::Probe { device: device.into(), error }),
        }
    }

    /// Under [`AbsentSuppliers::DoWithout`]: lets consumers do without suppliers that have no device or no driver.
    /// Returns how many links were given up.
    pub fn stop_waiting(self: &Arc<Self>) -> u64 {
        if self.policy().absent_suppliers == AbsentSuppliers::Wait {
            return 0;
        }
        let mut given_up = Vec::new();
        {
            let mut r = self.registry.lock();
            let devices: Vec<_> = r.by_node.values().cloned().collect();
            for device in devices {
                for supplier in r.graph.missing(device.node()) {
                    let translation =
                        device.desc().suppliers.iter().any(|s| s.node == supplier && s.kind == SupplierKind::Iommu);
                    if r.is_condition(supplier) {
                        // Its driver insists.
                        continue;
                    }
                    let absent = r.device(supplier).is_none_or(|d| r.candidates(d).is_empty());
                    if absent && !translation {
                        if r.graph.ignore(device.node(), supplier) {
                            r.enqueue(device.node());
                        }
                        given_up.push((Arc::clone(&device), r.nodes.name(supplier)));
                    }
                }
            }
        }
        for (device, supplier) in &given_up {
            self.emit(Some(&device.desc().name), || EventKind::Policy { policy: alloc::format!("without {supplier}") });
        }
        given_up.len() as u64
    }
}

fn matches(device: &Device, driver: &Arc<dyn AnyDriver>) -> bool {
    if let Some(name) = device.driver_override() {
        return &*name == driver.name();
    }
    let listed = |c: &str| device.desc().compatible.iter().any(|d| &**d == c);
    driver.matches().iter().any(|Match::Compatible(c)| listed(c))
}
