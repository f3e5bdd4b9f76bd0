//! Groups of resources that are released together, before the binding ends.

use super::{Bound, GroupTag, Scope};

/// Group of a binding's resources that can be released early.
///
/// Resources acquired through [`scope`](Self::scope) borrow from the group, so they cannot be used after
/// [`release`](Self::release). Dropping or forgetting the group releases nothing early: the binding still owns the
/// resources and releases them in order (P9). Groups nest.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
/// # example::bind(|dev| {
/// let before = dev.resources().len();
/// let group = dev.devres_group();
/// let table = group.scope().dma().coherent(4096)?;
/// table.write_bytes(0, &[1, 2, 3]);
/// // ... the device reads its firmware from the table, and is done with it ...
/// group.release();
/// assert_eq!(dev.resources().len(), before);
/// # Ok(())
/// # });
/// ```
#[derive(Debug)]
pub struct DevresGroup<'b> {
    bound: &'b Bound,
    tag: GroupTag,
}

impl<'b> DevresGroup<'b> {
    pub(crate) fn open(bound: &'b Bound, parent: GroupTag) -> Self {
        Self { bound, tag: bound.ledger.open_group(parent) }
    }

    /// Scope whose resources belong to this group.
    pub fn scope(&self) -> Scope<'_> {
        Scope::new(self.bound, self.tag)
    }

    /// Releases everything acquired through this group and the groups nested in it, newest first.
    pub fn release(self) {
        while let Some((id, entry)) = self.bound.ledger.take_newest_of(self.tag) {
            self.bound.release_early(id, entry);
        }
    }
}
