//! Supplier and consumer links: who needs whom, and who waits for what.

mod cycles;
mod driver_made;
mod graph;
mod state;

pub(crate) use cycles::RelaxedLink;
pub(crate) use driver_made::NotLinked;
pub(crate) use graph::Graph;
pub use state::{LinkInfo, LinkState};
