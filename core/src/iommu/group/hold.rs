//! A pass-through owner's hold of a group.

use alloc::sync::Arc;

use super::Group;
use crate::claim::Claim;
use crate::iommu::OwnerId;

/// Holding a `GroupHold` tells you: whoever else has a device of the group open is the same owner (P7), until it is
/// dropped or the binding ends.
#[derive(Debug)]
#[must_use = "dropped, others may open the group's devices"]
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
        self.group.let_go(&self.claim);
    }
}
