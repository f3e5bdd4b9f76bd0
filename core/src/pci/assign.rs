//! Ranges of bus addresses, and who has them.

use alloc::vec::Vec;
use core::fmt;
use core::ops::RangeInclusive;

use crate::addr::PhysAddr;

/// Address space of a bus.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Space {
    /// I/O ports.
    Io,
    /// Memory, below 4 GiB behind a bridge.
    Memory,
    /// Memory whose reads have no side effects.
    Prefetchable,
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Io => "I/O",
            Self::Memory => "memory",
            Self::Prefetchable => "prefetchable memory",
        })
    }
}

/// Range of bus addresses that a host bridge passes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Address space.
    pub space: Space,
    /// First address on the bus.
    pub bus: u64,
    /// The CPU's address of the same byte.
    pub phys: PhysAddr,
    /// Bytes.
    pub len: u64,
}

/// Ranges of addresses, and what of them is taken.
#[derive(Clone, Default)]
pub(super) struct Pool {
    /// First and last address of each range.
    ranges: Vec<(u64, u64)>,
    /// The same of what is taken, by address, without overlaps.
    taken: Vec<(u64, u64)>,
}

impl Pool {
    pub(super) fn new(ranges: impl IntoIterator<Item = (u64, u64)>) -> Self {
        Self { ranges: ranges.into_iter().filter(|(first, last)| first <= last).collect(), taken: Vec::new() }
    }

    /// Takes `size` bytes at `first`. False when they are not all here and free.
    pub(super) fn claim(&mut self, first: u64, size: u64) -> bool {
        let Some(last) = size.checked_sub(1).and_then(|rest| first.checked_add(rest)) else { return false };
        let here = self.ranges.iter().any(|(from, to)| *from <= first && last <= *to);
        let at = self.taken.partition_point(|(_, to)| *to < first);
        let free = self.taken.get(at).is_none_or(|(from, _)| last < *from);
        if here && free {
            self.taken.insert(at, (first, last));
        }
        here && free
    }

    /// Takes `size` bytes at a multiple of `align`, all of them inside `within`, at the lowest address there is but 0.
    pub(super) fn take(&mut self, size: u64, align: u64, within: RangeInclusive<u64>) -> Option<u64> {
        let starts = |(from, to): &(u64, u64)| {
            let after = self.taken.iter().filter(|(_, last)| last >= from && last < to).map(|(_, last)| last + 1);
            core::iter::once(*from).chain(after).collect::<Vec<_>>()
        };
        let starts: Vec<u64> = self.ranges.iter().flat_map(starts).collect();
        let fits = |start: u64| {
            let first = start.max(*within.start()).max(1).checked_next_multiple_of(align)?;
            let last = first.checked_add(size.checked_sub(1)?)?;
            (last <= *within.end()).then_some(first)
        };
        let mut firsts: Vec<u64> = starts.into_iter().filter_map(fits).collect();
        firsts.sort_unstable();
        firsts.into_iter().find(|first| self.claim(*first, size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_gives_what_is_free_and_aligned_and_nothing_twice() {
        let mut pool = Pool::new([(0x1000, 0x4fff), (0x1_0000_0000, 0x1_0000_ffff)]);
        assert!(pool.claim(0x2000, 0x1000));
        assert!(!pool.claim(0x2fff, 1) && !pool.claim(0x4fff, 2) && !pool.claim(0, 1) && !pool.claim(0x1000, 0));
        assert_eq!(pool.take(0x1000, 0x1000, 0..=u64::MAX), Some(0x1000));
        assert_eq!(pool.take(0x1000, 0x4000, 0..=u64::MAX), Some(0x4000));
        assert_eq!(pool.take(0x2000, 0x1000, 0..=u32::MAX.into()), None);
        assert_eq!(pool.take(0x2000, 0x1000, 0..=u64::MAX), Some(0x1_0000_0000));
        assert_eq!(pool.take(u64::MAX, 1, 0..=u64::MAX), None);
        assert_eq!(Pool::new([(0, 0xfff)]).take(0x800, 0x800, 0..=u64::MAX), Some(0x800), "address 0 means none");
        assert_eq!(Pool::new([(0, u64::MAX)]).take(1 << 63, 1 << 63, 0..=u64::MAX), Some(1 << 63));
    }
}
