//! A sparse set of numbers.

use super::tree::{Bits, Tree};

/// A set of numbers below `1 << bits`.
#[derive(Debug)]
pub(super) struct BitSet {
    tree: Tree<Bits>,
    /// Number of members.
    len: u64,
}

impl BitSet {
    /// An empty set for numbers below `1 << bits`; `bits` is at most 52.
    pub(super) const fn new(bits: u32) -> Self {
        Self { tree: Tree::new(bits), len: 0 }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(super) fn contains(&self, index: u64) -> bool {
        self.tree.get(index).is_some_and(|leaf| leaf.contains(index))
    }

    pub(super) fn insert(&mut self, index: u64) {
        let leaf = self.tree.touch(index);
        self.len += u64::from(!leaf.contains(index));
        leaf.insert(index);
    }

    pub(super) fn remove(&mut self, index: u64) {
        if self.contains(index) {
            self.tree.touch(index).remove(index);
            self.len -= 1;
        }
    }

    /// The highest member that is not above `index`.
    pub(super) fn at_or_below(&self, index: u64) -> Option<u64> {
        self.tree.at_or_below(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    fn cases(n: u32) -> ProptestConfig {
        ProptestConfig {
            cases: if cfg!(miri) { 4 } else { ProptestConfig::default().cases.max(n) },
            failure_persistence: None,
            ..ProptestConfig::default()
        }
    }

    proptest! {
        #![proptest_config(cases(200))]
        #[test]
        fn agrees_with_a_sorted_set(bits in 1u32..=40, ops in proptest::collection::vec((any::<u64>(), 0u8..4), 1..200)) {
            let mut set = BitSet::new(bits);
            let mut oracle = BTreeSet::new();
            let members: Vec<u64> = ops.iter().map(|(i, _)| i & ((1 << bits) - 1)).collect();
            for (n, (raw, op)) in ops.iter().enumerate() {
                let index = raw & ((1 << bits) - 1);
                match op {
                    0 | 1 => { set.insert(index); oracle.insert(index); }
                    2 => { set.remove(members[n / 2]); oracle.remove(&members[n / 2]); }
                    _ => {}
                }
                prop_assert_eq!(set.contains(index), oracle.contains(&index));
                prop_assert_eq!(set.at_or_below(index), oracle.range(..=index).next_back().copied());
                prop_assert_eq!(set.is_empty(), oracle.is_empty());
            }
        }
    }

    #[test]
    fn neighbours_across_leaves_are_found() {
        let mut set = BitSet::new(36);
        set.insert(5);
        set.insert((1 << 36) - 1);
        assert_eq!(set.at_or_below(u64::MAX), Some((1 << 36) - 1));
        assert_eq!(set.at_or_below((1 << 36) - 2), Some(5));
    }
}
