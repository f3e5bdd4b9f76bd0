//! Which lines are on, for whom, and which stay on because the device behind them may still run.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{LineUse, Supply, SupplyError};
use crate::binding::ResourceKind;
use crate::claim::{Conflict, Holder, Mode};
use crate::device::{NodeId, SupplierKind};
use crate::machine::Machine;
use crate::sync::Mutex;

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
    /// What a use of it is on a ledger.
    pub(crate) fn holding(&self) -> ResourceKind {
        match self.kind {
            SupplierKind::Clock => ResourceKind::Clock,
            SupplierKind::Power => ResourceKind::Power,
            SupplierKind::Reset => ResourceKind::Reset,
            _ => ResourceKind::Regulator,
        }
    }

    /// In the way of others: it is kept on for `device`.
    fn kept_by(&self, machine: &Machine, device: NodeId) -> Conflict {
        let holder = Holder::new(&machine.node_name(device).into(), "not shown to be quiesced");
        Conflict { subject: self.subject(machine), holder, mode: Mode::Shared("") }
    }

    fn switch(&self, supply: &dyn Supply, on: bool) -> Result<(), SupplyError> {
        supply.switch_node(self.target, self.kind, &self.args, on)
    }
}

/// A line that stays on although nobody is bound to it: its device was not shown to be quiesced, or it feeds a supplier of such
/// a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PinnedSupply {
    /// Name of the device.
    pub device: String,
    /// Clock, power, reset or regulator.
    pub kind: ResourceKind,
    /// Label or path of the provider.
    pub supplier: String,
    /// Which of the provider's lines: the specifier cells.
    pub args: Vec<u32>,
}

/// A voltage range in microvolts, and who has asked for it.
type Request = (u32, u32, Holder);

#[derive(Default)]
struct Inner {
    /// Devices whose bindings use a line.
    users: BTreeMap<Line, BTreeSet<NodeId>>,
    /// Lines that are kept on, by the device that they are kept for: at most those that its binding used.
    kept: BTreeSet<(NodeId, Line)>,
    /// Reset lines whose only user holds its device in reset.
    asserted: BTreeSet<Line>,
    /// What the users of a regulator have asked for.
    voltages: BTreeMap<Line, BTreeMap<NodeId, Request>>,
}

impl Inner {
    fn is_kept(&self, line: &Line) -> bool {
        self.kept.iter().any(|(_, l)| l == line)
    }

    fn kept_for_another(&self, device: NodeId, line: &Line) -> Option<NodeId> {
        self.kept.iter().find(|(d, l)| l == line && *d != device).map(|(d, _)| *d)
    }

