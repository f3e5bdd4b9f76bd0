//! The current mappings of one device, and its latest unmapped ones.

use alloc::collections::btree_map::Entry;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use super::Record;
use crate::addr::DeviceAddr;

/// Number of unmapped mappings that are remembered for each device.
const MAX_ENDED: usize = 64;

/// A current mapping of a device.
pub(super) struct ActiveMapping {
    pub(super) record: Record,
    /// The caller has checked the result for an error.
    pub(super) checked: bool,
    /// Key of its cache lines, if they are tracked.
    pub(super) lines: Option<(u64, u64)>,
}

/// Mappings of one first address: the same memory may be mapped again there.
struct AtAddress {
    first: ActiveMapping,
    others: Vec<ActiveMapping>,
}

impl AtAddress {
    fn iter(&self) -> impl Iterator<Item = &ActiveMapping> {
        core::iter::once(&self.first).chain(&self.others)
    }
}

/// Mappings of one device; see the module.
#[derive(Default)]
pub(super) struct Mappings {
    /// By first address.
    active: BTreeMap<u64, AtAddress>,
    ended: VecDeque<(DeviceAddr, u64)>,
    count: usize,
    /// Length of the longest mapping so far, to bound the search for the mapping of an address.
    longest: u64,
}

impl Mappings {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn insert(&mut self, active: ActiveMapping) {
        self.longest = self.longest.max(active.record.len);
        self.count += 1;
        match self.active.entry(active.record.addr.0) {
            Entry::Vacant(free) => {
                free.insert(AtAddress { first: active, others: Vec::new() });
            }
            Entry::Occupied(at) => at.into_mut().others.push(active),
        }
    }

    /// Removes the mapping that an unmap refers to: of those at its address the most similar one, of several the newest.
    pub(super) fn take(&mut self, unmap: &Record) -> Option<ActiveMapping> {
        let Entry::Occupied(mut at) = self.active.entry(unmap.addr.0) else { return None };
        let active = if at.get().others.is_empty() {
            at.remove().first
        } else {
            let AtAddress { first, others } = at.get_mut();
            let best = (0..others.len()).max_by_key(|i| similarity(&others[*i].record, unmap))?;
            if similarity(&first.record, unmap) > similarity(&others[best].record, unmap) {
                core::mem::replace(first, others.remove(0))
            } else {
                others.remove(best)
            }
        };
        self.count -= 1;
        let ended = (active.record.addr, active.record.len);
        // What is mapped at one place again and again is remembered once.
        if self.ended.back() != Some(&ended) {
            if self.ended.len() == MAX_ENDED {
                self.ended.pop_front();
            }
            self.ended.push_back(ended);
        }
        Some(active)
    }

    /// The mapping that covers `addr`; of several the one most similar to `like`.
    pub(super) fn covering(&self, addr: DeviceAddr, like: &Record) -> Option<&ActiveMapping> {
        let from = addr.0.saturating_sub(self.longest);
        let near = self.active.range(from..=addr.0).flat_map(|(_, at)| at.iter());
        near.filter(|l| covers(l.record.addr, l.record.len, addr)).max_by_key(|l| similarity(&l.record, like))
    }

    /// Marks the results at `addr` as checked for errors.
    pub(super) fn error_checked(&mut self, addr: DeviceAddr) {
        if let Some(at) = self.active.get_mut(&addr.0) {
            at.first.checked = true;
            at.others.iter_mut().for_each(|active| active.checked = true);
        }
    }

    /// True when `addr` was mapped and is not any more.
    pub(super) fn was_unmapped(&self, addr: DeviceAddr) -> bool {
        let from = addr.0.saturating_sub(self.longest);
        let mut near = self.active.range(from..=addr.0).flat_map(|(_, at)| at.iter());
        !near.any(|l| covers(l.record.addr, l.record.len, addr))
            && self.ended.iter().any(|(first, len)| covers(*first, *len, addr))
    }

    /// Removes and returns the mappings whose first address is one of `len` bytes at `addr`.
    pub(super) fn take_within(&mut self, addr: DeviceAddr, len: u64) -> Vec<ActiveMapping> {
        let inside = addr.0..addr.0.saturating_add(len);
        let taken =
            self.active.extract_if(inside, |_, _| true).flat_map(|(_, at)| core::iter::once(at.first).chain(at.others));
        let taken: Vec<_> = taken.collect();
        self.count -= taken.len();
        taken
    }

    /// Removes and returns all mappings.
    pub(super) fn drain(&mut self) -> Vec<ActiveMapping> {
        self.count = 0;
        self.ended.clear();
        core::mem::take(&mut self.active)
            .into_values()
            .flat_map(|at| core::iter::once(at.first).chain(at.others))
            .collect()
    }
}

fn covers(first: DeviceAddr, len: u64, addr: DeviceAddr) -> bool {
    addr >= first && addr - first < len
}

/// Number of fields in which two records agree.
fn similarity(a: &Record, b: &Record) -> u32 {
    let same = [a.kind == b.kind, a.len == b.len, a.direction == b.direction, a.phys == b.phys, a.count == b.count];
    same.into_iter().map(u32::from).sum()
}
