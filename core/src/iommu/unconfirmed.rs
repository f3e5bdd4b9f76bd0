//! Unconfirmed unmaps: device addresses that are neither mapped nor free.

use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

use smallvec::SmallVec;

use super::unmap::retry_later;
use super::{Domain, Gather};
use crate::addr::DeviceAddr;
use crate::dma::QuarantineId;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{LockLevel, Mutex, MutexGuard};
use crate::system::System;

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

    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.iova <= other.last() && other.iova <= self.last()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// An unmap is in progress; its caller will report the result.
    Unmapping,
    /// Removed from the page table; a flush that begins later confirms it.
    Unconfirmed,
    /// The page table did not remove it; only a flush of the disabled translation confirms it.
    NotRemoved,
}

/// Ranges that were unmapped together.
pub(super) struct Entry {
    number: u64,
    state: State,
    /// By address.
    pub(super) ranges: Vec<Range>,
    /// Pins of their memory in quarantine.
    pub(super) held: Option<QuarantineId>,
    /// Flush that has taken what was gathered when it began: no other one covers these ranges while it is under way, but those that
    /// have [joined](Unconfirmed::begin_joined) it.
    taken_by: Option<u64>,
    /// The latest flush that covers these ranges, too, while the one that has taken them is under way.
    joined_by: Option<u64>,
}

/// Unconfirmed unmaps of one domain. The next flush includes the gathered ranges: once it is confirmed, so are these,
/// and neither table pages nor device addresses are leaked.
#[derive(Default)]
pub(crate) struct Unconfirmed {
    gather: Gather,
    entries: Vec<Entry>,
    next: u64,
    flushes: u64,
    /// Flushes that are under way: number, first and last device address.
    under_way: SmallVec<[(u64, DeviceAddr, DeviceAddr); 2]>,
}

/// Flush that has [begun](Unconfirmed::begin).
#[derive(Clone, Copy)]
pub(super) struct FlushMark(u64);

/// The unconfirmed unmaps of a domain, behind a lock that an unmap need not take while there are none.
pub(crate) struct UnconfirmedList {
    /// True while there may be something, to be read without the lock.
    any: AtomicBool,
    list: Mutex<Unconfirmed>,
}

impl Default for UnconfirmedList {
    fn default() -> Self {
        Self { any: AtomicBool::new(false), list: Mutex::default().at(LockLevel::Unconfirmed) }
    }
}

impl UnconfirmedList {
    /// True when nothing is unconfirmed: what the calling thread has added, or knows of by another thread's word, is seen.
    pub(super) fn is_clear(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// Locks the list.
    pub(super) fn lock(&self) -> UnconfirmedGuard<'_> {
        UnconfirmedGuard { any: &self.any, list: self.list.lock() }
    }
}

/// Exclusive access to the list; tells whether it is empty when dropped.
pub(super) struct UnconfirmedGuard<'a> {
    any: &'a AtomicBool,
    list: MutexGuard<'a, Unconfirmed>,
}

impl Drop for UnconfirmedGuard<'_> {
    fn drop(&mut self) {
        // Under the lock, which `list` holds until after this.
        self.any.store(!(self.list.gather.is_empty() && self.list.entries.is_empty()), Ordering::Release);
    }
}

impl Deref for UnconfirmedGuard<'_> {
    type Target = Unconfirmed;
    fn deref(&self) -> &Unconfirmed {
        &self.list
    }
}

impl DerefMut for UnconfirmedGuard<'_> {
    fn deref_mut(&mut self) -> &mut Unconfirmed {
        &mut self.list
    }
}

impl Domain {
    /// Keeps the addresses `ranges` and the pages `held` of a queue whose flush of `gather` was not confirmed, for a later one.
    pub(crate) fn not_flushed(&self, machine: &System, gather: Gather, ranges: &[Range], held: Vec<QuarantineId>) {
        let mut unconfirmed = self.unconfirmed.lock();
        unconfirmed.unconfirmed(gather, ranges, None);
        for held in held {
            unconfirmed.unconfirmed(Gather::new(), &[], Some(held));
        }
        drop(unconfirmed);
        retry_later(machine);
    }
}

