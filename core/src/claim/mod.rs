//! Claims: exclusive and shared reservations of a machine's resources, by holder (P14).
//!
//! Everything that two could use at once is claimed before use: interrupt lines, registers, clocks and other supplies,
//! streams, IOMMU groups, names. A [`Claim`] has a named [`Holder`] and a [`Mode`] that says whether it can be shared;
//! a second holder shares it, or gets a [`Conflict`] that names the first. The claim stays in the table until the
//! ledger entry that owns it is released; a handle that may be kept longer checks its claim at each use
//! ([`Claim::enter`]). See docs/decisions/0004-claims.md.

mod holder;
mod subject;
mod table;
#[cfg(all(test, not(loom)))]
mod tests;

pub use holder::Holder;
pub use subject::{Mode, Provider, Subject};
pub(crate) use table::Claims;
pub use table::{Claim, ClaimInfo, Conflict};
