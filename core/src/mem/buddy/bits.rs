//! A sparse set of numbers as a 64-ary tree of bit words.

use alloc::boxed::Box;

/// Bits that one leaf covers, as a power of two: 64 words of 64 bits.
const LEAF_BITS: u32 = 12;
/// Bits of the index that one inner node consumes.
const NODE_BITS: u32 = 6;

/// A set of numbers below `1 << bits`. Insertion, removal and the search for a neighbour touch one node per 6 bits.
/// Nodes are allocated when first touched and kept until the set is dropped, so memory is bounded by the numbers that
/// were ever in it.
#[derive(Debug)]
pub(super) struct BitSet {
    root: Option<Node>,
    /// Inner levels above the leaves.
    height: u32,
}

#[derive(Debug)]
enum Node {
    Leaf(Box<Leaf>),
    Inner(Box<Inner>),
}

/// 4096 numbers. Bit n of `summary` is set when `words[n]` is not zero.
#[derive(Debug)]
struct Leaf {
    summary: u64,
    words: [u64; 64],
}

/// 64 sub-trees. Bit n of `summary` is set when `kids[n]` has a member.
#[derive(Debug)]
struct Inner {
    summary: u64,
    kids: [Option<Node>; 64],
}

impl BitSet {
    /// An empty set for numbers below `1 << bits`; `bits` is at most 52.
    pub(super) fn new(bits: u32) -> Self {
        Self { root: None, height: bits.saturating_sub(LEAF_BITS).div_ceil(NODE_BITS) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.root.as_ref().is_none_or(|n| n.summary() == 0)
    }

    pub(super) fn contains(&self, index: u64) -> bool {
        let mut node = self.root.as_ref();
        let mut height = self.height;
        loop {
            match node {
                None => return false,
                Some(Node::Leaf(leaf)) => return leaf.words[word_of(index)] & bit_of(index) != 0,
                Some(Node::Inner(inner)) => node = inner.kids[kid_of(index, height)].as_ref(),
            }
            height = height.saturating_sub(1);
        }
    }

    pub(super) fn insert(&mut self, index: u64) {
        let mut slot = &mut self.root;
        let mut height = self.height;
        loop {
            match slot.get_or_insert_with(|| Node::new(height)) {
                Node::Leaf(leaf) => {
                    leaf.words[word_of(index)] |= bit_of(index);
                    leaf.summary |= 1 << word_of(index);
                    return;
                }
                Node::Inner(inner) => {
                    let kid = kid_of(index, height);
                    inner.summary |= 1 << kid;
                    slot = &mut inner.kids[kid];
                    height -= 1;
                }
            }
        }
    }

    pub(super) fn remove(&mut self, index: u64) {
        if let Some(root) = &mut self.root {
            root.remove(index, self.height);
        }
    }

    /// The highest member that is not above `index`.
    pub(super) fn at_or_below(&self, index: u64) -> Option<u64> {
        let root = self.root.as_ref()?;
        let last = (1 << (LEAF_BITS + NODE_BITS * self.height)) - 1;
        root.at_or_below(index.min(last), self.height)
    }

    /// The lowest member that is not below `index`.
    pub(super) fn at_or_above(&self, index: u64) -> Option<u64> {
        if index >> (LEAF_BITS + NODE_BITS * self.height) != 0 {
            return None;
        }
        self.root.as_ref()?.at_or_above(index, self.height)
    }
}

/// Bits of an index below the ones that choose the kid of an inner node at `height`.
const fn shift(height: u32) -> u32 {
    LEAF_BITS + NODE_BITS * (height - 1)
}

const fn kid_of(index: u64, height: u32) -> usize {
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

impl Node {
    fn new(height: u32) -> Self {
        if height == 0 {
            Self::Leaf(Box::new(Leaf { summary: 0, words: [0; 64] }))
        } else {
            Self::Inner(Box::new(Inner { summary: 0, kids: [const { None }; 64] }))
        }
    }

    fn summary(&self) -> u64 {
        match self {
            Self::Leaf(leaf) => leaf.summary,
            Self::Inner(inner) => inner.summary,
        }
    }

    fn remove(&mut self, index: u64, height: u32) {
        match self {
            Self::Leaf(leaf) => {
                let word = word_of(index);
                leaf.words[word] &= !bit_of(index);
                if leaf.words[word] == 0 {
                    leaf.summary &= !(1 << word);
                }
            }
            Self::Inner(inner) => {
                let kid = kid_of(index, height);
                if let Some(node) = &mut inner.kids[kid] {
                    node.remove(index, height - 1);
                    if node.summary() == 0 {
                        inner.summary &= !(1 << kid);
                    }
                }
            }
        }
    }

    fn at_or_below(&self, index: u64, height: u32) -> Option<u64> {
        match self {
            Self::Leaf(leaf) => {
                let word = word_of(index) as u64;
                if let Some(bit) = highest(up_to(leaf.words[word as usize], index & 63)) {
                    return Some(word << NODE_BITS | bit);
                }
                let word = highest(up_to(leaf.summary, word) & !(1 << word))?;
                Some(word << NODE_BITS | highest(leaf.words[word as usize])?)
            }
            Self::Inner(inner) => {
                let (kid, shift) = (kid_of(index, height) as u64, shift(height));
                let below = |kid: u64, index: u64| {
                    let found = inner.kids[kid as usize].as_ref()?.at_or_below(index, height - 1)?;
                    Some(kid << shift | found)
                };
                let mask = (1 << shift) - 1;
                below(kid, index & mask).or_else(|| below(highest(up_to(inner.summary, kid) & !(1 << kid))?, mask))
            }
        }
    }

    fn at_or_above(&self, index: u64, height: u32) -> Option<u64> {
        match self {
            Self::Leaf(leaf) => {
                let word = word_of(index) as u64;
                if let Some(bit) = lowest(from(leaf.words[word as usize], index & 63)) {
                    return Some(word << NODE_BITS | bit);
                }
                let word = lowest(from(leaf.summary, word) & !(1 << word))?;
                Some(word << NODE_BITS | lowest(leaf.words[word as usize])?)
            }
            Self::Inner(inner) => {
                let (kid, shift) = (kid_of(index, height) as u64, shift(height));
                let above = |kid: u64, index: u64| {
                    let found = inner.kids[kid as usize].as_ref()?.at_or_above(index, height - 1)?;
                    Some(kid << shift | found)
                };
                above(kid, index & ((1 << shift) - 1))
                    .or_else(|| above(lowest(from(inner.summary, kid) & !(1 << kid))?, 0))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    fn cases(n: u32) -> ProptestConfig {
        ProptestConfig { cases: if cfg!(miri) { 4 } else { n }, failure_persistence: None, ..ProptestConfig::default() }
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
