//! The binding: the period in which a driver is bound to a device, and the object that owns everything acquired in it.
//!
//! Set-up appends to one ledger and unwinding releases it, newest first. The order of tear-down is therefore the reverse of
//! the order of set-up (see ARCHITECTURE.md): suppliers, power, group ownership, translation, control-tree entries, the
//! driver's own resources, its data.

mod action;
mod any;
mod bound;
mod child;
mod devres;
mod devres_group;
mod ledger;
mod mmio;
mod provided;
mod register;
mod register_window;
mod service;
mod slots;
mod state;
mod unwind;
mod work;

#[cfg(all(test, loom))]
pub(crate) mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;

pub use crate::error::ResourceError;
pub use crate::lifecycle::{Phase, ResourceKind, TRANSITIONS, Transition};
pub(crate) use crate::rundown::Activity;
pub use crate::rundown::{Rundown, RundownGuard, TrackedGuard, TrackedRundown};
pub(crate) use any::AnyBinding;
pub use bound::Bound;
pub use devres::Devres;
pub use devres_group::DevresGroup;
pub(crate) use ledger::{Entry, EntryId, GroupTag, Ledger, Reservation, UnwindCtx};
pub use mmio::{Mmio, MmioHandle};
pub use register::{Register, RegisterArray, RegisterValue};
pub use register_window::{RegisterAccess, RegisterWindow};
pub(crate) use slots::Slots;
pub(crate) use state::BindingState;
pub(crate) use unwind::unwind;
pub(crate) use work::{Run, WorkEntry, WorkItem, WorkQueue};
