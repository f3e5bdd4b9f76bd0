//! Bitmap of a table's used entries.

use super::spec::ENTRIES;

/// One bit per entry. Ranges are inclusive at both ends.
#[derive(Clone, Debug)]
pub(super) struct Occupancy {
    words: [u64; ENTRIES / 64],
    /// One bit per word that is not 0.
    any: u8,
}

impl Occupancy {
    pub(super) const EMPTY: Self = Self { words: [0; ENTRIES / 64], any: 0 };

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.any == 0
    }

    #[inline]
    pub(super) fn contains(&self, index: usize) -> bool {
        self.words[index / 64] >> (index % 64) & 1 != 0
    }

    #[inline]
    fn set_bits(&mut self, word: usize, mask: u64) {
        self.words[word] |= mask;
        self.any |= 1 << word;
    }

    #[inline]
    fn clear_bits(&mut self, word: usize, mask: u64) {
        self.words[word] &= !mask;
        if self.words[word] == 0 {
            self.any &= !(1 << word);
        }
    }

    #[inline]
    pub(super) fn set(&mut self, first: usize, last: usize) {
        match one_word(first, last) {
            Some((word, mask)) => self.set_bits(word, mask),
            None => masks(first, last).for_each(|(word, mask)| self.set_bits(word, mask)),
        }
    }

    #[inline]
    pub(super) fn clear(&mut self, first: usize, last: usize) {
        match one_word(first, last) {
            Some((word, mask)) => self.clear_bits(word, mask),
            None => masks(first, last).for_each(|(word, mask)| self.clear_bits(word, mask)),
        }
    }

    /// Marks a range as used, all of which is free; the error, with which nothing changes, is the lowest entry that is in use.
    #[inline]
    pub(super) fn claim(&mut self, first: usize, last: usize) -> Result<(), usize> {
        if first != last {
            return self.claim_run(first, last);
        }
        if self.contains(first) {
            return Err(first);
        }
        self.set_bits(first / 64, 1 << (first % 64));
        Ok(())
    }

    fn claim_run(&mut self, first: usize, last: usize) -> Result<(), usize> {
        if let Some((word, mask)) = one_word(first, last) {
            lowest(word, self.words[word] & mask).map_or(Ok(()), Err)?;
            self.set_bits(word, mask);
        } else {
            self.first_used(first, last).map_or(Ok(()), Err)?;
            self.set(first, last);
        }
        Ok(())
    }

    /// Marks a range as free, all of which is in use; the error, with which nothing changes, is the lowest entry that is free.
    #[inline]
    pub(super) fn release(&mut self, first: usize, last: usize) -> Result<(), usize> {
        if first != last {
            return self.release_run(first, last);
        }
        if !self.contains(first) {
            return Err(first);
        }
        self.clear_bits(first / 64, 1 << (first % 64));
        Ok(())
    }

    fn release_run(&mut self, first: usize, last: usize) -> Result<(), usize> {
        if let Some((word, mask)) = one_word(first, last) {
            lowest(word, !self.words[word] & mask).map_or(Ok(()), Err)?;
            self.clear_bits(word, mask);
        } else {
            self.first_free(first, last).map_or(Ok(()), Err)?;
            self.clear(first, last);
        }
        Ok(())
    }

    /// The lowest entry of the range that is in use.
    pub(super) fn first_used(&self, first: usize, last: usize) -> Option<usize> {
        masks(first, last).find_map(|(word, mask)| lowest(word, self.words[word] & mask))
    }

    /// The lowest entry of the range that is free.
    pub(super) fn first_free(&self, first: usize, last: usize) -> Option<usize> {
        masks(first, last).find_map(|(word, mask)| lowest(word, !self.words[word] & mask))
    }

    /// True when no entry outside the range is in use.
    #[inline]
    pub(super) fn only_within(&self, first: usize, last: usize) -> bool {
        if let Some((word, mask)) = one_word(first, last) {
            return self.any & !(1 << word) == 0 && self.words[word] & !mask == 0;
        }
        let mut others = self.clone();
        others.clear(first, last);
        others.is_empty()
    }
}

#[inline]
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
