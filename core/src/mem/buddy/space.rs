//! Buddy blocks over a numbered space of pages, with a record of every allocated run.

use alloc::vec::Vec;

use super::blocks::{Blocks, largest_order};
use super::runs::Runs;

/// Freed blocks of orders below this go onto short stacks, to be reused first: sizes recur.
const HOT_ORDERS: usize = 10;
/// Capacity of one such stack, in blocks: as many as a lazy domain frees at once.
const HOT_BLOCKS: usize = 256;

/// Request to a [`Buddy`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// Pages, at least 1.
    pub(crate) pages: u64,
    /// Alignment of the first page: a multiple of `1 << align_order` pages.
    pub(crate) align_order: u32,
    /// Highest page that may belong to the run.
    pub(crate) last: u64,
    /// First preferred page; pages below it are used only when these are exhausted.
    pub(crate) prefer_from: u64,
    /// Fail in the place of using pages below [`prefer_from`](Self::prefer_from).
    pub(crate) strict: bool,
}

/// Free and allocated pages of one space.
///
/// Pages that were never allocated are `fresh`. They are used from the top down, and only when no free block fits: the
/// first allocations are the highest, and later ones fill holes first.
///
/// # Invariants
///
/// Each usable page is in exactly one of: a fresh block, a free block, a hot block, an allocated run of `runs`. Two free
/// buddies never coexist in `free`.
#[derive(Debug)]
pub(crate) struct Buddy {
    bits: u32,
    fresh: Blocks,
    free: Blocks,
    hot: [Vec<u64>; HOT_ORDERS],
    runs: Runs,
    taken: u64,
}

impl Buddy {
    /// A space of `1 << bits` pages, none of them usable yet. `bits` is at most 52.
    pub(crate) fn new(bits: u32) -> Self {
        let bits = bits.min(52);
        Self {
            bits,
            fresh: Blocks::new(bits),
            free: Blocks::new(bits),
            hot: [const { Vec::new() }; HOT_ORDERS],
            runs: Runs::new(bits),
            taken: 0,
        }
    }

    /// Makes the pages from `first` up to but not including `end` usable. They must be new to this space.
    pub(crate) fn add(&mut self, first: u64, end: u64) {
        self.fresh.insert_range(first, end.min(1 << self.bits));
    }

    /// Number of pages allocated at this moment.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Allocates a run aligned to its own size, rounded up to a power of two, or to the requested alignment, whichever
    /// is larger. The cost does not depend on the number of holes.
    pub(crate) fn alloc_natural(&mut self, request: Request) -> Option<u64> {
        let order = self.size_order(&request)?.max(request.align_order);
        if let Some(first) = self.alloc_hot(order, &request) {
            self.record(first, request.pages);
            return Some(first);
        }
        let place = self.find(order, &request).or_else(|| {
            self.join_all();
            self.find(order, &request)
        })?;
        self.claim(place, request.pages);
        self.record(place, request.pages);
        Some(place)
    }

    /// Allocates a run at any place, also across block boundaries. A naturally aligned place is tried first; when there
    /// is none, the free blocks of at least a quarter of the size are searched from the top.
    pub(crate) fn alloc_any(&mut self, request: Request) -> Option<u64> {
        if let Some(first) = self.alloc_natural(request) {
            return Some(first);
        }
        let place = self.find_across(&request)?;
        self.claim(place, request.pages);
        self.record(place, request.pages);
        Some(place)
    }

    /// Frees a run, which must be exactly one that is allocated. On `false` nothing has changed.
    pub(crate) fn free(&mut self, first: u64, pages: u64) -> bool {
        let Some(last) = pages.checked_sub(1).and_then(|n| first.checked_add(n)) else { return false };
        if last >> self.bits != 0 || !self.runs.remove(first, last) {
            return false;
        }
        self.taken -= pages;
        if pages.is_power_of_two()
            && first & (pages - 1) == 0
            && let Some(stack) = self.hot.get_mut(pages.ilog2() as usize)
            && stack.len() < HOT_BLOCKS
        {
            stack.push(first);
        } else {
            self.release(first, last + 1);
        }
        true
    }

