//! Driver handle of a supply line.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::{Arc, Weak};
use core::fmt;

use super::{Line, LineUse, Supply, SupplyError};
use crate::binding::{BindingState, ResourceError};
use crate::device::SupplierKind;
use crate::driver::ProbeError;
use crate::system::System;

/// Use of a clock or a regulator by one binding.
///
/// Uses are counted per binding: a line stays on while any binding uses it. A use that is still on when the binding
/// ends is released with its ledger. The handle may outlive the binding, and then returns [`SupplyError::Gone`].
///
/// ```
/// use bindery::binding::ResourceError;
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
/// # example::bind(|dev| {
/// let clock = dev.clock(0)?; // on: the core has switched it on before probe
/// clock.disable().map_err(ResourceError::from)?;
/// assert!(!clock.is_enabled());
/// clock.enable().map_err(ResourceError::from)?;
/// # Ok(())
/// # });
/// ```
#[derive(Clone)]
pub struct SupplyUse {
    machine: Weak<System>,
    /// `None` for a regulator that a policy ignores: always on.
    line: Option<Arc<LineUse>>,
}

impl SupplyUse {
    fn new(bound: &BindingState, line: Option<Arc<LineUse>>) -> Self {
        Self { machine: Arc::downgrade(bound.system()), line }
    }

    fn with<R>(
        &self,
        absent: R,
        act: impl FnOnce(&Arc<System>, &LineUse) -> Result<R, SupplyError>,
    ) -> Result<R, SupplyError> {
        let Some(line) = &self.line else { return Ok(absent) };
        act(&self.machine.upgrade().ok_or(SupplyError::Gone)?, line)
    }

    /// Switches it on, until [`disable`](Self::disable) or the end of the binding.
    ///
    /// # Errors
    ///
    /// [`SupplyError::Dead`] when the supply does not respond, [`SupplyError::Gone`] once the binding has ended.
    pub fn enable(&self) -> Result<(), SupplyError> {
        self.with((), |machine, line| line.enable(machine))
    }

    /// Undoes one [`enable`](Self::enable), or the core's own before probe. The line is switched off when it has no
    /// other user.
    ///
    /// # Errors
    ///
    /// [`SupplyError::Unbalanced`] when this binding does not have it on, [`SupplyError::Gone`] once the binding has
    /// ended.
    pub fn disable(&self) -> Result<(), SupplyError> {
        self.with((), |machine, line| line.disable(machine))
    }

    /// True when this binding has it on.
    pub fn is_enabled(&self) -> bool {
        self.line.as_ref().is_none_or(|line| line.is_on())
    }

    /// Requests a voltage from `min` to `max`, in microvolts, until the binding ends or the next such call. Returns the
    /// voltage that was set, which satisfies the requests of all users.
    ///
    /// # Errors
    ///
    /// [`SupplyError::Held`] with the name of a user whose range has no voltage in common, [`SupplyError::Voltage`]
    /// when the regulator has none in the range, [`SupplyError::Gone`] once the binding has ended.
    pub fn set_voltage(&self, min: u32, max: u32) -> Result<u32, SupplyError> {
        self.with(min, |machine, line| machine.supplies().set_voltage(line, min, max))
    }
}

impl fmt::Debug for SupplyUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.line {
            Some(line) => write!(f, "SupplyUse({line:?})"),
            None => f.write_str("SupplyUse(none)"),
        }
    }
}

/// Use of the device's clock number `index`, which the core has switched on.
pub(super) fn clock(bound: &BindingState, index: usize) -> Result<SupplyUse, ResourceError> {
    let absent = ResourceError::Absent { kind: "clock", index };
    let need = bound.desc().suppliers.iter().filter(|s| s.kind == SupplierKind::Clock).nth(index).ok_or(absent)?;
    let line = super::line_uses(bound).lock().get(&Line::of(need, SupplierKind::Clock)).cloned();
    Ok(SupplyUse::new(bound, line))
}

/// Use of the regulator that property `NAME-supply` of the device refers to.
pub(super) fn regulator(bound: &BindingState, name: &str) -> Result<SupplyUse, ProbeError> {
    let property = format!("{name}-supply");
    let need = bound.desc().suppliers.iter().find(|s| *s.property == property);
    let need = need.ok_or_else(|| ResourceError::AbsentSupply(Box::from(property)))?;
    if bound.registry().is_ignored(bound.device().node(), need.node) {
        return Ok(SupplyUse::new(bound, None));
    }
    let supply = bound.take_service::<dyn Supply>(need.node)?;
    let line = LineUse::of(bound, Line::of(need, SupplierKind::Regulator), &supply)?;
    Ok(SupplyUse::new(bound, Some(line)))
}
