//! IOMMUs: what one must be able to do, and what the core builds on top.
//!
//! A device that the firmware puts behind an IOMMU joins a group as soon as both are there, and is blocked until a
//! driver or a pass-through owner claims the group (P7, P10).

mod domain;
mod gather;
mod group;
mod iova;
mod late;
mod lazy;
mod ops;
pub mod pgtable;
mod registry;
mod unmap;

pub(crate) use domain::MapList;
pub use domain::{Domain, FaultReport};
pub(crate) use gather::Flushed;
pub use gather::Gather;
pub use group::{Group, GroupError, GroupInfo, Owner};
pub(crate) use group::{Membership, attach, claim, is_behind_iommu};
pub use iova::{IovaError, IovaSpace};
pub(crate) use late::Range;
pub use ops::{DomainKind, Geometry, Grouping, Iommu, IommuError, MapError, Prot, StreamId, Translation};
pub(crate) use registry::{InstanceEntry, Iommus};
pub(crate) use unmap::{FixedError, Revoked};
