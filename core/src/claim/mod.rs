//! Claims: who holds what of a machine, and who else may hold it meanwhile (P14).
//!
//! Whatever two could hold is claimed before it is used: interrupt lines, registers, clocks and other supplies, streams,
//! groups, names. A [`Claim`] is taken by a [`Holder`], which has a name, and says whether others may have the same: the
//! second one is let in, or gets a [`Conflict`] that names the first. The claim stays in the table until the ledger entry
//! that owns it goes back; a handle that may be kept longer asks the claim's door at each use. See
//! docs/decisions/0004-claims.md.

mod holder;
mod subject;
mod table;
#[cfg(all(test, not(loom)))]
mod tests;

pub use holder::Holder;
pub use subject::{Mode, Provider, Subject};
pub(crate) use table::Claims;
pub use table::{Claim, ClaimInfo, Conflict};