    /// Counts `device` out. True when it was the last user.
    fn leave(&mut self, device: NodeId, line: &Line) -> bool {
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

/// The lines of a machine.
#[derive(Default)]
pub(crate) struct Supplies(Mutex<Inner>);

impl Supplies {
    /// Lines that are on, for leak checks.
    pub(crate) fn in_use(&self) -> usize {
        let inner = self.0.lock();
        let kept: BTreeSet<&Line> =
            inner.kept.iter().map(|(_, l)| l).filter(|l| !inner.users.contains_key(l)).collect();
        inner.users.len() + kept.len()
    }

    /// A binding of `device` uses `line` from now on. It takes over what was kept on for the device.
    pub(super) fn take(&self, device: NodeId, line: &Line, supply: &dyn Supply) -> Result<(), SupplyError> {
        // Lock order: a supply's own lock comes after this one; `switch` must not call the core.
        let mut inner = self.0.lock();
        if !inner.users.contains_key(line) || inner.asserted.contains(line) {
            // Also a line that is kept on: its provider may have been unbound and bound meanwhile. And one that its only
            // user so far holds in reset: that device was reset, and does nothing before it is started again.
            line.switch(supply, true)?;
            inner.asserted.remove(line);
        }
        inner.users.entry(line.clone()).or_default().insert(device);
        inner.kept.remove(&(device, line.clone()));
        Ok(())
    }

    /// The binding of `device` uses `line` no more; the last one switches off what is not kept on.
    pub(super) fn put(&self, device: NodeId, line: &Line, supply: &dyn Supply) {
        let mut inner = self.0.lock();
        if inner.leave(device, line) && !inner.is_kept(line) {
            // A supply that does not answer stays on; nothing depends on it being off.
            let _ = line.switch(supply, false);
        }
    }

    /// As [`put`](Self::put), and the line stays on for `device`.
    pub(super) fn keep(&self, device: NodeId, line: Line) {
        let mut inner = self.0.lock();
        inner.leave(device, &line);
        inner.kept.insert((device, line));
    }

    /// Whether lines are kept on for `device`: it may still run.
    pub(crate) fn keeps_for(&self, device: NodeId) -> bool {
        self.0.lock().kept.iter().any(|(d, _)| *d == device)
    }

    /// Whether lines are kept on for `node`, or lines of it for others.
    pub(crate) fn keeps_at(&self, node: NodeId) -> bool {
        self.0.lock().kept.iter().any(|(d, l)| [*d, l.provider, l.target].contains(&node))
    }

    /// Whether lines that `provider` switches are kept on for others.
    pub(super) fn keeps_lines_of(&self, provider: NodeId) -> bool {
        self.0.lock().kept.iter().any(|(_, l)| l.provider == provider)
    }

    /// Somebody else than `device`, unbound, whom `line` is kept on for.
    pub(super) fn kept_for_another(&self, machine: &Machine, device: NodeId, line: &Line) -> Option<Conflict> {
        let other = self.0.lock().kept_for_another(device, line)?;
        Some(line.kept_by(machine, other))
    }

    /// Asserts reset lines of one binding, or lets them go, in each of `steps`. Nobody else may hold one that is asserted.
    ///
    /// The look at the others and the switching are one step: who comes meanwhile finds the line asserted, and releases it.
    pub(super) fn drive(&self, machine: &Machine, uses: &[Arc<LineUse>], steps: &[bool]) -> Result<(), SupplyError> {
        let mut inner = self.0.lock();
        for used in uses.iter().filter(|_| steps.contains(&true)) {
            if let Some(conflict) = machine.other_holder(used.claim.subject(), used.claim.holder()) {
                return Err(conflict.into());
            }
            if let Some(other) = inner.kept_for_another(used.device, &used.line) {
                // Named without the lock: the registry's comes before it.
                drop(inner);
                return Err(used.line.kept_by(machine, other).into());
            }
        }
        for assert in steps {
            for used in uses {
                used.line.switch(&*used.supply, !assert)?;
                if *assert {
                    inner.asserted.insert(used.line.clone());
                } else {
                    inner.asserted.remove(&used.line);
                }
            }
        }
        Ok(())
    }

    /// The user `used` asks for a voltage from `min` to `max` microvolts, beside what others have asked for.
    pub(super) fn set_voltage(&self, used: &LineUse, min: u32, max: u32) -> Result<u32, SupplyError> {
        let _inside = used.claim.enter().ok_or(SupplyError::Gone)?;
        if min > max {
            return Err(SupplyError::Voltage { min, max });
        }
        let mut inner = self.0.lock();
        let asked = inner.voltages.entry(used.line.clone()).or_default();
        let (mut low, mut high) = (min, max);
        for (_, (from, to, holder)) in asked.iter().filter(|(device, _)| **device != used.device) {
            (low, high) = (low.max(*from), high.min(*to));
            if low > high {
                let subject = used.claim.subject().clone();
                return Err(Conflict { subject, holder: holder.clone(), mode: Mode::Shared("") }.into());
            }
        }
        let set = used.supply.set_voltage(used.line.target, &used.line.args, low, high)?;
        asked.insert(used.device, (min, max, used.claim.holder().clone()));
        Ok(set)
    }

    /// The binding of `device` asks for no voltage of `line` any more. It stays as it is set.
    pub(super) fn forget_voltage(&self, device: NodeId, line: &Line) {
        let mut inner = self.0.lock();
        if let Some(asked) = inner.voltages.get_mut(line) {
            asked.remove(&device);
            if asked.is_empty() {
                inner.voltages.remove(line);
            }
        }
    }

    /// `device` has stopped: what is kept on for it goes back, unless others run on what it supplies.
    pub(crate) fn stopped(&self, machine: &Machine, device: NodeId) {
        if !self.keeps_lines_of(device) {
            self.give_back(machine, device);
        }
    }

    /// `device` was shown to be quiesced, or is gone: what is still kept on for it is switched off. A line whose provider
    /// is not bound stays as it is, and is not ours any more.
    pub(crate) fn give_back(&self, machine: &Machine, device: NodeId) {
        let mut inner = self.0.lock();
        let mine: Vec<Line> = inner.kept.iter().filter(|(d, _)| *d == device).map(|(_, l)| l.clone()).collect();
        // Reset lines first, power last: as on the way back.
        for line in mine.into_iter().rev() {
            inner.kept.remove(&(device, line.clone()));
            let supply: Option<Arc<dyn Supply>> = machine.providers.get(line.provider);
            if let Some(supply) = supply.filter(|_| !inner.users.contains_key(&line) && !inner.is_kept(&line)) {
                let _ = line.switch(&*supply, false);
            }
        }
    }

    /// What is kept on: the device, and the line.
    pub(crate) fn kept(&self) -> Vec<(NodeId, Line)> {
        self.0.lock().kept.iter().cloned().collect()
    }
}