impl Unconfirmed {
    /// True when there is nothing to flush.
    pub(super) fn is_empty(&self) -> bool {
        self.gather.is_empty() && self.entries.iter().all(|e| e.state == State::Unmapping)
    }

    /// The first range that is neither mapped nor free and overlaps `range`.
    pub(super) fn first_overlap(&self, range: Range) -> Option<Range> {
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
        self.entries.push(Entry { number, state, ranges, held, taken_by: None, joined_by: None });
        number
    }

    /// Blocks maps of `ranges` until [`end_unmap`](Self::end_unmap).
    pub(super) fn begin_unmap(&mut self, ranges: &[Range]) -> u64 {
        self.add(State::Unmapping, ranges, None)
    }

    /// Ends the unmap `number` of [`begin_unmap`](Self::begin_unmap): its ranges are free, or were added as
    /// unconfirmed.
    pub(super) fn end_unmap(&mut self, number: u64) {
        self.entries.retain(|e| e.number != number);
    }

    /// Adds `ranges`, whose flush of `gather` was not confirmed.
    pub(super) fn unconfirmed(&mut self, gather: Gather, ranges: &[Range], held: Option<QuarantineId>) {
        self.gather.absorb(gather);
        self.add(State::Unconfirmed, ranges, held);
    }

    /// Adds `range`, which was mapped in part, and whose removal some IOMMU has not confirmed. Every flush that confirms it includes
    /// the range: what those IOMMUs have kept may be in the hands of another flush, which is not finished. `mapped` when a page
    /// table still maps some of it.
    pub(super) fn not_undone(&mut self, range: Range, mapped: bool, held: QuarantineId) {
        let mut gather = Gather::new();
        gather.add(range.iova, range.len);
        if mapped {
            self.not_removed(gather, &[range], held);
        } else {
            self.unconfirmed(gather, &[range], Some(held));
        }
    }

    /// Adds `ranges`, which the page table did not remove.
    pub(super) fn not_removed(&mut self, gather: Gather, ranges: &[Range], held: QuarantineId) {
        self.gather.absorb(gather);
        self.add(State::NotRemoved, ranges, Some(held));
    }

    /// Begins a flush. Returns all that is gathered, and a mark for [`confirmed`](Self::confirmed) or
    /// [`failed`](Self::failed).
    pub(super) fn begin(&mut self) -> (Gather, FlushMark) {
        self.flushes += 1;
        let flush = self.flushes;
        for entry in self.entries.iter_mut().filter(|e| e.state != State::Unmapping) {
            entry.taken_by.get_or_insert(flush);
        }
        let gather = core::mem::take(&mut self.gather);
        self.under_way.extend(gather.range().map(|(first, last)| (flush, first, last)));
        (gather, FlushMark(flush))
    }

    /// As [`begin`](Self::begin), of a flush that includes what those have taken that are under way, so that it confirms all there is
    /// without waiting for them.
    pub(super) fn begin_joined(&mut self) -> (Gather, FlushMark) {
        let others: SmallVec<[_; 2]> = self.under_way.iter().map(|(_, first, last)| (*first, *last)).collect();
        let (mut gather, mark) = self.begin();
        for (first, last) in others {
            gather.add(first, last.0 - first.0 + 1);
        }
        for entry in self.entries.iter_mut().filter(|e| e.taken_by.is_some_and(|by| by != mark.0)) {
            entry.joined_by = Some(mark.0);
        }
        (gather, mark)
    }

    /// Ends the flush of `mark` without confirmation, and puts back `gather`: in one step, so that a flush that begins in
    /// between does not confirm entries without it.
    pub(super) fn failed(&mut self, mark: FlushMark, gather: Gather) {
        self.under_way.retain(|(number, ..)| *number != mark.0);
        self.gather.absorb(gather);
        for entry in self.entries.iter_mut().filter(|e| e.taken_by == Some(mark.0)) {
            entry.taken_by = None;
        }
    }

    /// Puts the gathered ranges back after a failed flush.
    pub(super) fn put_back(&mut self, gather: Gather) {
        self.gather.absorb(gather);
    }

