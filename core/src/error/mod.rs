//! Errors of higher floors, defined here because a probe can fail with any of them.

mod add;
mod dma;
mod group;
mod probe;
mod resource;
mod supply;
mod vector;

pub use add::AddError;
pub use dma::{DmaError, IovaError};
pub use group::{GroupError, Owner};
pub use probe::{Missing, ProbeError};
pub use resource::ResourceError;
pub use supply::SupplyError;
pub use vector::VectorError;
