//! Table of supply lines: their users, and lines pinned on because a device may still run.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::{LineUse, Supply, SupplyError};
use crate::binding::ResourceKind;
use crate::claim::{Conflict, Holder, Mode};
use crate::device::{NodeId, SupplierKind};
use crate::sync::{LockLevel, Mutex, SpinLock};
use crate::system::System;

/// A clock, power domain, reset line or regulator.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Line {
    pub(crate) provider: NodeId,
    pub(crate) kind: SupplierKind,
    pub(crate) args: Vec<u32>,
    /// The node that firmware refers to: the provider's, or one below it.
    pub(crate) target: NodeId,
}

impl Line {
    /// Kind of a ledger entry for a use of it.
    pub(crate) fn resource_kind(&self) -> ResourceKind {
        match self.kind {
            SupplierKind::Clock => ResourceKind::Clock,
            SupplierKind::Power => ResourceKind::Power,
            SupplierKind::Reset => ResourceKind::Reset,
            _ => ResourceKind::Regulator,
        }
    }

    /// Place of its kind in the order in which a binding takes its lines; regulators are the driver's, which comes last.
    const fn step(&self) -> u8 {
        match self.kind {
            SupplierKind::Power => 0,
            SupplierKind::Clock => 1,
            SupplierKind::Reset => 2,
            _ => 3,
        }
    }

    /// Conflict with a line that is pinned for `device`.
    fn pinned_conflict(&self, machine: &System, device: NodeId) -> Conflict {
        let holder = Holder::new(&machine.node_name(device).into(), "not shown to be quiesced");
        Conflict { subject: self.subject(machine), holder, mode: Mode::Shared("") }
    }

    fn switch(&self, supply: &dyn Supply, on: bool) -> Result<(), SupplyError> {
        supply.switch_node(self.target, self.kind, &self.args, on)
    }
}

/// Supply line that stays on without a binding: its device was not shown to be quiesced, or it feeds a supplier of such
/// a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PinnedSupply {
    /// Name of the device.
    pub device: String,
    /// Clock, power, reset or regulator.
    pub kind: ResourceKind,
    /// Label or path of the provider.
    pub supplier: String,
    /// Specifier cells of the line.
    pub args: Vec<u32>,
}

/// Voltage range in microvolts, and its requester.
type Request = (u32, u32, Holder);

#[derive(Default)]
struct Inner {
    /// Devices whose bindings use a line.
    users: BTreeMap<Line, BTreeSet<NodeId>>,
    /// Pinned lines, by device: at most those that its binding used.
    pinned: BTreeSet<(NodeId, Line)>,
    /// Reset lines whose only user holds its device in reset.
    asserted: BTreeSet<Line>,
    /// Voltage requests of the users of each regulator.
    voltages: BTreeMap<Line, BTreeMap<NodeId, Request>>,
}

impl Inner {
    fn is_pinned(&self, line: &Line) -> bool {
        self.pinned.iter().any(|(_, l)| l == line)
    }

    fn pinned_for_other(&self, device: NodeId, line: &Line) -> Option<NodeId> {
        self.pinned.iter().find(|(d, l)| l == line && *d != device).map(|(d, _)| *d)
    }

    /// Removes the user `device`. True when it was the last one.
    fn remove_user(&mut self, device: NodeId, line: &Line) -> bool {
        let Some(users) = self.users.get_mut(line) else { return true };
        users.remove(&device);
        let last = users.is_empty();
        if last {
            self.users.remove(line);
            self.asserted.remove(line);
        }
        last
    }
}

/// Supply lines of a machine.
pub(crate) struct Supplies {
    /// Held while lines are switched and their users change, so that both change together. A switch may wait for I/O.
    switching: Mutex<()>,
    /// Changed with `switching` held only. A lock of its own, so that readers do not wait for I/O.
    inner: SpinLock<Inner>,
}

impl Default for Supplies {
    fn default() -> Self {
        Self { switching: Mutex::new(()).at(LockLevel::Supplies), inner: SpinLock::default() }
    }
}

