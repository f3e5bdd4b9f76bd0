//! I/O page tables: one implementation, generic over the format.
//!
//! Beside the entries that hardware walks, a [`PageTable`] has a tree of its tables and of their used entries. Checks
//! read only the tree; entries are written and never read back, except to resolve or split one.

mod format;
mod lease;
mod lpae;
mod map;
mod occupancy;
mod page_table;
pub mod spec;
mod table;
mod unmap;
mod vtd;

pub use format::Format;
pub use lpae::{Lpae32, Lpae64, Registers};
pub use page_table::{Config, PageTable, TableError};
pub use spec::BLOCK_SIZES;
pub use table::{TableFrames, TablePages};
pub use vtd::VtdSecondStage;

#[cfg(all(test, not(loom)))]
mod tests;