    /// Removes the pages from `first` up to but not including `end` from the space for good, as far as they are in it.
    /// On `false`, which means that one of them is allocated, nothing has changed.
    pub(crate) fn withdraw(&mut self, usable: (u64, u64), first: u64, end: u64) -> bool {
        let (first, end) = (first.max(usable.0), end.min(usable.1));
        self.join_all();
        let mut page = first;
        while page < end {
            let Some((block, order)) = self.free.holding(page) else { return false };
            page = block + (1 << order);
        }
        if first < end {
            self.claim(first, end - first);
        }
        true
    }

    /// The order of the smallest block that holds the request, or `None` when the space is too small.
    fn size_order(&self, request: &Request) -> Option<u32> {
        let order = request.pages.checked_next_power_of_two()?.ilog2();
        let fits = order <= self.bits && request.align_order <= self.bits;
        (fits && request.pages != 0 && request.pages - 1 <= request.last).then_some(order)
    }

    fn record(&mut self, first: u64, pages: u64) {
        self.runs.insert(first, first + (pages - 1));
        self.taken += pages;
    }

    /// The most recently freed block of exactly this size, if it meets the request.
    fn alloc_hot(&mut self, order: u32, request: &Request) -> Option<u64> {
        if request.pages != 1 << order {
            return None;
        }
        let stack = self.hot.get_mut(order as usize)?;
        let &first = stack.last()?;
        (first + (request.pages - 1) <= request.last && first >= request.prefer_from).then(|| stack.pop())?
    }

    /// A place of `order` in the smallest free block, else in the highest fresh one; preferred pages first.
    fn find(&mut self, order: u32, request: &Request) -> Option<u64> {
        let highest = request.last - (request.pages - 1);
        if request.prefer_from > 0 && request.prefer_from <= highest {
            let preferred = self.find_from(order, request.prefer_from, highest);
            if preferred.is_some_and(|first| !request.strict || first >= request.prefer_from) {
                return preferred;
            }
        }
        if request.strict {
            return self.find_around(order, request.prefer_from, highest);
        }
        self.find_from(order, 0, highest)
    }

    /// The highest place of `order` from page `lowest` on in the block that holds this page: it begins below.
    fn find_around(&mut self, order: u32, lowest: u64, highest: u64) -> Option<u64> {
        if let Some((first, o)) = self.fresh.holding(lowest) {
            self.fresh.remove(first, o);
            self.release(first, first + (1 << o));
        }
        let (first, o) = self.free.holding(lowest)?;
        let top = (first + (1 << o)).checked_sub(1 << order)?;
        let place = top.min(highest) & (u64::MAX << order);
        (place >= lowest).then_some(place)
    }

    fn find_from(&mut self, order: u32, lowest: u64, highest: u64) -> Option<u64> {
        if self.free.smallest(order, lowest, highest).is_none() {
            let (first, o) = self.fresh.highest(order, lowest, highest)?;
            self.fresh.remove(first, o);
            self.release(first, first + (1 << o));
        }
        // Merging with a buddy below may have moved the start of the block out of the preferred range.
        let (first, o) =
            self.free.smallest(order, lowest, highest).or_else(|| self.free.smallest(order, 0, highest))?;
        let top = first + ((1 << o) - (1 << order));
        Some(top.min(highest) & (u64::MAX << order))
    }

