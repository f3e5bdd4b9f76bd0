//! A record of every allocated run of pages.

use super::tree::{Bits, Leaf, Tree, bit_of, in_leaf, word_of};

/// Allocated runs, which do not overlap, by their first and last page.
///
/// # Invariants
///
/// A run has its first page in `starts` and its last in `ends` of the leaves that cover them, and no bits between.
#[derive(Debug)]
pub(super) struct Runs {
    tree: Tree<Pages>,
}

/// First and last pages of runs, of 4,096 pages. The ends are those that the tree searches.
#[derive(Debug)]
struct Pages {
    ends: Bits,
    starts: [u64; 64],
}

impl Leaf for Pages {
    const EMPTY: Self = Self { ends: Bits::EMPTY, starts: [0; 64] };

    fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn at_or_below(&self, index: u64) -> Option<u64> {
        self.ends.at_or_below(index)
    }

    #[inline]
    fn at_or_above(&self, index: u64) -> Option<u64> {
        self.ends.at_or_above(index)
    }
}

impl Runs {
    /// No runs yet, of a space of `1 << bits` pages; `bits` is at most 52.
    pub(super) const fn new(bits: u32) -> Self {
        Self { tree: Tree::new(bits) }
    }

    /// Records a run, which overlaps no other.
    #[inline]
    pub(super) fn insert(&mut self, first: u64, last: u64) {
        let leaf = self.tree.touch(first);
        leaf.starts[word_of(first)] |= bit_of(first);
        // Most runs lie in one leaf, which is touched once then.
        let leaf = if Tree::<Pages>::share_leaf(first, last) { leaf } else { self.tree.touch(last) };
        leaf.ends.insert(last);
    }

    /// Forgets a run. False, and no run has changed, unless exactly this one was recorded.
    #[inline]
    pub(super) fn remove(&mut self, first: u64, last: u64) -> bool {
        if !Tree::<Pages>::share_leaf(first, last) {
            return self.remove_long(first, last);
        }
        let Some(leaf) = self.tree.touch_occupied(first) else { return false };
        if leaf.starts[word_of(first)] & bit_of(first) == 0 || leaf.at_or_above(first) != Some(in_leaf(last)) {
            return false;
        }
        leaf.starts[word_of(first)] &= !bit_of(first);
        leaf.ends.remove(last);
        true
    }

