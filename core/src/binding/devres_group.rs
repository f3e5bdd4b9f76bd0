//! Resources that are released together, before the binding ends.

use super::{Bound, GroupTag, Scope};

/// A part of a binding's ledger that can be given back early.
///
/// What is acquired through [`scope`](Self::scope) borrows from the group, so it cannot be used after
/// [`release`](Self::release). Dropping or forgetting the group releases nothing early: the binding still owns it all
/// and gives it back in its turn (P9). Groups nest.
#[derive(Debug)]
pub struct DevresGroup<'b> {
    bound: &'b Bound,
    tag: GroupTag,
}

impl<'b> DevresGroup<'b> {
    pub(crate) fn open(bound: &'b Bound, parent: GroupTag) -> Self {
        Self { bound, tag: bound.ledger.open_group(parent) }
    }

    /// Where to acquire resources that belong to this group.
    pub fn scope(&self) -> Scope<'_> {
        Scope::new(self.bound, self.tag)
    }

    /// Gives back everything acquired through this group and the groups inside it, newest first.
    pub fn release(self) {
        while let Some((id, entry)) = self.bound.ledger.take_newest_of(self.tag) {
            self.bound.release_early(id, entry);
        }
    }
}
