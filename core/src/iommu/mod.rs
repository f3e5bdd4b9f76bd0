//! IOMMU support: groups, domains, IOVA allocation and page tables, on top of the traits in `translation`.
//!
//! A device that the firmware describes as behind an IOMMU joins a group once both exist, and is blocked until a driver
//! or a pass-through owner claims the group (P7, P10).

mod attach;
mod domain;
mod group;
mod iova;
mod lazy;
mod multi_iommu;
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
pub(crate) use domain::MapListError;
pub use domain::{Domain, FaultReport};
pub(crate) use group::Membership;
pub use group::{Group, GroupHold, GroupInfo};
pub(crate) use iova::AddressingLimits;
pub use iova::{IovaError, IovaSpace};
pub use owner::{GroupError, Owner, OwnerId};
pub(crate) use registry::{ClaimError, InstanceEntry, Iommus, Joined};
pub(crate) use unconfirmed::Range;
pub(crate) use unmap::{FixedError, Revoked};
