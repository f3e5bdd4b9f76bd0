//! What an IOMMU must be able to do: the traits that its driver, or an env for one that somebody else owns, implements.
//! `iommu` is what the core builds on top.

mod gather;
mod ops;

pub use gather::Gather;
pub(crate) use gather::{Flushed, PartId};
pub use ops::{DomainKind, Geometry, Grouping, Iommu, IommuError, MapError, Prot, StreamId, Translation};
