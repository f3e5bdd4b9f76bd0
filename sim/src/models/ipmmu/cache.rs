//! Translation caches of an IPMMU.
//!
//! The real sizes and replacement policy are not public. These caches are large enough that a missing flush is noticed,
//! replace the oldest entry, and never evict entries otherwise.

use std::collections::VecDeque;

use bindery::addr::PhysAddr;

use super::walk::Mapping;

const TRANSLATIONS: usize = 64;
const WALKS: usize = 32;

/// Cached translations: in a context of the root, or in a micro-TLB of a leaf.
#[derive(Debug, Default)]
pub(crate) struct Tlb(VecDeque<Mapping>);

/// Result of a look-up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hit {
    Miss,
    One(Mapping),
    /// Two entries of different size cover the address: a block replaced a table, or the other way round, without a
    /// flush.
    Multiple,
}

impl Tlb {
    pub(crate) fn look_up(&self, iova: u64) -> Hit {
        let mut found = Hit::Miss;
        for entry in self.0.iter().filter(|m| m.iova == iova & !(m.size - 1)) {
            found = if found == Hit::Miss { Hit::One(*entry) } else { return Hit::Multiple };
        }
        found
    }

    /// Returns true when an entry maps to any of the `len` bytes at `base`.
    pub(crate) fn maps_to(&self, base: PhysAddr, len: u64) -> bool {
        self.0.iter().any(|m| m.phys.0 < base.0.saturating_add(len) && base.0 < m.phys.0.saturating_add(m.size))
    }

    pub(crate) fn add(&mut self, mapping: Mapping) {
        if self.0.len() == TRANSLATIONS {
            self.0.pop_front();
        }
        self.0.push_back(mapping);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// A cached pointer to a table below the first level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    /// The table's level: 2 or 3.
    pub(crate) level: u32,
    /// Input address bits that select it.
    prefix: u64,
    pub(crate) table: PhysAddr,
    /// A table above it denies writes.
    pub(crate) read_only: bool,
}

/// The walk cache of one context.
#[derive(Debug, Default)]
pub(crate) struct Walks(VecDeque<Walk>);

impl Walks {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn deepest(&self, iova: u64) -> Option<Walk> {
        let covers = |w: &&Walk| w.prefix == iova >> (48 - 9 * w.level);
        self.0.iter().filter(covers).max_by_key(|w| w.level).copied()
    }

    pub(crate) fn add(&mut self, level: u32, prefix: u64, table: PhysAddr, read_only: bool) {
        if self.0.len() == WALKS {
            self.0.pop_front();
        }
        self.0.push_back(Walk { level, prefix, table, read_only });
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
