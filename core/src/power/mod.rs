//! Power domains, clocks and reset lines, switched on by use count before probe and off on the way back.

mod lines;
#[cfg(all(test, not(loom)))]
mod tests;

pub use lines::KeptSupply;
pub(crate) use lines::{Line, Supplies};

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::binding::{Bound, Entry, HoldingKind, ResourceError, WayBack};
use crate::device::SupplierKind;
use crate::driver::Quiet;
use crate::env::Site;
use crate::event::Outcome;
use crate::mutant::Mutant;
use crate::sync::atomic::Ordering;

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
/// The core counts users: `switch` is called for the first and the last of them. What is on, or off, already may be asked
/// to be so once more. A driver that leaves must leave its lines as they are: a device that could not be stopped may run
/// on them.
pub trait Supply: Send + Sync {
    /// Switches what `args` (the specifier cells) names: a clock runs, a power domain is powered, a reset line is
    /// released when `on`.
    fn switch(&self, kind: SupplierKind, args: &[u32], on: bool) -> Result<(), SupplyError>;
}

/// Switches on everything that the device of `bound` lists under `kind`, in firmware order. What was kept on since its
/// last binding is this one's from now on.
pub(crate) fn acquire(bound: &Bound, kind: SupplierKind, site: Site) -> Result<(), ResourceError> {
    for need in bound.desc().suppliers.iter().filter(|s| s.kind == kind) {
        let machine = bound.machine();
        if machine.is_ignored(bound.device().node(), need.node) {
            continue;
        }
        bound.check(site)?;
        let supply = machine.providers.get::<dyn Supply>(need.node).ok_or(ResourceError::NotProvided)?;
        let line = Line { provider: need.node, kind, args: need.args.clone() };
        let seat = bound.seat()?;
        machine.supplies.take(bound.device().node(), &line, &*supply)?;
        if machine.is_mutant(Mutant::SupplyLeaked) {
            bound.check(Site::LedgerEntry)?;
        }
        bound.push_seated(seat, 0, SupplyEntry { line, supply, name: machine.node_name(need.node) });
    }
    Ok(())
}

/// Ledger entry of one use of one supply.
struct SupplyEntry {
    line: Line,
    supply: Arc<dyn Supply>,
    name: String,
}

impl Entry for SupplyEntry {
    fn kind(&self) -> HoldingKind {
        self.line.holding()
    }

    fn what(&self) -> String {
        format!("{:?}", self.line.args)
    }

    fn backend(&self) -> String {
        self.name.clone()
    }

    fn release(self: Box<Self>, way: &mut WayBack<'_>) -> Outcome {
        let supplies = &way.bound.machine().supplies;
        let device = way.bound.device().node();
        // A device that may still run keeps what it runs on (P11), and what that runs on in turn.
        if way.quiet.is_none() || supplies.keeps_lines_of(device) {
            supplies.keep(device, self.line);
            return Outcome::Quarantined;
        }
        supplies.put(&self.line, &*self.supply);
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
            let line = Line { provider: need.node, kind: need.kind, args: need.args.clone() };
            if !machine.supplies.is_own(bound.device().node(), &line) {
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

/// Resets a device that a pass-through user has left, and that could not be reset when it was taken back: nobody else gets
/// it before that has worked (P12).
pub(crate) fn reset_after_user(bound: &Bound) -> Result<(), ResourceError> {
    let left = &bound.device().left_by_user;
    if !left.load(Ordering::Acquire) {
        return Ok(());
    }
    let line = ResetLine::of(bound).ok_or(ResourceError::NotReset(SupplyError::NoSuchLine))?;
    bound.quiet(line.pulse().map_err(ResourceError::NotReset)?);
    left.store(false, Ordering::Release);
    Ok(())
}

/// Stops a device that its driver could not stop, by holding it in reset, if it has a reset line of its own.
pub(crate) fn force_quiet(bound: &Bound) -> Option<Quiet> {
    // A provider whose lines are kept on for somebody must go on giving them.
    let needed = bound.machine().supplies.keeps_lines_of(bound.device().node());
    ResetLine::of(bound).filter(|_| !needed)?.hold().ok()
}
