//! Which lines are on, for whom, and which stay on because the device behind them may still run.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Supply, SupplyError};
use crate::binding::HoldingKind;
use crate::device::{NodeId, SupplierKind};
use crate::machine::Machine;
use crate::sync::Mutex;

/// A clock, power domain or reset line.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Line {
    pub(crate) provider: NodeId,
    pub(crate) kind: SupplierKind,
    pub(crate) args: Vec<u32>,
}

impl Line {
    /// What a use of it is on a ledger.
    pub(crate) fn holding(&self) -> HoldingKind {
        match self.kind {
            SupplierKind::Clock => HoldingKind::Clock,
            SupplierKind::Power => HoldingKind::Power,
            _ => HoldingKind::Reset,
        }
    }
}

/// A clock, power domain or reset line that stays on although nobody is bound to it: its device was not shown to be
/// quiet, or it feeds a supplier of such a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptSupply {
    /// Name of the device.
    pub device: String,
    /// Clock, power or reset.
    pub kind: HoldingKind,
    /// Label or path of the provider.
    pub supplier: String,
    /// Which of the provider's lines: the specifier cells.
    pub args: Vec<u32>,
}

#[derive(Default)]
struct Inner {
    /// Bindings that use a line.
    users: BTreeMap<Line, u32>,
    /// Lines that are kept on, by the device that they are kept for: at most those that its firmware node lists.
    kept: BTreeSet<(NodeId, Line)>,
}

impl Inner {
    fn is_kept(&self, line: &Line) -> bool {
        self.kept.iter().any(|(_, l)| l == line)
    }

    /// Counts one user less. True when it was the last one.
    fn leave(&mut self, line: &Line) -> bool {
        match self.users.get_mut(line) {
            Some(users) if *users > 1 => {
                *users -= 1;
                false
            }
            _ => {
                self.users.remove(line);
                true
            }
        }
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

    /// One more user of `line`: a binding of `device`. It takes over what was kept on for the device.
    pub(super) fn take(&self, device: NodeId, line: &Line, supply: &dyn Supply) -> Result<(), SupplyError> {
        // Lock order: a supply's own lock comes after this one; `switch` must not call the core.
        let mut inner = self.0.lock();
        let users = inner.users.get(line).copied().unwrap_or(0);
        if users == 0 {
            // Also a line that is kept on: its provider may have been unbound and bound meanwhile.
            supply.switch(line.kind, &line.args, true)?;
        }
        inner.users.insert(line.clone(), users + 1);
        inner.kept.remove(&(device, line.clone()));
        Ok(())
    }

    /// One user less; the last one switches off what is not kept on.
    pub(super) fn put(&self, line: &Line, supply: &dyn Supply) {
        let mut inner = self.0.lock();
        if inner.leave(line) && !inner.is_kept(line) {
            // A supply that does not answer stays on; nothing depends on it being off.
            let _ = supply.switch(line.kind, &line.args, false);
        }
    }

    /// One user less, and the line stays on for `device`.
    pub(super) fn keep(&self, device: NodeId, line: Line) {
        let mut inner = self.0.lock();
        inner.leave(&line);
        inner.kept.insert((device, line));
    }

    /// Whether lines are kept on for `device`: it may still run.
    pub(crate) fn keeps_for(&self, device: NodeId) -> bool {
        self.0.lock().kept.iter().any(|(d, _)| *d == device)
    }

    /// Whether lines that `provider` switches are kept on for others.
    pub(super) fn keeps_lines_of(&self, provider: NodeId) -> bool {
        self.0.lock().kept.iter().any(|(_, l)| l.provider == provider)
    }

    /// Whether `line` has one user, and is not kept on for another device than `device`.
    pub(super) fn is_own(&self, device: NodeId, line: &Line) -> bool {
        let inner = self.0.lock();
        inner.users.get(line) == Some(&1) && !inner.kept.iter().any(|(d, l)| l == line && *d != device)
    }

    /// `device` was shown to be quiet, or is gone: what is still kept on for it is switched off. A line whose provider
    /// is not bound stays as it is, and is not ours any more.
    pub(crate) fn give_back(&self, machine: &Machine, device: NodeId) {
        let mut inner = self.0.lock();
        let mine: Vec<Line> = inner.kept.iter().filter(|(d, _)| *d == device).map(|(_, l)| l.clone()).collect();
        // Reset lines first, power last: as on the way back.
        for line in mine.into_iter().rev() {
            inner.kept.remove(&(device, line.clone()));
            let supply: Option<Arc<dyn Supply>> = machine.providers.get(line.provider);
            if let Some(supply) = supply.filter(|_| !inner.users.contains_key(&line) && !inner.is_kept(&line)) {
                let _ = supply.switch(line.kind, &line.args, false);
            }
        }
    }

    /// What is kept on: the device, and the line.
    pub(crate) fn kept(&self) -> Vec<(NodeId, Line)> {
        self.0.lock().kept.iter().cloned().collect()
    }
}
