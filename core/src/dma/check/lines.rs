//! Cache lines that devices may write.

use alloc::collections::BTreeMap;
use alloc::format;
use core::num::NonZeroU64;

use super::super::{Attrs, DMA_ALIGN, Direction};
use super::found::Found;
use super::{Call, Check, CpuMemory};
use crate::addr::PhysAddr;

/// Limit of mappings of one cache line (`kernel/dma/debug.c`, `ACTIVE_CACHELINE_MAX_OVERLAP`).
const MAX_OVERLAPS: usize = 7;

/// Number of a mapping whose cache lines are tracked, from 1 on.
pub(super) type Number = NonZeroU64;

/// Cache lines of the mappings that a device may write; see the module.
#[derive(Default)]
pub(super) struct Lines {
    /// (first byte, number) to end, both physical.
    ends: BTreeMap<(u64, u64), u64>,
    /// Length of the longest run so far, to bound the search for overlaps.
    longest: u64,
    last_number: u64,
    overlaps_reported: bool,
}

/// First byte of the cache line of `phys`.
fn first_line(phys: PhysAddr) -> u64 {
    phys.0 & !(DMA_ALIGN - 1)
}

impl Lines {
    /// Adds the lines of a mapping that the device may write, and reports those that are in other mappings.
    pub(super) fn add(&mut self, r: &Call<'_>, found: &mut Found<'_>) -> Option<Number> {
        if r.direction == Direction::ToDevice || r.memory == CpuMemory::Registers || r.len == 0 {
            return None;
        }
        let first = first_line(r.phys);
        let end = r.phys.0.saturating_add(r.len).checked_next_multiple_of(DMA_ALIGN).unwrap_or(u64::MAX);
        let from = (first.saturating_sub(self.longest), 0);
        let overlaps = self.ends.range(from..(end, 0)).filter(|(_, other_end)| **other_end > first).count();
        let unsynced = r.attrs.contains(Attrs::SKIP_CPU_SYNC);
        found.add_if(overlaps > 0 && !unsynced, Check::LinesOverlap, || {
            format!("cache lines at {} are in {overlaps} more mappings", r.phys)
        });
        if overlaps > MAX_OVERLAPS && !self.overlaps_reported {
            self.overlaps_reported = true;
            found.add(Check::TooManyOverlaps, format!("cache lines at {} are in {overlaps} more mappings", r.phys));
        }
        self.last_number += 1;
        self.longest = self.longest.max(end - first);
        self.ends.insert((first, self.last_number), end);
        Number::new(self.last_number)
    }

    /// Removes the lines of a mapping of memory from `phys` on, by the number that [`add`](Self::add) returned.
    pub(super) fn remove(&mut self, phys: PhysAddr, number: Number) {
        self.ends.remove(&(first_line(phys), number.get()));
        if self.ends.is_empty() {
            self.longest = 0;
        }
    }
}
