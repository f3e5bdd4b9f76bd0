//! IOMMUs: what one must be able to do, and what the core builds on top.

mod gather;
mod ops;

pub use gather::{Flushed, Gather};
pub use ops::{DomainKind, Geometry, Grouping, Iommu, IommuError, MapError, Prot, StreamId, Translation};
