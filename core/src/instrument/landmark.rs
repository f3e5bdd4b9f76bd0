//! What a walk over all paths counts.

use crate::errno::Errno;
use crate::lifecycle::{HoldingKind, Phase};

/// Something that a walk over all paths counts, so that a run which never passed it can say so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Landmark {
    /// A device went from one phase to another; see [`TRANSITIONS`](crate::binding::TRANSITIONS).
    Transition(Phase, Phase),
    /// An entry of this kind came off a ledger.
    Released(HoldingKind),
    /// A probe ended with this number.
    Refused(Errno),
    /// An IOMMU driver reported an access that was refused.
    AccessRefused,
}
