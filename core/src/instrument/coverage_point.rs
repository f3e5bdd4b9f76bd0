//! What a walk over all paths counts.

use crate::errno::Errno;
use crate::lifecycle::{Phase, ResourceKind};

/// Something that a walk over all paths counts, so that a run which never passed it can say so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CoveragePoint {
    /// A device went from one phase to another; see [`TRANSITIONS`](crate::binding::TRANSITIONS).
    Transition(Phase, Phase),
    /// An entry of this kind came off a ledger.
    Released(ResourceKind),
    /// A probe ended with this number.
    Refused(Errno),
    /// An IOMMU driver reported an access that was refused.
    AccessRefused,
}
