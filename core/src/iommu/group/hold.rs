//! Open devices of a pass-through owner in a group.

use alloc::sync::Arc;

use super::Group;
use crate::claim::Claim;
use crate::iommu::OwnerId;

/// Open device of a group. Holding one proves that every other open device of the group has the same owner (P7), until
/// it is dropped or the last binding of the group ends.
#[derive(Debug)]
#[must_use = "dropping it closes the device, and other owners may open the group"]
pub struct GroupHold {
    group: Arc<Group>,
    id: OwnerId,
    /// The owner's claim to the group's address space.
    claim: Arc<Claim>,
}

impl GroupHold {
    pub(super) fn new(group: Arc<Group>, id: OwnerId, claim: Arc<Claim>) -> Self {
        Self { group, id, claim }
    }

    /// The owner.
    pub fn owner(&self) -> &OwnerId {
        &self.id
    }
}

impl Drop for GroupHold {
    fn drop(&mut self) {
        self.group.close(&self.claim);
    }
}
