//! A 64-ary tree over numbers, whose leaves hold what is known of 4,096 numbers each.

use alloc::vec::Vec;

/// Numbers that one leaf covers, as a power of two: 64 words of 64 bits.
const LEAF_BITS: u32 = 12;
/// Bits of the index that one inner node consumes.
const NODE_BITS: u32 = 6;

/// What a tree holds of 4,096 numbers. Indices are those of the whole tree, of which a leaf looks at the low 12 bits only.
pub(super) trait Leaf {
    /// A leaf without members.
    const EMPTY: Self;

    fn is_empty(&self) -> bool;

    /// The highest member that is not above `index`, both within the leaf.
    fn at_or_below(&self, index: u64) -> Option<u64>;

    /// The lowest member that is not below `index`, both within the leaf.
    fn at_or_above(&self, index: u64) -> Option<u64>;
}

/// Leaves by the numbers below `1 << bits` that they cover. A look at a leaf touches one node for 6 bits at most, and none
/// when it is the leaf that was touched last.
///
/// Nodes are allocated when first touched and kept until the tree is dropped, so memory is bounded by the numbers that were
/// ever in it.
///
/// # Invariants
///
/// Node 0 of `inners` is the root, or node 0 of `leaves` when `height` is 0. A child is an index into `inners`, one level
/// above the leaves into `leaves`.
///
/// The summary bits above a leaf are set when it has a member. They are also set, whether it has one or not, above the leaf
/// that was touched last: a set whose only member goes and comes again, as with the only mapping of a device, then changes
/// one word. So searches expect one leaf in the whole tree that is empty although its bits are set.
#[derive(Debug)]
pub(super) struct Tree<L> {
    inners: Vec<Inner>,
    leaves: Vec<L>,
    /// Inner levels above the leaves.
    height: u32,
    /// The leaf that was touched last, after the numbers that it covers, shifted by [`LEAF_BITS`].
    recent: (u64, u32),
}

/// 64 sub-trees. Bit n of `summary` is set when sub-tree n is worth a search.
#[derive(Debug)]
struct Inner {
    summary: u64,
    children: [u32; 64],
}

/// Marks a child that was never allocated.
const NONE: u32 = u32::MAX;
/// Marks that no leaf was touched yet: numbers have 52 bits at most.
const NOWHERE: (u64, u32) = (u64::MAX, NONE);

impl<L: Leaf> Tree<L> {
    /// An empty tree for numbers below `1 << bits`; `bits` is at most 52.
    pub(super) const fn new(bits: u32) -> Self {
        let height = bits.saturating_sub(LEAF_BITS).div_ceil(NODE_BITS);
        Self { inners: Vec::new(), leaves: Vec::new(), height, recent: NOWHERE }
    }

    /// The leaf for `index`, if it was ever allocated.
    #[inline]
    pub(super) fn get(&self, index: u64) -> Option<&L> {
        self.leaves.get(self.number_of(index)?)
    }

    /// The position in `leaves` of the leaf for `index`, which does not exist if it was never allocated.
    #[inline]
    fn number_of(&self, index: u64) -> Option<usize> {
        if self.recent.0 == index >> LEAF_BITS {
            return Some(self.recent.1 as usize);
        }
        let mut node = 0;
        for height in (1..=self.height).rev() {
            node = self.inners.get(node)?.children[child_of(index, height)] as usize;
        }
        Some(node)
    }

    /// The leaf for `index`, allocated if need be, and from now on the one that was touched last.
    #[inline]
    pub(super) fn touch(&mut self, index: u64) -> &mut L {
        if self.recent.0 != index >> LEAF_BITS {
            self.leave_recent();
            self.recent = (index >> LEAF_BITS, self.make_leaf(index));
        }
        &mut self.leaves[self.recent.1 as usize]
    }

    /// As [`touch`](Self::touch), if there is a leaf and it has members: nothing is allocated.
    #[inline]
    pub(super) fn touch_occupied(&mut self, index: u64) -> Option<&mut L> {
        let number = self.number_of(index)?;
        // An empty one may have no summary bits above it, which the leaf that was touched last must have.
        if self.leaves.get(number)?.is_empty() {
            return None;
        }
        if self.recent.0 != index >> LEAF_BITS {
            self.leave_recent();
            self.recent = (index >> LEAF_BITS, number as u32);
        }
        self.leaves.get_mut(number)
    }

    /// Nodes and leaves that were ever allocated.
    #[cfg(test)]
    pub(super) fn nodes(&self) -> usize {
        self.inners.len() + self.leaves.len()
    }

