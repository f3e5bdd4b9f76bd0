//! The two ends of a binding: its beginning under the device lock, and its end, consumers first.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::Machine;
use super::steps::{bring_up, quiesce_by_force};
use crate::binding::{self, AnyBinding, BindingState, Phase};
use crate::device::{Device, NodeId};
use crate::dma::check::Op;
use crate::driver::{AnyDriver, DmaOwner, ProbeError};
use crate::event::{Cause, EventKind};
use crate::instrument::CoveragePoint;
use crate::promise::Promise;
use crate::sync::atomic::Ordering;
use crate::sync::record_wait;
use crate::system::DeviceRegistry;
use crate::{dma, power};

/// The bindings that a request to end some means.
#[derive(Clone, Copy)]
pub(super) enum BindingsOf<'a> {
    /// Whichever there is.
    All,
    /// Those of whichever driver has this name, as users write it.
    Name(&'a str),
    /// Those of this driver, and of no later one of its name.
    Driver(&'a Arc<dyn AnyDriver>),
}

impl BindingsOf<'_> {
    /// True for a binding that is meant.
    pub(super) fn has(self, binding: &dyn AnyBinding) -> bool {
        match self {
            Self::All => true,
            Self::Name(name) => binding.driver() == name,
            Self::Driver(driver) => binding.driver_place() == driver.place(),
        }
    }

    /// True when these are the bindings of one driver only.
    fn names_one(self) -> bool {
        !matches!(self, Self::All)
    }
}

impl fmt::Display for BindingsOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("any driver"),
            Self::Name(name) => f.write_str(name),
            Self::Driver(driver) => f.write_str(driver.name()),
        }
    }
}

impl Machine {
    /// Binds `driver` to `device`. The caller holds the device lock and has seen that the device is unbound. An error
    /// comes with true when it arose before the event `Bind`.
    pub(super) fn begin_binding(
        self: &Arc<Self>,
        device: &Arc<Device>,
        driver: &Arc<dyn AnyDriver>,
    ) -> Result<(), (ProbeError, bool)> {
        let begun = self.probe_started();
        let bound = self.new_bound(Arc::clone(device), driver.name(), driver.dma());
        let binding = driver.binding(bound);
        {
            // Under the registry lock, so that a concurrent removal of the driver or the device either finds this
            // binding and ends it, or keeps it from beginning.
            let mut r = self.registry.lock();
            let registered = r.drivers.get(driver.name()).is_some_and(|d| Arc::ptr_eq(d, driver));
            if !registered || device.is_removed() {
                return Err((ProbeError::NoDevice, true));
            }
            r.waiting.remove(&device.node());
            device.set_phase(self, Phase::Probing);
            device.set_binding(Some(Arc::clone(&binding)));
        }
        match bring_up(self, &binding) {
            Ok(()) => {
                {
                    let mut r = self.registry.lock();
                    r.graph.consumer_bound(device.node());
                    r.refusals.remove(&device.node());
                    let seq = r.next_bound;
                    r.next_bound += 1;
                    r.bound.insert(seq, device.node());
                    // Relaxed: the registry lock orders it.
                    device.bound_seq.store(seq, Ordering::Relaxed);
                }
                // Relaxed: a flag that is set once, beside which nothing is read.
                device.was_bound.store(true, Ordering::Relaxed);
                device.set_phase(self, Phase::Bound);
                self.emit(Some(&device.desc().name), || EventKind::Bound { driver: driver.name().into() });
                self.arrived(device);
                Ok(())
            }
            Err(error) => {
                let error = self.with_holder(binding.bound(), self.with_node(error));
                let error = self.reject_own_child(binding.bound(), error);
                self.cover(CoveragePoint::Refused(error.errno()));
                let bound = binding.bound();
                // Acquire: pairs with the release in `publish`, which follows the ledger entry.
                let before_bind = !bound.bind_emitted.load(Ordering::Acquire);
                let not_bound = || EventKind::NotBound { driver: driver.name().into(), error: error.to_string() };
                device.set_phase(self, Phase::Releasing);
                self.unwind(&*binding);
                self.check_dma(|| Op::ProbeFailed { device: Arc::clone(&device.desc().name) });
                self.finish(device, &*binding);
                if before_bind && !matches!(error, ProbeError::Defer { .. } | ProbeError::NoDevice) {
                    bound.emit(|| EventKind::BindRefused { driver: driver.name().into(), error: error.to_string() });
                } else {
                    self.report_end(bound, not_bound);
                }
                self.probe_failed(device, begun);
                Err((error, before_bind))
            }
        }
    }

