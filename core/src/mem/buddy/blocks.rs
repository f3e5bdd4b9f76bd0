//! A set of aligned power-of-two blocks of pages.

use alloc::vec::Vec;

use super::bits::BitSet;

/// Blocks by order: member n of order o is the block at page `n << o`.
#[derive(Debug)]
pub(super) struct Blocks {
    sets: Vec<BitSet>,
    /// Bit o is set when `sets[o]` has a member.
    orders: u64,
}

impl Blocks {
    /// No blocks yet, of a space of `1 << bits` pages.
    pub(super) fn new(bits: u32) -> Self {
        Self { sets: (0..=bits).map(|order| BitSet::new(bits - order)).collect(), orders: 0 }
    }

    pub(super) fn contains(&self, first: u64, order: u32) -> bool {
        self.orders >> order & 1 != 0 && self.sets[order as usize].contains(first >> order)
    }

    pub(super) fn insert(&mut self, first: u64, order: u32) {
        self.sets[order as usize].insert(first >> order);
        self.orders |= 1 << order;
    }

    pub(super) fn remove(&mut self, first: u64, order: u32) {
        let set = &mut self.sets[order as usize];
        set.remove(first >> order);
        if set.is_empty() {
            self.orders &= !(1 << order);
        }
    }

    /// Inserts the largest blocks that make up the pages from `first` up to but not including `end`.
    pub(super) fn insert_range(&mut self, mut first: u64, end: u64) {
        while first < end {
            let order = largest_order(first, end);
            self.insert(first, order);
            first += 1 << order;
        }
    }

    /// The block that holds `page`.
    pub(super) fn holding(&self, page: u64) -> Option<(u64, u32)> {
        self.orders().map(|o| (page >> o << o, o)).find(|&(first, o)| self.contains(first, o))
    }

    /// Of the smallest order from `order` up that has one: the highest block that starts in the range given.
    pub(super) fn smallest(&self, order: u32, lowest: u64, highest: u64) -> Option<(u64, u32)> {
        self.orders().filter(|&o| o >= order).find_map(|o| self.highest_of(o, lowest, highest))
    }

    /// Of all orders from `order` up: the highest block that starts in the range given.
    pub(super) fn highest(&self, order: u32, lowest: u64, highest: u64) -> Option<(u64, u32)> {
        self.orders().filter(|&o| o >= order).filter_map(|o| self.highest_of(o, lowest, highest)).max()
    }

    /// The block that ends where `page` begins.
    pub(super) fn before(&self, page: u64) -> Option<u64> {
        let aligned = page.trailing_zeros();
        self.orders()
            .take_while(|&o| o <= aligned)
            .find_map(|o| page.checked_sub(1 << o).filter(|&first| self.contains(first, o)))
    }

    /// The end of the block that begins at `page`.
    pub(super) fn after(&self, page: u64) -> Option<u64> {
        let aligned = page.trailing_zeros();
        self.orders().take_while(|&o| o <= aligned).find(|&o| self.contains(page, o)).map(|o| page + (1 << o))
    }

    fn highest_of(&self, order: u32, lowest: u64, highest: u64) -> Option<(u64, u32)> {
        let first = self.sets[order as usize].at_or_below(highest >> order)? << order;
        (first >= lowest).then_some((first, order))
    }

    /// The orders that have a block, ascending.
    fn orders(&self) -> impl Iterator<Item = u32> + use<> {
        let mut orders = self.orders;
        core::iter::from_fn(move || {
            let order = (orders != 0).then(|| orders.trailing_zeros())?;
            orders &= orders - 1;
            Some(order)
        })
    }
}

/// The order of the largest aligned block that starts at `first` and does not pass `end`, which lies behind it.
pub(super) fn largest_order(first: u64, end: u64) -> u32 {
    first.trailing_zeros().min((end - first).ilog2())
}
