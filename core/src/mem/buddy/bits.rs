//! A sparse set of numbers as a 64-ary tree of bit words.

use alloc::vec::Vec;

/// Bits that one leaf covers, as a power of two: 64 words of 64 bits.
const LEAF_BITS: u32 = 12;
/// Bits of the index that one inner node consumes.
const NODE_BITS: u32 = 6;

/// A set of numbers below `1 << bits`. Insertion, removal and the search for a neighbour touch one node per 6 bits at
/// most, and only the leaf when it is the one that was changed last.
///
/// Nodes are allocated when first touched and kept until the set is dropped, so memory is bounded by the numbers that
/// were ever in it.
///
/// # Invariants
///
/// Node 0 of `inners` is the root, or node 0 of `leaves` when `height` is 0. A child is an index into `inners`, one level
/// above the leaves into `leaves`. `recent` is a leaf and the numbers that it covers, shifted by [`LEAF_BITS`].
#[derive(Debug)]
pub(super) struct BitSet {
    inners: Vec<Inner>,
    leaves: Vec<Leaf>,
    /// Inner levels above the leaves.
    height: u32,
    recent: Option<(u64, u32)>,
}

/// 4096 numbers. Bit n of `summary` is set when `words[n]` is not zero.
#[derive(Debug)]
struct Leaf {
    summary: u64,
    words: [u64; 64],
}

/// 64 sub-trees. Bit n of `summary` is set when the sub-tree has a member.
#[derive(Debug)]
struct Inner {
    summary: u64,
    children: [u32; 64],
}

/// Marks a child that was never allocated.
const NONE: u32 = u32::MAX;

impl BitSet {
    /// An empty set for numbers below `1 << bits`; `bits` is at most 52.
    pub(super) const fn new(bits: u32) -> Self {
        let height = bits.saturating_sub(LEAF_BITS).div_ceil(NODE_BITS);
        Self { inners: Vec::new(), leaves: Vec::new(), height, recent: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self.height {
            0 => self.leaves.first().is_none_or(|leaf| leaf.summary == 0),
            _ => self.inners.first().is_none_or(|inner| inner.summary == 0),
        }
    }

    pub(super) fn contains(&self, index: u64) -> bool {
        self.leaf_of(index).is_some_and(|leaf| self.leaves[leaf].words[word_of(index)] & bit_of(index) != 0)
    }

    pub(super) fn insert(&mut self, index: u64) {
        let (leaf, covers) = match self.recent {
            Some((covers, leaf)) if covers == index >> LEAF_BITS && self.leaves[leaf as usize].summary != 0 => {
                (leaf, covers)
            }
            _ => (self.make_leaf(index), index >> LEAF_BITS),
        };
        self.recent = Some((covers, leaf));
        let leaf = &mut self.leaves[leaf as usize];
        leaf.words[word_of(index)] |= bit_of(index);
        leaf.summary |= 1 << word_of(index);
    }

    pub(super) fn remove(&mut self, index: u64) {
        let Some(number) = self.leaf_of(index) else { return };
        self.recent = Some((index >> LEAF_BITS, number as u32));
        let leaf = &mut self.leaves[number];
        let word = word_of(index);
        leaf.words[word] &= !bit_of(index);
        if leaf.words[word] == 0 {
            leaf.summary &= !(1 << word);
            if leaf.summary == 0 && self.height > 0 {
                self.clear_child(0, self.height, index);
            }
        }
    }

    /// The highest member that is not above `index`.
    pub(super) fn at_or_below(&self, index: u64) -> Option<u64> {
        let last = (1 << (LEAF_BITS + NODE_BITS * self.height)) - 1;
        self.below(0, self.height, index.min(last))
    }

    /// The lowest member that is not below `index`.
    pub(super) fn at_or_above(&self, index: u64) -> Option<u64> {
        if index >> (LEAF_BITS + NODE_BITS * self.height) != 0 {
            return None;
        }
        if let Some((covers, leaf)) = self.recent
            && covers == index >> LEAF_BITS
            && let Some(found) = self.leaves[leaf as usize].at_or_above(index)
        {
            return Some(covers << LEAF_BITS | found);
        }
        self.above(0, self.height, index)
    }

    /// The leaf for `index`, if it was ever allocated.
    fn leaf_of(&self, index: u64) -> Option<usize> {
        if let Some((covers, leaf)) = self.recent
            && covers == index >> LEAF_BITS
        {
            return Some(leaf as usize);
        }
        let mut node = 0;
        for height in (1..=self.height).rev() {
            node = self.inners.get(node)?.children[child_of(index, height)] as usize;
        }
        (node < self.leaves.len()).then_some(node)
    }

    /// The leaf for `index`, allocated if need be, with the summary bits above it set.
    fn make_leaf(&mut self, index: u64) -> u32 {
        if self.height > 0 && self.inners.is_empty() {
            // Most sets stay this small: reserve no more in advance.
            self.inners.reserve_exact(self.height as usize);
            self.inners.push(Inner { summary: 0, children: [NONE; 64] });
        }
        let mut node = 0;
        for height in (1..=self.height).rev() {
            let child = child_of(index, height);
            let next = if height == 1 { self.leaves.len() } else { self.inners.len() } as u32;
            let inner = &mut self.inners[node as usize];
            inner.summary |= 1 << child;
            node = inner.children[child];
            if node == NONE {
                inner.children[child] = next;
                node = next;
                if height > 1 {
                    self.inners.push(Inner { summary: 0, children: [NONE; 64] });
                }
            }
        }
        if node as usize == self.leaves.len() {
            if node == 0 {
                self.leaves.reserve_exact(1);
            }
            self.leaves.push(Leaf { summary: 0, words: [0; 64] });
        }
        node
    }

    /// Clears the summary bits above the leaf of `index`, which has become empty, as far up as nodes have become empty.
    fn clear_child(&mut self, node: usize, height: u32, index: u64) {
        let child = child_of(index, height);
        if height > 1 {
            let below = self.inners[node].children[child] as usize;
            self.clear_child(below, height - 1, index);
            if self.inners[below].summary != 0 {
                return;
            }
        }
        self.inners[node].summary &= !(1 << child);
    }

    fn below(&self, node: usize, height: u32, index: u64) -> Option<u64> {
        if height == 0 {
            return self.leaves.get(node)?.at_or_below(index);
        }
        let inner = self.inners.get(node)?;
        let (child, shift) = (child_of(index, height) as u64, shift(height));
        let below = |child: u64, index: u64| {
            let found = self.below(inner.children[child as usize] as usize, height - 1, index)?;
            Some(child << shift | found)
        };
        let here = inner.summary >> child & 1 != 0;
        here.then(|| below(child, index & ((1 << shift) - 1)))
            .flatten()
            .or_else(|| below(highest(up_to(inner.summary, child) & !(1 << child))?, (1 << shift) - 1))
    }

    fn above(&self, node: usize, height: u32, index: u64) -> Option<u64> {
        if height == 0 {
            return self.leaves.get(node)?.at_or_above(index);
        }
        let inner = self.inners.get(node)?;
        let (child, shift) = (child_of(index, height) as u64, shift(height));
        let above = |child: u64, index: u64| {
            let found = self.above(inner.children[child as usize] as usize, height - 1, index)?;
            Some(child << shift | found)
        };
        let here = inner.summary >> child & 1 != 0;
        here.then(|| above(child, index & ((1 << shift) - 1)))
            .flatten()
            .or_else(|| above(lowest(from(inner.summary, child) & !(1 << child))?, 0))
    }
}

impl Leaf {
    fn at_or_below(&self, index: u64) -> Option<u64> {
        let word = word_of(index) as u64;
        if let Some(bit) = highest(up_to(self.words[word as usize], index & 63)) {
            return Some(word << NODE_BITS | bit);
        }
        let word = highest(up_to(self.summary, word) & !(1 << word))?;
        Some(word << NODE_BITS | highest(self.words[word as usize])?)
    }