    /// As [`remove`](Self::remove), of a run whose last page is in another leaf than its first.
    fn remove_long(&mut self, first: u64, last: u64) -> bool {
        let is_start = |leaf: &Pages| leaf.starts[word_of(first)] & bit_of(first) != 0;
        if !self.tree.get(first).is_some_and(is_start) || self.tree.at_or_above(first) != Some(last) {
            return false;
        }
        self.tree.touch(first).starts[word_of(first)] &= !bit_of(first);
        self.tree.touch(last).ends.remove(last);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u64, u64),
        /// The n-th run, as it is.
        Remove(usize),
        /// The n-th run, its first and last page moved by these.
        Wrong(usize, i64, i64),
    }

    /// Runs lie in leaves far apart, at the edges of leaves and across them, so that leaves become empty and are met empty.
    fn op() -> impl Strategy<Value = Op> {
        let first =
            (0_u64..6, prop_oneof![0_u64..3, 62_u64..66, 4090_u64..4100], prop_oneof![Just(0), Just(1_u64 << 20)])
                .prop_map(|(leaf, page, far)| leaf << 12 | page | far);
        let pages = prop_oneof![4 => Just(1), 2 => 1_u64..70, 1 => 4000_u64..20_000];
        prop_oneof![
            3 => (first, pages).prop_map(|(first, pages)| Op::Insert(first, first + pages - 1)),
            3 => any::<usize>().prop_map(Op::Remove),
            2 => (any::<usize>(), -2_i64..3, prop_oneof![-2_i64..3, Just(4096), Just(-4096)]).prop_map(|(n, a, b)| Op::Wrong(n, a, b)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { ProptestConfig::default().cases.max(500) }, failure_persistence: None, ..ProptestConfig::default()
        })]
        #[test]
        fn exactly_the_runs_that_were_recorded_are_forgotten(ops in proptest::collection::vec(op(), 1..60)) {
            let mut runs = Runs::new(24);
            let mut oracle: BTreeMap<u64, u64> = BTreeMap::new();
            let nth = |oracle: &BTreeMap<u64, u64>, n: usize| oracle.iter().nth(n % oracle.len().max(1)).map(|(a, b)| (*a, *b));
            for op in ops {
                match op {
                    Op::Insert(first, last) if oracle.range(..=last).next_back().is_none_or(|(_, end)| *end < first) => {
                        runs.insert(first, last);
                        oracle.insert(first, last);
                    }
                    Op::Insert(first, last) => prop_assert_eq!(runs.remove(first, last), oracle.get(&first) == Some(&last) && oracle.remove(&first).is_some()),
                    Op::Remove(n) => if let Some((first, last)) = nth(&oracle, n) {
                        prop_assert!(runs.remove(first, last));
                        prop_assert!(!runs.remove(first, last), "twice");
                        oracle.remove(&first);
                    },
                    Op::Wrong(n, a, b) => if let Some((first, last)) = nth(&oracle, n) {
                        let (a, b) = (first.saturating_add_signed(a), last.saturating_add_signed(b));
                        if a <= b && oracle.get(&a) != Some(&b) {
                            prop_assert!(!runs.remove(a, b));
                        }
                    },
                }
            }
            for (first, last) in oracle {
                prop_assert!(runs.remove(first, last));
            }
        }
    }

    #[test]
    fn a_leaf_that_has_become_empty_is_passed_over_by_a_search_and_used_again() {
        let mut runs = Runs::new(36);
        let ends = |runs: &Runs, from: u64| runs.tree.at_or_above(from);
        // The long run ends behind the leaf of the single page, which is the last that was touched.
        for round in 0..3_u64 {
            let single = (1 << 24) + round * 4096;
            runs.insert(single, single);
            assert!(runs.remove(single, single));
            assert_eq!(ends(&runs, 0), None, "nothing is recorded");
            runs.insert(0, (1 << 30) - 1);
            assert_eq!(ends(&runs, single), Some((1 << 30) - 1));
            assert!(!runs.remove(0, single), "no run ends in the empty leaf");
            assert!(runs.remove(0, (1 << 30) - 1));
            runs.insert(single, single);
            assert_eq!(ends(&runs, 0), Some(single));
            assert!(runs.remove(single, single));
        }
    }

    /// The bound on a search: whatever came and went, one empty leaf in the tree still looks worth it.
    #[test]
    fn one_leaf_at_most_is_searched_in_vain() {
        let mut runs = Runs::new(36);
        for n in 0..300_u64 {
            let first = n << 12 | (n % 3) << 30;
            runs.insert(first, first);
            runs.insert(first + 1, first + 5000);
            assert!(runs.remove(first, first) && runs.remove(first + 1, first + 5000));
            assert!(runs.tree.empty_but_marked() <= 1, "after {n} leaves");
        }
        assert_eq!(runs.tree.empty_but_marked(), 1, "the last one is marked");
    }

    /// The leaf that was touched last must be found by searches: a wrong free of a run in an empty one must not make it that.
    #[test]
    fn a_wrong_free_in_an_empty_leaf_hides_no_later_run() {
        let leaf = |n: u64| n << 12;
        let mut runs = Runs::new(36);
        runs.insert(leaf(1), leaf(1));
        assert!(runs.remove(leaf(1), leaf(1)));
        // Leaf 1 is empty, and another one was touched last.
        runs.insert(leaf(3), leaf(3) + 7);
        assert!(!runs.remove(leaf(1), leaf(1)));
        runs.insert(leaf(1), leaf(1) + 7);
        runs.insert(leaf(5), leaf(5));
        assert!(!runs.remove(leaf(1), leaf(3) + 7), "this is a run and the end of the next one");
        assert!(
            runs.remove(leaf(1), leaf(1) + 7) && runs.remove(leaf(3), leaf(3) + 7) && runs.remove(leaf(5), leaf(5))
        );
    }

    #[test]
    fn a_wrong_run_allocates_nothing() {
        let mut runs = Runs::new(36);
        runs.insert(5, 5);
        let before = runs.tree.nodes();
        let all: Vec<_> = (0..200_u64).map(|n| runs.remove(n << 28, n << 28)).collect();
        assert!(!all.contains(&true));
        assert!(!runs.remove(1 << 20, 1 << 30));
        assert_eq!(runs.tree.nodes(), before);
    }
}