    /// Binding of `device` to `driver` before its first set-up step.
    pub(crate) fn new_bound(
        self: &Arc<Self>,
        device: Arc<Device>,
        driver: &'static str,
        owner: DmaOwner,
    ) -> BindingState {
        // A device that was not quiesced after its last binding may still use addresses of that one.
        let may_run = self.supplies().has_pinned_for(device.node());
        let registry: Arc<dyn DeviceRegistry> = Arc::<Self>::clone(self);
        BindingState::new(Arc::clone(&self.system), registry, device, driver, owner, may_run)
    }

    /// Reports the end of a binding whose beginning was reported: once, and after everything was released (P4).
    fn report_end(&self, bound: &BindingState, how: impl FnOnce() -> EventKind) {
        // AcqRel: pairs with the release in `publish`; the swap lets only one caller report.
        if bound.bind_emitted.swap(false, Ordering::AcqRel) {
            self.promises.check(Promise::NothingLeft, bound.ledger.len() == 0, || {
                alloc::format!("{}: its end was reported before everything was released", bound.name())
            });
            bound.emit(how);
        }
    }

    /// Empties the ledger of `binding`, and releases supplies pinned for its device when that is quiesced.
    fn unwind(&self, binding: &dyn AnyBinding) {
        if binding::unwind(binding, &quiesce_by_force).is_some() {
            // Supplies that an earlier binding had to pin, and that this binding did not take over.
            self.supplies().release_on_stop(self, binding.bound().device().node());
        }
    }

    /// Completes the end of a binding whose ledger is empty: the device is unbound.
    fn finish(&self, device: &Arc<Device>, binding: &dyn AnyBinding) {
        let bound = binding.bound();
        let left = self.left_behind(device, bound);
        self.promises.check(Promise::NothingLeft, left.is_empty(), || alloc::format!("{}: {left}", device.name()));
        self.promises.check(Promise::ForgetProof, bound.ledger.len() == 0 && !self.irqs().has_lines(device), || {
            alloc::format!("{}: the ledger is not empty, or an interrupt line is still held", device.name())
        });
        self.check_no_claims(bound);
        self.registry.lock().bound.remove(&device.bound_seq.load(Ordering::Relaxed));
        self.faults_end(&device.desc().name);
        device.set_binding(None);
        device.set_phase(self, Phase::Unbound);
    }

    /// Description of what a device still holds after unwinding; empty unless P4 is broken.
    fn left_behind(&self, device: &Device, bound: &BindingState) -> String {
        let mut left = Vec::new();
        if dma::holder(bound).is_some() {
            left.push("a translation");
        }
        if device.visible_driver.lock().is_some() {
            left.push("control-tree entries");
        }
        if self.irqs().has_lines(device) {
            left.push("an interrupt line");
        }
        if self.registry.lock().graph.busy_suppliers(device.node()).next().is_some() {
            left.push("links to suppliers");
        }
        if power::holds_lines(bound) {
            left.push("a supply");
        }
        if self.providers.offered_by(device.node()) {
            left.push("a service");
        }
        let claims = self.claims.held_by(bound.holder());
        let claims: Vec<String> = claims.iter().map(|subject| alloc::format!("a claim to {subject}")).collect();
        left.extend(claims.iter().map(String::as_str));
        left.join(", ")
    }

