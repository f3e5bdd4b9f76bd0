//! IOMMUs: what one must be able to do, and what the core builds on top.

mod gather;
mod iova;
mod ops;
pub mod pgtable;

pub use gather::{Flushed, Gather};
pub use iova::{IovaError, IovaSpace};
pub use ops::{DomainKind, Geometry, Grouping, Iommu, IommuError, MapError, Prot, StreamId, Translation};
