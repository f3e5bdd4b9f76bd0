//! ATA commands, status and identification, without any controller's registers.
//!
//! Source: ATA/ATAPI Command Set 3 (ACS-3, T13/2161-D), unless a line says otherwise.

mod command;
mod error;
mod identify;
mod status;

pub use command::{Command, TaskFile};
pub use error::AtaError;
pub use identify::{Difference, Identity, IdentityError};
pub use status::{ErrorBits, Status};