    /// Makes a device available to its consumers: wakes those that wait, and links those that reach its registers.
    pub(super) fn arrived(self: &Arc<Self>, device: &Arc<Device>) {
        let (wakes, cyclic) = {
            let mut r = self.registry.lock();
            let wakes = r.graph.supplier_arrives(device.node());
            for w in wakes.iter().filter(|w| w.ready) {
                r.enqueue(w.consumer);
            }
            let cyclic = self.link_peers_of(&mut r, device);
            let woken = wakes.into_iter().filter_map(|w| Some((r.device(w.consumer)?.clone(), w.ready)));
            (woken.collect::<Vec<_>>(), cyclic)
        };
        self.report_woken(&device.desc().name, &wakes);
        for peer in cyclic {
            self.unbind_cyclic_peer(peer, device);
        }
    }

    /// Ends the binding of `device`, if there is one and it is one `of` those that are meant. Consumers are
    /// unbound first (P6), without recursion: their chain may be as long as the machine has devices. True when this call
    /// ended it.
    pub(super) fn end_binding(self: &Arc<Self>, device: &Arc<Device>, cause: Cause, of: BindingsOf<'_>) -> bool {
        // The devices that wait for the end of the one below them.
        let mut above = Vec::new();
        let mut top = Arc::clone(device);
        let mut ended = false;
        loop {
            let root = above.is_empty();
            let (cause, of) = if root { (cause, of) } else { (Cause::SupplierLeaving, BindingsOf::All) };
            if of.names_one() && !top.binding().is_some_and(|b| of.has(&*b)) {
                self.restore_available(&top);
                return false;
            }
            let consumer = {
                let mut r = self.registry.lock();
                r.graph.supplier_leaves(top.node());
                // Any order is correct; one that does not depend on the order of arrival makes runs repeatable.
                r.graph.busy_consumers(top.node()).into_iter().max().and_then(|n| r.device(n).cloned())
            };
            if let Some(consumer) = consumer {
                above.push(core::mem::replace(&mut top, consumer));
                continue;
            }
            if let Some(done) = self.end_locked(&top, cause, of) {
                ended |= root && done;
                match above.pop() {
                    Some(supplier) => top = supplier,
                    None => return ended,
                }
            }
        }
    }

    /// One step of [`end_binding`](Self::end_binding), under the device lock. `None` when a consumer was bound meanwhile.
    pub(super) fn end_locked(self: &Arc<Self>, device: &Arc<Device>, cause: Cause, of: BindingsOf<'_>) -> Option<bool> {
        let _lock = device.acquire(self, "an unbind");
        let _waits = record_wait(|| alloc::format!("an unbind of {}", device.name()));
        if !matches!(device.phase(), Phase::Unbound | Phase::Bound) {
            self.end_abandoned(device);
            return Some(true);
        }
        let binding = device.binding().filter(|_| device.phase() == Phase::Bound);
        // Compared again under the lock: the device may be bound to another driver by now (`unlocked-unbind` in
        // docs/teardown-models.md).
        let Some(binding) = binding.filter(|b| of.has(&**b)) else {
            self.restore_available_locked(device);
            return Some(false);
        };
        {
            let mut r = self.registry.lock();
            // Checked again under the device lock: a consumer may have been bound before it was taken.
            r.graph.supplier_leaves(device.node());
            if !r.graph.busy_consumers(device.node()).is_empty() {
                return None;
            }
        }
        let name = binding.driver();
        self.promises.check(Promise::OneOwner, of.has(&*binding), || {
            alloc::format!("{}: unbound from {name} by a request that meant {of}", device.name())
        });
        device.set_phase(self, Phase::Quiescing);
        self.emit(Some(&device.desc().name), || EventKind::Unbind { driver: name.into(), cause });
        self.unwind(&*binding);
        self.check_dma(|| Op::Unbound { device: Arc::clone(&device.desc().name) });
        self.finish(device, &*binding);
        let used = {
            let mut r = self.registry.lock();
            r.graph.supplier_gone(device.node());
            !r.graph.busy_consumers(device.node()).is_empty()
        };
        self.promises.check(Promise::SuppliersOutlast, !used, || {
            alloc::format!("{}: unbound while a consumer is bound to it", device.name())
        });
        self.report_end(binding.bound(), || EventKind::Unbound { driver: name.into(), cause });
        self.resource_returned(device);
        Some(true)
    }