impl Supplies {
    /// Number of lines that are on, for leak checks.
    pub(crate) fn in_use(&self) -> usize {
        let inner = self.inner.lock();
        let pinned: BTreeSet<&Line> =
            inner.pinned.iter().map(|(_, l)| l).filter(|l| !inner.users.contains_key(l)).collect();
        inner.users.len() + pinned.len()
    }

    /// Adds a use of `line` by the binding of `device`. A pin of the line for the device ends.
    pub(super) fn get(&self, device: NodeId, line: &Line, supply: &dyn Supply) -> Result<(), SupplyError> {
        // Lock order: a supply's own lock comes after this one; `switch` must not call the core.
        let _switching = self.switching.lock();
        let is_off = |inner: &Inner| !inner.users.contains_key(line) || inner.asserted.contains(line);
        if is_off(&self.inner.lock()) {
            // Switched on even if pinned, because its provider may have been rebound since. A line that its only user
            // so far holds in reset is released: that device does nothing before it is started again.
            line.switch(supply, true)?;
        }
        let mut inner = self.inner.lock();
        inner.asserted.remove(line);
        inner.users.entry(line.clone()).or_default().insert(device);
        inner.pinned.remove(&(device, line.clone()));
        Ok(())
    }

    /// Removes the use of `line` by the binding of `device`; the last one switches it off unless it is pinned.
    pub(super) fn put(&self, device: NodeId, line: &Line, supply: &dyn Supply) {
        let _switching = self.switching.lock();
        let is_unused = {
            let mut inner = self.inner.lock();
            inner.remove_user(device, line) && !inner.is_pinned(line)
        };
        if is_unused {
            // A supply that does not respond stays on; nothing depends on it being off.
            let _ = line.switch(supply, false);
        }
    }

    /// As [`put`](Self::put), but pins the line for `device` instead of switching it off.
    pub(super) fn put_pinned(&self, device: NodeId, line: Line) {
        let _switching = self.switching.lock();
        let mut inner = self.inner.lock();
        inner.remove_user(device, &line);
        inner.pinned.insert((device, line));
    }

    /// True when lines are pinned for `device`, which may still run.
    pub(crate) fn has_pinned_for(&self, device: NodeId) -> bool {
        self.inner.lock().pinned.iter().any(|(d, _)| *d == device)
    }

    /// True when lines are pinned for `node`, or lines of `node` for other devices.
    pub(crate) fn is_pinned_at(&self, node: NodeId) -> bool {
        self.inner.lock().pinned.iter().any(|(d, l)| [*d, l.provider, l.target].contains(&node))
    }

    /// True when lines of `provider` are pinned for other devices.
    pub(super) fn pins_lines_of(&self, provider: NodeId) -> bool {
        self.inner.lock().pinned.iter().any(|(_, l)| l.provider == provider)
    }

    /// Conflict with another, unbound device for which `line` is pinned.
    pub(super) fn pinned_for_other(&self, machine: &System, device: NodeId, line: &Line) -> Option<Conflict> {
        let other = self.inner.lock().pinned_for_other(device, line)?;
        Some(line.pinned_conflict(machine, other))
    }

    /// True when nobody else holds the reset lines `uses`, at this moment.
    pub(super) fn may_assert(&self, machine: &System, uses: &[Arc<LineUse>]) -> bool {
        let pinned = |used: &LineUse| self.inner.lock().pinned_for_other(used.device, &used.line).is_some();
        uses.iter()
            .all(|used| machine.other_holder(used.claim.subject(), used.claim.holder()).is_none() && !pinned(used))
    }

