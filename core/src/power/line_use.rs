//! Use of a supply line by one binding, with its ledger entry.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use super::{Line, Supply, SupplyError};
use crate::binding::{BindingState, Entry, ResourceError, ResourceKind, UnwindCtx};
use crate::claim::{Claim, Mode, Provider, Subject};
use crate::device::{NodeId, Supplier, SupplierKind};
use crate::event::Outcome;
use crate::instrument::FaultPoint;
use crate::sync::{LockLevel, Mutex, SpinLock};
use crate::system::System;

/// The line uses of a binding, each with a ledger entry. A leaf lock.
type LineUses = SpinLock<BTreeMap<Line, Arc<LineUse>>>;

/// Lines of `bound`, by name.
pub(super) fn line_uses(bound: &BindingState) -> Arc<LineUses> {
    bound.slots.get_or_default()
}

/// True while `bound` has any.
pub(crate) fn holds_lines(bound: &BindingState) -> bool {
    bound.slots.get::<LineUses>().is_some_and(|uses| !uses.lock().is_empty())
}

/// Use of a line by a binding. Its driver may switch it off and on.
pub(crate) struct LineUse {
    pub(super) line: Line,
    pub(super) supply: Arc<dyn Supply>,
    /// The binding's claim; its door is entered for each switch, and closed when the ledger entry is released.
    pub(super) claim: Arc<Claim>,
    /// The device that the line is switched for.
    pub(super) device: NodeId,
    /// Label or path of the provider.
    name: String,
    /// Enable count. The machine's table counts this use once while it is not 0. Lock order: before the table's.
    on: Mutex<u32>,
}

impl LineUse {
    /// The use of `line` by `bound`; made, switched off, if there is none.
    pub(super) fn of(bound: &BindingState, line: Line, supply: &Arc<dyn Supply>) -> Result<Arc<Self>, ResourceError> {
        if let Some(known) = line_uses(bound).lock().get(&line) {
            return Ok(Arc::clone(known));
        }
        let made = Self::new(bound, line.clone(), supply)?;
        let known = Arc::clone(line_uses(bound).lock().entry(line).or_insert_with(|| Arc::clone(&made)));
        if !Arc::ptr_eq(&known, &made) {
            // Another thread has made it concurrently.
            bound.system().release_claim(&made.claim);
            return Ok(known);
        }
        bound.push(0, LineEntry(Arc::clone(&made)))?;
        Ok(made)
    }

    fn new(bound: &BindingState, line: Line, supply: &Arc<dyn Supply>) -> Result<Arc<Self>, ResourceError> {
        let machine = bound.system();
        // A guest resets the device at any time, without regard for other users.
        let alone = line.kind == SupplierKind::Reset && bound.holder().is_pass_through();
        let mode = if alone { Mode::Exclusive } else { Mode::Shared("") };
        let device = bound.device().node();
        let claim = bound.claim(&line.subject(machine), mode)?;
        if let Some(conflict) = machine.supplies().pinned_for_other(machine, device, &line).filter(|_| alone) {
            machine.release_claim(&claim);
            bound.refuse(&conflict, "for a guest");
            return Err(ResourceError::Held(Box::new(conflict)));
        }
        let name = machine.node_name(line.provider);
        Ok(Arc::new(Self {
            line,
            supply: Arc::clone(supply),
            claim,
            device,
            name,
            on: Mutex::new(0).at(LockLevel::Supplies),
        }))
    }

    /// Switches the line on, or counts one more enable.
    pub(super) fn enable(&self, machine: &System) -> Result<(), SupplyError> {
        let _inside = self.claim.enter_for(machine, "switching it on").ok_or(SupplyError::Gone)?;
        let mut on = self.on.lock();
        if *on == 0 {
            machine.supplies().get(self.device, &self.line, &*self.supply)?;
        }
        *on = on.saturating_add(1);
        Ok(())
    }

    /// Undoes one [`enable`](Self::enable). The line stays on while others use it.
    pub(super) fn disable(&self, machine: &System) -> Result<(), SupplyError> {
        let _inside = self.claim.enter_for(machine, "switching it off").ok_or(SupplyError::Gone)?;
        let mut on = self.on.lock();
        *on = on.checked_sub(1).ok_or(SupplyError::Unbalanced)?;
        if *on == 0 {
            machine.supplies().put(self.device, &self.line, &*self.supply);
        }
        Ok(())
    }

    pub(super) fn is_on(&self) -> bool {
        *self.on.lock() != 0
    }
}

impl Line {
    /// The line of one of a device's suppliers, of the kind in firmware.
    pub(super) fn of(need: &Supplier, kind: SupplierKind) -> Self {
        Self { provider: need.node, kind, args: need.args.clone(), target: need.target }
    }

    /// Subject of its users' claims.
    pub(super) fn subject(&self, machine: &System) -> Subject {
        let name = machine.node_name(self.target).into();
        let provider = Provider { node: self.target, name };
        Subject::Supply { provider, kind: self.kind, args: self.args.clone() }
    }
}

/// Switches on all lines of `kind` that the device of `bound` lists, in firmware order. Lines that were pinned since
/// its last binding become uses of this one.
pub(crate) fn acquire(bound: &BindingState, kind: SupplierKind, point: FaultPoint) -> Result<(), ResourceError> {
    for need in bound.desc().suppliers.iter().filter(|s| s.kind == kind) {
        let machine = bound.system();
        if bound.registry().is_ignored(bound.device().node(), need.node) {
            continue;
        }
        bound.check(point)?;
        let supply = machine.providers.get::<dyn Supply>(need.node).ok_or(ResourceError::NotProvided)?;
        let line = Line::of(need, kind);
        if line_uses(bound).lock().contains_key(&line) {
            // Listed twice: already on.
            continue;
        }
        let reservation = bound.reservation()?;
        let made = LineUse::new(bound, line.clone(), &supply)?;
        if let Err(error) = made.enable(machine) {
            machine.release_claim(&made.claim);
            return Err(error.into());
        }
        line_uses(bound).lock().insert(line, Arc::clone(&made));
        bound.push_reserved(reservation, 0, LineEntry(made));
    }
    Ok(())
}

/// Ledger entry of one use of one line.
struct LineEntry(Arc<LineUse>);

impl Entry for LineEntry {
    fn kind(&self) -> ResourceKind {
        self.0.line.resource_kind()
    }

    fn what(&self) -> String {
        format!("{:?}", self.0.line.args)
    }

    fn backend(&self) -> String {
        self.0.name.clone()
    }

    fn release(self: Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome {
        let (line, machine) = (&self.0.line, ctx.bound.system());
        let supplies = &machine.supplies();
        // From here on handles return an error; calls in progress are waited for.
        self.0.claim.close(ctx.bound.system());
        line_uses(ctx.bound).lock().remove(line);
        supplies.clear_voltage(self.0.device, line);
        let on = core::mem::take(&mut *self.0.on.lock());
        // Lines of a device that may still run are pinned (P11), and so are the lines that feed their provider.
        let pin = on != 0 && (ctx.quiesced.is_none() || supplies.pins_lines_of(self.0.device));
        if pin {
            supplies.put_pinned(self.0.device, line.clone());
        } else if on != 0 {
            supplies.put(self.0.device, line, &*self.0.supply);
        }
        machine.release_claim(&self.0.claim);
        if pin { Outcome::Quarantined } else { Outcome::Returned }
    }
}

impl fmt::Debug for LineUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.claim.subject(), if self.is_on() { "on" } else { "off" })
    }
}
