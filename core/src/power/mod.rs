//! Power domains, clocks, reset lines and regulators: use counts per binding; switched by the first and the last user.
//!
//! The core switches a device's power domains, clocks and reset lines on before probe and off after unbind. Regulators
//! are switched by the driver ([`Bound::regulator`](crate::binding::Bound::regulator)). A line is on while it has a
//! user, and no user can switch it off for another (P14); each use has an entry on its binding's ledger.

mod bus_reset;
mod counted;
mod handle;
mod line_use;
mod lines;
mod reset;
mod supplier;
#[cfg(all(test, not(loom)))]
mod tests;

pub(crate) use bus_reset::{BusResets, BusUse, claim_buses, has_claimed_buses};
use counted::CountedSupply;
pub use handle::SupplyUse;
use line_use::line_uses;
pub(crate) use line_use::{LineUse, acquire, holds_lines};
pub use lines::PinnedSupply;
pub(crate) use lines::{Line, Supplies};
pub use reset::{DeviceReset, ResetLine};
pub(crate) use reset::{quiesce_by_reset, reset_after_user};

use crate::device::{NodeId, SupplierKind};
pub use crate::error::SupplyError;
use crate::system::System;

/// A provider of clocks, power domains, reset lines or regulators; its driver offers it with
/// [`Bound::provide`](crate::binding::Bound::provide) as `Arc<dyn Supply>`.
///
/// The core counts users and calls `switch` for the first and the last one; calls that do not change the state may
/// occur. A driver that is unbound must leave its lines as they are: a device that could not be stopped may depend on
/// them.
///
/// Consumers never get the provider itself: [`Bound::supplier`](crate::binding::Bound::supplier) returns a `dyn Supply`
/// that counts uses for the calling binding.
pub trait Supply: Send + Sync {
    /// Switches the line that `args` (the specifier cells) names. When `on`, a clock runs, a power domain is powered, a
    /// reset line is released, a regulator is enabled.
    ///
    /// # Errors
    ///
    /// [`SupplyError::NoSuchLine`] for an unknown specifier, [`SupplyError::Dead`] when the hardware does not respond.
    fn switch(&self, kind: SupplierKind, args: &[u32], on: bool) -> Result<(), SupplyError>;

    /// As [`switch`](Self::switch), for a provider whose lines have nodes of their own, such as the regulators of a
    /// PMIC: `node` is the one that firmware refers to. The default is for providers whose lines are distinguished by
    /// `args`.
    ///
    /// # Errors
    ///
    /// As [`switch`](Self::switch).
    fn switch_node(&self, node: NodeId, kind: SupplierKind, args: &[u32], on: bool) -> Result<(), SupplyError> {
        let _ = node;
        self.switch(kind, args, on)
    }

    /// Sets a regulator to a voltage from `min` to `max`, in microvolts, the intersection of all users' requests.
    /// Returns the voltage that was set. The default is for supplies with a fixed voltage.
    ///
    /// # Errors
    ///
    /// [`SupplyError::Voltage`] when the regulator has no voltage in the range.
    fn set_voltage(&self, node: NodeId, args: &[u32], min: u32, max: u32) -> Result<u32, SupplyError> {
        let _ = (node, args);
        Err(SupplyError::Voltage { min, max })
    }
}

impl System {
    /// Table of supply lines.
    pub(crate) fn supplies(&self) -> &Supplies {
        self.part()
    }
}
