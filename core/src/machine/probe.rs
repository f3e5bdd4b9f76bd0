//! Probing: the queue, and bind, unbind and probe as requested by users.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::lifecycle::BindingsOf;
use super::queued::Request;
use super::{AbsentSuppliers, BindError, Machine, UnbindError};
use crate::binding::Phase;
use crate::device::{Device, DeviceLock, NodeId, SupplierKind};
use crate::driver::{AnyDriver, Match, Missing, ProbeError};
use crate::event::{Cause, EventKind};
use crate::link::RelaxedLink;
use crate::promise::Promise;

/// Statistics of one [`Machine::settle`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProbeStats {
    /// Probes that were started.
    pub attempts: u64,
    /// Devices that were bound.
    pub bound: u64,
    /// Deferrals: devices that were taken off the queue and wait for suppliers.
    pub waiting: u64,
    /// Probes that failed.
    pub failed: u64,
}

/// Most members of a cycle that an event names.
const MEMBERS_SHOWN: usize = 8;

enum Attempt {
    Nothing,
    Waiting(Vec<NodeId>),
    Bound,
    Deferred(NodeId),
    Failed(ProbeError),
    /// The core refused the binding before the driver's probe.
    Refused(ProbeError),
}

impl Machine {
    /// Carries out queued requests and probes queued devices until no device is left that could be bound. Called from
    /// inside driver code it returns at once: it is queued, and runs once that code has returned.
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
            // Requests that driver code queued may have unbound devices that other drivers match.
            if self.registry.lock().queue.is_empty() {
                return all;
            }
        }
    }

    pub(super) fn settle_here(self: &Arc<Self>) -> ProbeStats {
        self.retry_for_frames();
        let mut done = ProbeStats::default();
        while self.step_into(&mut done) || self.any_waiting() && self.break_cycles() {}
        if done == ProbeStats::default() {
            return done;
        }
        let forgotten = self.registry.lock().forgotten();
        self.promises.check(Promise::OrderIndependent, forgotten.is_none(), || {
            alloc::format!("{:?} could be bound and was not woken", forgotten.map(|n| self.node_name(n)))
        });
        done
    }

    fn any_waiting(&self) -> bool {
        !self.registry.lock().waiting.is_empty()
    }

    /// Relaxes links that close a cycle of devices which wait for nothing but each other. False when there were none. The
    /// choice of links depends only on the links that are left, not on the order of arrival (P8).
    fn break_cycles(&self) -> bool {
        let relaxed: Vec<_> = {
            let mut r = self.registry.lock();
            let ready: BTreeSet<NodeId> = r
                .by_node
                .values()
                .filter(|d| d.phase() == Phase::Unbound && !d.is_removed() && r.has_candidates(d))
                .filter(|d| self.unmet(d.desc()).next().is_none())
                .map(|d| d.node())
                .collect();
            let links = r.graph.break_cycles(|n| ready.contains(&n));
            for link in links.iter().filter(|link| link.ready) {
                r.enqueue(link.consumer);
            }
            let describe = |l: RelaxedLink| {
                let members: Vec<_> = l.members.iter().take(MEMBERS_SHOWN).map(|n| r.nodes.name(*n)).collect();
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
            links.into_iter().map(describe).collect()
        };
        for (device, policy) in &relaxed {
            self.emit(device.as_ref().map(|d| &d.desc().name), || EventKind::Policy { policy: policy.clone() });
        }
        !relaxed.is_empty()
    }

    /// Before a probe by hand: `device` does not wait for the devices of a cycle with itself, as on Linux, also when some of
    /// them cannot be bound.
    fn leave_cycle(&self, device: &Device) {
        if self.registry.lock().graph.missing_count(device.node()) == 0 || self.break_cycles() {
            return;
        }
        let policies: Vec<String> = {
            let mut r = self.registry.lock();
            let links = r.graph.leave_cycle(device.node());
            links
                .into_iter()
                .map(|n| alloc::format!("does not wait for {}, which waits for it", r.nodes.name(n)))
                .collect()
        };
        for policy in policies {
            self.emit(Some(&device.desc().name), || EventKind::Policy { policy });
        }
    }

    /// Probes the device that was queued first. False when the queue is empty, and from inside driver code.
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
        self.registry.lock().probe_done(node);
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
            Attempt::Failed(_) | Attempt::Refused(_) => {
                done.attempts += 1;
                done.failed += 1;
            }
        }
        true
    }

    /// Probes with the drivers that match `device`, whose lock the caller holds.
    fn attempt(self: &Arc<Self>, device: &Arc<Device>, _: &DeviceLock<'_>) -> Attempt {
        if device.phase() != Phase::Unbound || device.is_removed() {
            return Attempt::Nothing;
        }
        let (candidates, missing, arrivals) = {
            let mut r = self.registry.lock();
            let c = r.candidates(device, Arc::clone);
            // The refusal of the last attempt no longer applies.
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
        let Some(first) = &candidates.first else { return Attempt::Nothing };
        if !missing.is_empty() {
            self.report_deferred(device, Some(first.name()), &missing);
            return Attempt::Waiting(missing);
        }
        for driver in candidates.iter() {
            match self.begin_binding(device, driver) {
                Ok(()) => return Attempt::Bound,
                Err((ProbeError::NoDevice, _)) => {}
                Err((ProbeError::Defer { on }, _)) => return self.defer(device, driver, on, arrivals),
                Err((error, before_bind)) => {
                    self.record_refusal(device, driver.name(), &error, before_bind);
                    return if before_bind { Attempt::Refused(error) } else { Attempt::Failed(error) };
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
                // The supplier is bound. Retry only if it arrived while the probe ran; else the driver asks for more than
                // the supplier offers, and would be retried for ever.
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
        self.report_deferred(device, Some(driver.name()), &[supplier]);
        Attempt::Deferred(supplier)
    }

    fn report_deferred(&self, device: &Device, driver: Option<&'static str>, missing: &[NodeId]) {
        self.emit(Some(&device.desc().name), || EventKind::Deferred {
            driver: driver.map(Arc::from),
            on: missing.iter().map(|n| self.node_name(*n)).collect(),
        });
    }

    /// Takes the lock of `device` for a probe that a user requests. Driver code does not wait for the lock: its holder may
    /// be waiting for that very code.
    fn lock_to_probe<'d>(&self, device: &'d Device) -> Result<DeviceLock<'d>, BindError> {
        if self.is_inside() {
            device
                .try_acquire("a bind", self.env().now())
                .ok_or_else(|| BindError::Underway { device: device.name().into() })
        } else {
            Ok(device.acquire(self, "a bind"))
        }
    }

    /// Binds `driver` to `device` now (a write to `bind`). A bind that would be deferred is not queued.
    ///
    /// # Errors
    ///
    /// [`BindError`]: an unknown device or driver, one that does not match, a device that is bound or (from inside driver
    /// code) being bound or unbound, a missing supplier, or the error of the probe, after which everything was released.
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
            self.leave_cycle(&device);
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

    /// Unbinds `device` from `driver` (a write to `unbind`), its consumers first. Once the device is bound to that
    /// driver this cannot fail.
    ///
    /// Returns when everything is released. Called from inside driver code (of any device) it returns at once: the unbind is
    /// queued, and carried out once that code has returned.
    ///
    /// # Errors
    ///
    /// [`UnbindError`]: an unknown device, or one that is not bound to `driver`.
    pub fn unbind(self: &Arc<Self>, device: &str, driver: &str) -> Result<(), UnbindError> {
        let found = self.device(device).ok_or_else(|| UnbindError::NoDevice(device.into()))?;
        let not_held = || UnbindError::NotHeld { device: device.into(), driver: driver.into() };
        if self.is_inside() && found.driver() != Some(driver) {
            return Err(not_held());
        }
        let request = Request::Unbind { device: Arc::clone(&found), driver: driver.into() };
        let ended = self.queue_if_inside(request).is_ok()
            || self.from_outside(|| self.end_binding(&found, Cause::Unbind, BindingsOf::Name(driver)));
        if ended { Ok(()) } else { Err(not_held()) }
    }

    /// Probes `device` now with the drivers that match it (a write to `drivers_probe`), whether autoprobe is on or not.
    /// True when this call bound it; false when it was bound already, no driver matched, or no driver found its device. A
    /// deferred device is woken like any other.
    ///
    /// # Errors
    ///
    /// [`BindError`]: an unknown device, one that is being bound or unbound (from inside driver code), a missing supplier, or
    /// the error of the probe.
    pub fn probe(self: &Arc<Self>, device: &str) -> Result<bool, BindError> {
        self.probe_here(device, |error| Err(BindError::Probe { device: device.into(), error }))
    }

    /// [`probe`](Self::probe), where an error of the driver's own is passed to `failed`.
    pub(crate) fn probe_here(
        self: &Arc<Self>,
        device: &str,
        failed: impl FnOnce(ProbeError) -> Result<bool, BindError>,
    ) -> Result<bool, BindError> {
        let found = self.device(device).ok_or_else(|| BindError::NoDevice(device.into()))?;
        let deferred = |missing: Vec<NodeId>| BindError::Deferred {
            device: device.into(),
            missing: missing.into_iter().map(|n| self.node_name(n)).collect(),
        };
        self.run_queued();
        let attempt = {
            let lock = self.lock_to_probe(&found)?;
            let _inside = self.enter();
            self.leave_cycle(&found);
            self.attempt(&found, &lock)
        };
        self.run_queued();
        match attempt {
            Attempt::Bound => Ok(true),
            Attempt::Nothing | Attempt::Failed(ProbeError::NoDevice) | Attempt::Refused(ProbeError::NoDevice) => {
                Ok(false)
            }
            Attempt::Waiting(missing) => Err(deferred(missing)),
            Attempt::Deferred(supplier) => Err(deferred(Vec::from([supplier]))),
            Attempt::Failed(error) => failed(error),
            Attempt::Refused(error) => Err(BindError::Probe { device: device.into(), error }),
        }
    }

    /// Under [`AbsentSuppliers::DoWithout`]: ignores links to suppliers that have no device or no driver.
    /// Returns the number of links that were ignored.
    pub fn stop_waiting(self: &Arc<Self>) -> u64 {
        if self.policy().absent_suppliers == AbsentSuppliers::Wait {
            return 0;
        }
        let mut ignored = Vec::new();
        {
            let mut r = self.registry.lock();
            let devices: Vec<_> = r.by_node.values().cloned().collect();
            for device in devices {
                for supplier in r.graph.missing(device.node()) {
                    let translation =
                        device.desc().suppliers.iter().any(|s| s.node == supplier && s.kind == SupplierKind::Iommu);
                    if r.is_condition(supplier) {
                        // Requested by the driver itself, not by firmware.
                        continue;
                    }
                    let absent = r.device(supplier).is_none_or(|d| !r.has_candidates(d));
                    if absent && !translation {
                        if r.graph.ignore(device.node(), supplier) {
                            r.enqueue(device.node());
                        }
                        ignored.push((Arc::clone(&device), r.nodes.name(supplier)));
                    }
                }
            }
        }
        for (device, supplier) in &ignored {
            self.emit(Some(&device.desc().name), || EventKind::Policy { policy: alloc::format!("without {supplier}") });
        }
        ignored.len() as u64
    }
}

fn matches(device: &Device, driver: &Arc<dyn AnyDriver>) -> bool {
    if let Some(name) = device.driver_override() {
        return &*name == driver.name();
    }
    let mut names = driver.matches().iter().filter_map(Match::name);
    names.any(|name| device.desc().compatible.iter().any(|listed| **listed == *name))
}
