//! Bitmap of a table's used entries.

use super::spec::ENTRIES;

/// One bit per entry, in one cache line. Ranges are inclusive at both ends.
#[derive(Clone, Debug)]
pub(super) struct Occupancy([u64; ENTRIES / 64]);

impl Occupancy {
    pub(super) const EMPTY: Self = Self([0; ENTRIES / 64]);

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().fold(0, |all, word| all | word) == 0
    }

    pub(super) fn contains(&self, index: usize) -> bool {
        self.0[index / 64] >> (index % 64) & 1 != 0
    }

    #[inline]
    pub(super) fn set(&mut self, first: usize, last: usize) {
        match one_word(first, last) {
            Some((word, mask)) => self.0[word] |= mask,
            None => masks(first, last).for_each(|(word, mask)| self.0[word] |= mask),
        }
    }

    #[inline]
    pub(super) fn clear(&mut self, first: usize, last: usize) {
        match one_word(first, last) {
            Some((word, mask)) => self.0[word] &= !mask,
            None => masks(first, last).for_each(|(word, mask)| self.0[word] &= !mask),
        }
    }

    /// The lowest entry of the range that is in use.
    #[inline]
    pub(super) fn first_used(&self, first: usize, last: usize) -> Option<usize> {
        match one_word(first, last) {
            Some((word, mask)) => lowest(word, self.0[word] & mask),
            None => masks(first, last).find_map(|(word, mask)| lowest(word, self.0[word] & mask)),
        }
    }

    /// The lowest entry of the range that is free.
    #[inline]
    pub(super) fn first_free(&self, first: usize, last: usize) -> Option<usize> {
        match one_word(first, last) {
            Some((word, mask)) => lowest(word, !self.0[word] & mask),
            None => masks(first, last).find_map(|(word, mask)| lowest(word, !self.0[word] & mask)),
        }
    }

    /// True when no entry outside the range is in use.
    #[inline]
    pub(super) fn only_within(&self, first: usize, last: usize) -> bool {
        let mut others = self.clone();
        others.clear(first, last);
        others.is_empty()
    }
}

fn lowest(word: usize, bits: u64) -> Option<usize> {
    (bits != 0).then(|| word * 64 + bits.trailing_zeros() as usize)
}

/// Word and bits of a range that lies in one word, as a short one usually does.
#[inline]
fn one_word(first: usize, last: usize) -> Option<(usize, u64)> {
    let word = first / 64;
    (last / 64 == word).then(|| (word, (u64::MAX << (first % 64)) & (u64::MAX >> (63 - last % 64))))
}

/// The words that a range touches, and its bits in each.
fn masks(first: usize, last: usize) -> impl Iterator<Item = (usize, u64)> {
    (first / 64..=last / 64).map(move |word| {
        let low = if word == first / 64 { u64::MAX << (first % 64) } else { u64::MAX };
        let high = if word == last / 64 { u64::MAX >> (63 - last % 64) } else { u64::MAX };
        (word, low & high)
    })
}