    /// Asserts (true) or releases (false) the reset lines of one binding, once for each of `steps`. No other holder may
    /// exist for a line that is asserted.
    ///
    /// Checked and switched under one lock: a user that is added concurrently finds the line asserted, and releases it.
    pub(super) fn drive_reset(
        &self,
        machine: &System,
        uses: &[Arc<LineUse>],
        steps: &[bool],
    ) -> Result<(), SupplyError> {
        let switching = self.switching.lock();
        for used in uses.iter().filter(|_| steps.contains(&true)) {
            if let Some(conflict) = machine.other_holder(used.claim.subject(), used.claim.holder()) {
                return Err(conflict.into());
            }
            let other = self.inner.lock().pinned_for_other(used.device, &used.line);
            if let Some(other) = other {
                // Released before the name is looked up: the lock of the registry comes before this one.
                drop(switching);
                return Err(used.line.pinned_conflict(machine, other).into());
            }
        }
        for assert in steps {
            for used in uses {
                used.line.switch(&*used.supply, !assert)?;
                let mut inner = self.inner.lock();
                if *assert {
                    inner.asserted.insert(used.line.clone());
                } else {
                    inner.asserted.remove(&used.line);
                }
            }
        }
        Ok(())
    }

    /// Requests a voltage from `min` to `max` microvolts for the user `used`, within the requests of all others.
    pub(super) fn set_voltage(&self, used: &LineUse, min: u32, max: u32) -> Result<u32, SupplyError> {
        let _inside = used.claim.enter().ok_or(SupplyError::Gone)?;
        if min > max {
            return Err(SupplyError::Voltage { min, max });
        }
        let _switching = self.switching.lock();
        let (mut low, mut high) = (min, max);
        let others = |(device, _): &(&NodeId, _)| **device != used.device;
        for (_, (from, to, holder)) in self.inner.lock().voltages.get(&used.line).into_iter().flatten().filter(others) {
            (low, high) = (low.max(*from), high.min(*to));
            if low > high {
                let subject = used.claim.subject().clone();
                return Err(Conflict { subject, holder: holder.clone(), mode: Mode::Shared("") }.into());
            }
        }
        let set = used.supply.set_voltage(used.line.target, &used.line.args, low, high)?;
        let request = (min, max, used.claim.holder().clone());
        self.inner.lock().voltages.entry(used.line.clone()).or_default().insert(used.device, request);
        Ok(set)
    }

    /// Removes the voltage request of `device` for `line`. The voltage stays as it is.
    pub(super) fn clear_voltage(&self, device: NodeId, line: &Line) {
        let _switching = self.switching.lock();
        let mut inner = self.inner.lock();
        if let Some(asked) = inner.voltages.get_mut(line) {
            asked.remove(&device);
            if asked.is_empty() {
                inner.voltages.remove(line);
            }
        }
    }

    /// Releases the lines pinned for `device`, which has stopped, unless it supplies pinned lines itself.
    pub(crate) fn release_on_stop(&self, machine: &System, device: NodeId) {
        if !self.pins_lines_of(device) {
            self.release_pinned(machine, device);
        }
    }

    /// Releases the lines pinned for `device`, which was shown to be quiesced or is gone, and switches them off if
    /// unused. A line whose provider is not bound stays as it is, without a pin.
    pub(crate) fn release_pinned(&self, machine: &System, device: NodeId) {
        let _switching = self.switching.lock();
        let of_device = |(d, line): &(NodeId, Line)| (*d == device).then(|| line.clone());
        let mut mine: Vec<Line> = self.inner.lock().pinned.iter().filter_map(of_device).collect();
        // Reset lines before clocks, power last: the order of unwinding, whoever provides them.
        mine.sort_by_key(|line| Reverse(line.step()));
        for line in mine {
            let is_unused = {
                let mut inner = self.inner.lock();
                inner.pinned.remove(&(device, line.clone()));
                !inner.users.contains_key(&line) && !inner.is_pinned(&line)
            };
            let supply: Option<Arc<dyn Supply>> = machine.providers.get(line.provider);
            if let Some(supply) = supply.filter(|_| is_unused) {
                let _ = line.switch(&*supply, false);
            }
        }
    }

    /// Pinned lines, with their devices.
    pub(crate) fn pinned(&self) -> Vec<(NodeId, Line)> {
        self.inner.lock().pinned.iter().cloned().collect()
    }
}
