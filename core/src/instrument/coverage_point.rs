//! Coverage points of the core.

use crate::errno::Errno;
use crate::lifecycle::{Phase, ResourceKind};

/// Event that an exploration counts, so that it can report what it never reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CoveragePoint {
    /// A device changed from the first phase to the second; see [`TRANSITIONS`](crate::binding::TRANSITIONS).
    Transition(Phase, Phase),
    /// An entry of this kind was released from a ledger.
    Released(ResourceKind),
    /// A probe failed with this error number.
    Refused(Errno),
    /// An IOMMU driver reported an access that the IOMMU refused.
    AccessRefused,
}
