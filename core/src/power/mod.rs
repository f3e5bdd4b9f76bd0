//! Power domains, clocks, reset lines and regulators: counted by who uses them, switched for the first and the last.
//!
//! The core switches a device's power domains, clocks and reset lines on before probe and off on the way back. Regulators
//! are the driver's to switch ([`Bound::regulator`](crate::binding::Bound::regulator)). Whoever switches, a line is on while
//! one user wants it on, and no user can take it from another (P14); each use is on its binding's ledger.

mod counted;
mod handle;
mod line_use;
mod lines;
mod reset;
#[cfg(all(test, not(loom)))]
mod tests;

pub(crate) use counted::CountedSupply;
pub use handle::SupplyUse;
pub(crate) use handle::{clock, regulator};
pub(crate) use line_use::{LineUse, LineUses, acquire};
pub use lines::PinnedSupply;
pub(crate) use lines::{Line, Supplies};
pub use reset::ResetLine;
pub(crate) use reset::{quiesce_by_reset, reset_after_user};

use alloc::boxed::Box;

use crate::claim::Conflict;
use crate::device::{NodeId, SupplierKind};

/// Why a supply could not be switched.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SupplyError {
    /// The specifier names nothing that this provider has.
    #[error("no such clock, power domain or reset line, nor regulator")]
    NoSuchLine,
    /// The hardware did not confirm in time, or its registers are gone.
    #[error("the supply does not answer")]
    Dead,
    /// The binding that this use belonged to has ended.
    #[error("the binding that used it has ended")]
    Gone,
    /// Others hold it, and would feel it.
    #[error(transparent)]
    Held(#[from] Box<Conflict>),
    /// It was switched off more often than on.
    #[error("switched off more often than on")]
    Unbalanced,
    /// The supply cannot give a voltage in this range, in microvolts.
    #[error("no voltage from {min} uV to {max} uV can be had")]
    Voltage {
        /// Lowest that was asked for.
        min: u32,
        /// Highest that was asked for.
        max: u32,
    },
}

/// A provider of clocks, power domains, reset lines or regulators; its driver offers it with
/// [`Bound::provide`](crate::binding::Bound::provide) as `Arc<dyn Supply>`.
///
/// The core counts users: `switch` is called for the first and the last of them. What is on, or off, already may be asked
/// to be so once more. A driver that leaves must leave its lines as they are: a device that could not be stopped may run
/// on them.
///
/// Consumers never get the provider itself: what [`Bound::supplier`](crate::binding::Bound::supplier) gives for
/// `dyn Supply` counts for the binding that asked.
pub trait Supply: Send + Sync {
    /// Switches what `args` (the specifier cells) names: a clock runs, a power domain is powered, a reset line is
    /// released, a regulator gives its voltage when `on`.
    fn switch(&self, kind: SupplierKind, args: &[u32], on: bool) -> Result<(), SupplyError>;

    /// The same for a provider whose lines have nodes of their own, such as the regulators of a power chip: `node` is the
    /// one that firmware refers to. The default is for providers whose lines are told apart by `args`.
    fn switch_node(&self, node: NodeId, kind: SupplierKind, args: &[u32], on: bool) -> Result<(), SupplyError> {
        let _ = node;
        self.switch(kind, args, on)
    }

    /// Sets a regulator to a voltage from `min` to `max`, both in microvolts, that suits all its users. The answer is
    /// what it is set to. The default is for supplies that cannot be set.
    fn set_voltage(&self, node: NodeId, args: &[u32], min: u32, max: u32) -> Result<u32, SupplyError> {
        let _ = (node, args);
        Err(SupplyError::Voltage { min, max })
    }
}
