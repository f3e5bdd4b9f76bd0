//! The mappings that one device has, and those it had.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use super::Record;
use crate::addr::DeviceAddr;

/// Ended mappings that are remembered for each device.
const REMEMBERED: usize = 64;

/// A mapping that a device has.
pub(super) struct Live {
    pub(super) record: Record,
    /// The caller has looked at the result.
    pub(super) checked: bool,
    /// Key of its cache lines, if they are watched.
    pub(super) lines: Option<(u64, u64)>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Mappings {
    /// By first address. More than one: the same memory mapped again at the same place.
    live: BTreeMap<u64, Vec<Live>>,
    ended: VecDeque<(DeviceAddr, u64)>,
    count: usize,
    /// Length of the longest that is or was live, to bound the search for what covers an address.
    longest: u64,
}

impl Mappings {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn insert(&mut self, live: Live) {
        self.ended.retain(|(addr, len)| !covers(*addr, *len, live.record.addr));
        self.longest = self.longest.max(live.record.len);
        self.count += 1;
        self.live.entry(live.record.addr.0).or_default().push(live);
    }

    /// Takes the mapping that an unmap means: of those at its address the one that agrees most.
    pub(super) fn take(&mut self, unmap: &Record) -> Option<Live> {
        let at = self.live.get_mut(&unmap.addr.0)?;
        let best = (0..at.len()).max_by_key(|i| likeness(&at[*i].record, unmap))?;
        let live = at.remove(best);
        if at.is_empty() {
            self.live.remove(&unmap.addr.0);
        }
        self.count -= 1;
        if self.ended.len() == REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back((live.record.addr, live.record.len));
        Some(live)
    }

    /// The mapping that covers `addr`; of several the one that agrees most with `like`.
    pub(super) fn covering(&self, addr: DeviceAddr, like: &Record) -> Option<&Live> {
        let from = addr.0.saturating_sub(self.longest);
        let near = self.live.range(from..=addr.0).flat_map(|(_, list)| list);
        near.filter(|l| covers(l.record.addr, l.record.len, addr)).max_by_key(|l| likeness(&l.record, like))
    }

    /// Marks the results at `addr` as looked at.
    pub(super) fn error_seen(&mut self, addr: DeviceAddr) {
        for live in self.live.get_mut(&addr.0).into_iter().flatten() {
            live.checked = true;
        }
    }

    /// Whether `addr` was mapped and is not any more.
    pub(super) fn has_ended(&self, addr: DeviceAddr) -> bool {
        let from = addr.0.saturating_sub(self.longest);
        let mut near = self.live.range(from..=addr.0).flat_map(|(_, list)| list);
        !near.any(|l| covers(l.record.addr, l.record.len, addr))
            && self.ended.iter().any(|(first, len)| covers(*first, *len, addr))
    }

    /// Forgets all.
    pub(super) fn drain(&mut self) -> Vec<Live> {
        self.count = 0;
        self.ended.clear();
        core::mem::take(&mut self.live).into_values().flatten().collect()
    }
}

fn covers(first: DeviceAddr, len: u64, addr: DeviceAddr) -> bool {
    addr >= first && addr - first < len
}

/// How much two records have in common.
fn likeness(a: &Record, b: &Record) -> u32 {
    let same = [a.kind == b.kind, a.len == b.len, a.direction == b.direction, a.phys == b.phys, a.count == b.count];
    same.into_iter().map(u32::from).sum()
}
