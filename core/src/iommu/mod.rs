//! IOMMU support: groups, domains, IOVA allocation and page tables, on top of the traits in `translation`.
//!
//! A device that the firmware describes as behind an IOMMU joins a group once both exist, and is blocked until a driver
//! or a pass-through owner claims the group (P7, P10).

mod attach;
mod domain;
mod faults;
mod group;
mod history;
mod iova;
mod join;
mod lease;
mod multi_iommu;
mod owner;
pub mod pgtable;
mod places;
mod provider;
mod regions;
mod registry;
mod timer;
mod unconfirmed;
mod unmap;

pub use crate::error::{GroupError, Owner};
pub(crate) use crate::translation::Flushed;
pub use crate::translation::{
    DomainKind, Gather, Geometry, Grouping, Iommu, IommuError, Lease, MapError, Prot, StreamId, Translation,
    map_each_run,
};
pub(crate) use attach::{attach, claim, hold, is_behind_iommu};
pub use domain::Domain;
pub(crate) use domain::{FailedMap, MapListError, MapRequest};
pub use faults::FaultCount;
pub(crate) use faults::Faults;
pub(crate) use group::Membership;
pub use group::{Group, GroupHold, GroupInfo};
pub use history::FaultReport;
pub(crate) use iova::AddressingLimits;
pub use iova::{IovaError, IovaSpace};
pub(crate) use join::{joined_late, try_join};
pub use owner::OwnerId;
pub(crate) use places::{Places, Ranged};
pub use provider::{Accessor, FaultReporter, IommuProvider, RefusedAccess};
pub(crate) use registry::Iommus;
use registry::{ClaimError, InstanceEntry, Joined};
pub(crate) use timer::Timers;
pub(crate) use unconfirmed::Range;
pub(crate) use unmap::{FixedError, Revoked, UnmapError};

use crate::system::System;

impl System {
    /// Registry of IOMMUs and groups.
    pub(crate) fn iommus(&self) -> &Iommus {
        self.part()
    }

    /// Deadlines of lazy domains, and of retries after unconfirmed flushes.
    pub(crate) fn timers(&self) -> &Timers {
        self.part()
    }

    /// Counters of refused accesses.
    fn faults(&self) -> &Faults {
        self.part()
    }
}
