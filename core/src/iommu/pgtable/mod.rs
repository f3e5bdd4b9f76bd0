//! I/O page tables: one walker, and formats as types.
//!
//! A [`PageTable`] keeps, beside the words that hardware walks, the tree of tables that it owns and which entries are in
//! use. Checks read only that; entries are written and never read back, except to resolve or split one.

mod format;
mod lpae;
mod map;
mod occupancy;
mod page_table;
pub mod spec;
mod table;
mod unmap;

pub use format::Format;
pub use lpae::{Lpae32, Lpae64, Registers};
pub use page_table::{Config, PageTable, TableError};
pub use table::{TableFrames, TablePages};

#[cfg(test)]
mod tests;
