//! Reset of a device, by its reset lines or by its bus.

use alloc::format;
use alloc::string::ToString;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;

use super::bus_reset::BusResets;
use super::{Line, LineUse, SupplyError};
use crate::binding::{BindingState, ResourceError};
use crate::claim::Holder;
use crate::device::{Device, SupplierKind};
use crate::event::EventKind;
use crate::lifecycle::Quiesced;
use crate::sync::atomic::Ordering;
use crate::system::System;

/// Reset lines of one device, for the lifetime of its binding.
///
/// A line may be shared: it is released while any device on it is bound. Asserting it resets every device on it, so it
/// is refused while another user holds one of the lines, or one is pinned for a device that may still run. The handle
/// may outlive its binding, and then returns [`SupplyError::Gone`].
pub struct ResetLine {
    machine: Weak<System>,
    lines: Vec<Arc<LineUse>>,
}

impl ResetLine {
    /// The lines that the device of `bound` lists; `None` when there are none, or one is not there and a policy lets the device do
    /// without it: what the others alone do to the device, nobody knows, so they are no proof that it is quiesced (P11).
    pub(crate) fn of(bound: &BindingState) -> Option<Self> {
        let uses = super::line_uses(bound);
        let uses = uses.lock();
        let listed = bound.desc().suppliers.iter().filter(|s| s.kind == SupplierKind::Reset);
        let lines: Option<Vec<_>> = listed.map(|s| uses.get(&Line::of(s, SupplierKind::Reset)).cloned()).collect();
        let lines = lines?;
        (!lines.is_empty()).then(|| Self { machine: Arc::downgrade(bound.system()), lines })
    }

    /// Asserts the reset and holds it: the bus cycles of the device end. The reset ends with [`release`](Self::release)
    /// or [`pulse`](Self::pulse), or when another device on the line is bound.
    ///
    /// # Errors
    ///
    /// [`SupplyError::Held`] with the name of another holder of a line; nothing is reset then, and an event reports it.
    /// [`SupplyError::Gone`] once the binding has ended.
    pub fn hold(&self) -> Result<Quiesced, SupplyError> {
        self.drive(&[true])?;
        Ok(Quiesced::in_reset())
    }

    /// Resets the device: asserts the reset and releases it. Afterwards the device is idle until it is started.
    ///
    /// # Errors
    ///
    /// As [`hold`](Self::hold).
    pub fn pulse(&self) -> Result<Quiesced, SupplyError> {
        self.drive(&[true, false])?;
        Ok(Quiesced::in_reset())
    }

    /// Releases the reset that [`hold`](Self::hold) asserted.
    ///
    /// # Errors
    ///
    /// As [`hold`](Self::hold).
    pub fn release(&self) -> Result<(), SupplyError> {
        self.drive(&[false])
    }

    /// Asserts (true) or releases (false) the lines, once for each of `steps`; all of them, or none on a conflict.
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

    fn try_drive(&self, machine: &System, steps: &[bool]) -> Result<(), SupplyError> {
        let inside: Option<Vec<_>> = self.lines.iter().map(|line| line.claim.enter_for(machine, "a reset")).collect();
        let _inside = inside.ok_or(SupplyError::Gone)?;
        machine.supplies().drive_reset(machine, &self.lines, steps)
    }
}

impl fmt::Debug for ResetLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.lines).finish()
    }
}

/// Reset of one device and no other that somebody has, for the lifetime of its binding: by all its reset lines, or, where it does not have
/// them, by its bus (PCI: function-level reset, or reset of the bus behind a bridge). The handle may outlive its binding, and then returns [`SupplyError::Gone`].
#[derive(Debug)]
pub struct DeviceReset(Way);

#[derive(Debug)]
enum Way {
    Lines(ResetLine),
    /// With the binding's holder.
    Bus(Weak<System>, Arc<Device>, Arc<BusResets>, Holder),
}

impl DeviceReset {
    /// The reset of the device of `bound`; `None` when nothing resets it.
    pub(crate) fn of(bound: &BindingState) -> Option<Self> {
        let by_bus = || {
            let device = bound.device();
            device.bus()?;
            Some(Way::Bus(
                Arc::downgrade(bound.system()),
                Arc::clone(device),
                bound.slots.get_or_default(),
                bound.holder().clone(),
            ))
        };
        ResetLine::of(bound).map(Way::Lines).or_else(by_bus).map(Self)
    }

    /// Resets the device. Afterwards it is idle until it is started; the core's settings of it are as before.
    ///
    /// # Errors
    ///
    /// As [`ResetLine::hold`]; [`SupplyError::Held`], too, when only the whole bus can be reset, with the name of another device on it
    /// that somebody has. [`SupplyError::NoSuchLine`] when its bus cannot reset it, [`SupplyError::Bus`] when the bus has failed to.
    pub fn reset(&self) -> Result<Quiesced, SupplyError> {
        match &self.0 {
            Way::Lines(lines) => lines.pulse(),
            Way::Bus(system, device, resets, holder) => {
                let system = system.upgrade().ok_or(SupplyError::Gone)?;
                resets.reset(&system, device, holder).map(|()| Quiesced::in_reset())
            }
        }
    }
}

/// Resets a device that was not shown to be reset after its pass-through user, because a reset failed or its driver panicked: it cannot
/// be bound or opened before a reset has succeeded (P12).
pub(crate) fn reset_after_user(bound: &BindingState) -> Result<(), ResourceError> {
    let left = &bound.device().left_by_user;
    // Pairs with the release of the unbind that left it set, which comes before this reset.
    if !left.load(Ordering::Acquire) {
        return Ok(());
    }
    let reset = DeviceReset::of(bound).ok_or(ResourceError::NotReset(SupplyError::NoSuchLine))?;
    bound.mark_quiesced(reset.reset().map_err(ResourceError::NotReset)?);
    // Cleared only after the reset has succeeded.
    left.store(false, Ordering::Release);
    Ok(())
}

/// Quiesces a device that its driver could not stop, by holding it in reset, if it has reset lines without other users. Calls
/// `before` when it is about to, and not when others keep the lines from being asserted.
pub(crate) fn quiesce_by_reset(bound: &BindingState, before: impl FnOnce()) -> Option<Quiesced> {
    // A provider of pinned lines must keep them on, so it cannot be reset.
    let needed = bound.system().supplies().pins_lines_of(bound.device().node());
    let machine = bound.system();
    let lines = ResetLine::of(bound).filter(|lines| !needed && machine.supplies().may_assert(machine, &lines.lines))?;
    before();
    lines.try_drive(machine, &[true]).ok().map(|()| Quiesced::in_reset())
}
