//! What is behind a host bridge, and what becomes of it.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use bindery::binding::DevresGroup;
use bindery::pci::{Functions, Topology};

use super::watch::{Change, Watched};

/// What is behind a host bridge, and what becomes of it.
pub(super) struct Found<'b> {
    pub(super) topology: Topology,
    /// How the core reaches the functions.
    pub(super) functions: Functions,
    /// The ports, by place.
    pub(super) watched: Vec<Watched<'b>>,
    /// Changes whose devices are being removed.
    pub(super) pending: Vec<Change>,
}

impl Found<'_> {
    /// Forgets what was on the buses `numbers`, and gives back the interrupts of ports there.
    pub(super) fn forget(&mut self, numbers: &RangeInclusive<u8>) {
        self.topology.remove(numbers.clone());
        self.functions.remove(numbers.clone());
        let (gone, stay): (Vec<_>, Vec<_>) = core::mem::take(&mut self.watched)
            .into_iter()
            .partition(|watched| numbers.contains(&watched.port.at().bus));
        self.watched = stay;
        gone.into_iter().filter_map(|watched| watched.interrupt).for_each(DevresGroup::release);
    }

    /// Has what was left alone tried again.
    pub(super) fn forget_recoveries(&mut self) {
        let again = self.watched.iter_mut().filter_map(Watched::forget_recoveries);
        self.pending.extend(again);
    }
}