    fn at_or_above(&self, index: u64) -> Option<u64> {
        let word = word_of(index) as u64;
        if let Some(bit) = lowest(from(self.words[word as usize], index & 63)) {
            return Some(word << NODE_BITS | bit);
        }
        let word = lowest(from(self.summary, word) & !(1 << word))?;
        Some(word << NODE_BITS | lowest(self.words[word as usize])?)
    }
}

/// Bits of an index below the ones that choose the child of an inner node at `height`.
const fn shift(height: u32) -> u32 {
    LEAF_BITS + NODE_BITS * (height - 1)
}

const fn child_of(index: u64, height: u32) -> usize {
    (index >> shift(height) & 63) as usize
}

const fn word_of(index: u64) -> usize {
    (index >> NODE_BITS & 63) as usize
}

const fn bit_of(index: u64) -> u64 {
    1 << (index & 63)
}

/// The set bits of `word` at `bit` and below.
const fn up_to(word: u64, bit: u64) -> u64 {
    word & (u64::MAX >> (63 - bit))
}

/// The set bits of `word` at `bit` and above.
const fn from(word: u64, bit: u64) -> u64 {
    word & (u64::MAX << bit)
}

fn highest(word: u64) -> Option<u64> {
    word.checked_ilog2().map(u64::from)
}

fn lowest(word: u64) -> Option<u64> {
    (word != 0).then(|| u64::from(word.trailing_zeros()))
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
                prop_assert_eq!(set.at_or_above(index), oracle.range(index..).next().copied());
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
        assert_eq!(set.at_or_above(6), Some((1 << 36) - 1));
        assert_eq!(set.at_or_above(1 << 36), None);
    }
}
