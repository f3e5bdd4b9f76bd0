//! Resetting a device by its reset lines.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;

use super::{Line, LineUse, SupplyError};
use crate::binding::{Bound, ResourceError};
use crate::claim::Conflict;
use crate::device::SupplierKind;
use crate::driver::Quiesced;
use crate::event::EventKind;
use crate::machine::Machine;
use crate::sync::atomic::Ordering;

/// The reset lines of one device, for as long as its binding lasts.
///
/// A line may be shared: it is released while any device on it is bound. Asserting it resets every device on it, so each use
/// is refused while somebody else holds one of the lines, or one is kept for a device that may still run. The handle may be
/// kept past its binding, and then answers [`SupplyError::Gone`].
pub struct ResetLine {
    machine: Weak<Machine>,
    lines: Vec<Arc<LineUse>>,
}

impl ResetLine {
    /// The lines that the device of `bound` lists; `None` when there are none.
    pub(crate) fn of(bound: &Bound) -> Option<Self> {
        let uses = bound.lines.lock();
        let listed = bound.desc().suppliers.iter().filter(|s| s.kind == SupplierKind::Reset);
        let lines: Vec<_> = listed.filter_map(|s| uses.get(&Line::of(s, SupplierKind::Reset)).cloned()).collect();
        (!lines.is_empty()).then(|| Self { machine: Arc::downgrade(bound.machine()), lines })
    }

    /// Holds the device in reset: its bus cycles end. It stays so until [`release`](Self::release) or
    /// [`pulse`](Self::pulse), or until another device on the line is bound.
    ///
    /// # Errors
    ///
    /// [`SupplyError::Held`] with the name of somebody else who holds a line; nothing is reset then, and an event tells so.
    pub fn hold(&self) -> Result<Quiesced, SupplyError> {
        self.drive(&[true])?;
        Ok(Quiesced::in_reset())
    }

    /// Resets the device: holds it in reset and lets it go. Afterwards it does nothing until it is started. Errors as
    /// [`hold`](Self::hold).
    pub fn pulse(&self) -> Result<Quiesced, SupplyError> {
        self.drive(&[true, false])?;
        Ok(Quiesced::in_reset())
    }

    /// Lets a device go that [`hold`](Self::hold) holds in reset.
    pub fn release(&self) -> Result<(), SupplyError> {
        self.drive(&[false])
    }

    /// Asserts the lines, or lets them go, in each of `steps`; all of them or, when somebody is in the way, none.
    fn drive(&self, steps: &[bool]) -> Result<(), SupplyError> {
        let machine = self.machine.upgrade().ok_or(SupplyError::Gone)?;
        let driven = self.try_drive(&machine, steps);
        if let Err(SupplyError::Held(conflict)) = &driven {
            let holder = self.lines[0].claim.holder();
            machine.emit(Some(holder.device()), || EventKind::Refused {
                what: format!("a reset of {holder}"),
                reason: conflict.to_string(),
            });
        }
        driven
    }

    fn try_drive(&self, machine: &Machine, steps: &[bool]) -> Result<(), SupplyError> {
        let inside: Option<Vec<_>> = self.lines.iter().map(|line| line.claim.enter_for(machine, "a reset")).collect();
        let _inside = inside.ok_or(SupplyError::Gone)?;
        machine.supplies.drive(machine, &self.lines, steps)
    }
}

impl fmt::Debug for ResetLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.lines).finish()
    }
}

impl Bound {
    /// Tells that the binding does not get what `conflict` has, which it wanted `why`.
    pub(crate) fn refuse(&self, conflict: &Conflict, why: &str) {
        self.emit(|| EventKind::Refused { what: format!("{} {why}", conflict.subject), reason: conflict.to_string() });
    }
}

/// Resets a device that a pass-through user has left, and that could not be reset when it was taken back: nobody else gets
/// it before that has worked (P12).
pub(crate) fn reset_after_user(bound: &Bound) -> Result<(), ResourceError> {
    let left = &bound.device().left_by_user;
    if !left.load(Ordering::Acquire) {
        return Ok(());
    }
    let lines = ResetLine::of(bound).ok_or(ResourceError::NotReset(SupplyError::NoSuchLine))?;
    bound.mark_quiesced(lines.pulse().map_err(ResourceError::NotReset)?);
    left.store(false, Ordering::Release);
    Ok(())
}

/// Stops a device that its driver could not stop, by holding it in reset, if it has reset lines that nobody else uses.
pub(crate) fn quiesce_by_reset(bound: &Bound) -> Option<Quiesced> {
    // A provider whose lines are kept on for somebody must go on giving them.
    let needed = bound.machine().supplies.keeps_lines_of(bound.device().node());
    let lines = ResetLine::of(bound).filter(|_| !needed)?;
    lines.try_drive(bound.machine(), &[true]).ok().map(|()| Quiesced::in_reset())
}

impl From<Conflict> for SupplyError {
    fn from(conflict: Conflict) -> Self {
        Self::Held(Box::new(conflict))
    }
}
