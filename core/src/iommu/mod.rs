//! IOMMUs: what the core builds on top of what one must be able to do (`translation`).
//!
//! A device that the firmware puts behind an IOMMU joins a group as soon as both are there, and is blocked until a
//! driver or a pass-through owner claims the group (P7, P10).

mod attach;
mod domain;
mod group;
mod iova;
mod joint;
mod lazy;
mod owner;
pub mod pgtable;
mod regions;
mod registry;
mod unconfirmed;
mod unmap;

pub(crate) use crate::translation::Flushed;
pub use crate::translation::{
    DomainKind, Gather, Geometry, Grouping, Iommu, IommuError, MapError, Prot, StreamId, Translation,
};
pub(crate) use attach::{attach, claim, hold, is_behind_iommu};
pub(crate) use domain::MapList;
pub use domain::{Domain, FaultReport};
pub(crate) use group::Membership;
pub use group::{Group, GroupHold, GroupInfo};
pub(crate) use iova::AddressingLimits;
pub use iova::{IovaError, IovaSpace};
pub use owner::{GroupError, Owner, OwnerId};
pub(crate) use registry::{InstanceEntry, Iommus, Joined, Unclaimed};
pub(crate) use unconfirmed::Range;
pub(crate) use unmap::{FixedError, Revoked};