    /// The highest place in the highest stretch of adjoining free blocks that holds the request.
    ///
    /// A stretch of `n` pages contains a block of at least a quarter of `n` rounded up to a power of two, so it is
    /// enough to start from those. The caller has joined all blocks.
    fn find_across(&self, request: &Request) -> Option<u64> {
        let order = self.size_order(request)?.saturating_sub(2);
        let end = request.last.saturating_add(1);
        let mut below = end;
        while let Some(last) = below.checked_sub(1) {
            let (block, o) = self.free.highest(order, 0, last)?;
            let (mut first, mut stretch_end) = (block, block + (1 << o));
            while let Some(before) = self.free.before(first) {
                first = before;
            }
            while let Some(after) = self.free.after(stretch_end) {
                stretch_end = after;
            }
            if let Some(highest) = stretch_end.min(end).checked_sub(request.pages) {
                let place = highest & (u64::MAX << request.align_order);
                if place >= first {
                    return Some(place);
                }
            }
            below = first;
        }
        None
    }

    /// Removes `pages` free pages at `first` from the blocks that hold them; the rest of these blocks stays free.
    fn claim(&mut self, first: u64, pages: u64) {
        let end = first + pages;
        let mut page = first;
        while page < end {
            // INVARIANT: the finders return free pages only, so some block holds this page.
            let Some((block, order)) = self.free.holding(page) else { return };
            self.free.remove(block, order);
            self.free.insert_range(block, first);
            page = block + (1 << order);
        }
        self.free.insert_range(end, page);
    }

    /// Frees pages and merges them with their free buddies.
    fn release(&mut self, mut first: u64, end: u64) {
        while first < end {
            let mut order = largest_order(first, end);
            let mut block = first;
            first += 1 << order;
            while order < self.bits && self.free.contains(block ^ (1 << order), order) {
                self.free.remove(block ^ (1 << order), order);
                block &= !(1 << order);
                order += 1;
            }
            self.free.insert(block, order);
        }
    }

    /// Merges all hot and fresh blocks into the free ones, before a request fails for lack of a larger block.
    fn join_all(&mut self) {
        for order in 0..HOT_ORDERS {
            while let Some(first) = self.hot[order].pop() {
                self.release(first, first + (1 << order));
            }
        }
        while let Some((first, order)) = self.fresh.highest(0, 0, u64::MAX) {
            self.fresh.remove(first, order);
            self.release(first, first + (1 << order));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(pages: u64) -> Request {
        Request { pages, align_order: 0, last: u64::MAX >> 12, prefer_from: 0, strict: false }
    }

    #[test]
    fn a_run_across_block_boundaries_is_found() {
        let mut buddy = Buddy::new(10);
        buddy.add(3, 10);
        assert_eq!(buddy.alloc_natural(request(7)), None);
        assert_eq!(buddy.alloc_any(request(7)), Some(3));
        assert!(buddy.free(3, 7));
        assert_eq!(buddy.alloc_any(request(5)), Some(5));
        assert_eq!(buddy.alloc_any(request(2)), Some(3));
        assert_eq!(buddy.alloc_any(request(1)), None);
    }

    #[test]
    fn preferred_pages_are_used_first() {
        let mut buddy = Buddy::new(8);
        buddy.add(0, 4);
        buddy.add(128, 256);
        let high = Request { prefer_from: 128, ..request(64) };
        assert_eq!(buddy.alloc_natural(high), Some(192));
        assert_eq!(buddy.alloc_natural(high), Some(128));
        let strict = Request { pages: 2, strict: true, ..high };
        assert_eq!(buddy.alloc_natural(strict), None, "nothing is taken below the bound");
        assert_eq!(buddy.alloc_natural(Request { pages: 2, ..high }), Some(2));
    }

    #[test]
    fn hot_blocks_are_merged_before_a_request_fails() {
        let mut buddy = Buddy::new(6);
        buddy.add(0, 64);
        let pages: Vec<_> = (0..64).map(|_| buddy.alloc_natural(request(1)).unwrap()).collect();
        assert_eq!(buddy.alloc_natural(request(1)), None);
        for page in pages {
            assert!(buddy.free(page, 1));
        }
        assert_eq!(buddy.alloc_natural(request(64)), Some(0));
    }
}
