//! The traits that an IOMMU driver implements, or an env for an IOMMU that a host owns. `iommu` builds on them.

mod gather;
mod lease;
mod ops;

pub use gather::Gather;
pub(crate) use gather::{Flushed, PartId};
pub use lease::Lease;
pub(crate) use lease::{EntryFormat, LeafPath, Runs, Step, TablePage, zero};
pub use ops::{DomainKind, Geometry, Grouping, Iommu, IommuError, MapError, Prot, StreamId, Translation, map_each_run};