    /// Empty leaves that a search would look at.
    #[cfg(test)]
    pub(super) fn empty_but_marked(&self) -> usize {
        let mut marked = alloc::vec![0];
        for _ in 0..self.height {
            let children = |node: &u32| {
                let inner = &self.inners[*node as usize];
                (0..64).filter(|n| inner.summary >> n & 1 != 0).map(|n| inner.children[n])
            };
            marked = marked.iter().flat_map(children).collect();
        }
        marked.iter().filter(|leaf| self.leaves[**leaf as usize].is_empty()).count()
    }

    /// True when both numbers are of one leaf.
    #[inline]
    pub(super) const fn share_leaf(a: u64, b: u64) -> bool {
        a >> LEAF_BITS == b >> LEAF_BITS
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
        self.above(0, self.height, index)
    }

    /// Clears the summary bits above the leaf that was touched last if it is empty: another one becomes that.
    fn leave_recent(&mut self) {
        let (covers, leaf) = self.recent;
        if self.height > 0 && self.leaves.get(leaf as usize).is_some_and(L::is_empty) {
            self.clear_child(0, self.height, covers << LEAF_BITS);
        }
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
            self.leaves.push(L::EMPTY);
        }
        node
    }

    /// Clears the summary bits above the leaf of `index`, which is empty, as far up as nodes have become empty.
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
        let mut left = up_to(inner.summary, child);
        // Three rounds at most: the child of `index` may have nothing below it, and one other be empty.
        while let Some(other) = highest(left) {
            let end = if other == child { index & ((1 << shift) - 1) } else { (1 << shift) - 1 };
            if let Some(found) = self.below(inner.children[other as usize] as usize, height - 1, end) {
                return Some(other << shift | found);
            }
            left &= !(1 << other);
        }
        None
    }

    fn above(&self, node: usize, height: u32, index: u64) -> Option<u64> {
        if height == 0 {
            return self.leaves.get(node)?.at_or_above(index);
        }
        let inner = self.inners.get(node)?;
        let (child, shift) = (child_of(index, height) as u64, shift(height));
        let mut left = from(inner.summary, child);
        // Three rounds at most, as in `below`.
        while let Some(other) = lowest(left) {
            let start = if other == child { index & ((1 << shift) - 1) } else { 0 };
            if let Some(found) = self.above(inner.children[other as usize] as usize, height - 1, start) {
                return Some(other << shift | found);
            }
            left &= !(1 << other);
        }
        None
    }
}

/// Bits of an index below the ones that choose the child of an inner node at `height`.
const fn shift(height: u32) -> u32 {
    LEAF_BITS + NODE_BITS * (height - 1)
}

const fn child_of(index: u64, height: u32) -> usize {
    (index >> shift(height) & 63) as usize
}

/// What of `index` a leaf looks at.
pub(super) const fn in_leaf(index: u64) -> u64 {
    index & ((1 << LEAF_BITS) - 1)
}

/// The word of a leaf that has the bit of `index`.
pub(super) const fn word_of(index: u64) -> usize {
    (index >> NODE_BITS & 63) as usize
}

pub(super) const fn bit_of(index: u64) -> u64 {
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

/// 4,096 bits. Bit n of `summary` is set when `words[n]` is not zero.
#[derive(Debug)]
pub(super) struct Bits {
    summary: u64,
    words: [u64; 64],
}

impl Bits {
    #[inline]
    pub(super) const fn contains(&self, index: u64) -> bool {
        self.words[word_of(index)] & bit_of(index) != 0
    }

    #[inline]
    pub(super) const fn insert(&mut self, index: u64) {
        self.words[word_of(index)] |= bit_of(index);
        self.summary |= 1 << word_of(index);
    }

    #[inline]
    pub(super) const fn remove(&mut self, index: u64) {
        let word = word_of(index);
        self.words[word] &= !bit_of(index);
        if self.words[word] == 0 {
            self.summary &= !(1 << word);
        }
    }
}

impl Leaf for Bits {
    const EMPTY: Self = Self { summary: 0, words: [0; 64] };

    fn is_empty(&self) -> bool {
        self.summary == 0
    }

    #[inline]
    fn at_or_below(&self, index: u64) -> Option<u64> {
        let word = word_of(index) as u64;
        if let Some(bit) = highest(up_to(self.words[word as usize], index & 63)) {
            return Some(word << NODE_BITS | bit);
        }
        let word = highest(up_to(self.summary, word) & !(1 << word))?;
        Some(word << NODE_BITS | highest(self.words[word as usize])?)
    }

    #[inline]
    fn at_or_above(&self, index: u64) -> Option<u64> {
        let word = word_of(index) as u64;
        if let Some(bit) = lowest(from(self.words[word as usize], index & 63)) {
            return Some(word << NODE_BITS | bit);
        }
        let word = lowest(from(self.summary, word) & !(1 << word))?;
        Some(word << NODE_BITS | lowest(self.words[word as usize])?)
    }
}
