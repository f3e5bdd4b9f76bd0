//! One binding's use of one line, as its ledger has it.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use super::{Line, Supply, SupplyError};
use crate::binding::{Bound, Entry, ResourceError, ResourceKind, UnwindCtx};
use crate::claim::{Claim, Mode, Provider, Subject};
use crate::device::{NodeId, Supplier, SupplierKind};
use crate::env::FaultPoint;
use crate::event::Outcome;
use crate::machine::Machine;
use crate::sync::Mutex;

/// The lines that a binding uses: one entry of the ledger each. A leaf lock.
pub(crate) type LineUses = Mutex<BTreeMap<Line, Arc<LineUse>>>;

/// A binding's use of a line, which its driver may switch off and on again.
pub(crate) struct LineUse {
    pub(super) line: Line,
    pub(super) supply: Arc<dyn Supply>,
    /// The binding's claim; its door is entered for each use, and closed when the ledger gives the line back.
    pub(super) claim: Arc<Claim>,
    /// The device that the line is switched for.
    pub(super) device: NodeId,
    /// Label or path of the provider.
    name: String,
    /// How often it was switched on and not off again. The machine's table counts this use as one while it is not 0.
    /// Lock order: before the table's.
    on: Mutex<u32>,
}

impl LineUse {
    /// The use of `line` by `bound`, switched off; made when the binding has none of it.
    pub(super) fn of(bound: &Bound, line: Line, supply: &Arc<dyn Supply>) -> Result<Arc<Self>, ResourceError> {
        if let Some(known) = bound.lines.lock().get(&line) {
            return Ok(Arc::clone(known));
        }
        let made = Self::new(bound, line.clone(), supply)?;
        let known = Arc::clone(bound.lines.lock().entry(line).or_insert_with(|| Arc::clone(&made)));
        if !Arc::ptr_eq(&known, &made) {
            // Two threads at once, and the other one was first.
            bound.machine().release_claim(&made.claim);
            return Ok(known);
        }
        bound.push(0, LineEntry(Arc::clone(&made)))?;
        Ok(made)
    }

    fn new(bound: &Bound, line: Line, supply: &Arc<dyn Supply>) -> Result<Arc<Self>, ResourceError> {
        let machine = bound.machine();
        // A guest resets the device when it wants to, and without a look at others.
        let alone = line.kind == SupplierKind::Reset && bound.holder().is_pass_through();
        let mode = if alone { Mode::Exclusive } else { Mode::Shared("") };
        let device = bound.device().node();
        let claim = bound.claim(&line.subject(machine), mode)?;
        if let Some(conflict) = machine.supplies.kept_for_another(machine, device, &line).filter(|_| alone) {
            machine.release_claim(&claim);
            bound.refuse(&conflict, "for a guest");
            return Err(ResourceError::Held(Box::new(conflict)));
        }
        let name = machine.node_name(line.provider);
        Ok(Arc::new(Self { line, supply: Arc::clone(supply), claim, device, name, on: Mutex::new(0) }))
    }

    /// Switches the line on, for one more time.
    pub(super) fn enable(&self, machine: &Machine) -> Result<(), SupplyError> {
        let _inside = self.claim.enter_for(machine, "switching it on").ok_or(SupplyError::Gone)?;
        let mut on = self.on.lock();
        if *on == 0 {
            machine.supplies.take(self.device, &self.line, &*self.supply)?;
        }
        *on = on.saturating_add(1);
        Ok(())
    }

    /// Takes one [`enable`](Self::enable) back. The line stays on while others use it.
    pub(super) fn disable(&self, machine: &Machine) -> Result<(), SupplyError> {
        let _inside = self.claim.enter_for(machine, "switching it off").ok_or(SupplyError::Gone)?;
        let mut on = self.on.lock();
        *on = on.checked_sub(1).ok_or(SupplyError::Unbalanced)?;
        if *on == 0 {
            machine.supplies.put(self.device, &self.line, &*self.supply);
        }
        Ok(())
    }

    pub(super) fn is_on(&self) -> bool {
        *self.on.lock() != 0
    }
}

impl Line {
    /// The line of one of a device's suppliers, as what firmware lists it.
    pub(super) fn of(need: &Supplier, kind: SupplierKind) -> Self {
        Self { provider: need.node, kind, args: need.args.clone(), target: need.target }
    }

    /// What its users claim.
    pub(super) fn subject(&self, machine: &Machine) -> Subject {
        let name = machine.node_name(self.target).into();
        let provider = Provider { node: self.target, name };
        Subject::Supply { provider, kind: self.kind, args: self.args.clone() }
    }
}

/// Switches on everything that the device of `bound` lists under `kind`, in firmware order. What was kept on since its
/// last binding is this one's from now on.
pub(crate) fn acquire(bound: &Bound, kind: SupplierKind, point: FaultPoint) -> Result<(), ResourceError> {
    for need in bound.desc().suppliers.iter().filter(|s| s.kind == kind) {
        let machine = bound.machine();
        if machine.is_ignored(bound.device().node(), need.node) {
            continue;
        }
        bound.check(point)?;
        let supply = machine.providers.get::<dyn Supply>(need.node).ok_or(ResourceError::NotProvided)?;
        let line = Line::of(need, kind);
        if bound.lines.lock().contains_key(&line) {
            // Listed twice: it is on.
            continue;
        }
        let reservation = bound.reservation()?;
        let made = LineUse::new(bound, line.clone(), &supply)?;
        if let Err(error) = made.enable(machine) {
            machine.release_claim(&made.claim);
            return Err(error.into());
        }
        bound.lines.lock().insert(line, Arc::clone(&made));
        bound.push_reserved(reservation, 0, LineEntry(made));
    }
    Ok(())
}

/// Ledger entry of one use of one line.
struct LineEntry(Arc<LineUse>);

impl Entry for LineEntry {
    fn kind(&self) -> ResourceKind {
        self.0.line.holding()
    }

    fn what(&self) -> String {
        format!("{:?}", self.0.line.args)
    }

    fn backend(&self) -> String {
        self.0.name.clone()
    }

    fn release(self: Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome {
        let (line, machine) = (&self.0.line, ctx.bound.machine());
        let supplies = &machine.supplies;
        // Handles that were kept get an error from here on; those that are being used come out.
        self.0.claim.close(ctx.bound.machine());
        ctx.bound.lines.lock().remove(line);
        supplies.forget_voltage(self.0.device, line);
        let on = core::mem::take(&mut *self.0.on.lock());
        // A device that may still run keeps what it runs on (P11), and what that runs on in turn.
        let keeps = on != 0 && (ctx.quiesced.is_none() || supplies.keeps_lines_of(self.0.device));
        if keeps {
            supplies.keep(self.0.device, line.clone());
        } else if on != 0 {
            supplies.put(self.0.device, line, &*self.0.supply);
        }
        machine.release_claim(&self.0.claim);
        if keeps { Outcome::Quarantined } else { Outcome::Returned }
    }
}

impl fmt::Debug for LineUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.claim.subject(), if self.is_on() { "on" } else { "off" })
    }
}
