//! Groups of resources that are released together, before the binding ends.

use core::cell::Cell;

use super::{Bound, Entry};
use crate::lifecycle::Quiesced;

/// Group of a binding's resources that can be released early.
///
/// Resources acquired through [`bound`](Self::bound) borrow from the group, so they cannot be used after
/// [`release`](Self::release), nor be stored beside it: [`Bound::devres`] is for driver data. Dropping or forgetting the group releases nothing early: the binding still owns the
/// resources and releases them in order (P9). Groups nest.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
/// # example::bind(|dev| {
/// let before = dev.resources().len();
/// let group = dev.devres_group();
/// let table = group.bound().dma().coherent(4096)?;
/// table.write_bytes(0, &[1, 2, 3]);
/// // ... the device reads its firmware from the table, and is done with it ...
/// group.release();
/// assert_eq!(dev.resources().len(), before);
/// # Ok(())
/// # });
/// ```
#[derive(Debug)]
pub struct DevresGroup<'b> {
    pub(super) bound: Bound<'b>,
}

impl<'b> DevresGroup<'b> {
    pub(super) fn open(parent: Bound<'b>) -> Self {
        let state = parent.state;
        Self { bound: Bound::new(state, state.ledger.open_group(parent.tag)) }
    }

    /// Handle whose resources belong to this group.
    pub fn bound(&self) -> Bound<'_> {
        self.bound
    }

    /// Releases everything acquired through this group and the groups nested in it, newest first.
    pub fn release(self) {
        let Bound { state, tag } = self.bound;
        while let Some((id, entry)) = state.ledger.take_newest_of(tag, |_| true) {
            state.release_early(id, entry);
        }
        state.ledger.close_group(tag);
    }

    /// Releases the group while handles of its resources may exist: those that may not be released under their handles, or
    /// without a proof that the device is quiesced, stay until the binding ends. `quiesced` is asked for each of them: other parts of
    /// the driver may start the device meanwhile.
    pub(super) fn release_from_data(&self, quiesced: &dyn Fn() -> Option<Quiesced>) {
        let Bound { state, tag } = self.bound;
        let proof = Cell::new(None);
        let ends = |entry: &dyn Entry| {
            proof.take();
            entry.ends_with_group(&|| {
                let found = quiesced();
                let is_quiesced = found.is_some();
                proof.set(found);
                is_quiesced
            })
        };
        while let Some((id, entry)) = state.ledger.take_newest_of(tag, ends) {
            state.release_with(id, entry, proof.take().or_else(quiesced));
        }
        state.ledger.close_group(tag);
    }
}