    /// Unwinds what is left of a binding whose driver has panicked under the device lock during set-up or tear-down. The
    /// caller holds that lock, so no other thread works on the binding.
    fn end_abandoned(&self, device: &Arc<Device>) {
        let Some(binding) = device.binding() else { return };
        if device.phase() != Phase::Releasing {
            device.set_phase(self, Phase::Releasing);
        }
        // It may have panicked before it came to them.
        dma::shut_users_out(binding.bound());
        binding.drop_data();
        self.unwind(&*binding);
        self.finish(device, &*binding);
        self.registry.lock().graph.supplier_gone(device.node());
        let driver = binding.driver().into();
        self.report_end(binding.bound(), || EventKind::NotBound { driver, error: "its driver panicked".into() });
        self.resource_returned(device);
    }

    /// Makes a device available to its consumers again after an unbind that does not apply to its binding.
    fn restore_available(self: &Arc<Self>, device: &Arc<Device>) {
        let _lock = device.acquire(self, "an unbind");
        self.restore_available_locked(device);
    }

    /// [`restore_available`](Self::restore_available) under the device lock.
    ///
    /// An unbound device has no busy links: a probe that fails releases them under this lock. Only a bug in the core leaves
    /// some (`mutants/links-left-on-early-exit.patch`), and [`end_binding`](Self::end_binding) of their supplier would then
    /// select this device for ever. So they are released here, and that loop terminates even then.
    fn restore_available_locked(self: &Arc<Self>, device: &Arc<Device>) {
        if device.phase() == Phase::Unbound {
            let mut r = self.registry.lock();
            let busy = r.graph.busy_suppliers(device.node()).next().is_some();
            if busy {
                r.graph.consumer_unbound(device.node());
                r.tidy(self.supplies());
            }
        }
        if device.phase() == Phase::Bound && !self.is_available(device.node()) {
            self.arrived(device);
        }
    }

    /// Sets the links of `consumer` to "consumer probing", or returns the first missing supplier.
    pub(crate) fn probe_begins(&self, consumer: NodeId) -> Option<NodeId> {
        let mut r = self.registry.lock();
        if r.graph.probe_begins(consumer) { None } else { r.graph.missing(consumer).first().copied() }
    }

    /// Releases the links of `consumer`.
    pub(crate) fn consumer_unbound(&self, consumer: NodeId) {
        let mut r = self.registry.lock();
        r.graph.consumer_unbound(consumer);
        r.tidy(self.supplies());
    }

    /// True when every supplier that `consumer` uses is still bound (P6).
    pub(crate) fn suppliers_alive(&self, consumer: NodeId) -> bool {
        let r = self.registry.lock();
        r.graph.busy_suppliers(consumer).all(|n| {
            r.is_condition(n)
                || r.device(n).is_some_and(|d| d.phase() == Phase::Bound || self.env.env_owned(&d.desc().compatible))
        })
    }

    pub(crate) fn is_available(&self, node: NodeId) -> bool {
        self.registry.lock().graph.is_available(node)
    }

    /// Ends every binding, the latest first.
    pub(super) fn shut_down(self: &Arc<Self>) {
        loop {
            let last = {
                let mut r = self.registry.lock();
                r.autoprobe = false;
                r.queue.clear();
                r.queued.clear();
                r.bound.iter().next_back().and_then(|(_, n)| r.device(*n).cloned())
            };
            let Some(device) = last else { break };
            if !self.end_binding(&device, Cause::DriverRemoved, BindingsOf::All) {
                break;
            }
        }
        // Bindings that a panicking driver has left behind are not in `bound`, and keep the machine alive, too.
        for device in self.devices().iter().filter(|d| d.phase() != Phase::Unbound) {
            self.end_binding(device, Cause::DriverRemoved, BindingsOf::All);
        }
    }
}