    /// Ends the flush that began at `mark`, confirmed; `off` when the translation was disabled before it began. Returns
    /// the entries that are free now.
    pub(super) fn confirmed(&mut self, mark: FlushMark, off: bool) -> Vec<Entry> {
        let FlushMark(flush) = mark;
        self.under_way.retain(|(number, ..)| *number != flush);
        // Not one that nobody has taken: another flush had it when this one began, and failed since.
        let done = |e: &mut Entry| {
            let covered = e.taken_by == Some(flush) || e.joined_by == Some(flush);
            covered && (e.state == State::Unconfirmed || off && e.state == State::NotRemoved)
        };
        let done = self.entries.extract_if(.., done).collect();
        for entry in self.entries.iter_mut().filter(|e| e.taken_by == Some(flush)) {
            entry.taken_by = None;
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_confirms_nothing_whose_ranges_another_one_has_taken() {
        let mut unconfirmed = Unconfirmed::default();
        let mut gather = Gather::new();
        gather.add(range(2).iova, range(2).len);
        unconfirmed.unconfirmed(gather, &[range(2)], None);
        let (taken, first) = unconfirmed.begin();
        let (nothing, second) = unconfirmed.begin();
        assert!(!taken.is_empty() && nothing.is_empty());
        assert_eq!(freed(&unconfirmed.confirmed(second, false)), [], "P2: the ranges are in the first one's gather");
        unconfirmed.failed(first, taken);
        let (taken, third) = unconfirmed.begin();
        assert!(!taken.is_empty());
        assert_eq!(freed(&unconfirmed.confirmed(third, false)), [range(2)]);
    }

    #[test]
    fn a_flush_that_joins_others_confirms_what_they_have_taken_and_not_what_came_later() {
        let mut unconfirmed = Unconfirmed::default();
        let mut gather = Gather::new();
        gather.add(range(2).iova, range(2).len);
        unconfirmed.unconfirmed(gather, &[range(2)], None);
        let (taken, first) = unconfirmed.begin();
        let (joined, second) = unconfirmed.begin_joined();
        assert_eq!(joined.range(), taken.range(), "P2");
        unconfirmed.unconfirmed(Gather::new(), &[range(5)], None);
        assert_eq!(freed(&unconfirmed.confirmed(second, false)), [range(2)]);
        assert_eq!(freed(&unconfirmed.confirmed(first, false)), [], "once");
        joined.free_tables();
        taken.free_tables();
        let (nothing, third) = unconfirmed.begin_joined();
        assert!(nothing.is_empty(), "no flush is under way any more");
        assert_eq!(freed(&unconfirmed.confirmed(third, false)), [range(5)]);
    }

    #[test]
    fn a_failed_map_is_confirmed_by_a_flush_of_its_range_and_by_no_other_one() {
        let mut unconfirmed = Unconfirmed::default();
        unconfirmed.not_undone(range(2), false, 1);
        unconfirmed.not_undone(range(7), true, 2);
        let (taken, first) = unconfirmed.begin();
        assert_eq!(taken.range(), Some((range(2).iova, range(7).last())), "P2");
        let (nothing, second) = unconfirmed.begin();
        assert!(nothing.is_empty());
        assert_eq!(freed(&unconfirmed.confirmed(second, false)), [], "P2: the first one is not finished");
        assert_eq!(freed(&unconfirmed.confirmed(first, false)), [range(2)], "P2: the other one is mapped");
        let (_, third) = unconfirmed.begin();
        assert_eq!(freed(&unconfirmed.confirmed(third, true)), [range(7)], "nothing is translated any more");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 }, failure_persistence: None, ..Default::default()
        })]
        /// Whatever flushes are in flight, and in whatever order they end: an entry is freed by one that began with its
        /// range in hand, and the last one, which nothing overtakes, frees all.
        #[test]
        fn an_entry_is_confirmed_by_a_flush_that_has_its_range(
            steps in proptest::collection::vec((0..4_u8, proptest::prelude::any::<proptest::sample::Index>()), 1..40),
        ) {
            let (mut unconfirmed, mut flights, mut added, mut left) = (Unconfirmed::default(), Vec::new(), 0, Vec::new());
            let covers = |gather: &Gather, r: Range| gather.range().is_some_and(|(a, b)| a <= r.iova && r.last() <= b);
            for (step, which) in steps {
                match step {
                    0 => {
                        let mut gather = Gather::new();
                        gather.add(range(added).iova, range(added).len);
                        unconfirmed.unconfirmed(gather, &[range(added)], None);
                        left.push(range(added));
                        added += 1;
                    }
                    1 if flights.len() < 4 => flights.push((unconfirmed.begin(), added)),
                    3 if flights.len() < 4 => flights.push((unconfirmed.begin_joined(), added)),
                    _ if flights.is_empty() => {}
                    how => {
                        let ((gather, mark), begun) = flights.swap_remove(which.index(flights.len()));
                        if how == 1 {
                            unconfirmed.failed(mark, gather);
                            continue;
                        }
                        for done in freed(&unconfirmed.confirmed(mark, false)) {
                            proptest::prop_assert!(covers(&gather, done), "{done:?} by {:?}", gather.range());
                            proptest::prop_assert!(done.iova < range(begun).iova, "{done:?} came later");
                            left.retain(|r| *r != done);
                        }
                        gather.free_tables();
                    }
                }
            }
            for ((gather, mark), _) in flights {
                unconfirmed.failed(mark, gather);
            }
            let (gather, mark) = unconfirmed.begin();
            gather.free_tables();
            let mut done = freed(&unconfirmed.confirmed(mark, false));
            done.sort_unstable();
            proptest::prop_assert_eq!(done, left);
        }
    }

    fn range(page: u64) -> Range {
        Range { iova: DeviceAddr(page << 12), len: 1 << 12 }
    }

    fn freed(done: &[Entry]) -> Vec<Range> {
        done.iter().flat_map(|e| e.ranges.iter().copied()).collect()
    }

    #[test]
    fn a_flush_confirms_the_unmaps_that_were_unconfirmed_when_it_began() {
        let mut unconfirmed = Unconfirmed::default();
        unconfirmed.unconfirmed(Gather::new(), &[range(2), range(0)], Some(1));
        unconfirmed.not_removed(Gather::new(), &[range(4)], 2);
        let (_, mark) = unconfirmed.begin();
        unconfirmed.unconfirmed(Gather::new(), &[range(6)], Some(3));
        let begin_unmap = unconfirmed.begin_unmap(&[range(8)]);
        assert_eq!(freed(&unconfirmed.confirmed(mark, false)), [range(0), range(2)]);
        for page in [4, 6, 8] {
            assert_eq!(unconfirmed.first_overlap(range(page)), Some(range(page)), "neither mapped nor free");
        }
        let (_, mark) = unconfirmed.begin();
        assert_eq!(freed(&unconfirmed.confirmed(mark, true)), [range(4), range(6)], "the translation is off");
        assert_eq!(unconfirmed.first_overlap(range(8)), Some(range(8)), "its unmap is still in progress");
        unconfirmed.end_unmap(begin_unmap);
        assert!(unconfirmed.first_overlap(range(8)).is_none() && unconfirmed.is_empty());
    }
    #[test]
    fn the_overlap_that_is_found_agrees_with_a_look_at_every_range() {
        let of = |first: u64, pages: u64| Range { iova: DeviceAddr(first << 12), len: pages << 12 };
        let lists = [&[of(1, 1), of(3, 2), of(8, 1), of(12, 3)][..], &[of(6, 1)], &[of(17, 1), of(19, 1)]];
        let mut unconfirmed = Unconfirmed::default();
        unconfirmed.unconfirmed(Gather::new(), lists[0], None);
        unconfirmed.not_removed(Gather::new(), lists[1], 1);
        unconfirmed.begin_unmap(lists[2]);
        for (first, pages) in (0..22).flat_map(|first| (1..8).map(move |pages| (first, pages))) {
            let asked = of(first, pages);
            let overlaps = |r: &&Range| r.iova.0 < asked.iova.0 + asked.len && asked.iova.0 < r.iova.0 + r.len;
            let expected = lists.iter().find_map(|list| list.iter().find(overlaps));
            assert_eq!(unconfirmed.first_overlap(asked), expected.copied(), "{asked:?}");
        }
    }
}
