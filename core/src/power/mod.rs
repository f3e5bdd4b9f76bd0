//! Power domains, clocks and reset lines, switched on by use count before probe and off on the way back.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::binding::{Bound, Entry, HoldingKind, ResourceError, WayBack};
use crate::device::{NodeId, SupplierKind};
use crate::driver::Quiet;
use crate::env::Site;
use crate::event::Outcome;
use crate::mutant::Mutant;
use crate::sync::Mutex;

/// Why a supply could not be switched.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SupplyError {
    /// The specifier names nothing that this provider has.
    #[error("no such clock, power domain or reset line")]
    NoSuchLine,
    /// The hardware did not confirm in time, or its registers are gone.
    #[error("the supply does not answer")]
    Dead,
}

/// A provider of clocks, power domains or reset lines; its driver offers it with
/// [`Bound::provide`] as `Arc<dyn Supply>`.
///
/// The core counts users: `switch` is called for the first and the last of them. A reset line that is held already may
/// be asked to be held once more.
pub trait Supply: Send + Sync {
    /// Switches what `args` (the specifier cells) names: a clock runs, a power domain is powered, a reset line is
    /// released when `on`.
    fn switch(&self, kind: SupplierKind, args: &[u32], on: bool) -> Result<(), SupplyError>;
}

type Key = (NodeId, SupplierKind, Vec<u32>);

/// Use counts of every supply of a machine.
#[derive(Default)]
pub(crate) struct Supplies(Mutex<BTreeMap<Key, u32>>);

impl Supplies {
    /// Lines that are on, for leak checks.
    pub(crate) fn in_use(&self) -> usize {
        self.0.lock().len()
    }
}

/// Switches on everything that the device of `bound` lists under `kind`, in firmware order.
pub(crate) fn acquire(bound: &Bound, kind: SupplierKind, site: Site) -> Result<(), ResourceError> {
    for need in bound.desc().suppliers.iter().filter(|s| s.kind == kind) {
        let machine = bound.machine();
        if machine.is_ignored(bound.device().node(), need.node) {
            continue;
        }
        bound.check(site)?;
        let supply = machine.providers.get::<dyn Supply>(need.node).ok_or(ResourceError::NotProvided)?;
        let key = (need.node, kind, need.args.clone());
        {
            // Lock order: a supply's own lock comes after the use counts; `switch` must not call the core.
            let mut counts = machine.supplies.0.lock();
            let users = counts.get(&key).copied().unwrap_or(0);
            if users == 0 {
                supply.switch(kind, &need.args, true)?;
            }
            counts.insert(key.clone(), users + 1);
        }
        if machine.is_mutant(Mutant::SupplyLeaked) {
            bound.check(Site::LedgerEntry)?;
        }
        bound.push(0, SupplyEntry { key, supply, name: machine.node_name(need.node) })?;
    }
    Ok(())
}

/// Ledger entry of one use of one supply.
struct SupplyEntry {
    key: Key,
    supply: Arc<dyn Supply>,
    name: String,
}

impl SupplyEntry {
    fn put(&self, bound: &Bound) {
        let mut counts = bound.machine().supplies.0.lock();
        let users = counts.get(&self.key).copied().unwrap_or(0);
        if users > 1 {
            counts.insert(self.key.clone(), users - 1);
            return;
        }
        counts.remove(&self.key);
        // A supply that does not answer stays on; nothing depends on it being off.
        let _ = self.supply.switch(self.key.1, &self.key.2, false);
    }
}

impl Entry for SupplyEntry {
    fn kind(&self) -> HoldingKind {
        match self.key.1 {
            SupplierKind::Clock => HoldingKind::Clock,
            SupplierKind::Power => HoldingKind::Power,
            _ => HoldingKind::Reset,
        }
    }

    fn what(&self) -> String {
        format!("{:?}", self.key.2)
    }

    fn backend(&self) -> String {
        self.name.clone()
    }

    fn release(self: Box<Self>, way: &mut WayBack<'_>) -> Outcome {
        self.put(way.bound);
        Outcome::Returned
    }
}

/// The reset lines of one device.
pub struct ResetLine(Vec<(Arc<dyn Supply>, Vec<u32>)>);

impl ResetLine {
    /// The lines that the device of `bound` lists and nobody else uses. `None` when there are none, or one is shared:
    /// pulling it would reset another device, too.
    pub(crate) fn of(bound: &Bound) -> Option<Self> {
        let machine = bound.machine();
        let mut lines = Vec::new();
        for need in bound.desc().suppliers.iter().filter(|s| s.kind == SupplierKind::Reset) {
            let users = machine.supplies.0.lock().get(&(need.node, need.kind, need.args.clone())).copied();
            if users != Some(1) {
                return None;
            }
            lines.push((machine.providers.get::<dyn Supply>(need.node)?, need.args.clone()));
        }
        (!lines.is_empty()).then_some(Self(lines))
    }

    /// Holds the device in reset: its bus cycles end.
    pub fn hold(&self) -> Result<Quiet, SupplyError> {
        self.0.iter().try_for_each(|(supply, args)| supply.switch(SupplierKind::Reset, args, false))?;
        Ok(Quiet::in_reset())
    }

    /// Resets the device: holds it in reset and lets it go. Afterwards it does nothing until it is started.
    pub fn pulse(&self) -> Result<Quiet, SupplyError> {
        self.hold()?;
        self.0.iter().try_for_each(|(supply, args)| supply.switch(SupplierKind::Reset, args, true))?;
        Ok(Quiet::in_reset())
    }
}

impl fmt::Debug for ResetLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(_, args)| args)).finish()
    }
}

/// Stops a device that its driver could not stop, by holding it in reset, if it has a reset line of its own.
pub(crate) fn force_quiet(bound: &Bound) -> Option<Quiet> {
    ResetLine::of(bound)?.hold().ok()
}
