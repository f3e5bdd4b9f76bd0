//! What was unmapped and is not confirmed: device addresses that are neither mapped nor free.

use alloc::vec::Vec;

use super::Gather;
use crate::addr::DeviceAddr;
use crate::dma::QuarantineId;

/// A range of device addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Range {
    pub(crate) iova: DeviceAddr,
    /// Bytes, at least 1.
    pub(crate) len: u64,
}

impl Range {
    fn last(self) -> DeviceAddr {
        DeviceAddr(self.iova.0.saturating_add(self.len - 1))
    }

    pub(super) fn overlaps(self, other: Self) -> bool {
        self.iova <= other.last() && other.iova <= self.last()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Being unmapped, by somebody who will say how it went.
    Leaving,
    /// Out of the page table; a flush that begins from now on speaks for it.
    Unconfirmed,
    /// The page table did not take it out: only the end of the translation speaks for it.
    Stuck,
}

/// Ranges that were unmapped together.
pub(super) struct Entry {
    number: u64,
    state: State,
    /// By address.
    pub(super) ranges: Vec<Range>,
    /// The pins of the memory behind them, in quarantine.
    pub(super) held: Option<QuarantineId>,
}

/// All of one domain. The next flush takes what is gathered along: once that is confirmed, so are these, and neither table
/// pages nor device addresses are lost.
#[derive(Default)]
pub(crate) struct Unconfirmed {
    gather: Gather,
    entries: Vec<Entry>,
    next: u64,
}

impl Unconfirmed {
    /// True when a flush has nothing to do here.
    pub(super) fn is_empty(&self) -> bool {
        self.gather.is_empty() && self.entries.iter().all(|e| e.state == State::Leaving)
    }

    /// The first range that is neither mapped nor free and overlaps `range`.
    pub(super) fn clash(&self, range: Range) -> Option<Range> {
        self.entries.iter().find_map(|entry| {
            let from = entry.ranges.partition_point(|r| r.last() < range.iova);
            entry.ranges.get(from).copied().filter(|r| r.overlaps(range))
        })
    }

    fn add(&mut self, state: State, ranges: &[Range], held: Option<QuarantineId>) -> u64 {
        let number = self.next;
        self.next += 1;
        let mut ranges = ranges.to_vec();
        ranges.sort_unstable();
        self.entries.push(Entry { number, state, ranges, held });
        number
    }

    /// Keeps `ranges` from being mapped until [`left`](Self::left).
    pub(super) fn leaving(&mut self, ranges: &[Range]) -> u64 {
        self.add(State::Leaving, ranges, None)
    }

    /// The ranges that were [leaving](Self::leaving) as `number` are unmapped, or will be heard of as unconfirmed.
    pub(super) fn left(&mut self, number: u64) {
        self.entries.retain(|e| e.number != number);
    }

    /// The hardware did not confirm what is in `gather`.
    pub(super) fn unconfirmed(&mut self, gather: Gather, ranges: &[Range], held: Option<QuarantineId>) {
        self.gather.absorb(gather);
        self.add(State::Unconfirmed, ranges, held);
    }

    /// The page table did not take `ranges` out.
    pub(super) fn stuck(&mut self, gather: Gather, ranges: &[Range], held: QuarantineId) {
        self.gather.absorb(gather);
        self.add(State::Stuck, ranges, Some(held));
    }

    /// A flush begins. Returns all that is gathered, and what [`confirmed`](Self::confirmed) wants to know.
    pub(super) fn begin(&mut self) -> (Gather, u64) {
        (core::mem::take(&mut self.gather), self.next)
    }

    /// The flush did not end well.
    pub(super) fn keep(&mut self, gather: Gather) {
        self.gather.absorb(gather);
    }

    /// The flush that began at `mark` was confirmed; `off`: and the translation had ended before. Returns what is free.
    pub(super) fn confirmed(&mut self, mark: u64, off: bool) -> Vec<Entry> {
        let done = |e: &mut Entry| e.number < mark && (e.state == State::Unconfirmed || off && e.state == State::Stuck);
        self.entries.extract_if(.., done).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(page: u64) -> Range {
        Range { iova: DeviceAddr(page << 12), len: 1 << 12 }
    }

    fn freed(done: &[Entry]) -> Vec<Range> {
        done.iter().flat_map(|e| e.ranges.iter().copied()).collect()
    }

    #[test]
    fn a_flush_speaks_for_what_was_unconfirmed_when_it_began() {
        let mut unconfirmed = Unconfirmed::default();
        unconfirmed.unconfirmed(Gather::new(), &[range(2), range(0)], Some(1));
        unconfirmed.stuck(Gather::new(), &[range(4)], 2);
        let (_, mark) = unconfirmed.begin();
        unconfirmed.unconfirmed(Gather::new(), &[range(6)], Some(3));
        let leaving = unconfirmed.leaving(&[range(8)]);
        assert_eq!(freed(&unconfirmed.confirmed(mark, false)), [range(0), range(2)]);
        for page in [4, 6, 8] {
            assert_eq!(unconfirmed.clash(range(page)), Some(range(page)), "neither mapped nor free");
        }
        let (_, mark) = unconfirmed.begin();
        assert_eq!(freed(&unconfirmed.confirmed(mark, true)), [range(4), range(6)], "the translation is off");
        assert_eq!(unconfirmed.clash(range(8)), Some(range(8)), "who unmaps it says how it went");
        unconfirmed.left(leaving);
        assert!(unconfirmed.clash(range(8)).is_none() && unconfirmed.is_empty());
    }
}
